"""Stems: from the image to the first feature map; always 32-bit convolutions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bitfront.spaces.blocks.block import (
    PRELU,
    Block,
    blocks,
    check_channels,
    check_range,
    check_storage,
    conv,
    max_pool,
    norm,
    relu,
    store,
)
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.graph import Builder
from bitfront.spaces.ops import BatchNorm
from bitfront.spaces.value import added


@blocks.register("stem_conv7x7")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StemConv7x7(Block):
    """conv 7x7 stride 2, batch norm, activation, max pool 3x3 stride 2.

    Attributes:
        channels: Filters.
        activation: "relu", "prelu" or "none" (Bi-Real).
        input_norm: Normalise the image first, without a learned scale (ResNetE).
        final_norm: Normalise once more after the pool (ResNetE).
        out_bits: Width in which the result is stored.
    """

    kind: ClassVar[str] = "stem_conv7x7"
    place: ClassVar[str] = "stem"
    symbol: ClassVar[str] = "S7"
    channels: int = 64
    activation: str = "relu"
    input_norm: bool = False
    final_norm: bool = False
    out_bits: int = 32

    def check(self) -> None:
        """A known activation and storage width."""
        check_channels("channels", self.channels)
        check_storage("out_bits", self.out_bits)
        if self.activation not in ("relu", "prelu", "none"):
            raise InvalidValue(
                f"activation must be 'relu', 'prelu' or 'none', but is {self.activation!r}."
            )

    def build(self, b: Builder, x: int) -> int:
        """Four times fewer rows and columns."""
        if self.input_norm:
            x = b.add(BatchNorm(scale=False), x, name="input_norm")
        x = norm(b, conv(b, x, self.channels, 7, stride=2))
        if self.activation == "relu":
            x = relu(b, x)
        elif self.activation == "prelu":
            x = b.add(PRELU, x, name="prelu")
        x = max_pool(b, x, 3, 2, 1)
        if self.final_norm:
            x = norm(b, x, "final_norm")
        return store(b, x, self.out_bits, normalised=self.final_norm)


@blocks.register("stem_grouped")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StemGrouped(Block):
    """MeliusNet's stem: three 3x3 convolutions, the last two in groups, then max pool.

    conv 3x3 stride 2 (c/2), conv 3x3 in 4 groups (c/2), conv 3x3 in 8 groups (c); each with
    batch norm and ReLU; max pool 3x3 stride 2.

    Attributes:
        channels: Filters of the last convolution.
        input_norm: Normalise the image first, without a learned scale (ResNetE).
        final_norm: Normalise once more after the pool (ResNetE).
        out_bits: Width in which the result is stored.

    References:
        Bethge et al. 2020, MeliusNet (arXiv:2001.05936), Sec. 3.3.
    """

    kind: ClassVar[str] = "stem_grouped"
    place: ClassVar[str] = "stem"
    symbol: ClassVar[str] = "SG"
    channels: int = 64
    input_norm: bool = False
    final_norm: bool = False
    out_bits: int = 32

    def check(self) -> None:
        """Channels must divide into the groups."""
        check_channels("channels", self.channels)
        check_storage("out_bits", self.out_bits)
        if self.channels % 16:
            raise InvalidValue(f"channels must be a multiple of 16, but is {self.channels}.")

    def build(self, b: Builder, x: int) -> int:
        """Four times fewer rows and columns."""
        if self.input_norm:
            x = b.add(BatchNorm(scale=False), x, name="input_norm")
        half = self.channels // 2
        x = relu(b, norm(b, conv(b, x, half, 3, stride=2, name="conv1"), "norm1"), "relu1")
        x = relu(b, norm(b, conv(b, x, half, 3, groups=4, name="conv2"), "norm2"), "relu2")
        x = conv(b, x, self.channels, 3, groups=8, name="conv3")
        x = max_pool(b, relu(b, norm(b, x, "norm3"), "relu3"), 3, 2, 1)
        if self.final_norm:
            x = norm(b, x, "final_norm")
        return store(b, x, self.out_bits, normalised=self.final_norm)


@blocks.register("stem_conv3x3")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StemConv3x3(Block):
    """conv 3x3 and batch norm: MobileNet's stem, as ReActNet and BNext have it.

    Attributes:
        channels: Filters.
        stride: 2, or 1 for small images.
    """

    kind: ClassVar[str] = "stem_conv3x3"
    place: ClassVar[str] = "stem"
    symbol: ClassVar[str] = "SM"
    channels: int = 32
    stride: int = 2

    def check(self) -> None:
        """Sane sizes."""
        check_channels("channels", self.channels)
        check_range("stride", self.stride, 1, 2)

    def build(self, b: Builder, x: int) -> int:
        """``stride`` times fewer rows and columns."""
        return norm(b, conv(b, x, self.channels, 3, stride=self.stride))


@blocks.register("stem_thumbnail")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StemThumbnail(Block):
    """A single 3x3 convolution at full size, for small images.

    Attributes:
        channels: Filters.
        out_bits: Width in which the result is stored.
        input_norm: Normalise the image first, without a learned scale (ResNetE).
    """

    kind: ClassVar[str] = "stem_thumbnail"
    place: ClassVar[str] = "stem"
    symbol: ClassVar[str] = "S3"
    channels: int = 64
    out_bits: int = 32
    input_norm: bool = added(False)

    def check(self) -> None:
        """A sane number of channels and a known storage width."""
        check_channels("channels", self.channels)
        check_storage("out_bits", self.out_bits)

    def build(self, b: Builder, x: int) -> int:
        """The size stays."""
        if self.input_norm:
            x = b.add(BatchNorm(scale=False), x, name="input_norm")
        return store(b, conv(b, x, self.channels, 3), self.out_bits, normalised=False)
