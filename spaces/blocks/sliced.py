"""ResNetE's block with slices: each convolution writes only a part of the channels.

Picture of the second of four slices, norm before::

    x -+------------------------- keep: channels of slices 0, 2, 3 --- concat -
       +- slice 1 ------------------------------------ add -----------+
       +- norm - sign - conv 3x3, a quarter of the filters -+
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar, Self

from bitfront.spaces.blocks.block import (
    Block,
    avg_pool_op,
    blocks,
    check_channels,
    check_range,
    conv,
    norm,
    quantize,
)
from bitfront.spaces.blocks.classic import check_choice
from bitfront.spaces.blocks.dense import ADD, CONCAT, slice_op
from bitfront.spaces.blocks.residual import MUL, pooled_shortcut
from bitfront.spaces.errors import InfeasibleArchitecture, InvalidValue
from bitfront.spaces.graph import Builder
from bitfront.spaces.ops import AvgPool, ChannelMean
from bitfront.spaces.precision import BINARY, FULL, Precision


@cache
def _box(stride: int) -> AvgPool:
    return AvgPool(kernel_size=3, stride=stride, padding=1)


@blocks.register("sliced_residual")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SlicedResidual(Block):
    """Quantise, 3x3 convolution, plus shortcut, on one of several slices of the channels.

    ResNetE names the form with its norm after the convolution E1, that with the norm before it E2;
    Bi-Real's block is E1 with one slice. Where sizes change, the shortcut is an average pool and a
    32-bit 1x1 convolution (with a norm in E1), and there are no slices.

    Attributes:
        channels: Channels that it hands on.
        stride: Of the convolution.
        slices: Parts of the channels, of which the convolution computes one.
        write_on: Number of that part, from 0.
        norm: "before" or "after" the convolution.
        input_scale: Multiply the sums by XNOR-Net's K, the mean magnitude of what each reads.
        padding_value: What a one-bit input is padded with: -1 (ResNetE), 0 or 1.
        precision: Bits of the convolution.

    References:
        Bethge et al. 2019, Back to Simplicity (arXiv:1906.08637); hpi-xnor/BMXNet-v2-examples,
        ``resnet_e``; K: Rastegari et al. 2016, XNOR-Net (arXiv:1603.05279), Sec. 3.2.
    """

    kind: ClassVar[str] = "sliced_residual"
    symbol: ClassVar[str] = "E"
    channels: int
    stride: int = 1
    slices: int = 1
    write_on: int = 0
    norm: str = "before"
    input_scale: bool = False
    padding_value: float = -1.0
    precision: Precision = BINARY

    def check(self) -> None:
        """Slices divide the channels; a stride has none."""
        check_channels("channels", self.channels)
        check_range("stride", self.stride, 1, 2)
        check_range("slices", self.slices, 1, 16)
        check_range("write_on", self.write_on, 0, self.slices - 1)
        check_choice("norm", self.norm, ("after", "before"))
        if self.channels % self.slices:
            raise InvalidValue(
                f"channels must be a multiple of slices {self.slices}, but is {self.channels}."
            )
        if self.stride > 1 and self.slices > 1:
            raise InvalidValue(
                "A block with a stride writes on all channels, so slices must be 1, but is "
                f"{self.slices}."
            )
        if self.padding_value not in (-1.0, 0.0, 1.0):
            raise InvalidValue(f"padding_value must be -1, 0 or 1, but is {self.padding_value}.")

    def full(self) -> Self:
        """The block at 32 bits; the factors that make up for the signs are left out."""
        return replace(self, input_scale=False, precision=FULL)

    def build(self, b: Builder, x: int) -> int:
        """``channels`` channels, ``stride`` times fewer rows and columns.

        Raises:
            InfeasibleArchitecture: If slices would meet a change of the channels.
        """
        changes = self.stride > 1 or b.channels(x) != self.channels
        if changes and self.slices > 1:
            raise InfeasibleArchitecture(
                f"Slices need {self.channels} channels to write on, but got {b.channels(x)}."
            )
        if self.norm == "after":
            shortcut = pooled_shortcut(b, x, self.channels, self.stride)
            return self._added(b, shortcut, norm(b, self._convolved(b, x)))
        normed = norm(b, x)
        shortcut = self._shortcut(b, normed) if changes else x
        return self._added(b, shortcut, self._convolved(b, normed))

    def _shortcut(self, b: Builder, x: int) -> int:
        if self.stride > 1:
            x = b.add(avg_pool_op(2, 2), x, name="shortcut_pool")
        return conv(b, x, self.channels, 1, name="shortcut_conv")

    def _convolved(self, b: Builder, x: int) -> int:
        y = conv(
            b,
            quantize(b, x, self.precision.input),
            self.channels // self.slices,
            3,
            stride=self.stride,
            weight=self.precision.weight,
            padding_value=self.padding_value,
        )
        if self.input_scale:
            factors = b.add(ChannelMean(), x, name="magnitude")
            factors = b.add(_box(self.stride), factors, name="box")
            y = b.add(MUL, y, factors, name="input_scale")
        return y

    def _added(self, b: Builder, shortcut: int, y: int) -> int:
        if self.slices == 1:
            return b.add(ADD, y, shortcut, name="add")
        width = self.channels // self.slices
        start, end = self.write_on * width, (self.write_on + 1) * width
        written = b.add(slice_op(start, end), shortcut, name="written")
        parts = [b.add(ADD, y, written, name="add")]
        if start:
            parts.insert(0, b.add(slice_op(0, start), shortcut, name="below"))
        if end < self.channels:
            parts.append(b.add(slice_op(end, self.channels), shortcut, name="above"))
        return b.add(CONCAT, *parts, name="concat")
