"""Energy of one inference, from the plan and a hardware profile: compute + SRAM + DRAM + static.

=========  =================================================================================
symbol     meaning
=========  =================================================================================
E_compute  MACs at the price of their operand widths, plus element-wise work
E_sram     MACs * (stored input bits / output lanes * e_f + weight bits * e_w), and where a
           profile has them: results * e_f, register accesses * operand bits * e_r
E_dram     (spilled feature bits + weight bits + input and logits) * e_dram
E_static   static power * time; time = max(sum of MACs / rate, bits over the border / DRAM rate)
=========  =================================================================================

What is stored and what a layer reads are two things: Bi-Real's convolutions take 1-bit inputs, but
read 32-bit maps. That one distinction carries most of BoolNet's saving. Every term is linear in the
profile's constants (the static one in power and in time), so the low and high ends of their bands
propagate by the same sums.

Not a simulator: no bank conflicts, no interconnect, no voltage scaling. Absolute values are good to
a factor of two or three, ratios on one profile to about 15 %.

References:
    Guo et al. 2021, BoolNet (arXiv:2106.06991), Sec. 4.4 and Fig. 5; Horowitz, ISSCC 2014;
    QKeras QTools for few-bit adders and multipliers; Chen et al. 2017, Eyeriss (JSSC 52(1)).
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from bitfront.evaluators.cost.demand import Demand, total
from bitfront.evaluators.cost.prices import Prices, prices_of
from bitfront.evaluators.cost.quirks import published_demands, stored_at
from bitfront.evaluators.cost.spill import Lifetimes, pair_spill
from bitfront.evaluators.cost.sums import demands_of, sums_of
from bitfront.evaluators.hardware.profile import (
    BODY_QUIRKS,
    ZERO,
    Band,
    HardwareProfile,
    band,
)
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.plan import Plan

SCOPES: Final = ("network", "body")
PJ_PER_MJ: Final = 1e9


class GroupEnergy(NamedTuple):
    """Energy of one step of a plan, in pJ.

    Attributes:
        nodes: Of the step.
        compute: MACs and element-wise work.
        sram: On-chip reads and writes.
        dram: Weights, and the feature maps that the step spills.
        spilled_bits: Of those feature maps.
    """

    nodes: tuple[int, ...]
    compute: Band
    sram: Band
    dram: Band
    spilled_bits: float


class Energy(NamedTuple):
    """Energy of one inference of one sample. A plain tuple: a search builds thousands a second.

    Attributes:
        hardware: The profile.
        scope: "network" or "body".
        quirks: Names of the published quirks that were applied.
        compute_pj: Band of the compute term.
        sram_pj: Band of the on-chip memory term.
        dram_pj: Band of the off-chip memory term.
        static_pj: Band of the term for power that flows whatever is computed.
        spilled_bits: Feature bits that do not fit on chip and move to or from DRAM.
        loaded_bits: Bits of parameters that cross the border.
        time_s: What the static power is charged for: a lower bound, no latency.
        plan: Of the network.
        spills: Per step, the feature bits that it spills; none outside the scope.
        charged: Per step, what published figures charge for it; None: what it does.
    """

    hardware: HardwareProfile
    scope: str
    quirks: tuple[str, ...]
    compute_pj: Band
    sram_pj: Band
    dram_pj: Band
    static_pj: Band
    spilled_bits: float
    loaded_bits: float
    time_s: Band
    plan: Plan
    spills: Sequence[float]
    charged: Sequence[Demand] | None

    def groups(self) -> tuple[GroupEnergy, ...]:
        """The terms of every step in scope; image, logits and static power are in none."""
        profile, prices = self.hardware, prices_of(self.hardware)
        body = self.plan.graph.body() if self.scope == "body" else None
        demands = demands_of(self.plan) if self.charged is None else self.charged
        rows = []
        for group, demand, spill in zip(self.plan.groups, demands, self.spills, strict=True):
            if body is not None and group.anchor not in body:
                continue
            load = _loaded(demand, profile) if self.loaded_bits else 0.0
            rows.append(
                GroupEnergy(
                    nodes=group.nodes,
                    compute=_sum(demand.ops, prices.compute),
                    sram=_sram(demand, profile, prices),
                    dram=prices.dram.times(spill + load),
                    spilled_bits=spill,
                )
            )
        return tuple(rows)

    @property
    def profile(self) -> str:
        """Name of the hardware profile."""
        return self.hardware.name

    @property
    def total_pj(self) -> Band:
        """Sum of the four terms."""
        return self.compute_pj.plus(self.sram_pj).plus(self.dram_pj).plus(self.static_pj)

    @property
    def total_mj(self) -> float:
        """Sum of the four terms, in mJ."""
        return self.total_pj.value / PJ_PER_MJ

    def json(self) -> dict[str, Any]:
        """Plain data, energies in mJ, unrounded; no time where no static power is charged."""
        all_pj = self.total_pj
        return {
            "total_mj": all_pj.value / PJ_PER_MJ,
            "compute_mj": self.compute_pj.value / PJ_PER_MJ,
            "sram_mj": self.sram_pj.value / PJ_PER_MJ,
            "dram_mj": self.dram_pj.value / PJ_PER_MJ,
            "static_mj": self.static_pj.value / PJ_PER_MJ,
            "low_mj": all_pj.low / PJ_PER_MJ,
            "high_mj": all_pj.high / PJ_PER_MJ,
            "profile": self.profile,
            "scope": self.scope,
            "quirks": list(self.quirks),
            "feature_buffer_bytes": self.hardware.feature_buffer_bits // 8,
            "spilled_bytes": self.spilled_bits / 8,
            "loaded_bytes": self.loaded_bits / 8,
            "time_ms": self.time_s.value * 1e3 if self.static_pj.high else None,
        }


def estimate_energy(
    plan: Plan,
    profile: HardwareProfile,
    *,
    scope: str = "network",
    quirks: bool | None = None,
    storage_bits: int | None = None,
) -> Energy:
    """Estimate the energy of one inference of one sample.

    Args:
        plan: Of the network.
        profile: Hardware.
        scope: "network", or "body" for what lies between stem and head.
        quirks: Count as the profile's published figures do. None: in the body only. True gives the
            network what the publication's constants would add for stem and head.
        storage_bits: Width of float maps that a publication assumed; only with its quirks.

    Raises:
        InvalidValue: If the scope is unknown.
    """
    applied = _applied(profile, scope, quirks)
    if applied:
        if storage_bits is not None:
            plan = stored_at(plan, storage_bits)
        return _published(plan, profile, scope, applied, storage_bits)
    return estimate_energies(plan, (profile,), scope=scope, quirks=False)[0]


def estimate_energies(
    plan: Plan,
    profiles: Sequence[HardwareProfile],
    *,
    scope: str = "network",
    quirks: bool | None = None,
) -> tuple[Energy, ...]:
    """Estimate on several profiles; what does not depend on the hardware is done once.

    Args:
        plan: Of the network.
        profiles: Hardware.
        scope: As for ``estimate_energy``.
        quirks: As for ``estimate_energy``.

    Raises:
        InvalidValue: If the scope is unknown.
    """
    inside = plan.graph.body() if scope == "body" else None
    _, _, whole, working_sets = sums_of(plan)
    if inside is not None:
        among = [group.anchor in inside for group in plan.groups]
        working_sets = tuple(
            [bits if own else 0 for bits, own in zip(working_sets, among, strict=True)]
        )
        whole = total([d for d, own in zip(demands_of(plan), among, strict=True) if own])
    spills = _Spills(plan, working_sets, profiles, inside)
    found = []
    for profile in profiles:
        applied = _applied(profile, scope, quirks)
        if applied:
            found.append(_published(plan, profile, scope, applied))
        else:
            found.append(_priced(plan, profile, scope, whole, *spills.of(profile)))
    return tuple(found)


class _Spills:
    """Spilled bits, once per policy and size of the buffer."""

    def __init__(
        self,
        plan: Plan,
        working_sets: Sequence[float],
        profiles: Sequence[HardwareProfile],
        inside: Container[int] | None,
    ) -> None:
        self._plan, self._working_sets, self._inside = plan, working_sets, inside
        self._smallest = min(
            [p.feature_buffer_bits for p in profiles if p.spill_policy == "belady"], default=0
        )
        self._lifetimes: Lifetimes | None = None
        self._known: dict[tuple[str, int], tuple[float, list[float]]] = {}

    def of(self, profile: HardwareProfile) -> tuple[float, list[float]]:
        """The sum, and the bits of every step."""
        capacity = profile.feature_buffer_bits
        key = (profile.spill_policy, capacity)
        found = self._known.get(key)
        if found is None:
            if profile.spill_policy == "boolnet":
                by_step = pair_spill(self._working_sets, capacity)
            else:
                if self._lifetimes is None:
                    self._lifetimes = Lifetimes(self._plan, self._smallest)
                by_step = self._lifetimes.traffic(capacity, self._inside)
            found = self._known[key] = (sum(by_step), by_step)
        return found


def _applied(profile: HardwareProfile, scope: str, quirks: bool | None) -> frozenset[str]:
    """The published quirks to apply."""
    if scope not in SCOPES:
        raise InvalidValue(f"scope must be one of {', '.join(SCOPES)}, but is {scope!r}.")
    if quirks is False or (quirks is None and scope != "body"):
        return frozenset()
    rules = frozenset(profile.quirks)
    return rules & BODY_QUIRKS if scope == "body" else rules


def _published(
    plan: Plan,
    profile: HardwareProfile,
    scope: str,
    quirks: frozenset[str],
    storage_bits: int | None = None,
) -> Energy:
    """An estimate that counts as the profile's published figures do."""
    capacity, body = profile.feature_buffer_bits, plan.graph.body()
    demands, spills = published_demands(plan, demands_of(plan), capacity, quirks)
    if profile.spill_policy == "belady":
        spills = Lifetimes(plan).traffic(capacity, body)
    counted = [
        demand
        for group, demand in zip(plan.groups, demands, strict=True)
        if scope == "network" or group.anchor in body
    ]
    names = sorted(quirks)
    if storage_bits is not None:
        names.append(f"features_stored_at_{storage_bits}_bits")
    return _priced(
        plan,
        profile,
        scope,
        total(counted),
        sum(spills),
        spills,
        quirks=tuple(names),
        charged=demands,
    )


def _priced(
    plan: Plan,
    profile: HardwareProfile,
    scope: str,
    whole: Demand,
    spilled: float,
    spills: list[float],
    *,
    quirks: tuple[str, ...] = (),
    charged: list[Demand] | None = None,
) -> Energy:
    """The product of what the steps do with a profile's prices."""
    prices = prices_of(profile)
    loaded = _loaded(whole, profile)
    if profile.weights_resident and loaded <= profile.weight_buffer_bits:
        loaded = 0.0
    moved = spilled + loaded
    if scope == "network" and not quirks:
        # the image and the logits cross the border once; published figures leave them out
        nodes = plan.graph.nodes
        moved += nodes[0][4].out.size_bits + nodes[-1][4].out.size_bits
    static = time_s = ZERO
    if prices.seconds is not None:
        time_s = _sum(whole.ops, prices.seconds)
        if prices.dram_rate is not None:
            value, low, high = prices.dram_rate
            waiting = (moved / value, moved / high, moved / low)
            time_s = Band(*map(max, time_s, waiting))
        static = Band(*[1e12 * p * t for p, t in zip(prices.power, time_s, strict=True)])
    return Energy(
        profile,
        scope,
        quirks,
        _sum(whole.ops, prices.compute),
        _sram(whole, profile, prices),
        prices.dram.times(moved),
        static,
        spilled,
        loaded,
        time_s,
        plan,
        spills,
        charged,
    )


def _sum(ops: Iterable[tuple[int, float]], prices: Mapping[int, Band]) -> Band:
    """Operations times their prices."""
    value = low = high = 0.0
    for place, count in ops:
        v, lo, hi = prices[place]
        value += v * count
        low += lo * count
        high += hi * count
    return band(value, low, high)


def _sram(demand: Demand, profile: HardwareProfile, prices: Prices) -> Band:
    """Energy of feature and weight buffers and of register files."""
    reads = demand.packed_reads if profile.binarised_copy else demand.stored_reads
    weights = demand.weight_reads
    r, w = prices.read, prices.weight
    if prices.result is not None:
        # as many bits as if a read were not shared
        reads += demand.results * profile.output_lanes
    found = band(
        reads * r[0] + weights * w[0], reads * r[1] + weights * w[1], reads * r[2] + weights * w[2]
    )
    if prices.registers is not None:
        found = found.plus(_sum(demand.ops, prices.registers))
    return found


def _loaded(demand: Demand, profile: HardwareProfile) -> float:
    return demand.weights + (demand.words if profile.norm_words else 0)
