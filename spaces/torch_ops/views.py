"""Torch forms of views."""

from __future__ import annotations

import torch
from torch import Tensor

from bitfront.spaces import ops
from bitfront.spaces.torch_ops.form import Form, OnSlices, channels_of, forms


@forms.register("concat")
class _Concat(OnSlices):
    def forward(self, *xs: Tensor) -> Tensor:
        if self.slices == 1:
            return torch.cat(xs, dim=1)
        dim = channels_of(xs[0])
        return self.joined(torch.cat([self.sliced(x, dim) for x in xs], dim), dim)


@forms.register("slice")
class _Slice(OnSlices):
    op: ops.Slice

    def forward(self, x: Tensor) -> Tensor:
        if self.slices == 1:
            return x[:, self.op.start : self.op.end]
        dim = channels_of(x)
        part = self.sliced(x, dim).narrow(dim, self.op.start, self.op.end - self.op.start)
        return self.joined(part, dim)


@forms.register("interleave")
class _Interleave(OnSlices):
    op: ops.Interleave

    def forward(self, x: Tensor) -> Tensor:
        dim = channels_of(x)
        runs = torch.unflatten(self.sliced(x, dim), dim, (self.op.groups, -1))
        return self.joined(runs.transpose(dim, dim + 1).flatten(dim, dim + 1), dim)


@forms.register("flatten")
class _Flatten(Form):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)
