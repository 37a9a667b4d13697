"""How published figures differ from what the graph says, rule by rule.

A profile lists the rules that its published figures follow (``published_quirks``); they depend on
the graph, never on a network's name. ``BODY_QUIRKS`` say how a body was charged; ``OUTER_QUIRKS``
what the stem and head, which the figures leave out, would add by the same constants.
"""

from __future__ import annotations

from dataclasses import replace

from bitfront.evaluators.cost.demand import (
    NOTHING,
    Demand,
    macs_of,
    number,
    source_node,
)
from bitfront.spaces.graph import Domain, Facts, Graph, Node
from bitfront.spaces.plan import Group, Plan, plan


def published_demands(
    plan: Plan, demands: list[Demand], capacity: int, quirks: frozenset[str]
) -> tuple[list[Demand], list[float]]:
    """Demand and spilled bits of every step, as the published figures charge them.

    Args:
        plan: Of the network.
        demands: Of its steps, by the graph.
        capacity: Bits of the feature buffer; spills follow policy ``boolnet``.
        quirks: Rules to apply.
    """
    body = plan.graph.body()
    charged, spilled = [], []
    for group, demand in zip(plan.groups, demands, strict=True):
        if group.anchor in body:
            short = is_shortcut(plan, group)
            charged.append(_shortcut(plan, group, demand, quirks) if short else demand)
            spilled.append(_spill(plan, group, demand, capacity, quirks, short=short))
        else:
            charged.append(_outer(plan, group, demand, quirks))
            spilled.append(0.0)
    return charged, spilled


def is_shortcut(plan: Plan, group: Group) -> bool:
    """Whether a step is a 1x1 convolution whose result another step merges with a main path."""
    nodes = plan.graph.nodes
    if group.main < 0 or getattr(nodes[group.main].op, "kernel_size", 0) != 1:
        return False
    for reader in nodes[group.output + 1 :]:
        if group.output in reader.inputs:
            return reader.op.kind in ("add", "xnor", "or")
    return False


def counted_share(plan: Plan, main: Node) -> float:
    """Share of a convolution's input that the published figures count.

    A whole interleaved map counts as its first part only.
    """
    nodes = plan.graph.nodes
    source = nodes[source_node(plan, main)]
    if source.op.kind != "interleave":
        return 1.0
    concat = nodes[source.inputs[0]]
    return nodes[concat.inputs[0]].type.size_bits / concat.type.size_bits


def _spill(
    plan: Plan, group: Group, demand: Demand, capacity: int, quirks: frozenset[str], *, short: bool
) -> float:
    excess = demand.working_set - capacity
    if excess <= 0 or (short and "shortcut_never_spills" in quirks):
        return 0.0
    if "interleaved_counts_once" in quirks:
        main = plan.graph.nodes[group.main]
        read = plan.graph.nodes[source_node(plan, main)].type.size_bits
        excess -= read * (1.0 - counted_share(plan, main))
    return max(0.0, excess)


def _shortcut(plan: Plan, group: Group, demand: Demand, quirks: frozenset[str]) -> Demand:
    """A shortcut's MACs, reads and weights by what the published figures charge."""
    main = plan.graph.nodes[group.main]
    facts = main.facts
    source = plan.graph.nodes[source_node(plan, main)].type
    share = counted_share(plan, main) if "interleaved_counts_once" in quirks else 1.0
    if getattr(main.op, "across_slices", False) and "slices_share_shortcut_weights" in quirks:
        share /= source.slices
    w_bits, a_bits = facts.w_bits, facts.a_bits
    if w_bits >= 16 and "float_shortcut_at_int8" in quirks:
        w_bits = a_bits = 8
    macs = facts.macs * share
    ops = dict(demand.ops)
    for operation, count in macs_of(facts.w_bits, facts.a_bits, facts.fan_in, -facts.macs):
        ops[number(operation)] += count
    for operation, count in macs_of(w_bits, a_bits, facts.fan_in, macs):
        ops[number(operation)] = ops.get(number(operation), 0) + count
    return demand._replace(
        ops=tuple(ops.items()),
        stored_reads=macs * source.stored_bits * source.slices,
        weight_reads=macs * w_bits,
        results=0,
        weights=demand.weights * share,
        words=demand.words * share,
    )


def _outer(plan: Plan, group: Group, demand: Demand, quirks: frozenset[str]) -> Demand:
    """A step of the stem or head: the one term that the authors' constants would add for it."""
    if group.main < 0:
        return NOTHING
    main = plan.graph.nodes[group.main]
    if main.op.kind == "linear":
        return Demand((), weights=demand.weights) if "head_costs_its_weights" in quirks else NOTHING
    if source_node(plan, main) == 0 and "stem_costs_int8_macs" in quirks:
        macs = macs_of(8, 8, main.facts.fan_in, main.facts.macs)
        return Demand(tuple((number(operation), count) for operation, count in macs))
    return NOTHING


def stored_at(network: Plan, bits: int) -> Plan:
    """The same network with its float maps stored in fewer bits, as a publication assumed.

    What the layers compute stays: this is about what is kept in memory and moved.
    """
    nodes = tuple(
        node._replace(facts=_facts_at(node.facts, bits)) if node.inputs else node
        for node in network.graph.nodes
    )
    graph: Graph = replace(network.graph, nodes=nodes)
    return plan(graph)


def _facts_at(facts: Facts, bits: int) -> Facts:
    out = facts.out
    if out.domain not in (Domain.FLOAT, Domain.ACCUMULATOR) or out.stored_bits <= bits:
        return facts
    return replace(facts, out=replace(out, stored_bits=bits))
