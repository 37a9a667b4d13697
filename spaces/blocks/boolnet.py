"""BoolNet's boolean flow: every feature map between stem and head is k slices of one bit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import ClassVar, NoReturn

from bitfront.spaces.blocks.block import (
    PRELU,
    Block,
    blocks,
    check_channels,
    check_range,
    conv,
    max_pool,
    norm,
    quantize_op,
    refuse_full,
)
from bitfront.spaces.blocks.dense import CONCAT, slice_op
from bitfront.spaces.graph import Builder
from bitfront.spaces.ops import Add, Conv2d, Interleave, Or, SliceMean, Xnor
from bitfront.spaces.quantizers import SIGN_WEIGHT, MultiSign, Quantizer

XNOR = Xnor()
OR = Or()


@cache
def _sliced(k: int) -> Quantizer:
    return MultiSign(k=k)


@blocks.register("stem_boolnet")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StemBoolNet(Block):
    """conv 7x7 stride 2, batch norm, max pool, local adaptive shifting, k slices.

    The shift is learned and local: batch norm, depth-wise 3x3 convolution and batch norm of the
    map, added to the map's own batch norm before the signs.

    Attributes:
        channels: Filters.
        slices: k.
        local_shift: Whether the shift is there (BoolNet) or not (BaseNet).

    References:
        Guo et al. 2021, BoolNet (arXiv:2106.06991).
    """

    kind: ClassVar[str] = "stem_boolnet"
    place: ClassVar[str] = "stem"
    symbol: ClassVar[str] = "SB"
    channels: int = 64
    slices: int = 4
    local_shift: bool = True

    def check(self) -> None:
        """Sane sizes."""
        check_channels("channels", self.channels)
        MultiSign(k=self.slices)

    def full(self) -> NoReturn:
        """Refuse: there is no such form."""
        refuse_full(self)

    def build(self, b: Builder, x: int) -> int:
        """Four times fewer rows and columns, k slices."""
        x = max_pool(b, norm(b, conv(b, x, self.channels, 7, stride=2)), 3, 2, 1)
        y = norm(b, x, "map_norm")
        if self.local_shift:
            shift = norm(b, x, "shift_input_norm")
            shift = conv(b, shift, self.channels, 3, groups=self.channels, name="shift_conv")
            y = b.add(Add(), y, norm(b, shift, "shift_norm"), name="shift")
        return b.add(quantize_op(_sliced(self.slices)), y, name="slices")


@blocks.register("boolean")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Boolean(Block):
    """Two binary convolutions with logic shortcuts: XNOR after the first, OR after the second.

    Attributes:
        channels: Filters C of each convolution.
        stride: 2 in the first block of a later stage; the shortcut is then a binary 1x1
            convolution over all slices at full size, max pool, batch norm, k signs.
        slices: k.
        concat: BoolNet hands on the block's result next to the half of its input that it left
            alone, channels interleaved; BaseNet hands on the result.
        last: The last block of the network: real values leave it.

    References:
        Guo et al. 2021, BoolNet (arXiv:2106.06991).
    """

    kind: ClassVar[str] = "boolean"
    symbol: ClassVar[str] = "L"
    channels: int
    stride: int = 1
    slices: int = 4
    concat: bool = True
    last: bool = False

    def check(self) -> None:
        """Sane sizes."""
        check_channels("channels", self.channels)
        check_range("stride", self.stride, 1, 2)
        MultiSign(k=self.slices)

    def _conv(self, b: Builder, x: int, name: str, stride: int = 1) -> int:
        return conv(
            b, x, self.channels, 3, stride=stride, weight=SIGN_WEIGHT, replicate=True, name=name
        )

    def full(self) -> NoReturn:
        """Refuse: there is no such form."""
        refuse_full(self)

    def build(self, b: Builder, x: int) -> int:
        """``channels`` channels (twice that with ``concat``) in k slices."""
        signs = quantize_op(_sliced(self.slices))
        untouched = x
        if self.stride > 1 or b.channels(x) not in (self.channels, 2 * self.channels):
            shortcut = untouched = self._downsampled(b, x)
        elif b.channels(x) == 2 * self.channels:
            untouched = b.add(slice_op(self.channels, 2 * self.channels), x, name="untouched")
            x = shortcut = b.add(slice_op(0, self.channels), x, name="convolved")
        else:
            shortcut = x
        y = norm(b, self._conv(b, x, "conv1", self.stride), "norm1")
        first = b.add(signs, y, name="slices1")
        y = b.add(XNOR, first, shortcut, name="xnor")
        y = norm(b, self._conv(b, y, "conv2"), "norm2")
        if self.last:
            mean = norm(b, b.add(SliceMean(), first, name="mean"), "mean_norm")
            return b.add(PRELU, b.add(Add(), y, mean, name="add"), name="prelu")
        y = b.add(OR, b.add(signs, y, name="slices2"), shortcut, name="or")
        if not self.concat:
            return y
        y = b.add(CONCAT, y, untouched, name="concat")
        return b.add(Interleave(groups=2), y, name="interleave")

    def _downsampled(self, b: Builder, x: int) -> int:
        op = Conv2d(
            out_channels=self.channels, kernel_size=1, weight=SIGN_WEIGHT, across_slices=True
        )
        y = b.add(op, x, name="shortcut_conv")
        if self.stride > 1:
            y = max_pool(b, y, 2, 2, name="shortcut_pool")
        y = norm(b, y, "shortcut_norm")
        return b.add(quantize_op(_sliced(self.slices)), y, name="shortcut_slices")
