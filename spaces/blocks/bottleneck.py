"""ResNet's bottleneck: 1x1, 3x3 and 1x1 convolutions around one shortcut."""

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
    relu,
)
from bitfront.spaces.blocks.classic import quantized
from bitfront.spaces.blocks.dense import ADD
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.graph import Builder
from bitfront.spaces.precision import FULL, Precision


@blocks.register("bottleneck")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bottleneck(Block):
    """Reduce by 1x1, convolve 3x3, expand by 1x1, plus shortcut; each with batch norm, then ReLU.

    Attributes:
        channels: Channels that it hands on.
        stride: Of the first 1x1 convolution.
        expansion: Divides the channels inside.
        late_stride: The 3x3 convolution has the stride instead: fb.resnet.torch's and torchvision's
            form, which is a little more accurate and more work.
        precision: Bits of the three convolutions; the shortcut's stays at 32. Not one-bit inputs,
            for a ReLU stands before them.

    References:
        He et al. 2016, ResNet (arXiv:1512.03385), Fig. 5.
    """

    kind: ClassVar[str] = "bottleneck"
    symbol: ClassVar[str] = "RB"
    channels: int
    stride: int = 1
    expansion: int = 4
    late_stride: bool = False
    precision: Precision = FULL

    def check(self) -> None:
        """The expansion divides the channels."""
        check_channels("channels", self.channels)
        check_range("stride", self.stride, 1, 2)
        check_range("expansion", self.expansion, 1, 16)
        if self.channels % self.expansion:
            raise InvalidValue(
                f"channels must be a multiple of expansion {self.expansion}, but is "
                f"{self.channels}."
            )

    def build(self, b: Builder, x: int) -> int:
        """``channels`` channels, ``stride`` times fewer rows and columns."""
        shortcut = x
        if self.stride != 1 or b.channels(x) != self.channels:
            shortcut = conv(b, x, self.channels, 1, stride=self.stride, name="shortcut_conv")
            shortcut = norm(b, shortcut, "shortcut_norm")
        width = self.channels // self.expansion
        first, second = (1, self.stride) if self.late_stride else (self.stride, 1)
        x = self._convolved(b, x, width, 1, first, 1)
        x = self._convolved(b, relu(b, x, "relu1"), width, 3, second, 2)
        x = self._convolved(b, relu(b, x, "relu2"), self.channels, 1, 1, 3)
        return relu(b, b.add(ADD, x, shortcut, name="add"), "relu3")

    def _convolved(
        self, b: Builder, x: int, channels: int, kernel_size: int, stride: int, number: int
    ) -> int:
        x = quantized(b, x, self.precision.input, f"quantize{number}")
        weight = self.precision.weight
        name = f"conv{number}"
        x = conv(b, x, channels, kernel_size, stride=stride, weight=weight, name=name)
        return norm(b, x, f"norm{number}")
