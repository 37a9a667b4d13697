"""The torch form of every primitive op.

A form is a small module that holds the parameters of one node and computes its value from the
values of the nodes before it. Feature maps are ``(N, slices*C, H, W)``, slice after slice.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final, cast

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F  # noqa: N812

from bitfront.spaces import ops
from bitfront.spaces.graph import BUFFERS, Node, ParameterSpec, Role, TensorType
from bitfront.spaces.quantizers import Identity, Quantizer
from bitfront.spaces.registry import Registry

NORM_MOMENTUM: Final = 0.1
NORM_EPS: Final = 1e-5


class _Quantized(torch.autograd.Function):
    """``q(x)`` forwards; the gradient times ``dq(x)`` backwards, summed over the slices."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, quantizer: Quantizer, t_clip: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.quantizer = quantizer
        ctx.t_clip = t_clip
        return quantizer.q(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        grad = grads[0] * ctx.quantizer.dq(x, ctx.t_clip)
        if ctx.quantizer.slices > 1:
            grad = grad.reshape(x.shape[0], ctx.quantizer.slices, *x.shape[1:]).sum(1)
        return grad, None, None


def quantized(x: Tensor, quantizer: Quantizer, t_clip: float) -> Tensor:
    """Quantise ``x``; the gradient is the quantizer's straight-through estimate.

    Args:
        x: Weights of any shape, or a feature map ``(N, C, H, W)``.
        quantizer: What to apply; ``k`` slices become ``(N, k*C, H, W)``.
        t_clip: Where the gradient of a sign is cut.
    """
    if isinstance(quantizer, Identity):
        return x
    if x.requires_grad and torch.is_grad_enabled():
        return cast(Tensor, _Quantized.apply(x, quantizer, t_clip))  # type: ignore[no-untyped-call]
    return quantizer.q(x)


class Form(nn.Module):
    """One node's parameters and its computation.

    Class attributes:
        optional: Parameters that an op may do without; they are None then.

    Args:
        node: What to compute.
        inputs: Types of the values that it reads.
        t_clip: Where the gradient of a sign is cut.
        generator: Source of the initial weights.
    """

    optional: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self, node: Node, inputs: tuple[TensorType, ...], t_clip: float, generator: Generator
    ) -> None:
        super().__init__()
        self.op: Any = node.op
        self.t_clip = t_clip
        for spec in node.facts.params:
            # a shared weight belongs to the first node that reads it
            if spec.role is Role.WEIGHT and node.latent != node.index:
                continue
            value = self.initial(spec, generator)
            if spec.role in BUFFERS:
                self.register_buffer(spec.name, value)
            else:
                self.register_parameter(spec.name, nn.Parameter(value))
        for name in self.optional:
            if name not in self._parameters:
                self.register_parameter(name, None)
        self.prepare(inputs)

    def initial(self, spec: ParameterSpec, generator: Generator) -> Tensor:
        """The value that a parameter starts with.

        Weights, latent ones too, are normal with a standard deviation of ``sqrt(2 / fan_in)``.
        """
        if spec.role is Role.WEIGHT:
            fan_in = spec.count // spec.shape[0]
            return torch.empty(spec.shape).normal_(0.0, (2 / fan_in) ** 0.5, generator=generator)
        if spec.role is Role.SLOPE:
            return torch.full(spec.shape, 0.25)
        if spec.name in ("weight", "running_var"):
            return torch.ones(spec.shape)
        return torch.zeros(spec.shape)

    def prepare(self, inputs: tuple[TensorType, ...]) -> None:
        """Keep what the computation needs to know of its inputs' types."""

    def extra_repr(self) -> str:
        """The op's attributes."""
        names = type(self.op).__dataclass_fields__
        return ", ".join(f"{name}={getattr(self.op, name)!r}" for name in names)


forms: Final[Registry[type[Form]]] = Registry("torch form")


@forms.register("input")
class _Input(Form):
    def forward(self, x: Tensor) -> Tensor:
        return x


@forms.register("conv2d")
class _Conv2d(Form):
    op: ops.Conv2d
    optional = ("bias",)
    weight: Tensor
    bias: Tensor | None

    def prepare(self, inputs: tuple[TensorType, ...]) -> None:
        self.groups = self.op.group_count(inputs[0])
        # what a convolution cannot pad by itself is padded before it
        self.padded = self.op.padding > 0 and (self.op.replicate or self.op.padding_value != 0)

    def forward(self, x: Tensor, latent: Tensor | None = None) -> Tensor:
        op = self.op
        weight = quantized(self.weight if latent is None else latent, op.weight, self.t_clip)
        padding = op.padding
        if self.padded:
            sides = (padding,) * 4
            if op.replicate:
                x = F.pad(x, sides, mode="replicate")
            else:
                x = F.pad(x, sides, value=op.padding_value)
            padding = 0
        return F.conv2d(x, weight, self.bias, op.stride, padding, op.dilation, self.groups)


@forms.register("linear")
class _Linear(Form):
    op: ops.Linear
    optional = ("bias",)
    weight: Tensor
    bias: Tensor | None

    def forward(self, x: Tensor, latent: Tensor | None = None) -> Tensor:
        weight = self.weight if latent is None else latent
        return F.linear(x, quantized(weight, self.op.weight, self.t_clip), self.bias)


@forms.register("batch_norm")
class _BatchNorm(Form):
    optional = ("weight", "bias")
    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor
    running_var: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training,
            NORM_MOMENTUM,
            NORM_EPS,
        )


@forms.register("quantize")
class _Quantize(Form):
    op: ops.Quantize

    def forward(self, x: Tensor) -> Tensor:
        return quantized(x, self.op.quantizer, self.t_clip)


@forms.register("relu")
class _Relu(Form):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x)


@forms.register("prelu")
class _Prelu(Form):
    weight: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return F.prelu(x, self.weight)


@forms.register("sigmoid")
class _Sigmoid(Form):
    def forward(self, x: Tensor) -> Tensor:
        return x.sigmoid()


@forms.register("add")
class _Add(Form):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


@forms.register("mul")
class _Mul(Form):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x * y


@forms.register("xnor")
class _Xnor(Form):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x * y


@forms.register("or")
class _Or(Form):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        # the maximum of bipolar values; its gradient is 1 for both inputs unless both are +1
        return (x + y + 1).clamp(max=1)


@forms.register("scale")
class _Scale(Form):
    weight: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return x * _channelwise(self.weight, x)


@forms.register("shift")
class _Shift(Form):
    op: ops.Shift
    bias: Tensor

    def initial(self, spec: ParameterSpec, generator: Generator) -> Tensor:
        return torch.full(spec.shape, self.op.initial)

    def forward(self, x: Tensor) -> Tensor:
        return x + _channelwise(self.bias, x)


def _channelwise(values: Tensor, x: Tensor) -> Tensor:
    """Values per channel in a shape that broadcasts over ``(N, C, ...)``."""
    return values.reshape(-1, *[1] * (x.dim() - 2))


class _OnSlices(Form):
    """An op on the channels of each slice."""

    def prepare(self, inputs: tuple[TensorType, ...]) -> None:
        self.slices = inputs[0].slices

    def sliced(self, x: Tensor) -> Tensor:
        """``(N, k*C, H, W)`` to ``(N, k, C, H, W)``."""
        return x.reshape(x.shape[0], self.slices, -1, *x.shape[2:])


@forms.register("concat")
class _Concat(_OnSlices):
    def forward(self, *xs: Tensor) -> Tensor:
        if self.slices == 1:
            return torch.cat(xs, dim=1)
        return torch.cat([self.sliced(x) for x in xs], dim=2).flatten(1, 2)


@forms.register("slice")
class _Slice(_OnSlices):
    op: ops.Slice

    def forward(self, x: Tensor) -> Tensor:
        if self.slices == 1:
            return x[:, self.op.start : self.op.end]
        return self.sliced(x)[:, :, self.op.start : self.op.end].flatten(1, 2)


@forms.register("interleave")
class _Interleave(_OnSlices):
    op: ops.Interleave

    def forward(self, x: Tensor) -> Tensor:
        groups = self.op.groups
        dealt = x.reshape(x.shape[0], self.slices, groups, -1, *x.shape[2:]).transpose(2, 3)
        return dealt.flatten(1, 3)


@forms.register("slice_mean")
class _SliceMean(_OnSlices):
    def forward(self, x: Tensor) -> Tensor:
        return self.sliced(x).mean(1)


@forms.register("max_pool")
class _MaxPool(Form):
    op: ops.MaxPool

    def forward(self, x: Tensor) -> Tensor:
        op = self.op
        return F.max_pool2d(x, op.kernel_size, op.stride, op.padding, ceil_mode=op.ceil)


@forms.register("avg_pool")
class _AvgPool(Form):
    op: ops.AvgPool

    def forward(self, x: Tensor) -> Tensor:
        op = self.op
        return F.avg_pool2d(x, op.kernel_size, op.stride, op.padding, ceil_mode=op.ceil)


@forms.register("global_avg_pool")
class _GlobalAvgPool(Form):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True)


@forms.register("blur")
class _Blur(Form):
    op: ops.Blur
    kernel: Tensor

    def initial(self, spec: ParameterSpec, generator: Generator) -> Tensor:
        row = torch.tensor([0.25, 0.5, 0.25])
        return torch.outer(row, row).expand(spec.shape).clone()

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel, None, self.op.stride, 1, 1, self.kernel.shape[0])


@forms.register("flatten")
class _Flatten(Form):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)
