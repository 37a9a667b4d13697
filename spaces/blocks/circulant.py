"""Circulant binary convolution: several filters from one by turning its 3x3 ring."""

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
)
from bitfront.spaces.blocks.dense import ADD
from bitfront.spaces.blocks.residual import pooled_shortcut
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.graph import Builder
from bitfront.spaces.ops import Conv2d, Scale
from bitfront.spaces.precision import BINARY, FULL, Precision
from bitfront.spaces.quantizers import RotatedSign

SCALE: Final = Scale()


@cache
def _rotated(channels: int, stride: int, steps: int) -> Conv2d:
    return Conv2d(
        out_channels=channels,
        kernel_size=3,
        stride=stride,
        padding=1,
        weight=RotatedSign(steps=steps),
    )


@blocks.register("circulant")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Circulant(Block):
    """Bi-Real's block with R bases that are turns of one latent weight tensor.

    The sum over the turns r of ``a_r conv(turn_r(B), A)``, one learned factor per turn and filter,
    batch norm, plus shortcut. The turns are read from one stored tensor.

    Attributes:
        channels: Filters.
        stride: Of the convolution.
        rotations: R: 1, 2, 4 (by 90 degrees) or 8 (by 45).
        precision: 1/1, or 32/32: the twin has one convolution for the sum over the turns.

    References:
        Liu et al. 2019, Circulant Binary Convolutional Networks (arXiv:1910.10853).
    """

    kind: ClassVar[str] = "circulant"
    symbol: ClassVar[str] = "CB"
    channels: int
    stride: int = 1
    rotations: int = 4
    precision: Precision = BINARY

    def check(self) -> None:
        """Sane sizes, a known precision."""
        check_channels("channels", self.channels)
        check_range("stride", self.stride, 1, 2)
        if self.rotations not in (1, 2, 4, 8):
            raise InvalidValue(f"rotations must be 1, 2, 4 or 8, but is {self.rotations}.")
        if self.precision not in (BINARY, FULL):
            raise InvalidValue(
                "precision must be 1/1 or 32/32, without quantizers of its own, but is "
                f"{self.precision.label}; the turns bring their quantizers."
            )

    def full(self) -> Self:
        """The 32-bit block with one convolution."""
        return replace(self, rotations=1, precision=FULL)

    def build(self, b: Builder, x: int) -> int:
        """``channels`` channels, ``stride`` times fewer rows and columns."""
        shortcut = pooled_shortcut(b, x, self.channels, self.stride)
        y = self._convolved(b, x)
        return b.add(ADD, norm(b, y), shortcut, name="add")

    def _convolved(self, b: Builder, x: int) -> int:
        if self.precision == FULL:
            return conv(b, x, self.channels, 3, stride=self.stride)
        codes = quantize(b, x)
        total = latent = None
        for r in range(self.rotations):
            op = _rotated(self.channels, self.stride, r * 8 // self.rotations)
            y = b.add(op, codes, name=f"conv{r}", latent=latent)
            latent = y if latent is None else latent
            y = b.add(SCALE, y, name=f"scale{r}")
            total = y if total is None else b.add(ADD, total, y, name=f"sum{r}")
        # there is at least one turn
        return x if total is None else total
