"""The primitive ops: attributes, and the facts that each declares of itself.

Every op is a frozen value without torch. Its torch form stands in ``network``; costs, exporters
and drawings keep one table from op kind to function each.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log2, prod
from typing import ClassVar, Final

from bitfront.spaces.errors import InfeasibleArchitecture
from bitfront.spaces.graph import Domain, Facts, Op, ParameterSpec, Role, TensorType, Work
from bitfront.spaces.quantizers import IDENTITY, Quantizer
from bitfront.spaces.registry import Registry

ops: Final[Registry[type[Op]]] = Registry("op")


def _map(x: TensorType) -> tuple[int, int, int]:
    if len(x.shape) != 3:
        raise InfeasibleArchitecture(f"A feature map (C, H, W) is needed, but got {x.shape}.")
    return x.shape


def _window(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_: bool) -> int:
    span = size + 2 * padding - dilation * (kernel - 1) - 1
    if span < 0:
        raise InfeasibleArchitecture(
            f"A window of {dilation * (kernel - 1) + 1} must fit the padded size "
            f"{size + 2 * padding}, but does not."
        )
    out = (-(-span // stride) if ceil_ else span // stride) + 1
    if ceil_ and (out - 1) * stride >= size + padding:
        out -= 1
    return out


def accumulator_bits(fan_in: int, w_bits: int, a_bits: int) -> int:
    """Bits of a two's complement sum of ``fan_in`` products of w_bits x a_bits codes."""
    return min(32, w_bits + a_bits + ceil(log2(max(fan_in, 2))))


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
        weight: Quantizer of the weights.
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

    def group_count(self, x: TensorType) -> int:
        """Groups that torch is given."""
        return self.groups if self.across_slices else self.groups * x.slices

    def infer(self, *inputs: TensorType) -> Facts:
        """MACs are ``out pixels * out_channels * C/groups * k^2``; bias is an addition."""
        (x,) = inputs
        _, height, width = _map(x)
        channels = x.torch_shape[0]
        groups = self.group_count(x)
        if channels % groups or self.out_channels % groups:
            raise InfeasibleArchitecture(
                f"Groups must divide the channels, but {groups} groups got {channels} -> "
                f"{self.out_channels}."
            )
        rows, columns = (
            _window(n, self.kernel_size, self.stride, self.padding, self.dilation, ceil_=False)
            for n in (height, width)
        )
        fan_in = channels // groups * self.kernel_size**2
        shape = (self.out_channels, channels // groups, self.kernel_size, self.kernel_size)
        params = [ParameterSpec("weight", shape, Role.WEIGHT, self.weight.bits)]
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

    def infer(self, *inputs: TensorType) -> Facts:
        """MACs are ``in * out``."""
        (x,) = inputs
        if len(x.shape) != 1:
            raise InfeasibleArchitecture(f"Flat features are needed, but got {x.shape}.")
        features = x.torch_shape[0]
        params = [
            ParameterSpec("weight", (self.out_features, features), Role.WEIGHT, self.weight.bits)
        ]
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
        """The quantizer's domain, slices and bits."""
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
        return Facts(out=out, work=(Work(function, x.stored_bits, out.elements),))


class Elementwise(Op):
    """One evaluation per element of a float result of the first input's shape.

    Class attributes:
        broadcast: A later input may hold one value per channel, ``(C, 1, 1)``.
    """

    __slots__ = ()
    fusable: ClassVar[bool] = True
    broadcast: ClassVar[bool] = False

    def params(self, x: TensorType) -> tuple[ParameterSpec, ...]:
        """Parameters it declares for an input of this type."""
        return ()

    def infer(self, *inputs: TensorType) -> Facts:
        """All inputs must have one shape."""
        x = inputs[0]
        for other in inputs[1:]:
            one_per_channel = self.broadcast and other.shape == (x.shape[0], 1, 1)
            if other.slices != x.slices or not (other.shape == x.shape or one_per_channel):
                raise InfeasibleArchitecture(
                    f"{self.kind} needs equal shapes and slices, but got {x.shape} x {x.slices} "
                    f"and {other.shape} x {other.slices}."
                )
        out = self.result(*inputs)
        return Facts(
            out=out,
            params=self.params(x),
            work=(Work(self.kind, self.bits(*inputs), out.elements),),
        )

    def result(self, *inputs: TensorType) -> TensorType:
        """Type of the result: a float map."""
        return TensorType(shape=inputs[0].shape, slices=inputs[0].slices)

    def bits(self, *inputs: TensorType) -> int:
        """Bits of the values it works on."""
        return max(x.stored_bits for x in inputs)


@ops.register("relu")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Relu(Elementwise):
    """``max(x, 0)``."""

    kind: ClassVar[str] = "relu"


@ops.register("prelu")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prelu(Elementwise):
    """``x`` where positive, else ``slope * x``, one slope per channel."""

    kind: ClassVar[str] = "prelu"

    def params(self, x: TensorType) -> tuple[ParameterSpec, ...]:
        """One slope per channel."""
        return (ParameterSpec("weight", (x.torch_shape[0],), Role.SLOPE),)


@ops.register("sigmoid")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sigmoid(Elementwise):
    """``1 / (1 + exp(-x))``."""

    kind: ClassVar[str] = "sigmoid"


@ops.register("add")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Add(Elementwise):
    """``x + y``."""

    kind: ClassVar[str] = "add"

    def result(self, *inputs: TensorType) -> TensorType:
        """Integers stay integers; anything else is a float map."""
        x = inputs[0]
        integers = all(t.domain in (Domain.ACCUMULATOR, Domain.BIPOLAR) for t in inputs)
        domain = Domain.ACCUMULATOR if integers else Domain.FLOAT
        return TensorType(shape=x.shape, slices=x.slices, domain=domain)


@ops.register("mul")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mul(Elementwise):
    """``x * y``; ``y`` may hold one factor per channel, ``(C, 1, 1)``."""

    kind: ClassVar[str] = "mul"
    broadcast: ClassVar[bool] = True


@ops.register("xnor")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Xnor(Elementwise):
    """Logical XNOR of bipolar maps: their product."""

    kind: ClassVar[str] = "xnor"

    def result(self, *inputs: TensorType) -> TensorType:
        """A bipolar map."""
        return _bipolar(self.kind, *inputs)


@ops.register("or")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Or(Elementwise):
    """Logical OR of bipolar maps: their maximum."""

    kind: ClassVar[str] = "or"

    def result(self, *inputs: TensorType) -> TensorType:
        """A bipolar map."""
        return _bipolar(self.kind, *inputs)


def _bipolar(kind: str, *inputs: TensorType) -> TensorType:
    if any(x.domain is not Domain.BIPOLAR for x in inputs):
        raise InfeasibleArchitecture(
            f"{kind} needs bipolar inputs, but got {', '.join(x.domain for x in inputs)}."
        )
    x = inputs[0]
    return TensorType(shape=x.shape, domain=Domain.BIPOLAR, slices=x.slices, stored_bits=1)


@ops.register("scale")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scale(Elementwise):
    """``a * x`` with one learned factor per channel, or one in all."""

    kind: ClassVar[str] = "scale"
    per_channel: bool = True

    def params(self, x: TensorType) -> tuple[ParameterSpec, ...]:
        """The factors."""
        count = x.torch_shape[0] if self.per_channel else 1
        return (ParameterSpec("weight", (count,), Role.SCALE),)


@ops.register("shift")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shift(Elementwise):
    """``x + b`` with one learned offset per channel; training starts at ``b = initial``."""

    kind: ClassVar[str] = "shift"
    initial: float = 0.0

    def params(self, x: TensorType) -> tuple[ParameterSpec, ...]:
        """The offsets."""
        return (ParameterSpec("bias", (x.torch_shape[0],), Role.BIAS),)


@ops.register("concat")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Concat(Op):
    """Join along the channels of each slice."""

    kind: ClassVar[str] = "concat"
    view: ClassVar[bool] = True

    def infer(self, *inputs: TensorType) -> Facts:
        """Channels add up; a mix of domains is stored as the widest."""
        first = inputs[0]
        for x in inputs[1:]:
            if x.shape[1:] != first.shape[1:] or x.slices != first.slices:
                raise InfeasibleArchitecture(
                    f"concat needs equal sizes and slices, but got {first.shape} x "
                    f"{first.slices} and {x.shape} x {x.slices}."
                )
        domains = {x.domain for x in inputs}
        channels = sum(x.shape[0] for x in inputs)
        return Facts(
            out=TensorType(
                shape=(channels, *first.shape[1:]),
                domain=first.domain if len(domains) == 1 else Domain.FLOAT,
                slices=first.slices,
                stored_bits=max(x.stored_bits for x in inputs),
            )
        )


@ops.register("slice")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slice(Op):
    """Channels ``start <= c < end`` of each slice."""

    kind: ClassVar[str] = "slice"
    view: ClassVar[bool] = True
    start: int
    end: int

    def infer(self, *inputs: TensorType) -> Facts:
        """Fewer channels, all else the same."""
        (x,) = inputs
        if not 0 <= self.start < self.end <= x.shape[0]:
            raise InfeasibleArchitecture(
                f"A slice must lie in 0..{x.shape[0]}, but is {self.start}..{self.end}."
            )
        return Facts(
            out=TensorType(
                shape=(self.end - self.start, *x.shape[1:]),
                domain=x.domain,
                slices=x.slices,
                stored_bits=x.stored_bits,
            )
        )


@ops.register("interleave")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Interleave(Op):
    """Channel shuffle: ``groups`` runs of channels are dealt out in turn."""

    kind: ClassVar[str] = "interleave"
    view: ClassVar[bool] = True
    transparent: ClassVar[bool] = True
    groups: int

    def infer(self, *inputs: TensorType) -> Facts:
        """The same type; groups must divide the channels."""
        (x,) = inputs
        if x.shape[0] % self.groups:
            raise InfeasibleArchitecture(
                f"Groups must divide the channels, but {self.groups} got {x.shape[0]}."
            )
        return Facts(out=x)


@ops.register("slice_mean")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SliceMean(Op):
    """Mean over the slices: k boolean maps back to one real map."""

    kind: ClassVar[str] = "slice_mean"
    fusable: ClassVar[bool] = True

    def infer(self, *inputs: TensorType) -> Facts:
        """One float map."""
        (x,) = inputs
        return Facts(out=TensorType(shape=x.shape), work=(Work("add", x.stored_bits, x.elements),))


class Pool(Op):
    """A window that moves over each channel."""

    __slots__ = ()
    fusable: ClassVar[bool] = True
    kernel_size: int
    stride: int
    padding: int
    ceil: bool

    def infer(self, *inputs: TensorType) -> Facts:
        """``k^2`` evaluations per output value."""
        (x,) = inputs
        channels, height, width = _map(x)
        if 2 * self.padding > self.kernel_size:
            raise InfeasibleArchitecture(
                f"A pool's padding must be at most half of its window {self.kernel_size}, but is "
                f"{self.padding}."
            )
        rows, columns = (
            _window(n, self.kernel_size, self.stride, self.padding, 1, self.ceil)
            for n in (height, width)
        )
        out = self.result(x, (channels, rows, columns))
        count = out.elements * self.kernel_size**2
        return Facts(out=out, work=(Work(self.kind, x.stored_bits, count),))

    def result(self, x: TensorType, shape: tuple[int, int, int]) -> TensorType:
        """A float map."""
        return TensorType(shape=shape, slices=x.slices)


@ops.register("max_pool")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MaxPool(Pool):
    """Largest value of each window; the domain stays."""

    kind: ClassVar[str] = "max_pool"
    kernel_size: int
    stride: int
    padding: int = 0
    ceil: bool = False

    def result(self, x: TensorType, shape: tuple[int, int, int]) -> TensorType:
        """The input's domain and bits."""
        return TensorType(shape=shape, domain=x.domain, slices=x.slices, stored_bits=x.stored_bits)


@ops.register("avg_pool")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AvgPool(Pool):
    """Mean of each window."""

    kind: ClassVar[str] = "avg_pool"
    kernel_size: int
    stride: int
    padding: int = 0
    ceil: bool = False


@ops.register("global_avg_pool")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GlobalAvgPool(Op):
    """Mean over all pixels: ``(C, H, W)`` to ``(C, 1, 1)``."""

    kind: ClassVar[str] = "global_avg_pool"
    fusable: ClassVar[bool] = True

    def infer(self, *inputs: TensorType) -> Facts:
        """One addition per input value."""
        (x,) = inputs
        channels, _, _ = _map(x)
        return Facts(
            out=TensorType(shape=(channels, 1, 1), slices=x.slices),
            work=(Work("avg_pool", x.stored_bits, x.elements),),
        )


@ops.register("blur")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Blur(Op):
    """Fixed 3x3 binomial filter per channel, outer product of (1, 2, 1)/4 with itself."""

    kind: ClassVar[str] = "blur"
    fusable: ClassVar[bool] = True
    stride: int = 2

    def infer(self, *inputs: TensorType) -> Facts:
        """Nine MACs per output value; the kernel is a buffer."""
        (x,) = inputs
        channels, height, width = _map(x)
        rows, columns = (_window(n, 3, self.stride, 1, 1, ceil_=False) for n in (height, width))
        out = TensorType(shape=(channels, rows, columns), slices=x.slices)
        return Facts(
            out=out,
            params=(ParameterSpec("kernel", (x.torch_shape[0], 1, 3, 3), Role.BUFFER),),
            macs=out.elements * 9,
            fan_in=9,
            a_bits=x.value_bits,
        )


@ops.register("flatten")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Flatten(Op):
    """``(C, H, W)`` to ``(C*H*W,)``."""

    kind: ClassVar[str] = "flatten"
    view: ClassVar[bool] = True
    transparent: ClassVar[bool] = True

    def infer(self, *inputs: TensorType) -> Facts:
        """The same values in one row."""
        (x,) = inputs
        return Facts(
            out=TensorType(
                shape=(prod(x.shape),),
                domain=x.domain,
                slices=x.slices,
                stored_bits=x.stored_bits,
            )
        )
