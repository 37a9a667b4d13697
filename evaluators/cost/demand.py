"""What a step of a plan asks of any hardware: operations by kind and width, bits to move.

Every term of an energy estimate is linear in a profile's constants, so what a network does is
summed once, and a profile is then one product of these amounts with its prices.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil, log2
from typing import Final, NamedTuple

from bitfront.evaluators.cost.packing import FIELD, packed
from bitfront.evaluators.cost.tally import Tally, tally
from bitfront.spaces.graph import Domain, Facts, Node, Role
from bitfront.spaces.plan import Group, Plan

FOLDED: Final = "folded_"
"""Marks a norm that a sign follows: hardware can make it the sign's threshold."""

RPRELU: Final = "rprelu"
"""A PReLU between two learned shifts, one unit in hardware."""


class Operation(NamedTuple):
    """A kind of operation with one price.

    Attributes:
        function: ``MAC``, ``ADDER_LEVEL``, or the name of an element-wise function.
        bits: Of the weight of a MAC; of the values that a function works on.
        a_bits: Of the input of a MAC.
    """

    function: str
    bits: int
    a_bits: int = 0


MAC: Final = "mac"
ADDER_LEVEL: Final = "adder_level"
"""One level of the adder tree over a MAC's fan-in K; there are ``ceil(log2 K)``."""

_NUMBERS: dict[Operation, int] = {}
OPERATIONS: Final[list[Operation]] = []
"""Every operation met so far; demands name them by their place here."""


def number(operation: Operation) -> int:
    """The operation's place in ``OPERATIONS``."""
    found = _NUMBERS.get(operation)
    if found is None:
        found = _NUMBERS[operation] = len(OPERATIONS)
        OPERATIONS.append(operation)
    return found


def adder_levels(fan_in: int) -> int:
    """Levels of an adder tree over so many products: bits that the sum is wider than they."""
    return ceil(log2(max(fan_in, 2)))


def macs_of(w_bits: int, a_bits: int, fan_in: int, macs: float) -> list[tuple[Operation, float]]:
    """The operations of MACs that sum ``fan_in`` products, and how many there are of each."""
    found = [(Operation(MAC, w_bits, a_bits), macs)]
    if max(w_bits, a_bits) < 16:
        # floats keep their width, however many are summed
        found.append((Operation(ADDER_LEVEL, w_bits, a_bits), macs * adder_levels(fan_in)))
    return found


class Demand(NamedTuple):
    """What a step, or a whole network, does.

    Attributes:
        ops: Pairs of an operation's number and how often it runs.
        stored_reads: Bits of stored feature maps that MACs read, before any sharing of reads.
        packed_reads: The same where a layer reads a packed copy of its quantised input.
        weight_reads: Bits of weights that MACs read.
        results: Bits that the step stores, and that it reads to merge.
        weights: Bits of weights that one inference loads.
        words: Bits of norm constants, biases and other parameters that one inference loads.
        working_set: Bits of a main layer's stored input and output together; 0 without one.
    """

    ops: tuple[tuple[int, float], ...]
    stored_reads: float = 0
    packed_reads: float = 0
    weight_reads: float = 0
    results: float = 0
    weights: float = 0
    words: float = 0
    working_set: float = 0


NOTHING: Final = Demand(())


def total(demands: Iterable[Demand]) -> Demand:
    """Sum of the demands; the working set is that of no step and means nothing."""
    rows = list(demands)
    if not rows:
        return NOTHING
    ops, *amounts = zip(*rows, strict=True)
    counts: dict[int, float] = {}
    for pairs in ops:
        for operation, count in pairs:
            counts[operation] = counts.get(operation, 0) + count
    return Demand(tuple(counts.items()), *map(sum, amounts))


# the order in which a step's amounts are packed: behind its tally the fields of its demand, then
# one for every operation
FIRST: Final = len(Tally._fields)
FIRST_OPERATION: Final = FIRST + 6
_WEIGHTS, _WORDS, _STORED, _PACKED, _WEIGHT_READS, _RESULTS, _OPERATIONS = (
    FIELD * (FIRST + n) for n in range(7)
)


def demand(amounts: list[int], working_set: float = 0) -> Demand:
    """The demand among a step's or a network's amounts."""
    weights, words, stored, copied, weight_reads, results = amounts[FIRST:FIRST_OPERATION]
    counts = enumerate(amounts[FIRST_OPERATION:])
    ops = tuple([(place, count) for place, count in counts if count])
    return Demand(ops, stored, copied, weight_reads, results, weights, words, working_set)


def source_node(plan: Plan, main: Node) -> int:
    """The stored node that a convolution reads, behind the norm and sign before it."""
    nodes, parts = plan.graph.nodes, plan.parts
    i = main.inputs[0]
    while not parts[i]:
        i = nodes[i].inputs[0]
    return i


class _Share(NamedTuple):
    """What one op application adds to the packed amounts of its step, by what its neighbours do."""

    always: int
    ops: int
    folded: int
    rprelu: int


_SHARES: dict[Facts, _Share] = {}
_LIMIT: Final = 500_000


def _share(node: Node) -> _Share:
    """Its tally and loaded bits, and its operations; a norm folds to two words per channel."""
    facts = node.facts
    known = _SHARES.get(facts)
    if known is None:
        if len(_SHARES) >= _LIMIT:
            _SHARES.clear()
        weights = words = 0
        for spec in facts.params:
            if spec.role is Role.WEIGHT:
                weights += spec.count * spec.bits
            elif spec.name == "running_mean":
                words += 2 * 32 * spec.count
            elif spec.role not in (Role.NORM, Role.STATISTIC, Role.BUFFER):
                words += spec.count * spec.bits
        kind = node.op.kind
        work = [(Operation(w.function, w.bits), w.count) for w in facts.work]
        macs = macs_of(facts.w_bits, facts.a_bits, facts.fan_in, facts.macs) if facts.macs else []
        folded = [(op._replace(function=FOLDED + op.function), n) for op, n in work]
        rprelu = [(op._replace(function=RPRELU), n) for op, n in work]
        known = _SHARES[facts] = _Share(
            always=packed(tally(node)) + (weights << _WEIGHTS) + (words << _WORDS),
            ops=_times(macs) + _times(work),
            folded=_times(folded) if kind == "batch_norm" else 0,
            rprelu=_times(rprelu) if kind == "prelu" else 0,
        )
    return known


def _times(operations: Iterable[tuple[Operation, float]]) -> int:
    """So many operations of each kind, packed."""
    return sum([int(n) << _OPERATIONS + FIELD * number(op) for op, n in operations])


def step_amounts(plan: Plan, group: Group) -> tuple[int, int]:
    """All amounts of a step, packed, and its working set."""
    nodes = plan.graph.nodes
    members = [nodes[i] for i in group.nodes]
    total = _operations(members)
    results = nodes[group.output].type.size_bits
    working_set = 0
    source = -1
    if group.main >= 0:
        main = nodes[group.main]
        macs = main.facts.macs
        source = source_node(plan, main)
        total += macs * _read_bits(nodes[source], main) << _STORED
        total += macs * _read_bits(nodes[main.inputs[0]], main) << _PACKED
        total += macs * main.facts.w_bits << _WEIGHT_READS
        working_set = nodes[source].type.size_bits + results
    results += sum([nodes[j].type.size_bits for j in group.reads if j != source])
    return total + (results << _RESULTS), working_set


def _read_bits(source: Node, main: Node) -> int:
    """Bits in memory of one input value; slices that a filter does not join are read in turn."""
    across = source.type.slices == 1 or getattr(main.op, "across_slices", False)
    return source.type.stored_bits * (1 if across else source.type.slices)


def _operations(members: list[Node]) -> int:
    """Tally, loaded bits and operations of a step, packed; what hardware may join is one."""
    total = 0
    shifts = _shifts_of_rprelu(members)
    for node, reader in zip(members, [*members[1:], None], strict=True):
        share, kind = _share(node), node.op.kind
        total += share.always
        read = reader is not None and reader.inputs == (node.index,)
        if read and kind == "filter_scale" and reader.op.kind == "batch_norm":  # type: ignore[union-attr]
            # constant factors per channel are part of the norm behind them
            continue
        if read and kind == "batch_norm" and reader.type.domain is Domain.BIPOLAR:  # type: ignore[union-attr]
            total += share.folded
        elif kind == "prelu" and node.inputs[0] in shifts:
            total += share.rprelu
        elif node.index not in shifts:
            total += share.ops
    return total


def _shifts_of_rprelu(members: list[Node]) -> set[int]:
    """Shifts right before and behind a PReLU."""
    found: set[int] = set()
    for position in range(1, len(members) - 1):
        node = members[position]
        if node.op.kind == "prelu":
            before, behind = members[position - 1], members[position + 1]
            linked = node.inputs == (before.index,) and behind.inputs == (node.index,)
            if linked and before.op.kind == behind.op.kind == "shift":
                found |= {before.index, behind.index}
    return found
