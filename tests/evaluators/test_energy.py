"""Energy: terms, prices, spills, monotonicity, bands; published figures are in the file beside."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitfront.evaluators.cost import estimate_energies, estimate_energy, peak_memory_bytes
from bitfront.evaluators.cost.demand import OPERATIONS, total
from bitfront.evaluators.cost.packing import packed, unpacked
from bitfront.evaluators.cost.prices import mac_band, prices_of
from bitfront.evaluators.cost.quirks import stored_at
from bitfront.evaluators.cost.spill import Lifetimes
from bitfront.evaluators.cost.sums import demands_of, sums_of
from bitfront.evaluators.hardware.profile import Band, load_profile, profile_names
from bitfront.spaces import InvalidValue, Precision, RandomChoose, Task, spaces, zoo
from bitfront.spaces.plan import Plan, plan

TASK = Task(input=(3, 32, 32), classes=10)
INFINITE = 2**60
names = pytest.mark.parametrize("name", profile_names())
seeds = st.integers(0, 10**6)


def planned(name: str) -> Plan:
    return plan(zoo.get(name).architecture().lower())


def sampled(seed: int):
    return spaces["melius"](RandomChoose(seed), TASK).architecture


def with_bits(architecture, weights: int, activations: int):
    """The same network with other bits in every convolution of its blocks."""
    precision = Precision(weights=weights, activations=activations)
    stages = tuple(
        replace(stage, blocks=tuple(replace(b, precision=precision) for b in stage.blocks))
        for stage in architecture.stages
    )
    return replace(architecture, stages=stages)


def never_more(less: Band, more: Band) -> bool:
    return all(a <= b * (1 + 1e-12) for a, b in zip(less, more, strict=True))


@names
def test_terms_add_up_and_bands_hold(name):
    profile = load_profile(name)
    for seed in range(20):
        energy = estimate_energy(plan(sampled(seed).lower()), profile)
        rows = energy.groups()
        assert energy.compute_pj.value == pytest.approx(sum(r.compute.value for r in rows))
        assert energy.sram_pj.value == pytest.approx(sum(r.sram.value for r in rows))
        nodes = energy.plan.graph.nodes
        border = nodes[0].type.size_bits + nodes[-1].type.size_bits
        off_chip = sum(r.dram.value for r in rows) + border * profile.band("dram").value
        assert energy.dram_pj.value == pytest.approx(off_chip)
        assert energy.spilled_bits == sum(r.spilled_bits for r in rows)
        total = energy.total_pj
        assert 0 < total.low <= total.value <= total.high
        data = energy.json()
        parts = ("compute_mj", "sram_mj", "dram_mj", "static_mj")
        assert data["total_mj"] == pytest.approx(sum(data[k] for k in parts))
        assert data["low_mj"] <= data["total_mj"] <= data["high_mj"]


@pytest.mark.parametrize("scope", ["network", "body"])
def test_all_profiles_at_once_are_each_by_itself(scope):
    """Two ways, one answer: what is shared between profiles does not depend on them."""
    profiles = [load_profile(name) for name in profile_names()]
    plans = [planned("boolnet-k4"), *[plan(sampled(seed).lower()) for seed in range(10)]]
    for network in plans:
        together = estimate_energies(network, profiles, scope=scope)
        for energy, profile in zip(together, profiles, strict=True):
            alone = estimate_energy(network, profile, scope=scope)
            assert energy.json() == alone.json()
            assert energy.groups() == alone.groups()


# Energy is monotone: exactly, where a convolution's own input and output decide what spills
# (policy "boolnet"), and where nothing spills. Under "belady" fewer bits of one tensor can make
# another one leave.
def exact_cases(name: str):
    profile = load_profile(name)
    return (
        replace(profile, spill_policy="boolnet"),
        replace(profile, feature_buffer_bits=INFINITE),
    )


@names
@given(seed=seeds, widths=st.sampled_from([(4, 8), (8, 16), (16, 32), (4, 32)]))
@settings(max_examples=25, deadline=None)
def test_fewer_stored_bits_never_cost_more(name, seed, widths):
    network = plan(sampled(seed).lower())
    few, many = (stored_at(network, bits) for bits in widths)
    for profile in exact_cases(name):
        less, more = (estimate_energy(p, profile).total_pj for p in (few, many))
        assert never_more(less, more)


@names
@given(
    seed=seeds,
    bits=st.sampled_from([((1, 1), (1, 2)), ((1, 2), (2, 2)), ((2, 4), (4, 4)), ((4, 4), (8, 8))]),
)
@settings(max_examples=25, deadline=None)
def test_fewer_operand_bits_never_cost_more(name, seed, bits):
    architecture = sampled(seed)
    few, many = (plan(with_bits(architecture, w, a).lower()) for w, a in bits)
    for profile in exact_cases(name):
        less, more = (estimate_energy(p, profile).total_pj for p in (few, many))
        assert never_more(less, more)


@names
@given(seed=seeds, buffers=st.lists(st.integers(1, 2**24), min_size=2, max_size=4))
@settings(max_examples=25, deadline=None)
def test_a_larger_buffer_never_costs_more(name, seed, buffers):
    network = plan(sampled(seed).lower())
    profile = replace(load_profile(name), spill_policy="boolnet")
    energies = [
        estimate_energy(network, replace(profile, feature_buffer_bits=bits))
        for bits in sorted(buffers)
    ]
    for smaller, larger in zip(energies, energies[1:], strict=False):
        assert never_more(larger.total_pj, smaller.total_pj)


@names
@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_the_twin_never_costs_less(name, seed):
    architecture = sampled(seed)
    profile = load_profile(name)
    low = estimate_energy(plan(architecture.lower()), profile).total_mj
    assert low <= estimate_energy(plan(architecture.twin().lower()), profile).total_mj


@given(seed=seeds)
@settings(max_examples=30, deadline=None)
def test_an_infinite_buffer_never_spills(seed):
    network = plan(sampled(seed).lower())
    for name in profile_names():
        for policy in ("boolnet", "belady"):
            profile = load_profile(name)
            large = replace(profile, spill_policy=policy, feature_buffer_bits=INFINITE)
            assert estimate_energy(network, large).spilled_bits == 0


@pytest.mark.parametrize("policy", ["boolnet", "belady"])
def test_a_larger_buffer_never_spills_more(policy):
    profile = replace(load_profile("boolnet65"), spill_policy=policy)
    network = planned("birealnet18")
    last = float("inf")
    for bits in (2**16, 2**19, 2**20, 1_572_864, 2**22, 2**24, 2**40):
        sized = replace(profile, feature_buffer_bits=bits)
        spilled = estimate_energy(network, sized, scope="body").spilled_bits
        assert spilled <= last
        last = spilled
    assert last == 0.0


def test_belady_on_a_chain_by_hand():
    """Two residual blocks whose map exceeds the buffer: what does not fit leaves and returns."""
    network = planned("birealnet18")
    body = network.graph.body()
    capacity = 1_572_864
    traffic = Lifetimes(network).traffic(capacity, body)
    size = 64 * 56 * 56 * 32
    steps = [s for s, g in enumerate(network.groups) if g.anchor in body]
    # in place: the map (and its packed copy) is all that lives, so the excess leaves after each
    # step and comes back in the next
    excess = size + 64 * 56 * 56 - capacity
    assert traffic[steps[1]] == pytest.approx(2 * excess)
    assert network.groups[steps[1]].replaces >= 0


@given(seed=seeds, capacity=st.integers(2**12, 2**21))
@settings(max_examples=80, deadline=None)
def test_belady_equals_a_simulation_step_by_step(seed, capacity):
    """Two ways, one answer."""
    network = plan(sampled(seed).lower())
    assert Lifetimes(network, capacity).traffic(capacity) == simulated(network, capacity)
    # what was prepared for the smallest buffer serves larger ones
    assert Lifetimes(network, capacity // 3).traffic(capacity) == simulated(network, capacity)


def simulated(network: Plan, capacity: int) -> list[float]:
    """Farthest next use leaves first; every look-up is done anew."""
    nodes = network.graph.nodes
    steps = range(len(network.groups))
    reads = [{p for j in g.reads for p, _ in network.parts[j]} for g in network.groups]
    written = {group.output: step for step, group in enumerate(network.groups)} | {0: -1}
    gone: dict[int, int] = {}
    copied = {0: nodes[0].type.size_bits}
    traffic = []
    for step in steps:
        moved = sum(gone.pop(p, 0) for p in reads[step])
        uses = {
            p: min((s for s in steps if s > step and p in reads[s]), default=0)
            for p in written
            if written[p] <= step
        }
        waiting = sorted((p for p in uses if uses[p]), key=lambda p: (uses[p], p), reverse=True)
        held = sum(nodes[p].type.size_bits for p in waiting) + network.groups[step].scratch_bits
        excess = held - sum(gone.values()) - capacity
        for p in waiting:
            leaving = min(excess, nodes[p].type.size_bits - gone.get(p, 0))
            if leaving > 0:
                excess -= leaving
                gone[p] = gone.get(p, 0) + leaving
                moved += max(0, gone[p] - copied.get(p, 0))
                copied[p] = max(gone[p], copied.get(p, 0))
        traffic.append(moved)
    return traffic


def test_fits_on_chip_means_no_spill():
    """Case 9: one slice of booleans, 401,408 bits in and out, fits every profile's buffer."""
    network = planned("boolnet-base-k1")
    for name in profile_names():
        assert estimate_energy(network, load_profile(name), scope="body").spilled_bits == 0.0


def test_mac_prices_follow_the_widths():
    profile = load_profile("horowitz45")
    assert mac_band(profile, 32, 32, 576).value == pytest.approx(4.6)
    assert mac_band(profile, 16, 16, 576).value == pytest.approx(1.5)
    assert mac_band(profile, 1, 1, 576).value == pytest.approx(0.0072, rel=0.01)
    assert mac_band(profile, 8, 8, 576).value == pytest.approx(0.28, rel=0.03)
    # without a path of its own, a 2-bit operand costs as 8 bits
    boolnet = load_profile("boolnet65")
    assert mac_band(boolnet, 2, 2, 576) == mac_band(boolnet, 8, 8, 576)
    assert mac_band(boolnet, 1, 1, 576).value == pytest.approx(0.02656)


@names
def test_a_wider_mac_never_costs_less(name):
    profile = load_profile(name)
    widths = (1, 2, 3, 4, 6, 8, 16, 32)
    for fan_in in (9, 576, 4608):
        price = {(w, a): mac_band(profile, w, a, fan_in) for w in widths for a in widths}
        for w, wider in zip(widths, widths[1:], strict=False):
            for a in widths:
                assert never_more(price[w, a], price[wider, a])
                assert never_more(price[a, w], price[a, wider])


@pytest.mark.parametrize(("name", "native"), [("h200", 8), ("rpi4", 8), ("eyeriss65", 16)])
def test_without_a_one_bit_path_bits_save_traffic_only(name, native):
    profile = load_profile(name)
    assert mac_band(profile, 1, 1, 576) == mac_band(profile, native, native, 576)
    architecture = sampled(5)
    one, four = (
        estimate_energy(plan(with_bits(architecture, n, n).lower()), profile) for n in (1, 4)
    )
    assert one.loaded_bits < four.loaded_bits
    if one.time_s.value:
        assert one.time_s.value == pytest.approx(four.time_s.value)


def test_a_slow_memory_bounds_the_time():
    """A roofline: the time is that of the MACs or that of the border, whichever is longer."""
    profile = load_profile("h200")
    network = planned("resnet18-fp")
    energy = estimate_energy(network, profile)
    counted = 1_814_073_344
    rate = profile.band("rate_float32")
    assert energy.time_s.value == pytest.approx(counted / rate.value, rel=1e-3)
    assert energy.static_pj.value == pytest.approx(energy.time_s.value * 122e12)
    slow = replace(profile.constants["dram_rate"], band=Band(1e9, 1e9, 1e9))
    constants = type(profile.constants)({**profile.constants, "dram_rate": slow})
    waiting = estimate_energy(network, replace(profile, constants=constants))
    moved = waiting.dram_pj.value / profile.band("dram").value
    assert waiting.time_s.value == pytest.approx(moved / 1e9)
    assert waiting.compute_pj == energy.compute_pj


def test_time_is_reported_where_it_is_charged():
    network = planned("quicknet")
    for name in profile_names():
        data = estimate_energy(network, load_profile(name)).json()
        assert (data["time_ms"] is None) == (data["static_mj"] == 0)


def test_a_rprelu_is_one_unit():
    """Shift, PReLU, shift: 2.15 pJ on boolnet65 (BoolNet Fig. 4a), their sum elsewhere."""
    network = planned("reactnet-resnet18")
    elements = 4 * (200_704 + 100_352 + 50_176 + 25_088)
    found = {OPERATIONS[p].function: (p, n) for p, n in sums_of(network).whole.ops}
    place, count = found["rprelu"]
    assert count == elements
    assert "shift" not in found
    assert "prelu" not in found
    assert prices_of(load_profile("boolnet65")).compute[place].value == 2.15
    assert prices_of(load_profile("horowitz45")).compute[place].value == pytest.approx(3.8 + 1.8)


def test_peak_memory_is_in_bytes():
    network = planned("meliusnet22")
    assert peak_memory_bytes(network) == -(-network.peak_bits // 8)


def test_unknown_scope():
    with pytest.raises(InvalidValue, match="network, body"):
        estimate_energy(planned("quicknet"), load_profile("boolnet65"), scope="stem")


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_what_is_summed_at_once_is_the_sum_of_the_steps(seed):
    """Two ways, one answer: amounts packed into one integer, and added one by one."""
    network = plan(sampled(seed).lower())
    added = total(demands_of(network))
    whole = sums_of(network).whole
    assert dict(whole.ops) == dict(added.ops)
    assert whole._replace(ops=(), working_set=0) == added._replace(ops=(), working_set=0)


def test_amounts_of_any_size_are_packed():
    amounts = [0, 3, 2**63, 2**64 - 1, 2**64, 2**100, 0, 7]
    assert unpacked(packed(amounts), 0) == amounts
    assert unpacked(packed(amounts), 12) == [*amounts, 0, 0, 0, 0]
    assert unpacked(0, 3) == [0, 0, 0]
    assert unpacked(packed(amounts) + packed(amounts), 8) == [2 * n for n in amounts]
