"""Feature bits that cross the border to DRAM because the on-chip buffer is too small.

Policy ``boolnet``: a convolution whose input and output together exceed the buffer pays each excess
bit once. Policy ``belady``: all live tensors compete for the buffer; what is next used last leaves
first, is written once, and is read back when it is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitfront.evaluators.hardware.profile import HardwareProfile
from bitfront.spaces.graph import Node
from bitfront.spaces.plan import Group, Plan

if TYPE_CHECKING:
    from collections.abc import Container


_NEVER: list[int] = []


def spilled_bits(
    plan: Plan, profile: HardwareProfile, inside: Container[int], quirks: frozenset[str]
) -> list[float]:
    """Bits that each step moves to or from DRAM.

    Args:
        plan: Of the network.
        profile: Gives the buffer's size and the policy.
        inside: Nodes that count; steps outside move nothing.
        quirks: Published quirks that apply.

    Returns:
        One number per group of the plan.
    """
    capacity = profile.feature_buffer_bits
    if profile.spill_policy == "boolnet":
        return [
            _conv_spill(plan, group, capacity, quirks) if group.anchor in inside else 0.0
            for group in plan.groups
        ]
    if plan.peak_bits <= capacity:
        return [0.0] * len(plan.groups)
    return belady(plan, capacity, inside)


def source_node(plan: Plan, main: Node) -> int:
    """The stored node that a convolution reads, behind the norm and sign before it."""
    nodes, parts = plan.graph.nodes, plan.parts
    i = main[2][0]
    while not parts[i]:
        i = nodes[i][2][0]
    return i


def is_shortcut(plan: Plan, group: Group) -> bool:
    """Whether a step is a 1x1 convolution whose result another step merges with a main path."""
    nodes = plan.graph.nodes
    if group.main < 0 or getattr(nodes[group.main][1], "kernel_size", 0) != 1:
        return False
    for reader in nodes[group.output + 1 :]:
        if group.output in reader[2]:
            return reader[1].kind in ("add", "xnor", "or")
    return False


def counted_share(plan: Plan, main: Node) -> float:
    """Share of a convolution's input that the published figures count.

    A whole interleaved map counts as its first part only.
    """
    nodes = plan.graph.nodes
    i = source_node(plan, main)
    if nodes[i][1].kind != "interleave":
        return 1.0
    concat = nodes[nodes[i][2][0]]
    first = nodes[concat[2][0]][4].out
    return first.size_bits / concat[4].out.size_bits


def _conv_spill(plan: Plan, group: Group, capacity: int, quirks: frozenset[str]) -> float:
    if group.main < 0:
        return 0.0
    nodes = plan.graph.nodes
    main = nodes[group.main]
    read = float(nodes[source_node(plan, main)][4].out.size_bits)
    excess = read + nodes[group.output][4].out.size_bits - capacity
    if excess <= 0.0 or not quirks:
        return max(0.0, excess)
    if "shortcut_never_spills" in quirks and is_shortcut(plan, group):
        return 0.0
    if "interleaved_counts_once" in quirks:
        excess -= read * (1.0 - counted_share(plan, main))
    return max(0.0, excess)


def belady(plan: Plan, capacity: int, inside: Container[int]) -> list[float]:
    """Traffic of each step under the farthest-next-use rule.

    A tensor is resident in part: only the bits that do not fit leave. What left has a copy in DRAM,
    so it leaves again for free.

    Args:
        plan: Of the network.
        capacity: Bits of the buffer.
        inside: Nodes that count.
    """
    nodes, last_read = plan.graph.nodes, plan.last_read
    groups = plan.groups
    end = len(groups)
    traffic = [0.0] * end
    needs = [live + group.scratch_bits for live, group in zip(plan.live_bits, groups, strict=True)]
    crowded = [step for step in range(end) if needs[step] > capacity]
    if not crowded:
        return traffic
    uses = _uses(plan)
    # tensors that are not on chip in full, and what of each has a copy in DRAM
    missing: dict[int, float] = {}
    copied: dict[int, float] = {0: float(nodes[0][4].out.size_bits)}
    for step in range(crowded[0], end):
        moved = 0.0
        if missing:
            for producer in list(missing):
                if uses[producer][-1] == step:
                    moved += missing.pop(producer)
        excess = float(needs[step] - capacity)
        if missing:
            excess -= sum(missing.values())
        if excess > 0:
            order = []
            for producer in _live(plan, step):
                steps = uses.get(producer, _NEVER)
                while steps and steps[-1] <= step:
                    steps.pop()
                order.append((steps[-1] if steps else end, producer))
            order.sort(reverse=True)
            for use, producer in order:
                gone = missing.get(producer, 0.0)
                leaving = min(excess, nodes[producer][4].out.size_bits - gone)
                excess -= leaving
                if use < end and leaving > 0:
                    gone += leaving
                    missing[producer] = gone
                    if gone > copied.get(producer, 0.0):
                        moved += gone - copied.get(producer, 0.0)
                        copied[producer] = gone
                if excess <= 0:
                    break
        elif not missing and step > crowded[-1]:
            break
        for producer in [p for p in missing if last_read[p] <= step]:
            del missing[producer]
        if groups[step].anchor in inside:
            traffic[step] = moved
    return traffic


def _uses(plan: Plan) -> dict[int, list[int]]:
    """Per stored tensor, the steps that read it, descending."""
    parts, groups = plan.parts, plan.groups
    uses: dict[int, list[int]] = {}
    for step in range(len(groups) - 1, -1, -1):
        for j in groups[step][2]:
            for producer, _ in parts[j]:
                if producer in uses:
                    uses[producer].append(step)
                else:
                    uses[producer] = [step]
    return uses


def _live(plan: Plan, step: int) -> list[int]:
    """Tensors that occupy memory at a step; an overwritten operand is its result already."""
    groups, last_read = plan.groups, plan.last_read
    live = [group.output for group in groups[: step + 1] if last_read[group.output] >= step]
    if groups[step].output not in live:
        live.append(groups[step].output)
    if last_read[0] >= step:
        live.append(0)
    replaces = groups[step].replaces
    if replaces >= 0:
        gone = {producer for producer, _ in plan.parts[replaces]}
        live = [producer for producer in live if producer not in gone]
    return live
