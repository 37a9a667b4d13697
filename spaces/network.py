"""A torch module that is built from a graph."""

from __future__ import annotations

from math import prod
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from bitfront.spaces.architecture import Architecture
from bitfront.spaces.errors import InfeasibleArchitecture, InvalidValue
from bitfront.spaces.graph import Graph
from bitfront.spaces.quantizers import estimated_input, estimated_weight
from bitfront.spaces.torch_ops import Form, Quantizing, forms

MAX_BYTES: Final = 16 * 2**30
"""Of the weights, or of what one operation reads and writes for one image."""


class _Step(NamedTuple):
    """One node: its form, the nodes that it reads, whose weight it shares, what ends with it."""

    form: Form
    inputs: tuple[int, ...]
    latent: Form | None
    ended: tuple[int, ...]


class Network(nn.Module):
    """A graph that can be trained and run.

    ``state_dict()`` has the names and shapes of ``graph.parameters()``. The modules are nested by
    the nodes' dotted names: ``network.get_submodule("stages.0.blocks.1.conv")``.

    Args:
        graph: What to build.
        t_clip: Where the gradient of a sign is cut: dq/dx = 1 for ``|x| <= t_clip``.
        seed: Of the initial weights; the global random state stays as it is.
        estimator: The recipe's, for the signs of activations.
        weight_estimator: The recipe's, for the signs of weights.

    Raises:
        InvalidValue: If there is no such estimator, or a node has a region's name.
        InfeasibleArchitecture: If no memory could hold it.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        t_clip: float = 1.3,
        seed: int = 0,
        estimator: str = "sign",
        weight_estimator: str = "sign",
    ) -> None:
        super().__init__()
        _check_size(graph)
        self.graph = graph
        generator = torch.Generator().manual_seed(seed)
        # plain attributes: the tree below registers the same modules under their dotted names
        self._forms: list[Form] = []
        self._steps: list[_Step] = []
        last_read = {i: node.index for node in graph.nodes for i in node.inputs}
        for node in graph.nodes:
            inputs = tuple(graph.nodes[i].type for i in node.inputs)
            form = forms[node.op.kind](node, inputs, t_clip, generator)
            if isinstance(form, Quantizing):
                form.train_with(
                    estimated_weight(form.quantizer, weight_estimator)
                    if node.op.main
                    else estimated_input(form.quantizer, estimator)
                )
            _file(self, node.name, form)
            self._forms.append(form)
            ended = tuple(i for i in dict.fromkeys(node.inputs) if last_read[i] == node.index)
            latent = None if node.latent == node.index else self._forms[node.latent]
            self._steps.append(_Step(form, node.inputs, latent, ended))

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(N, C, H, W)`` to logits ``(N, classes)``."""
        values = {0: x}
        for index, step in enumerate(self._steps[1:], start=1):
            values[index] = _value(step, values)
            for i in step.ended:
                del values[i]
        return values[len(self._steps) - 1]

    def start_epoch(self, epoch: int, epochs: int) -> None:
        """Set what training changes with the epochs: the width of progressive signs' ramps.

        Args:
            epoch: The one that starts, counted from 0.
            epochs: Of the whole training.
        """
        for form in self._forms:
            if isinstance(form, Quantizing):
                form.start_epoch(epoch, epochs)

    def quantizer_parameters(self, index: int) -> tuple[Tensor, ...]:
        """Parameters and state of the quantizer in one node, detached, as it declares them."""
        form = self._forms[index]
        if not isinstance(form, Quantizing):
            return ()
        return tuple(p.detach() for p in form.quantizer_parameters())

    def trace(self, x: Tensor) -> list[Tensor]:
        """Every node's value for images ``(N, C, H, W)``, in the order of ``graph.nodes``."""
        values = {0: x}
        for index, step in enumerate(self._steps[1:], start=1):
            values[index] = _value(step, values)
        return list(values.values())


def _check_size(graph: Graph) -> None:
    """Refuse what no machine that this is for could hold, before anything is allocated.

    Raises:
        InfeasibleArchitecture: If the weights, or the maps of one operation, exceed ``MAX_BYTES``.
    """
    gib = MAX_BYTES // 2**30
    count = sum(prod(row.shape) for row in graph.parameters())
    if 4 * count > MAX_BYTES:
        raise InfeasibleArchitecture(
            f"The weights of a network must fit {gib} GiB, but {count:,} parameters of 4 bytes "
            f"take {4 * count / 2**30:,.0f} GiB."
        )
    nodes = graph.nodes
    for node in nodes:
        values = node.type.elements + sum(nodes[i].type.elements for i in node.inputs)
        if 4 * values > MAX_BYTES:
            raise InfeasibleArchitecture(
                f"What one operation reads and writes for one image must fit {gib} GiB, but "
                f"{node.name} needs {4 * values / 2**30:,.0f} GiB."
            )


def _value(step: _Step, values: dict[int, Tensor]) -> Tensor:
    inputs = [values[i] for i in step.inputs]
    if step.latent is None:
        value: Tensor = step.form(*inputs)
    else:
        value = step.form(*inputs, latent=step.latent.weight)
    return value


def _file(root: nn.Module, name: str, form: Form) -> None:
    """Register ``form`` below ``root`` under its dotted name, with containers on the way."""
    *path, leaf = name.split(".")
    parent = root
    for part in path:
        if part not in parent._modules:
            parent.add_module(part, nn.Module())
        parent = parent.get_submodule(part)
    if leaf in parent._modules:
        raise InvalidValue(f"A node cannot be named {name!r}: a region has that name.")
    parent.add_module(leaf, form)


def build(architecture: Architecture, *, t_clip: float = 1.3, seed: int = 0) -> Network:
    """Lower an architecture and build its network.

    Args:
        architecture: What to build.
        t_clip: Where the gradient of a sign is cut.
        seed: Of the initial weights.

    Raises:
        InfeasibleArchitecture: If a shape does not fit.
    """
    return Network(architecture.lower(), t_clip=t_clip, seed=seed)
