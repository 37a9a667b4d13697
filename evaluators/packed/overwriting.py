"""Which values a step of packed inference may overwrite; known from the graph alone.

``Overwriting(groups, bits, placed)`` answers two questions about a step:

* ``ends(index, group)``: may it write its result over a value that it reads?
* ``corrects(index, group)``: may it add its result to that value where it lies?

`FRESH` and `ALIASING` are what both rest on. No tensor is looked at, and torch is not loaded, so
what is timed can be known before anything is built.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from bitfront.evaluators.packed.grouping import Group
from bitfront.evaluators.packed.places import Place
from bitfront.evaluators.packed.routes import ROUTES

FRESH: Final = frozenset(
    {"conv", "affine", "relu", "prelu", "add", "mul", "concat", "max_pool", "avg_pool", "blur",
     "sigmoid", "blend", "mean", *ROUTES}
)  # fmt: skip
"""Kinds of groups whose results share memory with nothing that was there before."""

ALIASING: Final = frozenset({"slice", "dropout", "flatten", "interleave", "quantize"})
"""Kinds whose results may share memory with what they read."""


class Overwriting:
    """Who reads what last, and what shares memory.

    Args:
        groups: Of a graph, in the order of execution.
        bits: Nodes whose maps are kept as words.
        placed: Where maps lie in others.
    """

    def __init__(
        self, groups: Sequence[Group], bits: Collection[int], placed: Mapping[int, Place]
    ) -> None:
        self._bits = bits
        self._placed = placed
        self._kind_of = {group.output: group.kind for group in groups}
        self._readers: dict[int, list[Group]] = {}
        for group in groups:
            for i in group.reads:
                self._readers.setdefault(i, []).append(group)

    def ends(self, index: int, group: Group) -> bool:
        """Whether a group may overwrite what it reads: it is the last to, and nothing shares it."""
        readers = self._readers[index]
        return (
            index not in self._placed
            and index not in self._bits
            and self._kind_of.get(index) in FRESH
            and readers[-1] is group
            and not any(other.kind in ALIASING for other in readers)
        )

    def corrects(self, index: int, group: Group) -> bool:
        """Whether a group may add its result to what it reads, where that lies."""
        if index in self._bits:
            return False
        if group.output in self._placed:
            return self._placed.get(index) == self._placed[group.output]
        return self.ends(index, group)
