"""The steps of packed inference as calls: what a group computes, with all constants prepared.

Maps of floats are tensors (B, C, H, W) in channels-last memory; maps of bits are words
(B, H, W, P).
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from bitfront.evaluators.packed.fold import affine_constants, folded
from bitfront.evaluators.packed.grouping import Group
from bitfront.evaluators.packed.kernels import Kernels, Run
from bitfront.evaluators.packed.memory import Memory
from bitfront.evaluators.packed.overwriting import ALIASING
from bitfront.evaluators.packed.places import is_view
from bitfront.evaluators.packed.products import Products
from bitfront.evaluators.packed.routes import ROUTES
from bitfront.evaluators.packed.words import wordwise
from bitfront.kernels.geometry import Conv2dGeometry
from bitfront.spaces.graph import Node
from bitfront.spaces.network import Network

_NARROW: Final = frozenset(
    {"add", "concat", "slice", "flatten", "dropout", "max_pool", "avg_pool", "mean", "relu"}
)
"""Kinds whose forms have no parameters, and take maps of any floats as they are."""


class Compiler:
    """Makes the calls of a network's groups.

    Args:
        network: In evaluation mode.
        kernels: Of the device where it is.
        memory: Where its values lie.
    """

    def __init__(self, network: Network, kernels: Kernels, memory: Memory) -> None:
        self._network = network
        self._nodes = network.graph.nodes
        self._kernels = kernels
        self._memory = memory
        self._batch = memory.batch
        self._products = Products(network, kernels, memory)

    def run_of(self, group: Group) -> Run:
        """The call that computes a group from the values of its `reads`."""
        node = self._nodes[group.output]
        if group.kind in ROUTES:
            return self._products.run_of(group)
        if group.kind == "pack":
            return self._memory.of_floats(group, self._products.pack(group))
        if group.output in self._memory.bits:
            members = [self._nodes[i] for i in group.nodes]
            interleave = self._kernels.interleave
            return wordwise(members, [self._nodes[i] for i in group.reads], interleave)
        if group.output in self._memory.placed and is_view(node):
            return self._memory.of_floats(group, self._view(node, self._memory.room(group.output)))
        if group.kind == "conv":
            run = self._conv(group)
        elif group.kind == "affine":
            run = self._affine(group)
        elif group.kind == "add":
            run = self._add(group)
        elif group.kind == "relu":
            run = self._relu(group)
        elif group.kind == "linear":
            run = self._linear(node)
        elif group.kind == "blur":
            run = self._blur(node)
        elif group.kind == "max_pool":
            run = self._max_pool(node)
        else:
            run = self._form(node)
        return self._memory.of_floats(group, self._memory.put(group.output, run))

    def _conv(self, group: Group) -> Run:
        node = self._nodes[group.main]
        op: Any = node.op
        x = self._nodes[node.inputs[0]].type
        after = [self._nodes[i] for i in group.nodes[1:]]
        rectifies = bool(after) and after[-1].op.kind == "relu"
        factor, offset = folded(self._network, after[: len(after) - rectifies], op.out_channels)
        form: Any = self._network.get_submodule(node.name)
        if form.bias is not None:
            offset = offset + factor * form.bias.detach().double()
        weight = (self._weight(node).double() * factor[:, None, None, None]).float()
        bias = offset.float() if op.bias or len(after) > rectifies else None
        groups = op.group_count(x)
        sides = (op.padding,) * 4
        padding = 0 if form.padded else op.padding
        padded = form.padded

        def pad(x: Tensor) -> Tensor:
            if op.replicate:
                x = F.pad(x, sides, mode="replicate")
            else:
                x = F.pad(x, sides, value=op.padding_value)
            return x.contiguous(memory_format=torch.channels_last)

        channels, rows, columns = x.torch_shape
        grown = 2 * (op.padding - padding)
        conv = Conv2dGeometry.of(
            image=(self._batch, rows + grown, columns + grown, channels),
            weight=(op.out_channels, op.kernel_size, op.kernel_size, channels // groups),
            stride=op.stride,
            padding=padding,
            dilation=op.dilation,
            groups=groups,
        )
        compute = self._kernels.convolution(conv, weight, bias, rectifies=rectifies)
        return (lambda x: compute(pad(x))) if padded else compute

    def _blur(self, node: Node) -> Run:
        form: Any = self._network.get_submodule(node.name)
        kernel: Tensor = form.kernel.clone()
        channels, rows, columns = self._nodes[node.inputs[0]].type.torch_shape
        conv = Conv2dGeometry.of(
            image=(self._batch, rows, columns, channels),
            weight=(channels, *kernel.shape[2:], 1),
            stride=form.op.stride,
            padding=1,
            groups=channels,
        )
        return self._kernels.convolution(conv, kernel, None, rectifies=False)

    def _max_pool(self, node: Node) -> Run:
        op: Any = node.op
        _, rows, columns = self._nodes[node.inputs[0]].type.shape
        return self._kernels.max_pool(op, rows, columns) or self._form(node)

    def _affine(self, group: Group) -> Run:
        chain = [self._nodes[i] for i in group.nodes]
        rectifies = chain[-1].op.kind == "relu"
        channels = chain[0].type.torch_shape[0]
        flat = len(chain[0].type.shape) == 1
        affine = chain[: len(chain) - rectifies]
        scale, shift = affine_constants(self._network, affine, channels, flat=flat)
        place = self._memory.at(group.output)
        ends = self._memory.overwriting.ends(group.reads[0], group)
        dtype = self._kernels.dtype

        def run(x: Tensor) -> Tensor:
            if place is not None:
                y = torch.addcmul(shift, x, scale, out=place)
            elif ends:
                y = torch.addcmul(shift, x, scale, out=x)
            else:
                y = torch.addcmul(shift, x, scale).to(dtype)
            return y.relu_() if rectifies else y

        return run

    def _add(self, group: Group) -> Run:
        place = self._memory.at(group.output)
        if place is not None:
            return lambda x, y=None: torch.add(x, x if y is None else y, out=place)
        if len(group.reads) == 1:
            return lambda x: x + x
        first, second = (self._memory.overwriting.ends(i, group) for i in group.reads)
        if first:
            return lambda x, y: x.add_(y)
        if second:
            return lambda x, y: y.add_(x)
        return torch.add

    def _relu(self, group: Group) -> Run:
        return F.relu_ if self._memory.overwriting.ends(group.reads[0], group) else F.relu

    def _linear(self, node: Node) -> Run:
        dtype = self._kernels.dtype
        weight = self._weight(node).to(dtype)
        bias = getattr(self._network.get_submodule(node.name), "bias", None)
        fixed = None if bias is None else bias.detach().to(dtype, copy=True)

        def run(x: Tensor) -> Tensor:
            return F.linear(x, weight, fixed)

        return run

    def _view(self, node: Node, place: Tensor) -> Run:
        """A node that names channels of other maps: parts that lie elsewhere are copied."""
        placed = self._memory.placed
        reads = tuple(dict.fromkeys(node.inputs))
        copies: list[tuple[int, Tensor]] = []
        start = 0
        for i in node.inputs if node.op.kind == "concat" else ():
            end = start + self._nodes[i].type.shape[0]
            if i not in placed or placed[i].root != placed[node.index].root:
                copies.append((reads.index(i), place[:, start:end]))
            start = end

        def run(*xs: Tensor) -> Tensor:
            for n, part in copies:
                part.copy_(xs[n])
            return place

        return run

    def _form(self, node: Node) -> Run:
        """The node's torch form, its result in channels-last memory."""
        form: Any = self._network.get_submodule(node.name)
        reads = tuple(dict.fromkeys(node.inputs))
        order = [reads.index(i) for i in node.inputs]
        shared: dict[str, Tensor] = {}
        if node.latent != node.index:
            owner: Any = self._network.get_submodule(self._nodes[node.latent].name)
            shared["latent"] = owner.weight
        is_map = len(node.type.shape) == 3
        # what shares memory with a place would change with it
        shares = node.op.kind in ALIASING and any(i in self._memory.placed for i in reads)
        dtype = self._kernels.dtype
        # parameters of forms are float32, and few operations take both
        widens = dtype != torch.float32 and node.op.kind not in _NARROW

        def run(*xs: Tensor) -> Tensor:
            operands = [xs[n].float() if widens else xs[n] for n in order]
            y: Tensor = form(*operands, **shared).to(dtype)
            if shares:
                y = y.clone()
            return y.contiguous(memory_format=torch.channels_last) if is_map else y

        return run

    def _weight(self, node: Node) -> Tensor:
        """A layer's quantised weight, a copy."""
        form: Any = self._network.get_submodule(node.name)
        owner: Any = self._network.get_submodule(self._nodes[node.latent].name)
        with torch.no_grad():
            weight: Tensor = form.quantised(owner.weight).detach().clone()
        return weight
