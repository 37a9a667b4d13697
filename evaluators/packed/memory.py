"""Where a network's values lie while it runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from bitfront.evaluators.packed.grouping import Group
from bitfront.evaluators.packed.kernels import Kernels, Run
from bitfront.evaluators.packed.overwriting import Overwriting
from bitfront.evaluators.packed.places import Place
from bitfront.spaces.graph import Node


class Memory:
    """What the steps know of their values' storage.

    Args:
        nodes: Of the graph.
        groups: Its steps, in the order of execution.
        bits: Nodes whose maps are kept as words.
        placed: Where maps lie in others.
        batch: Images of one call.
        kernels: Of the device where they are.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        groups: Sequence[Group],
        bits: Collection[int],
        placed: Mapping[int, Place],
        batch: int,
        kernels: Kernels,
    ) -> None:
        self.bits = bits
        self.placed = placed
        self._nodes = nodes
        self._kernels = kernels
        self.batch = batch
        self.overwriting = Overwriting(groups, bits, placed)
        self._rooms: dict[int, Tensor] = {}

    def at(self, index: int) -> Tensor | None:
        """A node's place, or None."""
        return self.room(index) if index in self.placed else None

    def room(self, index: int) -> Tensor:
        """The channels of a buffer where a node lies."""
        root, start, end = self.placed[index]
        if root not in self._rooms:
            shape = (self.batch, *self._nodes[root].type.torch_shape)
            room = torch.empty(
                shape,
                dtype=self._kernels.dtype,
                device=self._kernels.device,
                memory_format=torch.channels_last,
            )
            self._rooms[root] = room
        return self._rooms[root][:, start:end]

    def put(self, index: int, run: Run) -> Run:
        """Copy the result of a call to its place, if it has one and is not there."""
        place = self.at(index)
        if place is None:
            return run

        def placed(*xs: Tensor) -> Tensor:
            y = run(*xs)
            return y if y.data_ptr() == place.data_ptr() else place.copy_(y)

        return placed

    def of_floats(self, group: Group, run: Run) -> Run:
        """Unpack what a call reads that is kept as words."""
        packed = [i in self.bits for i in group.reads]
        if not any(packed):
            return run
        floats = self._kernels.floats
        channels = [self._nodes[i].type.torch_shape[0] for i in group.reads]

        def unpacked(*xs: Tensor) -> Tensor:
            triples = zip(xs, packed, channels, strict=True)
            return run(*[floats(x, c) if is_packed else x for x, is_packed, c in triples])

        return unpacked
