"""XNOR-Net's residual block: norm, sign, convolution, twice; three ways to scale the sums."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar, Final, Self

from bitfront.spaces.blocks.block import (
    Block,
    blocks,
    check_channels,
    check_range,
    conv,
    norm,
    quantize,
    relu,
)
from bitfront.spaces.blocks.classic import check_choice
from bitfront.spaces.blocks.dense import ADD
from bitfront.spaces.blocks.residual import MUL, strided_shortcut
from bitfront.spaces.graph import Builder
from bitfront.spaces.ops import AvgPool, ChannelMean, OuterScale
from bitfront.spaces.precision import FULL, Precision, precision_of
from bitfront.spaces.quantizers import SIGN, XnorSign

MAGNITUDE: Final = ChannelMean()
OUTER: Final = OuterScale()
XNOR: Final = precision_of(weight=XnorSign(), input=SIGN)
SCALINGS: Final = ("input", "outer", "none")


@cache
def _box(stride: int) -> AvgPool:
    return AvgPool(kernel_size=3, stride=stride, padding=1)


@blocks.register("xnor")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Xnor(Block):
    """A basic block with the norm before each convolution, so that codes follow from it directly.

    Two times norm, quantise, 3x3 convolution, scaling; ReLU after the first and after the addition
    of the shortcut, which is a 32-bit 1x1 convolution with a stride where sizes change.

    Attributes:
        channels: Filters of each convolution.
        stride: Of the first convolution.
        scaling: Of a convolution's sums: "input" by K, the mean magnitude of what each sum reads
            (XNOR-Net); "outer" by learned factors per channel, row and column (XNOR-Net++); "none".
        relu: Whether the ReLUs are there; a plain BNN has none.
        precision: Bits of the 3x3 convolutions; their quantizer brings the factors per filter.

    References:
        Rastegari et al. 2016, XNOR-Net (arXiv:1603.05279), Sec. 3.2; Bulat and
        Tzimiropoulos 2019, XNOR-Net++ (arXiv:1909.13863).
    """

    kind: ClassVar[str] = "xnor"
    symbol: ClassVar[str] = "X"
    channels: int
    stride: int = 1
    scaling: str = "input"
    relu: bool = True
    precision: Precision = XNOR

    def check(self) -> None:
        """Sane sizes, a known scaling."""
        check_channels("channels", self.channels)
        check_range("stride", self.stride, 1, 2)
        check_choice("scaling", self.scaling, SCALINGS)

    def full(self) -> Self:
        """The block at 32 bits; factors that make up for the signs are left out."""
        return replace(self, scaling="none", precision=FULL)

    def build(self, b: Builder, x: int) -> int:
        """``channels`` channels, ``stride`` times fewer rows and columns."""
        shortcut = strided_shortcut(b, x, self.channels, self.stride)
        y = self._convolved(b, x, "1", self.stride)
        if self.relu:
            y = relu(b, y, "relu1")
        y = b.add(ADD, self._convolved(b, y, "2"), shortcut, name="add")
        return relu(b, y, "relu2") if self.relu else y

    def _convolved(self, b: Builder, x: int, name: str, stride: int = 1) -> int:
        x = norm(b, x, f"norm{name}")
        codes = quantize(b, x, self.precision.input, f"quantize{name}")
        weight = self.precision.weight
        y = conv(b, codes, self.channels, 3, stride=stride, weight=weight, name=f"conv{name}")
        if self.scaling == "outer":
            return b.add(OUTER, y, name=f"outer{name}")
        if self.scaling == "input":
            factors = b.add(MAGNITUDE, x, name=f"magnitude{name}")
            factors = b.add(_box(stride), factors, name=f"box{name}")
            return b.add(MUL, y, factors, name=f"input_scale{name}")
        return y
