"""What the torch forms with a quantizer share: its parameters, its state, its gradient."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import torch
from torch import Generator, Tensor

from bitfront.spaces.graph import Node, ParameterSpec, TensorType
from bitfront.spaces.quantizers import Learned, ProgressiveSign, Quantizer
from bitfront.spaces.torch_ops.form import Form, quantized


class _Learned(torch.autograd.Function):
    """``q(x, params)`` forwards; backwards what the quantizer gives for ``x`` and for each."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, quantizer: Learned, t_clip: float, *params: Tensor) -> Tensor:
        ctx.save_for_backward(x, *params)
        ctx.quantizer = quantizer
        ctx.t_clip = t_clip
        return quantizer.q(x, *params)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, *params = ctx.saved_tensors
        of_x, *of_params = ctx.quantizer.gradients(grads[0], x, ctx.t_clip, *params)
        return of_x, None, None, *of_params


def learned(x: Tensor, quantizer: Learned, t_clip: float, *params: Tensor) -> Tensor:
    """Quantise ``x`` by a quantizer with parameters; gradients flow to ``x`` and to them.

    Args:
        x: Weights of any shape, or a feature map ``(N, C, H, W)``.
        quantizer: What to apply.
        t_clip: Where the gradient of a sign is cut.
        *params: Of the quantizer; they are read in the dtype of ``x``.
    """
    given = [p.to(x.dtype) for p in params]
    if torch.is_grad_enabled() and any(t.requires_grad for t in (x, *given)):
        return cast(Tensor, _Learned.apply(x, quantizer, t_clip, *given))  # type: ignore[no-untyped-call]
    return quantizer.q(x, *given)


class Quantizing(Form):
    """A form that quantises its input or its weights.

    Class attributes:
        prefix: What the names of the quantizer's parameters begin with.

    Attributes:
        quantizer: What training applies. It emits what the graph's quantizer emits, but may have
            another derivative; see ``train_with``.
    """

    prefix: ClassVar[str] = ""
    temperature: Tensor

    def __init__(
        self, node: Node, inputs: tuple[TensorType, ...], t_clip: float, generator: Generator
    ) -> None:
        super().__init__(node, inputs, t_clip, generator)
        own = (spec.name for spec in node.facts.params)
        self._own = tuple(name for name in own if name.startswith(self.prefix))
        self.train_with(self.given())

    def given(self) -> Quantizer:
        """The op's quantizer."""
        raise NotImplementedError

    def train_with(self, quantizer: Quantizer) -> None:
        """Train with a quantizer that has the same final values and the same parameters."""
        self.quantizer = quantizer
        if isinstance(quantizer, ProgressiveSign):
            # not kept with the parameters, since it follows from the epoch
            self.register_buffer("temperature", torch.ones(()), persistent=False)

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Set the temperature of an epoch, counted from 0, of a training of ``epochs``."""
        if isinstance(self.quantizer, ProgressiveSign):
            self.temperature.fill_(self.quantizer.temperature(epoch, epochs))

    def initial(self, spec: ParameterSpec, generator: Generator) -> Tensor:
        """The quantizer's own start for what is its own, by the weights if they are here."""
        quantizer = self.given()
        if not isinstance(quantizer, Learned) or not spec.name.startswith(self.prefix):
            return super().initial(spec, generator)
        weight = self._parameters.get("weight")
        name = spec.name.removeprefix(self.prefix)
        return quantizer.initial(name, spec.shape, None if weight is None else weight.detach())

    def quantizer_parameters(self) -> tuple[Tensor, ...]:
        """Parameters and state of the quantizer, in the order that it declares them."""
        return tuple(getattr(self, name) for name in self._own)

    def quantised(self, x: Tensor) -> Tensor:
        """Quantise an input or weights as the mode, training or not, asks for."""
        quantizer = self.quantizer
        if not isinstance(quantizer, Learned):
            return quantized(x, quantizer, self.t_clip)
        params = self.quantizer_parameters()
        if self.training:
            with torch.no_grad():
                quantizer.observe(x, *params)
            if isinstance(quantizer, ProgressiveSign):
                params = (self.temperature,)
        return learned(x, quantizer, self.t_clip, *params)
