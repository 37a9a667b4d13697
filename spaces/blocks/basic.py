"""ResNet's basic block with quantised convolutions: two of them around one shortcut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

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
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.graph import Builder
from bitfront.spaces.precision import BINARY, Precision


@blocks.register("binary_basic")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BinaryBasic(Block):
    """Two times quantise, 3x3 convolution, batch norm; plus shortcut, no ReLU.

    Where sizes change, the shortcut's 1x1 convolution is quantised too, so nothing but the feature
    map has 32 bits. BMXNet 2 calls networks of it ``resnet18_v1`` and so on.

    Attributes:
        channels: Filters.
        stride: Of the first convolution and of the shortcut's.
        padding_value: What a one-bit input is padded with: -1, 0 or 1.
        precision: Bits of all its convolutions.

    References:
        Bethge et al. 2018, Training Competitive Binary Neural Networks from Scratch
        (arXiv:1812.01965); hpi-xnor/BMXNet-v2-examples, ``resnet``.
    """

    kind: ClassVar[str] = "binary_basic"
    symbol: ClassVar[str] = "BB"
    channels: int
    stride: int = 1
    padding_value: float = -1.0
    precision: Precision = BINARY

    def check(self) -> None:
        """Sane sizes, a known padding."""
        check_channels("channels", self.channels)
        check_range("stride", self.stride, 1, 2)
        if self.padding_value not in (-1.0, 0.0, 1.0):
            raise InvalidValue(f"padding_value must be -1, 0 or 1, but is {self.padding_value}.")

    def build(self, b: Builder, x: int) -> int:
        """``channels`` channels, ``stride`` times fewer rows and columns."""
        codes = quantize(b, x, self.precision.input, "quantize1")
        shortcut = x
        if self.stride > 1 or b.channels(x) != self.channels:
            shortcut = self._convolved(b, codes, 1, self.stride, "shortcut_conv", "shortcut_norm")
        y = self._convolved(b, codes, 3, self.stride, "conv1", "norm1")
        codes = quantize(b, y, self.precision.input, "quantize2")
        y = self._convolved(b, codes, 3, 1, "conv2", "norm2")
        return b.add(ADD, y, shortcut, name="add")

    def _convolved(
        self, b: Builder, x: int, kernel_size: int, stride: int, name: str, norm_name: str
    ) -> int:
        y = conv(
            b,
            x,
            self.channels,
            kernel_size,
            stride=stride,
            weight=self.precision.weight,
            padding_value=self.padding_value,
            name=name,
        )
        return norm(b, y, norm_name)
