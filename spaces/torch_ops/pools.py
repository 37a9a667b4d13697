"""Torch forms of pools, means and the blur."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional as F  # noqa: N812

from bitfront.spaces import ops
from bitfront.spaces.graph import ParameterSpec
from bitfront.spaces.torch_ops.form import Form, OnSlices, channels_of, forms


@forms.register("slice_mean")
class _SliceMean(OnSlices):
    def forward(self, x: Tensor) -> Tensor:
        dim = channels_of(x)
        mean = self.sliced(x, dim).mean(dim - 1)
        return mean if dim == 2 else mean.permute(0, 3, 1, 2)


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
