"""Torch forms of views."""

from __future__ import annotations

import torch
from torch import Tensor

from bitfront.spaces import ops
from bitfront.spaces.torch_ops.form import Form, OnSlices, forms


@forms.register("concat")
class _Concat(OnSlices):
    def forward(self, *xs: Tensor) -> Tensor:
        if self.slices == 1:
            return torch.cat(xs, dim=1)
        return torch.cat([self.sliced(x) for x in xs], dim=2).flatten(1, 2)


@forms.register("slice")
class _Slice(OnSlices):
    op: ops.Slice

    def forward(self, x: Tensor) -> Tensor:
        if self.slices == 1:
            return x[:, self.op.start : self.op.end]
        return self.sliced(x)[:, :, self.op.start : self.op.end].flatten(1, 2)


@forms.register("interleave")
class _Interleave(OnSlices):
    op: ops.Interleave

    def forward(self, x: Tensor) -> Tensor:
        groups = self.op.groups
        dealt = x.reshape(x.shape[0], self.slices, groups, -1, *x.shape[2:]).transpose(2, 3)
        return dealt.flatten(1, 3)


@forms.register("flatten")
class _Flatten(Form):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)
