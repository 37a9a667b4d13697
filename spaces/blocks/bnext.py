"""BNext's block: binary convolutions whose results a real gate weighs.

One layer, with a 3x3 or a 1x1 convolution; the gate reads a learned blend of what goes in and what
came out. A multiplying layer also takes PReLU and a product with the shortcut::

    x -+---------- (pool) ------------ shortcut ------------+
       +- sign - conv - norm - prelu - y - times gate - norm - add
    gate = sigmoid(W2 relu(W1 mean(a x + (1 - a) y) + b1) + b2)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Final

from bitfront.spaces.blocks.block import (
    PRELU,
    RELU,
    Block,
    avg_pool_op,
    blocks,
    check_channels,
    check_range,
    conv,
    norm,
    quantize,
)
from bitfront.spaces.blocks.dense import ADD, CONCAT
from bitfront.spaces.blocks.reactnet import REACT, check_growth
from bitfront.spaces.graph import Builder
from bitfront.spaces.ops import Blend, Conv2d, GlobalAvgPool, Mul, Sigmoid
from bitfront.spaces.precision import Precision

BLEND: Final = Blend()
MUL: Final = Mul()


@cache
def _linear(channels: int) -> Conv2d:
    return Conv2d(out_channels=channels, kernel_size=1, bias=True)


@blocks.register("bnext")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BNext(Block):
    """A gated 3x3 layer, then a gated 1x1 layer; two of these side by side double the channels.

    Attributes:
        channels: Channels that it hands on: as many as come in, or twice as many.
        stride: Of the 3x3 convolution.
        multiply: The 3x3 layer multiplies its gated result by the PReLU of its input, which is also
            its shortcut.
        reduction: Divides the channels inside the gates.
        precision: Bits of the binary convolutions.

    References:
        Guo et al. 2022, BNext (arXiv:2211.12933); hpi-xnor/BNext, bnext.py, for the order of the
        multiplying layers and the biases of the gates.
    """

    kind: ClassVar[str] = "bnext"
    symbol: ClassVar[str] = "N"
    channels: int
    stride: int = 1
    multiply: bool = False
    reduction: int = 8
    precision: Precision = REACT

    def check(self) -> None:
        """Sane sizes."""
        check_channels("channels", self.channels)
        check_range("stride", self.stride, 1, 2)
        check_range("reduction", self.reduction, 1, 64)

    def build(self, b: Builder, x: int) -> int:
        """``channels`` channels, ``stride`` times fewer rows and columns.

        Raises:
            InfeasibleArchitecture: If ``channels`` are not those of ``x`` or twice as many.
        """
        parts = check_growth(b.channels(x), self.channels)
        x = self._layer(b, x, "1", 3, self.stride, self.multiply)
        made = [self._layer(b, x, part, 1) for part in parts]
        return made[0] if len(made) == 1 else b.add(CONCAT, *made, name="concat")

    def _layer(
        self,
        b: Builder,
        x: int,
        part: str,
        kernel_size: int,
        stride: int = 1,
        multiply: bool = False,
    ) -> int:
        channels = b.channels(x)
        y = quantize(b, x, self.precision.input, f"quantize{part}")
        weight = self.precision.weight
        y = conv(b, y, channels, kernel_size, stride=stride, weight=weight, name=f"conv{part}")
        y = b.add(PRELU, norm(b, y, f"norm{part}"), name=f"prelu{part}")
        shortcut = b.add(PRELU, x, name=f"shortcut{part}_prelu") if multiply else x
        if stride > 1:
            pool = avg_pool_op(stride, stride)
            x = b.add(pool, x, name=f"input{part}_pool")
            shortcut = b.add(pool, shortcut, name=f"shortcut{part}_pool") if multiply else x
        y = b.add(MUL, y, self._gate(b, x, y, part), name=f"gated{part}")
        if multiply:
            y = b.add(MUL, y, shortcut, name=f"multiply{part}")
        return b.add(ADD, norm(b, y, f"out_norm{part}"), shortcut, name=f"add{part}")

    def _gate(self, b: Builder, x: int, y: int, part: str) -> int:
        channels = b.channels(x)
        gate = b.add(BLEND, x, y, name=f"blend{part}")
        gate = b.add(GlobalAvgPool(), gate, name=f"gate{part}_pool")
        inner = _linear(max(1, channels // self.reduction))
        gate = b.add(RELU, b.add(inner, gate, name=f"gate{part}_squeeze"), name=f"gate{part}_relu")
        gate = b.add(_linear(channels), gate, name=f"gate{part}_excite")
        return b.add(Sigmoid(), gate, name=f"gate{part}_sigmoid")
