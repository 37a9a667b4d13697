"""BoolNet's boolean flow: every feature map between stem and head is k slices of one bit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import ClassVar

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
    relu,
)
from bitfront.spaces.blocks.dense import ADD, CONCAT, slice_op
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.graph import Builder, Op
from bitfront.spaces.ops import Conv2d, Interleave, Or, SliceMean, Xnor
from bitfront.spaces.precision import BINARY, FULL, Precision
from bitfront.spaces.quantizers import MultiSign, Quantizer
from bitfront.spaces.value import added

XNOR = Xnor()
OR = Or()


@cache
def _sliced(k: int) -> Quantizer:
    return MultiSign(k=k)


def _check_precision(precision: Precision) -> None:
    if precision not in (BINARY, FULL):
        raise InvalidValue(
            "precision must be 1/1 or 32/32, without quantizers of its own, but is "
            f"{precision.label}; slices of one bit are what the block is made of."
        )


def _mapped(b: Builder, x: int, slices: int, precision: Precision, name: str) -> int:
    """Signs in k slices; in the 32-bit twin one map, by ReLU."""
    if precision == FULL:
        return relu(b, x, name)
    return b.add(quantize_op(_sliced(slices)), x, name=name)


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
        precision: 1/1, or 32/32: the twin hands on one map, by ReLU instead of signs.
        thumbnail: Small images keep their size: a 3x3 convolution replaces the first convolution,
            its norm and the pool.

    References:
        Guo et al. 2021, BoolNet (arXiv:2106.06991).
    """

    kind: ClassVar[str] = "stem_boolnet"
    place: ClassVar[str] = "stem"
    symbol: ClassVar[str] = "SB"
    channels: int = 64
    slices: int = 4
    local_shift: bool = True
    precision: Precision = added(BINARY)
    thumbnail: bool = added(False)

    def check(self) -> None:
        """Sane sizes, a known precision."""
        check_channels("channels", self.channels)
        MultiSign(k=self.slices)
        _check_precision(self.precision)

    def build(self, b: Builder, x: int) -> int:
        """Four times fewer rows and columns, where not ``thumbnail``; k slices."""
        if self.thumbnail:
            x = conv(b, x, self.channels, 3)
        else:
            x = max_pool(b, norm(b, conv(b, x, self.channels, 7, stride=2)), 3, 2, 1)
        y = norm(b, x, "map_norm")
        if self.local_shift:
            shift = norm(b, x, "shift_input_norm")
            shift = conv(b, shift, self.channels, 3, groups=self.channels, name="shift_conv")
            y = b.add(ADD, y, norm(b, shift, "shift_norm"), name="shift")
        return _mapped(b, y, self.slices, self.precision, "slices")


@blocks.register("boolean")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Boolean(Block):
    """Two binary convolutions with logic shortcuts: XNOR after the first, OR after the second.

    At 32 bits it is the residual block that BoolNet made boolean: one map for k slices, ReLU for
    the signs, additions for XNOR and OR.

    Attributes:
        channels: Filters C of each convolution.
        stride: 2 in the first block of a later stage; the shortcut is then a binary 1x1
            convolution over all slices at full size, max pool, batch norm, k signs.
        slices: k.
        concat: BoolNet hands on the block's result next to the half of its input that it left
            alone, channels interleaved; BaseNet hands on the result.
        last: The last block of the network: real values leave it.
        precision: 1/1, or 32/32 for the twin.
        dilation: Of both convolutions.
        projected: The shortcut is the 1x1 convolution of a later stage although the size stays:
            the stage goes on with dilated convolutions instead of a stride.

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
    precision: Precision = added(BINARY)
    dilation: int = added(1)
    projected: bool = added(False)

    def check(self) -> None:
        """Sane sizes, a known precision."""
        check_channels("channels", self.channels)
        check_range("stride", self.stride, 1, 2)
        check_range("dilation", self.dilation, 1, 16)
        MultiSign(k=self.slices)
        _check_precision(self.precision)

    @property
    def _boolean(self) -> bool:
        return self.precision == BINARY

    def _conv(self, b: Builder, x: int, name: str, stride: int = 1) -> int:
        # the edge is repeated because one bit has no zero to pad with
        return conv(
            b,
            x,
            self.channels,
            3,
            stride=stride,
            weight=self.precision.weight,
            dilation=self.dilation,
            replicate=self._boolean,
            name=name,
        )

    def _map(self, b: Builder, x: int, name: str) -> int:
        return _mapped(b, x, self.slices, self.precision, name)

    def _merge(self, b: Builder, op: Op, x: int, shortcut: int) -> int:
        if self._boolean:
            return b.add(op, x, shortcut, name=op.kind)
        return b.add(ADD, x, shortcut, name=f"{op.kind}_add")

    def build(self, b: Builder, x: int) -> int:
        """``channels`` channels (twice that with ``concat``) in k slices."""
        untouched = x
        known = b.channels(x) in (self.channels, 2 * self.channels)
        if self.projected or self.stride > 1 or not known:
            shortcut = untouched = self._downsampled(b, x)
        elif b.channels(x) == 2 * self.channels:
            untouched = b.add(slice_op(self.channels, 2 * self.channels), x, name="untouched")
            x = shortcut = b.add(slice_op(0, self.channels), x, name="convolved")
        else:
            shortcut = x
        y = norm(b, self._conv(b, x, "conv1", self.stride), "norm1")
        first = self._merge(b, XNOR, self._map(b, y, "slices1"), shortcut)
        y = norm(b, self._conv(b, first, "conv2"), "norm2")
        if self.last:
            mean = b.add(SliceMean(), first, name="mean") if self._boolean else first
            y = b.add(ADD, y, norm(b, mean, "mean_norm"), name="add")
            return b.add(PRELU, y, name="prelu")
        y = self._merge(b, OR, self._map(b, y, "slices2"), shortcut)
        if not self.concat:
            return y
        y = b.add(CONCAT, y, untouched, name="concat")
        return b.add(Interleave(groups=2), y, name="interleave")

    def _downsampled(self, b: Builder, x: int) -> int:
        op = Conv2d(
            out_channels=self.channels,
            kernel_size=1,
            weight=self.precision.weight,
            across_slices=True,
        )
        y = b.add(op, x, name="shortcut_conv")
        if self.stride > 1:
            y = max_pool(b, y, 2, 2, name="shortcut_pool")
        return self._map(b, norm(b, y, "shortcut_norm"), "shortcut_slices")
