"""Torch forms of element-wise ops."""

from __future__ import annotations

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


@forms.register("or")
class _Or(Form):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        # the maximum of bipolar values; its gradient is 1 for both inputs unless both are +1
        return (x + y + 1).clamp(max=1)


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


@forms.register("shift")
class _Shift(Form):
    op: ops.Shift
    bias: Tensor

    def initial(self, spec: ParameterSpec, generator: Generator) -> Tensor:
        return torch.full(spec.shape, self.op.initial)

    def forward(self, x: Tensor) -> Tensor:
        return x + channelwise(self.bias, x)
