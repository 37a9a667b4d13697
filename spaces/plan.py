"""What a runtime does with a graph: fused groups, views, live ranges, peak memory.

A *group* is built around one convolution or linear layer. It computes, without storing anything in
between, the norm, quantizer and pools before it that have no other reader, and the norm,
activation, pool and merge behind it. Only the result of a group is stored. What cannot join a group
forms one of its own.

A concatenation or slice is a *view*: it stores nothing, and reading it reads the *parts* that
groups have stored. An addition whose operand is read by nobody later works *in place*: an
improvement block overwrites the channels that it corrects.

::

    x -- norm -- sign -- conv -- (view: concat) -- ...      one group: norm, sign, conv
    x -- conv -- norm -- relu -- max_pool -- ...            one group
    x -- sign -- conv -- norm -- add(x) -- ...              one group, in place where x ends

Every consumer (memory, energy, packed inference) reads this plan, so they cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from bitfront.spaces.graph import Domain, Graph, Node
from bitfront.spaces.ops import Slice

Parts = tuple[tuple[int, int], ...]


class Group(NamedTuple):
    """Nodes that run as one step. A plain tuple: a search builds 50,000 a second.

    Attributes:
        nodes: Indices of its nodes, ascending.
        main: The convolution or linear node, or -1.
        reads: Nodes outside whose stored values it reads.
        output: The node whose value it stores.
        scratch_bits: Memory that it needs while it runs: the packed copy of a quantised input,
            or a staged result where it overwrites what a window still reads.
        replaces: The node whose stored value its result overwrites, or -1.
        signature: Facts of its nodes, and how many tensors it reads: groups of equal signature
            do the same work.
    """

    nodes: tuple[int, ...]
    main: int
    reads: tuple[int, ...]
    output: int
    scratch_bits: int
    replaces: int
    signature: tuple[object, ...]

    @property
    def anchor(self) -> int:
        """The node that says where in the network the step stands."""
        return self.main if self.main >= 0 else self.nodes[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The steps of one inference, and what is in memory at each.

    Attributes:
        graph: What was planned.
        groups: In the order of execution.
        parts: Per node, the stored tensors that its value consists of: pairs of the producing
            node and bits. Empty for values that are never stored.
        last_read: Per node that stores a tensor, the last step that reads it; -1 for others.
        live_bits: Bits of all stored tensors that are needed at each step.
    """

    graph: Graph
    groups: tuple[Group, ...]
    parts: tuple[Parts, ...]
    last_read: tuple[int, ...]
    live_bits: tuple[int, ...]

    @property
    def peak_bits(self) -> int:
        """Largest memory for feature maps over all steps, scratch included; weights excluded."""
        steps = zip(self.live_bits, self.groups, strict=True)
        return max([live + group[4] for live, group in steps])


def plan(graph: Graph) -> Plan:
    """Plan a graph.

    Args:
        graph: A lowered network.

    Returns:
        Its plan.
    """
    nodes = graph.nodes
    group_of, members, tails = _grouped(nodes)
    parts = _parts(nodes, group_of, tails)
    return _finished(graph, group_of, members, tails, parts)


_VIEW, _INPUT, _DEFERRED = -1, -2, -3


def _grouped(
    nodes: tuple[Node, ...],
) -> tuple[list[int], list[list[int]], list[int]]:
    """Assign every node to a group.

    Returns:
        Per node its group or a negative mark; per group its nodes; per group its last node.
    """
    readers = [0] * len(nodes)
    for node in nodes:
        for j in node[2]:
            readers[j] += 1
    group_of = [_DEFERRED] * len(nodes)
    # the step after which a node's value is there
    ready = [-1] * len(nodes)
    members: list[list[int]] = []
    tails: list[int] = []

    def pull(i: int, group: int) -> None:
        """Move a deferred node and all it waits for into a group."""
        if group_of[i] == _DEFERRED:
            group_of[i] = ready[i] = group
            members[group].append(i)
        for j in nodes[i][2]:
            mark = group_of[j]
            if mark == _DEFERRED or (mark == _VIEW and nodes[j][1].transparent):
                pull(j, group)

    def open_group(i: int) -> None:
        group = len(members)
        members.append([])
        tails.append(i)
        group_of[i] = _DEFERRED
        pull(i, group)

    for i, op, inputs, _, _, _ in nodes:
        if not inputs:
            group_of[i] = _INPUT
            continue
        if op.view:
            if not op.transparent or readers[i] > 1:
                for j in inputs:
                    if group_of[j] == _DEFERRED:
                        open_group(j)
            group_of[i] = _VIEW
            ready[i] = max([ready[j] for j in inputs])
            continue
        if not op.main:
            if len(inputs) == 1:
                j = inputs[0]
                latest = ready[j]
                best = group_of[j]
                if best >= 0 and (tails[best] != j or readers[j] > 1):
                    best = -1
            else:
                best = -1
                latest = max([ready[j] for j in inputs])
                for j in inputs:
                    group = group_of[j]
                    if group > best and tails[group] == j and readers[j] == 1:
                        best = group
            if best >= latest and best >= 0:
                group_of[i] = ready[i] = best
                members[best].append(i)
                tails[best] = i
                for j in inputs:
                    if group_of[j] == _DEFERRED:
                        pull(j, best)
                continue
            ready[i] = latest
            if readers[i] == 1:
                continue
        open_group(i)
    return group_of, members, tails


def _parts(nodes: tuple[Node, ...], group_of: list[int], tails: list[int]) -> list[Parts]:
    """Per node, the stored tensors that its value consists of."""
    parts: list[Parts] = [()] * len(nodes)
    for i, op, inputs, _, facts, _ in nodes:
        group = group_of[i]
        if group == _INPUT or (group >= 0 and tails[group] == i):
            parts[i] = ((i, facts.out.size_bits),)
        elif group == _VIEW:
            if op.kind == "slice":
                parts[i] = _sliced(nodes, parts, op, inputs[0])  # type: ignore[arg-type]
            elif len(inputs) == 1:
                parts[i] = parts[inputs[0]]
            else:
                parts[i] = sum([parts[j] for j in inputs], ())
    return parts


def _sliced(nodes: tuple[Node, ...], parts: list[Parts], op: Slice, source: int) -> Parts:
    out = nodes[source][4].out
    channels = out.shape[0]
    if nodes[source][1].kind == "interleave":
        # every run of shuffled channels holds an equal share of each part
        share = op.end - op.start
        return tuple([(p, bits * share // channels) for p, bits in parts[source]])
    channel = out.size_bits // channels
    return _cut(parts[source], op.start * channel, op.end * channel)


def _cut(parts: Parts, start: int, end: int) -> Parts:
    cut = []
    position = 0
    for producer, bits in parts:
        low, high = max(start, position), min(end, position + bits)
        if low < high:
            cut.append((producer, high - low))
        position += bits
        if position >= end:
            break
    return tuple(cut)


def _finished(
    graph: Graph,
    group_of: list[int],
    members: list[list[int]],
    tails: list[int],
    parts: list[Parts],
) -> Plan:
    nodes = graph.nodes
    steps = len(members)
    last_read = [-1] * len(nodes)
    reads_of: list[tuple[int, ...]] = []
    for step, group in enumerate(members):
        group.sort()
        reads: dict[int, None] = {}
        for i in group:
            for j in nodes[i][2]:
                if group_of[j] != step and parts[j]:
                    reads[j] = None
        for j in reads:
            for producer, _ in parts[j]:
                last_read[producer] = step
        reads_of.append(tuple(reads))
    last_read[tails[-1]] = steps - 1
    change = [0] * (steps + 1)
    groups = []
    for step, group in enumerate(members):
        output = tails[step]
        main = -1
        merge = -1
        for i in group:
            op = nodes[i][1]
            if op.main:
                main = i
            elif len(nodes[i][2]) == 2 and i > main:
                merge = i
        scratch = 0
        packed = False
        if main >= 0:
            source = nodes[main][2][0]
            if group_of[source] == step:
                kind = nodes[source][4].out
                packed = kind.domain is not Domain.FLOAT
                scratch = kind.size_bits if packed else 0
        size = nodes[output][4].out.size_bits
        replaces = -1
        if merge >= 0:
            replaces = _replaced(nodes, parts, last_read, reads_of[step], merge, output, step)
            window = main >= 0 and getattr(nodes[main][1], "kernel_size", 1) > 1
            if replaces >= 0 and window and not packed:
                scratch += size
        replaced = size if replaces >= 0 else 0
        signature = (*[nodes[i][4] for i in group], len(reads_of[step]))
        groups.append(
            Group(tuple(group), main, reads_of[step], output, scratch, replaces, signature)
        )
        change[step] += size - replaced
        # an overwritten tensor hands its memory to the result, so it is not freed
        change[last_read[output] + 1 if last_read[output] > step else step + 1] -= size
        if replaced:
            change[step + 1] += replaced
    source_bits = nodes[0][4].out.size_bits
    change[0] += source_bits
    change[last_read[0] + 1] -= source_bits
    live = []
    total = 0
    for step in range(steps):
        total += change[step]
        live.append(total)
    return Plan(
        graph=graph,
        groups=tuple(groups),
        parts=tuple(parts),
        last_read=tuple(last_read),
        live_bits=tuple(live),
    )


def _replaced(
    nodes: tuple[Node, ...],
    parts: list[Parts],
    last_read: list[int],
    reads: tuple[int, ...],
    merge: int,
    output: int,
    step: int,
) -> int:
    """The operand of ``merge`` that the group's result may overwrite, or -1."""
    size = nodes[output][4].out.size_bits
    for j in nodes[merge][2]:
        if j in reads and sum([bits for _, bits in parts[j]]) == size:
            # whole tensors that nobody reads after this step
            whole = all(
                bits == nodes[p][4].out.size_bits and last_read[p] <= step for p, bits in parts[j]
            )
            if whole:
                return j
    return -1
