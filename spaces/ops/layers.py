"""Layers: the input, convolution, linear layer, batch norm, quantisation."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

from bitfront.spaces.errors import InfeasibleArchitecture, InvalidValue
from bitfront.spaces.graph import Domain, Facts, Op, ParameterSpec, Role, TensorType, Work
from bitfront.spaces.ops.op import feature_map, ops, window
from bitfront.spaces.quantizers import IDENTITY, Quantizer


@ops.register("input")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Input(Op):
    """The network's input: images as floats; ``bits`` is what a stored pixel takes."""

    kind: ClassVar[str] = "input"
    shape: tuple[int, int, int]
    bits: int = 8

    def infer(self, *inputs: TensorType) -> Facts:
        """A feature map of float values that is stored with ``bits`` per pixel."""
        return Facts(out=TensorType(shape=self.shape, stored_bits=self.bits))


@ops.register("conv2d")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conv2d(Op):
    """Two-dimensional convolution, square kernel.

    An input of k slices is read as k*C channels in k groups, so each slice feeds
    ``out_channels / k`` outputs and the MACs equal those of one ungrouped C-channel input;
    ``across_slices`` joins all k*C channels instead.

    Attributes:
        out_channels: Filters.
        kernel_size: Rows and columns of a filter.
        stride: Step in pixels.
        padding: Pixels added on every side.
        padding_value: Their value; HPI's binary convolutions pad -1.
        replicate: Repeat the edge instead of a constant.
        dilation: Distance of a filter's taps.
        groups: Groups of channels that do not see each other.
        weight: Quantizer of the weights; its parameters are ``weight_...``.
        bias: Whether a bias is added.
        across_slices: See above.
    """

    kind: ClassVar[str] = "conv2d"
    main: ClassVar[bool] = True
    out_channels: int
    kernel_size: int
    stride: int = 1
    padding: int = 0
    padding_value: float = 0.0
    replicate: bool = False
    dilation: int = 1
    groups: int = 1
    weight: Quantizer = IDENTITY
    bias: bool = False
    across_slices: bool = False

    def check(self) -> None:
        """The quantizer must be for weights."""
        object.__setattr__(self, "weight", _of_weights(self.weight))

    def group_count(self, x: TensorType) -> int:
        """Groups that torch is given."""
        return self.groups if self.across_slices else self.groups * x.slices

    def infer(self, *inputs: TensorType) -> Facts:
        """MACs are ``out pixels * out_channels * C/groups * k^2``; bias is an addition."""
        (x,) = inputs
        _, height, width = feature_map(x)
        channels = x.torch_shape[0]
        groups = self.group_count(x)
        if channels % groups or self.out_channels % groups:
            raise InfeasibleArchitecture(
                f"Groups must divide the channels, but {groups} groups got {channels} -> "
                f"{self.out_channels}."
            )
        rows, columns = (
            window(n, self.kernel_size, self.stride, self.padding, self.dilation, ceil_=False)
            for n in (height, width)
        )
        fan_in = channels // groups * self.kernel_size**2
        shape = (self.out_channels, channels // groups, self.kernel_size, self.kernel_size)
        params = _weight_params(self.weight, shape)
        out_shape = (self.out_channels, rows, columns)
        out = _accumulated(x, self.weight, out_shape, self.bias)
        work: tuple[Work, ...] = ()
        if self.bias:
            params.append(ParameterSpec("bias", (self.out_channels,), Role.BIAS))
            work = (Work("add", 32, prod(out_shape)),)
        return Facts(
            out=out,
            params=tuple(params),
            macs=prod(out_shape) * fan_in,
            fan_in=fan_in,
            w_bits=self.weight.bits,
            a_bits=x.value_bits,
            work=work,
        )


def _of_weights(quantizer: Quantizer) -> Quantizer:
    """The form for weights of a quantizer.

    Raises:
        InvalidValue: If it has none.
    """
    if not quantizer.for_weights:
        raise InvalidValue(f"The quantizer {quantizer.kind!r} is not for weights.")
    return quantizer.as_weight()


def _weight_params(quantizer: Quantizer, shape: tuple[int, ...]) -> list[ParameterSpec]:
    """The weights, and the parameters of their quantizer."""
    own = [spec._replace(name=f"weight_{spec.name}") for spec in quantizer.params(shape)]
    return [ParameterSpec("weight", shape, Role.WEIGHT, quantizer.bits), *own]


def _accumulated(
    x: TensorType, weight: Quantizer, shape: tuple[int, ...], bias: bool
) -> TensorType:
    bipolar = x.domain is Domain.BIPOLAR and weight.domain is Domain.BIPOLAR
    if bipolar and not bias:
        return TensorType(shape=shape, domain=Domain.ACCUMULATOR, stored_bits=32)
    return TensorType(shape=shape)


@ops.register("linear")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Linear(Op):
    """Matrix product with a bias: ``y = W x + b``."""

    kind: ClassVar[str] = "linear"
    main: ClassVar[bool] = True
    out_features: int
    weight: Quantizer = IDENTITY
    bias: bool = True

    def check(self) -> None:
        """The quantizer must be for weights."""
        object.__setattr__(self, "weight", _of_weights(self.weight))

    def infer(self, *inputs: TensorType) -> Facts:
        """MACs are ``in * out``."""
        (x,) = inputs
        if len(x.shape) != 1:
            raise InfeasibleArchitecture(f"Flat features are needed, but got {x.shape}.")
        features = x.torch_shape[0]
        params = _weight_params(self.weight, (self.out_features, features))
        if self.bias:
            params.append(ParameterSpec("bias", (self.out_features,), Role.BIAS))
        return Facts(
            out=_accumulated(x, self.weight, (self.out_features,), self.bias),
            params=tuple(params),
            macs=features * self.out_features,
            fan_in=features,
            w_bits=self.weight.bits,
            a_bits=x.value_bits,
            work=(Work("add", 32, self.out_features),) if self.bias else (),
        )


@ops.register("batch_norm")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BatchNorm(Op):
    """``y = gamma (x - mean) / sqrt(var + eps) + beta`` per channel; gamma is optional."""

    kind: ClassVar[str] = "batch_norm"
    fusable: ClassVar[bool] = True
    scale: bool = True
    shift: bool = True

    def infer(self, *inputs: TensorType) -> Facts:
        """One evaluation per element; mean and variance are buffers."""
        (x,) = inputs
        channels = x.torch_shape[0]
        params = []
        if self.scale:
            params.append(ParameterSpec("weight", (channels,), Role.NORM))
        if self.shift:
            params.append(ParameterSpec("bias", (channels,), Role.NORM))
        params.append(ParameterSpec("running_mean", (channels,), Role.STATISTIC))
        params.append(ParameterSpec("running_var", (channels,), Role.STATISTIC))
        out = TensorType(shape=x.shape, slices=x.slices)
        return Facts(out=out, params=tuple(params), work=(Work("batch_norm", 32, x.elements),))


@ops.register("quantize")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Quantize(Op):
    """Apply a quantizer to a tensor."""

    kind: ClassVar[str] = "quantize"
    fusable: ClassVar[bool] = True
    quantizer: Quantizer

    def infer(self, *inputs: TensorType) -> Facts:
        """The quantizer's domain, slices, bits and parameters."""
        (x,) = inputs
        quantizer = self.quantizer
        if not quantizer.for_activations:
            raise InfeasibleArchitecture(f"The quantizer {quantizer.kind!r} is for weights only.")
        if quantizer.slices > 1 and x.slices > 1:
            raise InfeasibleArchitecture("A tensor of slices cannot be sliced again.")
        out = TensorType(
            shape=x.shape,
            domain=quantizer.domain,
            slices=x.slices * quantizer.slices,
            stored_bits=quantizer.bits,
        )
        function = "sign" if quantizer.bits == 1 else "quantize"
        return Facts(
            out=out,
            params=quantizer.params(x.torch_shape),
            work=(Work(function, x.stored_bits, out.elements),),
        )
