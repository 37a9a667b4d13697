"""Torch forms of merges."""

from __future__ import annotations

from torch import Tensor

from bitfront.spaces.torch_ops.form import Form, forms


@forms.register("mean")
class _Mean(Form):
    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        total = x
        for other in others:
            total = total + other
        return total * (1 / (1 + len(others)))
