"""Energy: BoolNet's published figures, closed forms, monotonicity, bands."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from importlib import resources

import pytest

from bitfront.evaluators.cost import estimate_energy, peak_memory_bytes
from bitfront.evaluators.cost.energy import WORK_FUNCTIONS, mac_band
from bitfront.evaluators.cost.spill import belady
from bitfront.evaluators.hardware.profile import (
    KINDS,
    load_profile,
    parse_profile,
    profile_names,
)
from bitfront.spaces import InvalidValue, RandomChoose, Task, spaces, zoo
from bitfront.spaces.plan import plan

# uJ per inference of the body: compute, SRAM, DRAM, total (Guo et al. 2021, Fig. 5)
PUBLISHED = {
    "birealnet18": (67.4, 1581.2, 2250.8, 3900.0),
    "boolnet-k4": (53.8, 478.8, 306.5, 840.0),
    "boolnet-base-k4": (47.1, 424.2, 269.2, 740.0),
    "boolnet-base-k1": (46.9, 297.1, 269.2, 610.0),
}
TASK = Task(input=(3, 32, 32), classes=10)


def planned(name: str):
    return plan(zoo.get(name).architecture().lower())


def sampled(seed: int):
    return spaces["melius"](RandomChoose(seed), TASK).architecture


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_published_body_energy(name):
    compute, sram, dram, total = PUBLISHED[name]
    energy = estimate_energy(planned(name), load_profile("boolnet65"), scope="body")
    assert energy.compute_pj.value / 1e6 == pytest.approx(compute, rel=0.06)
    assert energy.sram_pj.value / 1e6 == pytest.approx(sram, rel=0.04)
    assert energy.dram_pj.value / 1e6 == pytest.approx(dram, rel=0.02)
    assert energy.total_mj * 1e3 == pytest.approx(total, rel=0.03)


def test_ratio_that_operations_do_not_show():
    from bitfront.evaluators.cost import count

    profile = load_profile("boolnet65")
    bireal, boolnet = planned("birealnet18"), planned("boolnet-k4")
    ratio = (
        estimate_energy(bireal, profile, scope="body").total_mj
        / estimate_energy(boolnet, profile, scope="body").total_mj
    )
    assert 4.4 < ratio < 4.9
    ops = count(bireal.graph, "hpi").ops / count(boolnet.graph, "hpi").ops
    assert ops == pytest.approx(1.0, abs=0.04)


def test_quirks_apply_to_the_body_only_and_are_named():
    profile = load_profile("boolnet65")
    network = planned("boolnet-k4")
    assert estimate_energy(network, profile).quirks == ()
    assert estimate_energy(network, profile, scope="body", quirks=False).quirks == ()
    assert estimate_energy(network, profile, scope="body").quirks == tuple(sorted(profile.quirks))
    plain = estimate_energy(network, profile, scope="body", quirks=False)
    published = estimate_energy(network, profile, scope="body")
    # the graph's shortcut weights cross per slice and per half: k times two
    assert plain.dram_pj.value > published.dram_pj.value * 1.09


def test_weights_of_the_body_of_resnet18():
    """10,985,472 bits of 3x3 and 172,032 32-bit weights of 1x1 convolutions cross the border."""
    energy = estimate_energy(planned("birealnet18"), load_profile("boolnet65"), scope="body")
    assert sum(price.load_bits for _, price, _ in energy.steps) == 10_985_472 + 32 * 172_032


@pytest.mark.parametrize("name", profile_names())
def test_terms_add_up_and_bands_hold(name):
    profile = load_profile(name)
    for seed in range(20):
        energy = estimate_energy(plan(sampled(seed).lower()), profile)
        rows = energy.groups()
        assert energy.compute_pj.value == pytest.approx(sum(r.compute.value for r in rows))
        assert energy.sram_pj.value == pytest.approx(sum(r.sram.value for r in rows))
        assert energy.dram_pj.value >= sum(r.dram.value for r in rows) * (1 - 1e-12)
        total = energy.total_pj
        assert 0 < total.low <= total.value <= total.high
        data = energy.json()
        parts = ("compute_mj", "sram_mj", "dram_mj", "static_mj")
        assert data["total_mj"] == pytest.approx(sum(data[k] for k in parts))


@pytest.mark.parametrize("name", profile_names())
def test_fewer_bits_never_cost_more(name):
    profile = load_profile(name)
    for seed in range(30):
        architecture = sampled(seed)
        low = estimate_energy(plan(architecture.lower()), profile).total_mj
        full = estimate_energy(plan(architecture.twin().lower()), profile).total_mj
        assert low <= full


@pytest.mark.parametrize("policy", ["boolnet", "belady"])
def test_a_larger_buffer_never_spills_more_and_an_infinite_one_never(policy):
    profile = replace(load_profile("boolnet65"), spill_policy=policy)
    network = planned("birealnet18")
    last = float("inf")
    for bits in (2**16, 2**19, 2**20, 1_572_864, 2**22, 2**24, 2**40):
        sized = replace(profile, feature_buffer_bits=bits)
        spilled = sum(s for _, _, s in estimate_energy(network, sized, scope="body").steps)
        assert spilled <= last
        last = spilled
    assert last == 0.0


def test_belady_on_a_chain_by_hand():
    """Two residual blocks whose map exceeds the buffer: what does not fit leaves and returns."""
    network = planned("birealnet18")
    body = network.graph.body()
    capacity = 1_572_864
    traffic = belady(network, capacity, body)
    size = 64 * 56 * 56 * 32
    steps = [s for s, g in enumerate(network.groups) if g.anchor in body]
    # in place: the map (and its packed copy) is all that lives, so the excess leaves after each
    # step and comes back in the next
    excess = size + 64 * 56 * 56 - capacity
    assert traffic[steps[1]] == pytest.approx(2 * excess)
    assert network.groups[steps[1]].replaces >= 0


def test_fits_on_chip_means_no_spill():
    network = planned("boolnet-base-k1")
    for name in profile_names():
        energy = estimate_energy(network, load_profile(name), scope="body")
        assert sum(spill for _, _, spill in energy.steps) == 0.0


def test_mac_prices_follow_the_widths():
    profile = load_profile("horowitz45")
    assert mac_band(profile, 32, 32, 576).value == pytest.approx(4.6)
    assert mac_band(profile, 16, 16, 576).value == pytest.approx(1.5)
    assert mac_band(profile, 1, 1, 576).value == pytest.approx(0.0072, rel=0.01)
    assert mac_band(profile, 8, 8, 576).value == pytest.approx(0.28, rel=0.03)
    prices = [mac_band(profile, b, b, 576).value for b in (1, 2, 4, 8, 16, 32)]
    assert prices == sorted(prices)
    # without a path of its own, a 2-bit operand costs as 8 bits
    boolnet = load_profile("boolnet65")
    assert mac_band(boolnet, 2, 2, 576) == mac_band(boolnet, 8, 8, 576)
    assert mac_band(boolnet, 1, 1, 576).value == pytest.approx(0.02656)


def test_unit_powers_of_the_paper():
    """Constants follow from the published powers: mW at 1 GHz over the lanes is pJ."""
    profile = load_profile("boolnet65")
    assert profile.band("mac_1x1").value == pytest.approx(108.8 / 4096, rel=1e-3)
    assert profile.band("mac_int8").value == pytest.approx(504 / 512, rel=1e-3)
    for constant, milliwatts in (("batch_norm", 50.1), ("add", 43.5), ("prelu", 137.6)):
        assert profile.band(constant).value == pytest.approx(milliwatts / 64, rel=1e-2)


def test_every_element_wise_function_has_a_price():
    used = {
        work.function
        for name in zoo.zoo
        for node in zoo.get(name).architecture().lower().nodes
        for work in node.facts.work
    }
    assert used <= WORK_FUNCTIONS


def test_peak_memory_is_in_bytes():
    network = planned("meliusnet22")
    assert peak_memory_bytes(network) == -(-network.peak_bits // 8)


def test_unknown_scope():
    with pytest.raises(InvalidValue, match="network, body"):
        estimate_energy(planned("quicknet"), load_profile("boolnet65"), scope="stem")


@pytest.mark.parametrize("name", profile_names())
def test_every_constant_has_a_unit_a_kind_and_a_source(name):
    for constant in load_profile(name).constants.values():
        assert constant.kind in KINDS
        assert constant.source.strip()
        assert constant.unit in ("pJ", "pJ/bit", "W", "1")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"lanes": 0}, "lanes must be positive"),
        ({"spill_policy": "lru"}, "boolnet, belady"),
        ({"colour": "red"}, "unknown key 'colour'"),
    ],
)
def test_a_broken_profile_is_one_sentence(change, sentence):
    text = resources.files("bitfront.evaluators.hardware").joinpath("boolnet65.toml").read_text()
    data = tomllib.loads(text)
    head = "\n".join(
        f"{k} = {str(v).lower() if isinstance(v, bool) else repr(v)}"
        for k, v in {**{k: v for k, v in data.items() if not isinstance(v, dict)}, **change}.items()
    )
    tables = text[text.index("[constants.mac_1x1]") :]
    with pytest.raises(InvalidValue, match=sentence):
        parse_profile(f"{head}\n{tables}", "mine")


def test_an_unknown_profile_lists_what_exists():
    with pytest.raises(InvalidValue, match="boolnet65, horowitz45"):
        load_profile("boolnet64")
