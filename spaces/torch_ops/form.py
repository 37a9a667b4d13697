"""What the torch form of an op is, the registry of forms, and the quantisation they share."""

from __future__ import annotations

from typing import Any, ClassVar, Final, cast

import torch
from torch import Generator, Tensor, nn

from bitfront.spaces.graph import BUFFERS, Node, ParameterSpec, Role, TensorType
from bitfront.spaces.quantizers import Identity, Quantizer
from bitfront.spaces.registry import Registry


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


def channelwise(values: Tensor, x: Tensor) -> Tensor:
    """Values per channel in a shape that broadcasts over ``(N, C, ...)``."""
    return values.reshape(-1, *[1] * (x.dim() - 2))


class OnSlices(Form):
    """An op on the channels of each slice."""

    def prepare(self, inputs: tuple[TensorType, ...]) -> None:
        """Keep the number of slices."""
        self.slices = inputs[0].slices

    def sliced(self, x: Tensor) -> Tensor:
        """``(N, k*C, H, W)`` to ``(N, k, C, H, W)``."""
        return x.reshape(x.shape[0], self.slices, -1, *x.shape[2:])
