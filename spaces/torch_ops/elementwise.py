"""Torch forms of element-wise ops."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Generator, Tensor
from torch.nn import functional as F  # noqa: N812

from bitfront.spaces import ops
from bitfront.spaces.graph import ParameterSpec
from bitfront.spaces.torch_ops.form import Form, channelwise, forms


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


class _Larger(torch.autograd.Function):
    """The maximum of signs; its gradient is 1 for both inputs unless both are +1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(x, y)
        return torch.maximum(x, y)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        x, y = ctx.saved_tensors
        grad = torch.minimum(x, y).le_(0).mul_(grads[0])
        return grad, grad


@forms.register("or")
class _Or(Form):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        if torch.is_grad_enabled() and (x.requires_grad or y.requires_grad):
            return cast(Tensor, _Larger.apply(x, y))  # type: ignore[no-untyped-call]
        return torch.maximum(x, y)


@forms.register("scale")
class _Scale(Form):
    weight: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return x * channelwise(self.weight, x)


@forms.register("filter_scale")
class _FilterScale(Form):
    op: ops.FilterScale

    def forward(self, x: Tensor, latent: Tensor) -> Tensor:
        quantizer = self.op.quantizer
        factors = quantizer.factors(latent.detach() if quantizer.detached else latent)
        return x * channelwise(factors, x)


@forms.register("blend")
class _Blend(Form):
    weight: Tensor

    def initial(self, spec: ParameterSpec, generator: Generator) -> Tensor:
        return torch.full(spec.shape, 0.5)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        if self.training:
            # a share that a step has moved outside goes back, or its gradient would stay 0; by
            # ``data``, so that a graph of an earlier forward pass can still be differentiated
            self.weight.data.clamp_(0, 1)
        share = channelwise(self.weight.clamp(0, 1), x)
        return share * x + (1 - share) * y


@forms.register("shift")
class _Shift(Form):
    op: ops.Shift
    bias: Tensor

    def initial(self, spec: ParameterSpec, generator: Generator) -> Tensor:
        return torch.full(spec.shape, self.op.initial)

    def forward(self, x: Tensor) -> Tensor:
        return x + channelwise(self.bias, x)
