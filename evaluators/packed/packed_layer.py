"""A layer on integers, with all that its step takes in."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any, NamedTuple

from torch import Tensor

from bitfront.evaluators.packed.codes import step_of, weight_codes
from bitfront.evaluators.packed.fold import folded
from bitfront.evaluators.packed.grouping import Group
from bitfront.evaluators.packed.memory import Memory
from bitfront.evaluators.packed.routes import source_of
from bitfront.kernels.finish import Affine
from bitfront.spaces.graph import Node
from bitfront.spaces.network import Network
from bitfront.spaces.ops import Quantize


class Layer(NamedTuple):
    """A layer and what is folded into its step.

    Attributes:
        node: The convolution or linear layer.
        source: The node that its step reads it from.
        before: The quantizer and what is monotone before it; no flattening.
        pixels: Values of a channel that a flattening behind the quantizer puts into the row; 0
            without one.
        finish: Factors and offsets, ReLU, and whether the shortcut is added where it lies.
        adds: Whether a shortcut is added last.
        shortcut: Its node.
    """

    node: Node
    source: int
    before: tuple[Node, ...]
    pixels: int
    finish: Affine
    adds: bool
    shortcut: int


def layer_of(network: Network, memory: Memory, group: Group) -> Layer:
    """What a group around a layer folds into one step."""
    nodes = network.graph.nodes
    node = nodes[group.main]
    filters = node.type.torch_shape[0]
    before = [nodes[i] for i in group.nodes if i < group.main]
    after = [nodes[i] for i in group.nodes if i > group.main]
    adds = bool(after) and after[-1].op.kind == "add"
    if adds:
        after.pop()
    kinds = [node.op.kind for node in after]
    rectifies = "relu" in kinds
    split = kinds.index("relu") if rectifies else len(after)
    source = before[0].inputs[0] if before else node.inputs[0]
    # a map that is added to its own layer is read once
    shortcut = next((i for i in group.reads if i != source), source)
    pixels = 0
    if before and before[-1].op.kind == "flatten":
        pixels = prod(nodes[before.pop().inputs[0]].type.shape[1:])
    factor, offset = folded(network, after[:split], filters)
    form: Any = network.get_submodule(node.name)
    if form.bias is not None:
        offset = offset + factor * form.bias.detach().double()
    if group.kind not in ("binary", "bases"):
        factor = factor * _steps(network, node)
    finish = Affine(
        scale=factor.float(),
        shift=offset.float(),
        merges=adds and memory.overwriting.corrects(shortcut, group),
        rectifies=rectifies,
    )
    if after[split + 1 :]:
        factor, offset = folded(network, after[split + 1 :], filters)
        finish = replace(finish, scale_after=factor.float(), shift_after=offset.float())
    return Layer(node, source, tuple(before), pixels, finish, adds, shortcut)


def _steps(network: Network, node: Node) -> Tensor:
    """What 1 of a filter's sums is worth, float64 [N]."""
    _, factors = weight_codes(network, node)
    quantizer: Any = source_of(network.graph.nodes, node).op
    if not isinstance(quantizer, Quantize):
        return factors
    form: Any = network.get_submodule(source_of(network.graph.nodes, node).name)
    return factors * step_of(quantizer.quantizer, form.quantizer_parameters()).double()
