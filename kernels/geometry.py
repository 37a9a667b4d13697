"""Geometry of a packed convolution: what every kernel checks and derives in the same way.

Needs no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from bitfront.kernels.layout import MAX_ELEMENTS, require_int

Pair = int | tuple[int, int]
"""One int for both axes, or (vertical, horizontal)."""

Fill = int | Literal["replicate"]
"""What a tap reads outside the input: a value, or "replicate" for the nearest pixel inside."""


def _pair(name: str, value: Pair, low: int) -> tuple[int, int]:
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise ValueError(
                f"`{name}` must be an int or two ints (vertical, horizontal), but got {value!r}."
            )
        return require_int(name, value[0], low), require_int(name, value[1], low)
    number = require_int(name, value, low)
    return number, number


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv2dGeometry:
    """Sizes of one 2-D convolution; pairs are (vertical, horizontal).

    ``out = floor((in + 2 * padding - dilation * (kernel - 1) - 1) / stride) + 1`` on each axis.

    Attributes:
        batch: images.
        height: rows of an image.
        width: columns of an image.
        channels: input channels C of all groups together.
        outputs: output channels N of all groups together.
        kernel: taps on each axis.
        stride: step of the window.
        padding: pixels added on both sides of each axis.
        dilation: distance of two taps.
        groups: G; both C and N are multiples of it.

    Raises:
        TypeError: a size is not an int.
        ValueError: a size is too small, groups do not divide the channels, the window is larger
            than the padded image, or the result or a dot product exceeds 2^31 - 1.
    """

    batch: int
    height: int
    width: int
    channels: int
    outputs: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    @classmethod
    def of(
        cls,
        *,
        image: tuple[int, int, int, int],
        weight: tuple[int, int, int, int],
        stride: Pair = 1,
        padding: Pair = 0,
        dilation: Pair = 1,
        groups: int = 1,
    ) -> Conv2dGeometry:
        """Build from an image (B, H, W, C), a weight (N, kh, kw, C / G) and torch-like arguments.

        Raises:
            TypeError: as the class, and an argument that is neither an int nor a pair.
            ValueError: as the class, and a weight whose channels are not C / G.
        """
        batch, height, width, channels = image
        outputs, kernel_height, kernel_width, group_channels = weight
        geometry = cls(
            batch=batch,
            height=height,
            width=width,
            channels=channels,
            outputs=outputs,
            kernel=(kernel_height, kernel_width),
            stride=_pair("stride", stride, 1),
            padding=_pair("padding", padding, 0),
            dilation=_pair("dilation", dilation, 1),
            groups=groups,
        )
        if group_channels != geometry.group_channels:
            raise ValueError(
                "`weight channels == input channels / groups` must hold, but got "
                f"(weight channels={group_channels}, input channels={channels}, groups={groups})."
            )
        return geometry

    def __post_init__(self) -> None:
        for name in ("batch", "height", "width", "channels", "outputs", "groups"):
            require_int(name, getattr(self, name), 1)
        for name, low in (("kernel", 1), ("stride", 1), ("padding", 0), ("dilation", 1)):
            value = getattr(self, name)
            if not isinstance(value, tuple):
                raise TypeError(f"`{name}` must be a pair of ints, but got {value!r}.")
            _pair(name, value, low)
        for name in ("channels", "outputs"):
            if getattr(self, name) % self.groups:
                raise ValueError(
                    f"`{name} % groups == 0` must hold, "
                    f"but got ({name}={getattr(self, name)}, groups={self.groups})."
                )
        if self.out_height < 1 or self.out_width < 1:
            raise ValueError(
                "`dilation * (kernel - 1) + 1 <= input + 2 * padding` must hold, but got "
                f"(kernel={self.kernel}, dilation={self.dilation}, "
                f"input={(self.height, self.width)}, padding={self.padding})."
            )
        for name, size in (
            ("batch * out_height * out_width * outputs", self.rows * self.outputs),
            ("kernel taps * channels / groups", self.dot_length),
        ):
            if size > MAX_ELEMENTS:
                raise ValueError(f"`{name} <= {MAX_ELEMENTS}` must hold, but got {size}.")

    def bordered(self) -> Conv2dGeometry:
        """The same convolution of maps that hold their border already."""
        down, right = self.padding
        return replace(
            self,
            height=self.height + 2 * down,
            width=self.width + 2 * right,
            padding=(0, 0),
        )

    def _out(self, axis: int, size: int) -> int:
        reach = self.dilation[axis] * (self.kernel[axis] - 1)
        return (size + 2 * self.padding[axis] - reach - 1) // self.stride[axis] + 1

    @property
    def out_height(self) -> int:
        """Rows of the result."""
        return self._out(0, self.height)

    @property
    def out_width(self) -> int:
        """Columns of the result."""
        return self._out(1, self.width)

    @property
    def rows(self) -> int:
        """Pixels of the result, M of the implicit matrix product."""
        return self.batch * self.out_height * self.out_width

    @property
    def taps(self) -> int:
        """Positions of the kernel, kh * kw."""
        return self.kernel[0] * self.kernel[1]

    @property
    def group_channels(self) -> int:
        """Input channels of one group."""
        return self.channels // self.groups

    @property
    def group_outputs(self) -> int:
        """Output channels of one group."""
        return self.outputs // self.groups

    @property
    def dot_length(self) -> int:
        """Products in one output, K of the implicit matrix product: taps * C / G."""
        return self.taps * self.group_channels
