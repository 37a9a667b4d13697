"""Feature bits that cross the border to DRAM because the on-chip buffer is too small.

Policy ``boolnet``: a convolution whose input and output together exceed the buffer pays each excess
bit once. Policy ``belady``: all live tensors compete for the buffer; what is next used last leaves
first, is written once, and is read back when it is needed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from bitfront.spaces.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Container


def pair_spill(working_sets: Iterable[float], capacity: int) -> list[float]:
    """Policy ``boolnet``: what each main layer's input and output exceed the buffer by."""
    return [bits - capacity if bits > capacity else 0 for bits in working_sets]


class Lifetimes:
    """Which stored tensors are still needed after each step, and when; for buffers of any size.

    A tensor is named by the node that produces it.

    Attributes:
        sizes: Bits of the stored tensors.
        waiting: Per step, the tensors that a later step reads, farthest next use first; of those
            with the same next use, the one written last.
        reads: Per step, the tensors that it reads.
        reads_all: Per step, whether all that waited for a later step are among these.
        held: Per step, bits that cannot be dropped for nothing: the waiting tensors, and the
            step's scratch memory.
    """

    __slots__ = ("held", "plan", "reads", "reads_all", "sizes", "waiting")

    def __init__(self, plan: Plan, capacity: int = 0) -> None:
        """Look at the steps that can matter to a buffer of ``capacity`` bits, or a larger one."""
        self.plan = plan
        parts, groups, nodes = plan.parts, plan.groups, plan.graph.nodes
        steps = len(groups)
        self.waiting: list[list[int]] = [[]] * steps
        self.reads: list[list[int]] = [[]] * steps
        self.reads_all = [False] * steps
        sizes = self.sizes = {group[3]: nodes[group[3]][4].out.size_bits for group in groups}
        sizes[0] = nodes[0][4].out.size_bits
        # what waits behind a step lives at the next one, besides the result that is new there
        self.held = [
            live - (sizes[after[3]] if after[5] < 0 else 0) + group[4]
            for live, after, group in zip(plan.live_bits[1:], groups[1:], groups, strict=False)
        ]
        self.held.append(groups[-1].scratch_bits)
        crowded = [step for step, bits in enumerate(self.held) if bits > capacity]
        if not crowded:
            return
        # whatever waits while the buffer is too small was read for the last time by then
        last_read = plan.last_read
        last = max(last_read[0], *[last_read[group[3]] for group in groups[: crowded[-1] + 1]])
        waiting, reads, reads_all = self.waiting, self.reads, self.reads_all
        pending: list[int] = []
        for step in range(last, crowded[0] - 1, -1):
            waiting[step] = pending
            _, _, inputs, output, _, _, _ = groups[step]
            # once each, though a tensor may be read in several parts
            distinct = {pair[0] for j in inputs for pair in parts[j]}
            read = reads[step] = sorted(distinct, reverse=True)
            # what a step reads has its next use there, before all that are read later
            later = [p for p in pending if p != output and p not in distinct]
            if later:
                pending = later + read
            else:
                reads_all[step] = True
                pending = read

    def traffic(self, capacity: int, inside: Container[int] | None = None) -> list[float]:
        """Bits that each step moves under the farthest-next-use rule.

        A tensor is resident in part: only the bits that do not fit leave. What left has a copy in
        DRAM, so it leaves again for free.

        Args:
            capacity: Bits of the buffer; no fewer than were asked for at first.
            inside: Nodes that count; steps outside move nothing. None: all.
        """
        groups, held, sizes = self.plan.groups, self.held, self.sizes
        waiting, reads, reads_all = self.waiting, self.reads, self.reads_all
        moved_by = [0.0] * len(groups)
        crowded = [step for step, bits in enumerate(held) if bits > capacity]
        if not crowded:
            return moved_by
        # what of each tensor is not on chip, and what of it has a copy in DRAM: the image has
        missing: dict[int, int] = {}
        absent = 0
        copied = {0: sizes[0]}
        first, last = crowded[0], crowded[-1]
        for step in range(first, len(groups)):
            moved = 0
            if absent:
                if reads_all[step]:
                    moved, absent = absent, 0
                    missing.clear()
                else:
                    for producer in reads[step]:
                        if producer in missing:
                            moved += missing.pop(producer)
                    absent -= moved
            elif step > last:
                break
            excess = held[step] - capacity - absent
            if excess > 0:
                # which tensors are missing matters only to a step that does not read them all
                names = missing if absent or not reads_all[step + 1] else None
                for producer in waiting[step]:
                    gone = missing.get(producer, 0) if names else 0
                    leaving = sizes[producer] - gone
                    if leaving > excess:
                        leaving = excess
                    gone += leaving
                    if names is not None:
                        missing[producer] = gone
                    absent += leaving
                    written = copied.get(producer, 0)
                    if gone > written:
                        moved += gone - written
                        copied[producer] = gone
                    excess -= leaving
                    if excess <= 0:
                        break
            if moved and (inside is None or groups[step].anchor in inside):
                moved_by[step] = moved
        return moved_by
