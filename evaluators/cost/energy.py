"""Energy of one inference, from the plan and a hardware profile: compute + SRAM + DRAM + static.

=========  =================================================================================
symbol     meaning
=========  =================================================================================
E_compute  MACs at the price of their operand widths, plus element-wise work
E_sram     MACs * (stored input bits / output lanes * e_f + weight bits * e_w)
E_dram     (spilled feature bits + weight bits + input and logits) * e_dram
E_static   static power * cycles / clock
=========  =================================================================================

What is stored and what a layer reads are two things: Bi-Real's convolutions take 1-bit inputs, but
read 32-bit maps. That one distinction carries most of BoolNet's saving. Every term is linear in the
profile's constants, so the low and high ends of their bands propagate by the same sums.

Not a simulator: no bank conflicts, no interconnect, no voltage scaling. Absolute values are good to
a factor of two or three, ratios on one profile to about 15 %.

References:
    Guo et al. 2021, BoolNet (arXiv:2106.06991), Sec. 4.4 and Fig. 5; Horowitz, ISSCC 2014;
    QKeras QTools for few-bit adders and multipliers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil, log2, sqrt
from typing import Any, Final, NamedTuple

from bitfront.evaluators.cost.spill import (
    counted_share,
    is_shortcut,
    source_node,
    spilled_bits,
)
from bitfront.evaluators.hardware.profile import ZERO, Band, HardwareProfile
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.graph import Domain, Facts, Node, Role
from bitfront.spaces.plan import Group, Plan

SCOPES: Final = ("network", "body")
PJ_PER_MJ: Final = 1e9
# energy of one full-adder bit at 45 nm, pJ (Horowitz' adders, as QTools interpolates them)
ADDER_BIT_PJ: Final = 0.003125


class GroupEnergy(NamedTuple):
    """Energy of one step of a plan, in pJ.

    Attributes:
        nodes: Of the step.
        compute: MACs and element-wise work.
        sram: On-chip reads and writes.
        dram: Weights; the spill of feature maps is in the step that causes it.
    """

    nodes: tuple[int, ...]
    compute: Band
    sram: Band
    dram: Band


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Energy of one inference of one sample.

    Attributes:
        profile: Name of the hardware profile.
        scope: "network" or "body".
        quirks: Names of the published quirks that were applied.
        compute_pj: Band of the compute term.
        sram_pj: Band of the on-chip memory term.
        dram_pj: Band of the off-chip memory term.
        static_pj: Band of the leakage term.
        steps: Per step of the plan, its group, its price and the feature bits it spills.
        dram_pj_per_bit: Price of one bit that crosses the border.
        weights_cross: Whether weights are loaded for every inference.
    """

    profile: str
    scope: str
    quirks: tuple[str, ...]
    compute_pj: Band
    sram_pj: Band
    dram_pj: Band
    static_pj: Band
    steps: tuple[tuple[Group, GroupPrice, float], ...] = field(repr=False)
    dram_pj_per_bit: Band
    weights_cross: bool

    def groups(self) -> tuple[GroupEnergy, ...]:
        """The terms of every step; image and logits are in none of them."""
        return tuple(
            GroupEnergy(
                nodes=group.nodes,
                compute=price.compute,
                sram=price.sram,
                dram=self.dram_pj_per_bit.times(
                    spill + (price.load_bits if self.weights_cross else 0.0)
                ),
            )
            for group, price, spill in self.steps
        )

    @property
    def total_pj(self) -> Band:
        """Sum of the four terms."""
        return self.compute_pj.plus(self.sram_pj).plus(self.dram_pj).plus(self.static_pj)

    @property
    def total_mj(self) -> float:
        """Sum of the four terms, in mJ."""
        return self.total_pj.value / PJ_PER_MJ

    def json(self) -> dict[str, Any]:
        """Plain data in mJ, unrounded."""
        total = self.total_pj
        return {
            "total_mj": total.value / PJ_PER_MJ,
            "compute_mj": self.compute_pj.value / PJ_PER_MJ,
            "sram_mj": self.sram_pj.value / PJ_PER_MJ,
            "dram_mj": self.dram_pj.value / PJ_PER_MJ,
            "static_mj": self.static_pj.value / PJ_PER_MJ,
            "low_mj": total.low / PJ_PER_MJ,
            "high_mj": total.high / PJ_PER_MJ,
            "profile": self.profile,
            "scope": self.scope,
            "quirks": list(self.quirks),
        }


def mac_band(profile: HardwareProfile, w_bits: int, a_bits: int, fan_in: int) -> Band:
    """Energy of one MAC in pJ.

    With ``e = 0.003125`` pJ per adder bit and the profile's logic scale:
    1x1 bits cost ``0.3 e + 2 e`` (xnor, popcount tree); 1xa bits ``0.3 e a + e (a + ceil log2 K)``
    (a multiplexer and an accumulator); wxa bits
    ``0.002995 w a + 0.00104 sqrt(w a) + e (w + a + ceil log2 K)``. Floats, and what a profile
    lists, have constants of their own.

    Args:
        profile: Hardware.
        w_bits: Bits of the weight.
        a_bits: Bits of the input value.
        fan_in: K, products that are summed.
    """
    w, a = profile.native(w_bits), profile.native(a_bits)
    if max(w, a) >= 32:
        return profile.band("mac_float32")
    if max(w, a) >= 16:
        return profile.band("mac_float16")
    if w == a == 1 and "mac_1x1" in profile.constants:
        return profile.band("mac_1x1")
    if max(w, a) == 8 and min(w, a) > 1 and "mac_int8" in profile.constants:
        return profile.band("mac_int8")
    tree = ceil(log2(max(fan_in, 2)))
    if w == a == 1:
        pj = 2.3 * ADDER_BIT_PJ
    elif min(w, a) == 1:
        pj = ADDER_BIT_PJ * (0.3 * max(w, a) + max(w, a) + tree)
    else:
        pj = 0.002995 * w * a + 0.00104 * sqrt(w * a) + ADDER_BIT_PJ * (w + a + tree)
    return profile.band("logic_scale").times(pj)


# element-wise functions: constant, and how it scales with the bits it works on
_WORK: Final = {
    "batch_norm": ("batch_norm", False),
    "sign": ("compare", True),
    "quantize": ("mul", False),
    "relu": ("compare", True),
    "prelu": ("prelu", False),
    "sigmoid": ("mul", False),
    "add": ("add", True),
    "mul": ("mul", False),
    "scale": ("mul", False),
    "shift": ("add", False),
    "xnor": ("logic", False),
    "or": ("logic", False),
    "max_pool": ("compare", True),
    "avg_pool": ("add", True),
}
WORK_FUNCTIONS: Final = frozenset(_WORK)


def work_band(profile: HardwareProfile, function: str, bits: int) -> Band:
    """Energy of one element-wise evaluation in pJ; adders and comparators scale with the bits."""
    constant, scales = _WORK[function]
    band = profile.band(constant)
    return band.times(min(bits, 32) / 32) if scales else band


class GroupPrice(NamedTuple):
    """What one step costs, wherever it stands: energies in pJ, loaded bits, MACs."""

    compute: Band
    sram: Band
    load_bits: float
    macs: float


class _Prices:
    """Prices of groups on one profile, remembered by signature: networks share their steps."""

    def __init__(self, profile: HardwareProfile) -> None:
        self.profile = profile
        self.groups: dict[tuple[object, ...], GroupPrice] = {}
        self.ops: dict[Facts, tuple[float, float, float, float]] = {}

    def op(self, facts: Facts) -> tuple[float, float, float, float]:
        """Compute energy (value, low, high) and loaded bits of one op application."""
        known = self.ops.get(facts)
        if known is None:
            if len(self.ops) >= _LIMIT:
                self.ops.clear()
            compute = _compute(facts, self.profile)
            known = self.ops[facts] = (*compute, _load_bits(facts, self.profile))
        return known

    def price(self, plan: Plan, group: Group) -> GroupPrice:
        known = self.groups.get(group.signature)
        if known is None:
            if len(self.groups) >= _LIMIT:
                self.groups.clear()
            known = self.groups[group.signature] = _group_price(plan, group, self)
        return known


_LIMIT: Final = 500_000
_PRICES: dict[HardwareProfile, _Prices] = {}


def estimate_energy(
    plan: Plan, profile: HardwareProfile, *, scope: str = "network", quirks: bool = True
) -> Energy:
    """Estimate the energy of one inference of one sample.

    Args:
        plan: Of the network.
        profile: Hardware.
        scope: "network", or "body" for what lies between stem and head.
        quirks: Apply the profile's published quirks; only the body has any.

    Raises:
        InvalidValue: If the scope is unknown.
    """
    if scope not in SCOPES:
        raise InvalidValue(f"scope must be one of {', '.join(SCOPES)}, but is {scope!r}.")
    body = scope == "body"
    applied = frozenset(profile.quirks) if body and quirks else frozenset()
    nodes = plan.graph.nodes
    inside = plan.graph.body() if body else range(len(nodes))
    prices = _PRICES.get(profile)
    if prices is None:
        prices = _PRICES[profile] = _Prices(profile)
    spills = spilled_bits(plan, profile, inside, applied)
    steps = []
    for group, spill in zip(plan.groups, spills, strict=True):
        if not body or group.anchor in inside:
            price = prices.price(plan, group)
            if applied and is_shortcut(plan, group):
                price = _published_shortcut(plan, group, profile, applied, price)
            steps.append((group, price, spill))
    loaded = sum([price[2] for _, price, _ in steps])
    resident = profile.weights_resident and loaded <= profile.weight_buffer_bits
    # the image and the logits cross the border once
    border = 0 if body else nodes[0][4].out.size_bits + nodes[-1][4].out.size_bits
    moved = border + sum([spill for _, _, spill in steps]) + (0.0 if resident else loaded)
    cycles = sum([price[3] for _, price, _ in steps]) / profile.lanes
    return Energy(
        profile=profile.name,
        scope=scope,
        quirks=tuple(sorted(applied)),
        compute_pj=_summed([price[0] for _, price, _ in steps]),
        sram_pj=_summed([price[1] for _, price, _ in steps]),
        dram_pj=profile.band("dram").times(moved),
        static_pj=profile.band("static_power").times(cycles / profile.clock_hz * 1e12),
        steps=tuple(steps),
        dram_pj_per_bit=profile.band("dram"),
        weights_cross=not resident,
    )


def _summed(bands: list[Band]) -> Band:
    return Band(*map(sum, zip(*bands, strict=True))) if bands else ZERO


def _group_price(plan: Plan, group: Group, prices: _Prices) -> GroupPrice:
    nodes, profile = plan.graph.nodes, prices.profile
    members = group.nodes
    folds = profile.norm_folds_into_sign
    value = low = high = load = 0.0
    for position, i in enumerate(members):
        v, lo, hi, bits = prices.op(nodes[i][4])
        load += bits
        if folds and nodes[i][1].kind == "batch_norm" and position + 1 < len(members):
            after = nodes[members[position + 1]]
            if after[2] == (i,) and after[4].out.domain is Domain.BIPOLAR:
                continue
        value += v
        low += lo
        high += hi
    macs = features = weights = 0.0
    if group.main >= 0:
        main = nodes[group.main]
        macs = main[4].macs
        features = macs * _read_bits(plan, main, profile) / profile.output_lanes
        weights = macs * main[4].w_bits
    if profile.sram_writes:
        read = source_node(plan, nodes[group.main]) if group.main >= 0 else -1
        features += nodes[group.output][4].out.size_bits
        features += sum([nodes[j][4].out.size_bits for j in group.reads if j != read])
    e_f, e_w = profile.band("feature_sram"), profile.band("weight_sram")
    sram = Band(*[features * f + weights * w for f, w in zip(e_f, e_w, strict=True)])
    return GroupPrice(Band(value, low, high), sram, load, macs)


def _compute(facts: Facts, profile: HardwareProfile) -> Band:
    total = ZERO
    if facts.macs:
        total = mac_band(profile, facts.w_bits, facts.a_bits, facts.fan_in).times(facts.macs)
    for function, bits, evaluations in facts.work:
        total = total.plus(work_band(profile, function, bits).times(evaluations))
    return total


def _load_bits(facts: Facts, profile: HardwareProfile) -> float:
    """Bits of parameters that one inference loads; a norm folds to two words per channel."""
    bits = 0.0
    for spec in facts.params:
        if spec.role is Role.WEIGHT:
            bits += spec.count * spec.bits
        elif profile.norm_words and spec.name == "running_mean":
            bits += 2 * 32 * spec.count
        elif profile.norm_words and spec.role not in (Role.NORM, Role.STATISTIC, Role.BUFFER):
            bits += spec.count * spec.bits
    return bits


def _read_bits(plan: Plan, main: Node, profile: HardwareProfile) -> int:
    """Bits in memory of one input value: of the stored map, not of its quantised copy."""
    nodes = plan.graph.nodes
    source = nodes[main.inputs[0] if profile.binarised_copy else source_node(plan, main)].type
    across = source.slices == 1 or getattr(main.op, "across_slices", False)
    return source.stored_bits * (1 if across else source.slices)


def _reads(profile: HardwareProfile, macs: float, w_bits: int, input_bits: int) -> Band:
    features = profile.band("feature_sram").times(macs * input_bits / profile.output_lanes)
    return features.plus(profile.band("weight_sram").times(macs * w_bits))


def _published_shortcut(
    plan: Plan,
    group: Group,
    profile: HardwareProfile,
    quirks: frozenset[str],
    price: GroupPrice,
) -> GroupPrice:
    """Replace a shortcut's MACs, reads and weights by what the published figures charge."""
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
    graph_mac = mac_band(profile, facts.w_bits, facts.a_bits, facts.fan_in)
    charged = mac_band(profile, w_bits, a_bits, facts.fan_in)
    return GroupPrice(
        compute=price.compute.plus(graph_mac.times(-facts.macs)).plus(charged.times(macs)),
        sram=_reads(profile, macs, w_bits, source.stored_bits * source.slices),
        load_bits=price.load_bits * share,
        macs=macs,
    )
