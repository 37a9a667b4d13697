"""Convolutions without shortcuts, at any precision: the layers of AlexNet, VGG and MobileNet.

The order of a convolution's parts is ``norm``: "after" is conv, norm, activation; "before" is norm,
quantise, conv, activation, as XNOR-Net has it; "none" gives the convolution a bias instead.

One-bit inputs need "before", or no ReLU: all signs of what a ReLU gives are +1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from bitfront.spaces.blocks.block import (
    PRELU,
    Block,
    blocks,
    check_channels,
    check_kernel,
    check_range,
    conv,
    max_pool_op,
    norm,
    quantize,
    relu,
)
from bitfront.spaces.errors import InfeasibleArchitecture, InvalidValue
from bitfront.spaces.graph import Builder
from bitfront.spaces.precision import FULL, Precision
from bitfront.spaces.quantizers import Quantizer

NORMS: Final = ("after", "before", "none")
ACTIVATIONS: Final = ("relu", "prelu", "none")
# they hand on values that a ReLU gave without a change of sign
_SIGN_KEEPING: Final = ("max_pool", "avg_pool", "global_avg_pool", "flatten", "dropout", "concat")


def check_choice(name: str, value: str, options: tuple[str, ...]) -> None:
    """Raise ``InvalidValue`` unless the value is one of the options."""
    if value not in options:
        raise InvalidValue(f"{name} must be one of {', '.join(options)}, but is {value!r}.")


def quantized(b: Builder, x: int, quantizer: Quantizer, name: str = "quantize") -> int:
    """Quantise the inputs of a layer.

    Raises:
        InfeasibleArchitecture: If one bit is left of values that a ReLU has made positive.
    """
    if quantizer.bits == 1 and _rectified(b, x):
        raise InfeasibleArchitecture(
            "One-bit inputs behind a ReLU are all +1: they need a norm before them, another "
            "activation or more bits."
        )
    return quantize(b, x, quantizer, name)


def _rectified(b: Builder, x: int) -> bool:
    node = b.nodes[x]
    if node.op.kind in _SIGN_KEEPING:
        return all(_rectified(b, i) for i in node.inputs)
    return node.op.kind == "relu"


def activated(b: Builder, x: int, activation: str, name: str = "activation") -> int:
    """ReLU, PReLU or nothing."""
    if activation == "none":
        return x
    return relu(b, x, name) if activation == "relu" else b.add(PRELU, x, name=name)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Convolution(Block):
    """Parameters of a convolution and what surrounds it.

    Attributes:
        channels: Filters.
        kernel_size: Rows and columns of a filter.
        stride: Step in pixels.
        padding: Pixels added on every side; without it the size stays at stride 1.
        norm: "after" or "before" the convolution, or "none"; see above.
        activation: "relu", "prelu" or "none".
    """

    channels: int
    kernel_size: int = 3
    stride: int = 1
    padding: int | None = None
    norm: str = "after"
    activation: str = "relu"

    def check(self) -> None:
        """Sane sizes, known choices."""
        check_channels("channels", self.channels)
        check_range("kernel_size", self.kernel_size, 1, 11)
        if self.kernel_size % 2 == 0 and self.padding is None:
            raise InvalidValue(
                f"kernel_size must be odd where no padding is given, but is {self.kernel_size}."
            )
        check_range("stride", self.stride, 1, 4)
        if self.padding is not None:
            check_range("padding", self.padding, 0, self.kernel_size // 2)
        check_choice("norm", self.norm, NORMS)
        check_choice("activation", self.activation, ACTIVATIONS)


@blocks.register("stem_conv")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StemConv(_Convolution):
    """A 32-bit convolution, and a max pool of stride 2 where ``pool`` gives its size.

    AlexNet's is 11x11 with stride 4, GoogLeNet's 7x7 with stride 2, VGG's and MobileNet's 3x3.

    Attributes:
        pool: Rows and columns of the max pool's window; 0 for no pool.
        pool_padding: Pixels added on every side before it.
    """

    kind: ClassVar[str] = "stem_conv"
    place: ClassVar[str] = "stem"
    symbol: ClassVar[str] = "SC"
    pool: int = 0
    pool_padding: int = 0

    def check(self) -> None:
        """A sane pool."""
        _Convolution.check(self)
        check_range("pool", self.pool, 0, 7)
        check_range("pool_padding", self.pool_padding, 0, self.pool // 2)

    def build(self, b: Builder, x: int) -> int:
        """``stride`` times fewer rows and columns, half of those with a pool."""
        x = _convolved(b, x, self, FULL)
        if not self.pool:
            return x
        return b.add(max_pool_op(self.pool, 2, self.pool_padding), x, name="pool")


@blocks.register("conv_layer")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ConvLayer(_Convolution):
    """One convolution without a shortcut, at any precision.

    Attributes:
        groups: Groups of channels that do not see each other (AlexNet's two towers).
        padding_value: What a one-bit input is padded with: -1, 0 or 1.
        precision: Bits of weights and inputs.
    """

    kind: ClassVar[str] = "conv_layer"
    symbol: ClassVar[str] = "CL"
    groups: int = 1
    padding_value: float = 0.0
    precision: Precision = FULL

    def check(self) -> None:
        """Sane groups, a known padding."""
        _Convolution.check(self)
        check_range("groups", self.groups, 1, self.channels)
        if self.padding_value not in (-1.0, 0.0, 1.0):
            raise InvalidValue(f"padding_value must be -1, 0 or 1, but is {self.padding_value}.")

    def build(self, b: Builder, x: int) -> int:
        """``channels`` channels, ``stride`` times fewer rows and columns."""
        return _convolved(b, x, self, self.precision, self.groups, self.padding_value)


def _convolved(
    b: Builder,
    x: int,
    layer: _Convolution,
    precision: Precision,
    groups: int = 1,
    padding_value: float = 0.0,
) -> int:
    if layer.norm == "before":
        x = norm(b, x)
    x = conv(
        b,
        quantized(b, x, precision.input),
        layer.channels,
        layer.kernel_size,
        stride=layer.stride,
        weight=precision.weight,
        padding_value=padding_value,
        groups=groups,
        padding=layer.padding,
        bias=layer.norm == "none",
    )
    if layer.norm == "after":
        x = norm(b, x)
    return activated(b, x, layer.activation)


@blocks.register("separable")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Separable(Block):
    """A depthwise and a 1x1 convolution, each with batch norm and activation.

    Attributes:
        channels: Filters of the 1x1 convolution.
        kernel_size: Of the depthwise convolution.
        stride: Of the depthwise convolution.
        activation: "relu", "prelu" or "none"; one-bit inputs cannot stand behind a ReLU.
        precision: Bits of both convolutions.

    References:
        Howard et al. 2017, MobileNets (arXiv:1704.04861), Fig. 3.
    """

    kind: ClassVar[str] = "separable"
    symbol: ClassVar[str] = "DS"
    channels: int
    kernel_size: int = 3
    stride: int = 1
    activation: str = "relu"
    precision: Precision = FULL

    def check(self) -> None:
        """Sane sizes, a known activation."""
        check_channels("channels", self.channels)
        check_kernel(self.kernel_size)
        check_range("stride", self.stride, 1, 2)
        check_choice("activation", self.activation, ACTIVATIONS)

    def build(self, b: Builder, x: int) -> int:
        """``channels`` channels, ``stride`` times fewer rows and columns."""
        inputs = b.channels(x)
        for name, channels, kernel_size, stride, groups in (
            ("depthwise", inputs, self.kernel_size, self.stride, inputs),
            ("pointwise", self.channels, 1, 1, 1),
        ):
            x = quantized(b, x, self.precision.input, f"{name}_quantize")
            weight = self.precision.weight
            x = conv(
                b, x, channels, kernel_size, stride=stride, weight=weight, groups=groups, name=name
            )
            x = activated(b, norm(b, x, f"{name}_norm"), self.activation, f"{name}_activation")
        return x
