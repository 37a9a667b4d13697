"""Merges of any number of branches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from bitfront.spaces.graph import Facts, TensorType, Work
from bitfront.spaces.ops.elementwise import Elementwise
from bitfront.spaces.ops.op import ops


@ops.register("mean")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mean(Elementwise):
    """``(x_1 + ... + x_n) / n`` of n equal shapes: branches of a block, logits of a vote."""

    kind: ClassVar[str] = "mean"

    def infer(self, *inputs: TensorType) -> Facts:
        """One addition less than there are branches, and one multiplication, per element."""
        facts = Elementwise.infer(self, *inputs)
        bits, count = self.bits(*inputs), facts.out.elements
        added = Work("add", bits, (len(inputs) - 1) * count)
        return replace(facts, work=(added, Work("scale", 32, count)))
