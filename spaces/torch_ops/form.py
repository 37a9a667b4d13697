"""What the torch form of an op is, the registry of forms, and the quantisation they share."""

from __future__ import annotations

from typing import Any, ClassVar, Final, cast

import torch
from torch import Generator, Tensor, nn

from bitfront.spaces.graph import BUFFERS, Node, ParameterSpec, Role, TensorType
from bitfront.spaces.quantizers import Identity, Quantizer, RotatedSign, Scaled
from bitfront.spaces.registry import Registry


class _Quantized(torch.autograd.Function):
    """``q(x)`` forwards; the quantizer's gradient backwards."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, quantizer: Quantizer, t_clip: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.quantizer = quantizer
        ctx.t_clip = t_clip
        return quantizer.q(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return ctx.quantizer.gradient(grads[0], x, ctx.t_clip), None, None


def quantized(x: Tensor, quantizer: Quantizer, t_clip: float) -> Tensor:
    """Quantise ``x``; the gradient is the quantizer's straight-through estimate.

    Args:
        x: Weights of any shape, or a feature map ``(N, C, H, W)``.
        quantizer: What to apply; ``k`` slices become ``(N, k*C, H, W)``.
        t_clip: Where the gradient of a sign is cut.
    """
    if isinstance(quantizer, Identity):
        return x
    if isinstance(quantizer, RotatedSign):
        # turned first, so that the gradient is turned back
        x, quantizer = quantizer.turned(x), quantizer.stored
    if isinstance(quantizer, Scaled) and not quantizer.detached:
        # the factors' gradient is torch's own
        return quantized(x, quantizer.codes, t_clip) * quantizer.spread(quantizer.factors(x), x)
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

    def sliced(self, x: Tensor, dim: int) -> Tensor:
        """A view of ``(N, k*C, H, W)`` with slices and channels apart; see ``channels_of``."""
        if dim == 2:
            return torch.unflatten(x, 1, (self.slices, -1))
        return torch.unflatten(x.permute(0, 2, 3, 1), 3, (self.slices, -1))

    def joined(self, x: Tensor, dim: int) -> Tensor:
        """What ``sliced`` has taken apart, together again."""
        x = x.flatten(dim - 1, dim)
        return x if dim == 2 else x.permute(0, 3, 1, 2)


def channels_of(x: Tensor) -> int:
    """The dimension of the channels in a sliced view of ``x``.

    It is 2 in ``(N, k, C, H, W)``, and 4 in ``(N, H, W, k, C)``, which is for maps whose pixels
    keep their channels together: so results keep that memory format too.
    """
    return 4 if x.dim() == 4 and x.stride(1) == 1 else 2
