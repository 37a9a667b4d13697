"""Group-Net's block: a residual block decomposed into binary branches, the bases.

Picture of one base, its input being its own map of the block before, or the one map of the stem::

    map of base k --+
                    blend -+- sign - conv - relu - norm - add -+- sign - conv - relu - norm - add
    mean of maps ---+      +------------- shortcut --------+   +--------------------------+
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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
from bitfront.spaces.blocks.dense import ADD, CONCAT, slice_op
from bitfront.spaces.blocks.residual import pooled_shortcut
from bitfront.spaces.errors import InfeasibleArchitecture
from bitfront.spaces.graph import Builder
from bitfront.spaces.ops import Blend, Mean
from bitfront.spaces.precision import BINARY, FULL, Precision

MEAN: Final = Mean()
GATE: Final = Blend(per_channel=False)


@blocks.register("group_net")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GroupNet(Block):
    """K homogeneous branches of two 3x3 convolutions, each with weights and norms of its own.

    A soft gate, one learned share per base, blends the base's own map of the block before with the
    mean of all. Where sizes change, one 32-bit shortcut of the mean serves all bases.

    Attributes:
        channels: Filters of each convolution.
        stride: Of the first convolution.
        bases: K.
        split: The input holds one map per base, side by side; else it is one map for all.
        merge: Hand on the mean of the bases; else their maps, side by side.
        precision: Bits of the 3x3 convolutions.

    References:
        Zhuang et al. 2019, Structured Binary Neural Networks (arXiv:1811.10413);
        bohanzhuang/Group-Net-image-classification and -semantic-segmentation, the authors' code.
    """

    kind: ClassVar[str] = "group_net"
    symbol: ClassVar[str] = "GN"
    channels: int
    stride: int = 1
    bases: int = 5
    split: bool = False
    merge: bool = True
    precision: Precision = BINARY

    def check(self) -> None:
        """Sane sizes, 1 to 8 bases."""
        check_channels("channels", self.channels)
        check_range("stride", self.stride, 1, 2)
        check_range("bases", self.bases, 1, 8)

    def full(self) -> Self:
        """The 32-bit block that the bases stand for: one branch."""
        return replace(self, bases=1, precision=FULL)

    def build(self, b: Builder, x: int) -> int:
        """``channels`` channels, K times that unless merged; ``stride`` times fewer rows."""
        maps, mean = self._inputs(b, x)
        resized = self.stride > 1 or b.channels(mean) != self.channels
        shared = pooled_shortcut(b, mean, self.channels, self.stride) if resized else None
        # bases with one map for all see the same codes
        codes = None if self._gated else quantize(b, mean, self.precision.input)
        results = []
        for k, own in enumerate(maps):
            suffix = f"_{k}" if self.bases > 1 else ""
            y = b.add(GATE, own, mean, name=f"gate{suffix}") if self._gated else mean
            shortcut = y if shared is None else shared
            if codes is None:
                y = self._convolved(b, y, f"1{suffix}", self.stride)
            else:
                y = self._convolved(b, codes, f"1{suffix}", self.stride, quantised=True)
            y = b.add(ADD, y, shortcut, name=f"add1{suffix}")
            z = self._convolved(b, y, f"2{suffix}")
            results.append(b.add(ADD, z, y, name=f"add2{suffix}"))
        if self.bases == 1:
            return results[0]
        return b.add(MEAN if self.merge else CONCAT, *results, name="bases")

    @property
    def _gated(self) -> bool:
        return self.split and self.bases > 1

    def _inputs(self, b: Builder, x: int) -> tuple[list[int], int]:
        """The map of each base, and their mean."""
        if not self._gated:
            return [x] * self.bases, x
        channels, left = divmod(b.channels(x), self.bases)
        if left:
            raise InfeasibleArchitecture(
                f"{self.bases} bases must divide the channels, but got {b.channels(x)}."
            )
        maps = [
            b.add(slice_op(k * channels, (k + 1) * channels), x, name=f"map_{k}")
            for k in range(self.bases)
        ]
        return maps, b.add(MEAN, *maps, name="mean")

    def _convolved(
        self, b: Builder, x: int, name: str, stride: int = 1, *, quantised: bool = False
    ) -> int:
        """Quantise, convolve, ReLU, norm."""
        if not quantised:
            x = quantize(b, x, self.precision.input, f"quantize{name}")
        x = conv(
            b,
            x,
            self.channels,
            3,
            stride=stride,
            weight=self.precision.weight,
            padding_value=1.0,
            name=f"conv{name}",
        )
        return norm(b, relu(b, x, f"relu{name}"), f"norm{name}")
