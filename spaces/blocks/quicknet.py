"""QuickNet's stem, residual block and transition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bitfront.spaces.blocks.block import (
    Block,
    blocks,
    check_channels,
    conv,
    max_pool,
    norm,
    quantize,
    relu,
)
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.graph import Builder
from bitfront.spaces.ops import Add, BatchNorm, Blur
from bitfront.spaces.precision import BINARY, Precision


@blocks.register("stem_quicknet")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StemQuickNet(Block):
    """conv 3x3 stride 2 (c/4), norm, ReLU; depth-wise 3x3 stride 2, plain norm; conv 1x1 (c), norm.

    References:
        Bannink et al. 2020, Larq Compute Engine (arXiv:2011.09398).
    """

    kind: ClassVar[str] = "stem_quicknet"
    place: ClassVar[str] = "stem"
    symbol: ClassVar[str] = "SQ"
    channels: int = 64

    def check(self) -> None:
        """Channels must divide by 4."""
        check_channels("channels", self.channels)
        if self.channels % 4:
            raise InvalidValue(f"channels must be a multiple of 4, but is {self.channels}.")

    def build(self, b: Builder, x: int) -> int:
        """Four times fewer rows and columns."""
        inner = self.channels // 4
        x = relu(b, norm(b, conv(b, x, inner, 3, stride=2, name="conv1"), "norm1"))
        x = conv(b, x, inner, 3, stride=2, groups=inner, name="depthwise")
        x = b.add(BatchNorm(scale=False, shift=False), x, name="norm2")
        return norm(b, conv(b, x, self.channels, 1, name="conv2"), "norm3")


@blocks.register("quicknet")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QuickNet(Block):
    """Sign, binary 3x3 convolution padded with +1, ReLU, batch norm, plus shortcut."""

    kind: ClassVar[str] = "quicknet"
    symbol: ClassVar[str] = "Q"
    channels: int
    precision: Precision = BINARY

    def check(self) -> None:
        """A sane number of channels."""
        check_channels("channels", self.channels)

    def build(self, b: Builder, x: int) -> int:
        """The same size."""
        y = quantize(b, x, self.precision.input)
        y = conv(b, y, self.channels, 3, weight=self.precision.weight, padding_value=1.0)
        return b.add(Add(), norm(b, relu(b, y)), x, name="add")


@blocks.register("quicknet_transition")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QuickNetTransition(Block):
    """ReLU, max pool 2x2 stride 1, fixed blur stride 2, 32-bit conv 1x1, batch norm."""

    kind: ClassVar[str] = "quicknet_transition"
    place: ClassVar[str] = "transition"
    symbol: ClassVar[str] = "TQ"
    channels: int

    def check(self) -> None:
        """A sane number of channels."""
        check_channels("channels", self.channels)

    def build(self, b: Builder, x: int) -> int:
        """Half the rows and columns, ``channels`` channels."""
        x = b.add(Blur(stride=2), max_pool(b, relu(b, x), 2, 1), name="blur")
        return norm(b, conv(b, x, self.channels, 1))
