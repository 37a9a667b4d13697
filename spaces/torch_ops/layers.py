"""Torch forms of layers: input, convolution, linear layer, batch norm, quantisation."""

from __future__ import annotations

from typing import Final

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from bitfront.spaces import ops
from bitfront.spaces.graph import TensorType
from bitfront.spaces.torch_ops.form import Form, forms, quantized

NORM_MOMENTUM: Final = 0.1
NORM_EPS: Final = 1e-5


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
