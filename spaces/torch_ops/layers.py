"""Torch forms of layers: input, convolution, linear layer, batch norm, quantisation."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from bitfront.spaces import ops
from bitfront.spaces.graph import Domain, TensorType
from bitfront.spaces.quantizers import Quantizer
from bitfront.spaces.torch_ops.form import Form, forms
from bitfront.spaces.torch_ops.quantizing import Quantizing

NORM_MOMENTUM: Final = 0.1
NORM_EPS: Final = 1e-5


@forms.register("input")
class _Input(Form):
    def forward(self, x: Tensor) -> Tensor:
        return x


class _Layer(Quantizing):
    """A layer with weights."""

    op: ops.Conv2d | ops.Linear
    prefix = "weight_"
    optional = ("bias",)
    weight: Tensor
    bias: Tensor | None

    def given(self) -> Quantizer:
        return self.op.weight


@forms.register("conv2d")
class _Conv2d(_Layer):
    op: ops.Conv2d

    def prepare(self, inputs: tuple[TensorType, ...]) -> None:
        op = self.op
        self.groups = op.group_count(inputs[0])
        # what a convolution cannot pad by itself is padded before it
        self.padded = op.padding > 0 and (op.replicate or op.padding_value != 0)
        signs = inputs[0].domain is op.weight.domain is Domain.BIPOLAR
        self.sums_signs = signs and not op.replicate and not op.bias

    def forward(self, x: Tensor, latent: Tensor | None = None) -> Tensor:
        op = self.op
        weight = self.quantised(self.weight if latent is None else latent)
        bias, padding = self.bias, op.padding
        if self.padded:
            if self.sums_signs and _is_exact(x):
                # x padded with v is x - v padded with 0, plus v: a convolution that pads by itself
                # is faster, and sums of small whole numbers are the same in any order
                bias = op.padding_value * weight.sum((1, 2, 3))
                x = x - op.padding_value
            else:
                mode = "replicate" if op.replicate else "constant"
                x = F.pad(x, (padding,) * 4, mode, None if op.replicate else op.padding_value)
                padding = 0
        return F.conv2d(x, weight, bias, op.stride, padding, op.dilation, self.groups)


def _is_exact(x: Tensor) -> bool:
    """Whether whole numbers up to 2^24 are computed without rounding.

    Half-width floats round them above 256 or 2048. GPUs, where padding costs little, may choose
    kernels that round, and what is exported or compiled is the plain form.
    """
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and x.dtype.itemsize >= 4
        and not torch.is_autocast_enabled("cpu")
    )


@forms.register("linear")
class _Linear(_Layer):
    op: ops.Linear

    def forward(self, x: Tensor, latent: Tensor | None = None) -> Tensor:
        weight = self.weight if latent is None else latent
        return F.linear(x, self.quantised(weight), self.bias)


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
class _Quantize(Quantizing):
    op: ops.Quantize

    def given(self) -> Quantizer:
        return self.op.quantizer

    def forward(self, x: Tensor) -> Tensor:
        return self.quantised(x)
