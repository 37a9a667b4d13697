"""Torch forms of factors that follow from a map, or are learned per channel, row and column."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from bitfront.spaces.graph import ParameterSpec
from bitfront.spaces.torch_ops.form import Form, channelwise, forms


@forms.register("channel_mean")
class _ChannelMean(Form):
    def forward(self, x: Tensor) -> Tensor:
        return x.abs().mean(1, keepdim=True)


@forms.register("outer_scale")
class _OuterScale(Form):
    channels: Tensor
    rows: Tensor
    columns: Tensor

    def initial(self, spec: ParameterSpec, generator: Generator) -> Tensor:
        return torch.ones(spec.shape)

    def forward(self, x: Tensor) -> Tensor:
        return x * (channelwise(self.channels, x) * self.rows[:, None] * self.columns)
