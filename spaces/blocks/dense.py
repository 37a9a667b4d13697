"""Dense and improvement blocks, and the transition between their stages.

Pictures: a dense block appends ``growth`` new channels to the feature map; an improvement block
corrects the channels that the dense block before it has appended::

    x ----------------------- concat ->        x --+--------- keep --------- concat ->
    +- norm - sign - conv ----+                    +- last ------- add -------+
                                                   +- norm - sign - conv -+
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from bitfront.spaces.blocks.block import (
    NORM,
    Block,
    blocks,
    check_channels,
    check_kernel,
    check_range,
    check_storage,
    conv,
    max_pool,
    norm,
    quantize,
    relu,
    store,
)
from bitfront.spaces.errors import InfeasibleArchitecture
from bitfront.spaces.graph import Builder
from bitfront.spaces.ops import Add, Concat, Interleave, Slice
from bitfront.spaces.precision import BINARY, Precision
from bitfront.spaces.value import added

CONCAT = Concat()
ADD = Add()


@cache
def slice_op(start: int, end: int) -> Slice:
    """The op that takes channels ``start`` to ``end``."""
    return Slice(start=start, end=end)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Growing(Block):
    """Parameters of dense and improvement blocks.

    Attributes:
        growth: Channels that the convolution computes.
        kernel_size: Of the convolution.
        dilation: Of the convolution.
        precision: Bits of its weights and inputs.
        shortcut_bits: Bits in which the feature map is stored.
    """

    growth: int = 64
    kernel_size: int = 3
    dilation: int = 1
    precision: Precision = BINARY
    shortcut_bits: int = 32

    def check(self) -> None:
        """Sane sizes and known widths."""
        check_channels("growth", self.growth)
        check_kernel(self.kernel_size)
        check_range("dilation", self.dilation, 1, 16)
        check_storage("shortcut_bits", self.shortcut_bits)

    def convolved(self, b: Builder, x: int, channels: int) -> int:
        """Norm, quantise, convolve: the part that both blocks share."""
        x = quantize(b, b.add(NORM, x, name="norm"), self.precision.input)
        return conv(
            b,
            x,
            channels,
            self.kernel_size,
            weight=self.precision.weight,
            padding_value=-1.0,
            dilation=self.dilation,
        )


@blocks.register("dense")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dense(_Growing):
    """Dense block: new channels from all channels, appended.

    References:
        Bethge et al. 2019, BinaryDenseNet (arXiv:1906.08637).
    """

    kind: ClassVar[str] = "dense"
    symbol: ClassVar[str] = "D"

    def build(self, b: Builder, x: int) -> int:
        """``growth`` channels more."""
        y = store(b, self.convolved(b, x, self.growth), self.shortcut_bits, normalised=False)
        return b.add(CONCAT, x, y, name="concat")


@blocks.register("improvement")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Improvement(_Growing):
    """Improvement block: a correction added to the last ``growth`` channels.

    Attributes:
        whole: NaiveNet's form: the correction is added to all channels, whatever ``growth`` is.

    References:
        Bethge et al. 2020, MeliusNet (arXiv:2001.05936).
    """

    kind: ClassVar[str] = "improvement"
    symbol: ClassVar[str] = "I"
    whole: bool = added(False)

    def build(self, b: Builder, x: int) -> int:
        """As many channels as before.

        Raises:
            InfeasibleArchitecture: If there are fewer than ``growth`` channels.
        """
        channels = b.channels(x)
        corrected = channels if self.whole else self.growth
        if channels < corrected:
            raise InfeasibleArchitecture(
                f"An improvement block corrects the last {corrected} channels, but there are "
                f"only {channels}."
            )
        y = self.convolved(b, x, corrected)
        if self.shortcut_bits <= 8:
            y = norm(b, y, "store_norm")
        if channels == corrected:
            y = b.add(ADD, x, y, name="add")
            return store(b, y, self.shortcut_bits, normalised=True)
        keep = b.add(slice_op(0, channels - corrected), x, name="keep")
        last = b.add(slice_op(channels - corrected, channels), x, name="last")
        y = b.add(ADD, last, y, name="add")
        y = store(b, y, self.shortcut_bits, normalised=True)
        return b.add(CONCAT, keep, y, name="concat")


@blocks.register("transition")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Transition(Block):
    """Between stages: batch norm, max pool 2x2, ReLU, 1x1 convolution.

    Attributes:
        channels: Filters of the 1x1 convolution.
        groups: Its groups; more than one shuffles the channels first.
        shuffle: Groups of that shuffle.
        pool: Whether it halves the size; dilated stages keep it.
        out_bits: Width in which the result is stored.
    """

    kind: ClassVar[str] = "transition"
    place: ClassVar[str] = "transition"
    symbol: ClassVar[str] = "T"
    channels: int
    groups: int = 1
    shuffle: int = 16
    pool: bool = True
    out_bits: int = 32

    def check(self) -> None:
        """Sane sizes."""
        check_channels("channels", self.channels)
        check_range("groups", self.groups, 1, self.channels)
        check_channels("shuffle", self.shuffle)
        check_storage("out_bits", self.out_bits)

    def build(self, b: Builder, x: int) -> int:
        """Half the rows and columns, ``channels`` channels."""
        x = norm(b, x)
        if self.pool:
            x = max_pool(b, x, 2, 2)
        x = relu(b, x)
        if self.groups > 1:
            x = b.add(Interleave(groups=self.shuffle), x, name="shuffle")
        x = conv(b, x, self.channels, 1, groups=self.groups)
        return store(b, x, self.out_bits, normalised=False)
