"""From a recipe to torch's optimizer, its groups of parameters and its learning rates."""

from __future__ import annotations

from collections.abc import Mapping
from math import cos, pi
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, AdamW, Optimizer, RAdam

from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.graph import Parameter, Role
from bitfront.spaces.network import Network
from bitfront.spaces.recipe import Recipe

MOMENTUM = 0.9


def decays(parameter: Parameter) -> bool:
    """Whether weight decay may pull a parameter towards zero: 32-bit weights only.

    A latent weight that is quantised matters by its sign or level, not by its size; biases, norms,
    scales and slopes have no reason to be small.
    """
    return parameter.role is Role.WEIGHT and parameter.bits == 32


def build_optimizer(network: Network, recipe: Recipe) -> Optimizer:
    """Build the recipe's optimizer; its first group has weight decay, its second has none.

    Weight decay is decoupled from the gradient in RAdam and AdamW, part of it in SGD.
    """
    tensors = dict(network.named_parameters())
    rows = [row for row in network.graph.parameters() if not row.is_buffer]
    groups: list[dict[str, Any]] = [
        {
            "params": [tensors[row.name] for row in rows if decays(row) is wanted],
            "weight_decay": recipe.weight_decay if wanted else 0.0,
        }
        for wanted in (True, False)
    ]
    rate = recipe.learning_rate
    # foreach also pays on a CPU: it spares Python a loop over a hundred small tensors
    if recipe.optimizer == "radam":
        return RAdam(groups, lr=rate, decoupled_weight_decay=True, foreach=True)
    if recipe.optimizer == "adamw":
        return AdamW(groups, lr=rate, foreach=True)
    if recipe.optimizer == "sgd":
        return SGD(groups, lr=rate, momentum=MOMENTUM, nesterov=True, foreach=True)
    raise InvalidValue(f"There is no optimizer {recipe.optimizer!r}.")


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    r"""The learning rate of one step.

    With W warm-up steps of T in all, and s counted from 0: ``peak (s+1)/W`` for s < W, then
    ``peak`` if constant, ``peak (1 + cos(pi (s-W)/(T-W))) / 2`` if cosine.
    """
    peak = recipe.learning_rate
    warmup = recipe.warmup_epochs * steps_per_epoch
    if step < warmup:
        return peak * (step + 1) / warmup
    if recipe.schedule == "constant":
        return peak
    return peak * 0.5 * (1 + cos(pi * (step - warmup) / (recipe.epochs * steps_per_epoch - warmup)))


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """An optimizer's state as tensors named ``INDEX.KEY``."""
    return {
        f"{index}.{key}": value
        for index, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give an optimizer the state that ``optimizer_tensors`` named.

    Raises:
        InvalidValue: If a tensor belongs to no parameter, or has another shape.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        if not index.isdecimal() or int(index) >= len(parameters):
            raise InvalidValue(f"The optimizer has no parameter for the tensor {name!r}.")
        parameter = parameters[int(index)]
        if tensor.dim() and tensor.shape != parameter.shape:
            raise InvalidValue(
                f"The optimizer's tensor {name!r} must be {tuple(parameter.shape)}, but is "
                f"{tuple(tensor.shape)}."
            )
        # the parameter's own memory layout: another one may round differently
        value = torch.empty_like(parameter).copy_(tensor) if tensor.dim() else tensor
        state.setdefault(int(index), {})[key] = value.detach()
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
