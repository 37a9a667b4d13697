"""Hardware profiles: their schema, how honest their constants are, and what is refused."""

from __future__ import annotations

from importlib import resources

import pytest

from bitfront.evaluators.hardware.profile import (
    KINDS,
    OPTIONAL,
    REQUIRED,
    SOURCED,
    load_profile,
    parse_profile,
    profile_names,
)
from bitfront.spaces import InvalidValue

names = pytest.mark.parametrize("name", profile_names())


def text_of(name: str) -> str:
    file = resources.files("bitfront.evaluators.hardware").joinpath(f"{name}.toml")
    return file.read_text(encoding="utf-8")


def test_the_profiles():
    assert profile_names() == ("boolnet65", "edge7", "eyeriss65", "h200", "horowitz45", "rpi4")


def test_every_file_is_a_profile():
    folder = resources.files("bitfront.evaluators.hardware")
    files = {f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")}
    assert files == set(profile_names())


@names
def test_every_constant_has_a_unit_a_kind_a_source_and_a_band(name):
    profile = load_profile(name)
    assert profile.name == name
    units = REQUIRED | OPTIONAL
    for constant_name, constant in profile.constants.items():
        assert constant.unit == units[constant_name]
        assert constant.kind in KINDS
        assert len(constant.source) > 8
        low, value, high = constant.band.low, constant.band.value, constant.band.high
        assert 0 <= low <= value <= high
        # what is said to be uncertain must look so
        if constant.kind == "assumed" and value:
            assert low < high
    for key in SOURCED:
        kind, _, text = profile.sources[key].partition(": ")
        assert kind in KINDS
        assert text
    assert sum(profile.kinds().values()) == len(profile.constants)


@names
def test_every_native_width_has_a_price_and_a_rate(name):
    profile = load_profile(name)
    for width in ("1x1", "int8", "float16", "float32"):
        rate = profile.rate(width)
        assert 0 < rate.low <= rate.value <= rate.high
    # a profile that charges time says how fast it computes at each width it has, and loads
    if profile.band("static_power").high:
        computed = {8: "rate_int8", 16: "rate_float16", 32: "rate_float32"}
        for bits in profile.native_bits:
            assert computed[bits] in profile.constants
        assert "dram_rate" in profile.constants


def test_gpu_and_cpu_have_no_one_bit_path():
    """Without a measurement nobody may claim that they gain by bits below 8."""
    for name in ("h200", "rpi4"):
        assert load_profile(name).native(1) == 8
    assert load_profile("eyeriss65").native(1) == 16
    assert load_profile("h200").band("static_power").high > 2 * 74
    assert load_profile("h200").constants["static_power"].kind == "assumed"


def test_unit_powers_of_boolnets_accelerator():
    """Constants follow from the published powers: mW at 1 GHz over the lanes is pJ (Fig. 4a)."""
    profile = load_profile("boolnet65")
    assert profile.band("mac_1x1").value == pytest.approx(108.8 / 4096, rel=1e-3)
    assert profile.band("mac_int8").value == pytest.approx(504 / 512, rel=1e-3)
    for constant, milliwatts in (
        ("batch_norm", 50.1),
        ("add", 43.5),
        ("rprelu", 137.6),
        ("logic", 1.4),
        ("compare", 3.3),
    ):
        assert profile.band(constant).value == pytest.approx(milliwatts / 64, rel=1e-2)


def test_eyeriss_follows_its_ratios():
    """Register file 1, buffer 6, DRAM 200, each per 16-bit word, to one MAC."""
    profile = load_profile("eyeriss65")
    mac = profile.band("mac_float16").value
    for constant, ratio in (("register_file", 1), ("feature_sram", 6), ("dram", 200)):
        assert profile.band(constant).value * 16 == pytest.approx(ratio * mac, rel=0.01)


def test_h200_is_bounded_by_its_power():
    """No MAC at the peak rate can take more than 700 W, and memory's share must leave room."""
    profile = load_profile("h200")
    for width in ("int8", "float16", "float32"):
        rate = profile.band(f"rate_{width}").value
        at_peak = profile.band(f"mac_{width}")
        assert at_peak.high * 1e-12 * rate == pytest.approx(700, rel=0.01)
        dynamic = 700 - profile.band("static_power").value
        assert at_peak.value * 1e-12 * rate == pytest.approx(dynamic, rel=0.01)


def test_rpi4_adds_up_to_the_power_under_load():
    """2.2 W idle and 3.05 W of load: 5.1 to 5.4 W were measured (chipwired.com)."""
    profile = load_profile("rpi4")
    for width in ("int8", "float32"):
        load = profile.band(f"mac_{width}").value * 1e-12 * profile.band(f"rate_{width}").value
        assert load + profile.band("static_power").value == pytest.approx(5.25, rel=0.01)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("lanes = 4096", "lanes = 0", "lanes must be positive, but is 0"),
        ('"boolnet"', '"lru"', "one of boolnet, belady, but is 'lru'"),
        ("clock_hz = 1.0e9", 'clock_hz = 1.0e9\ncolour = "red"', "unknown key 'colour'"),
        ("node_nm = 65\n", "", "lacks the key 'node_nm'"),
        ("native_bits = [1, 8, 16, 32]", "native_bits = []", "native_bits must list"),
        ("[constants.mac_1x1]", "[constants.mac_1x2]", "unknown constant 'mac_1x2'"),
        ("[constants.dram]", "[constants.dram_rate]", "lacks the constant 'dram'"),
        ("value = 0.02656", "value = 1.0", "0 <= low <= value <= high must hold"),
        ("value = 0.02656", "value = inf", "0 <= low <= value <= high must hold"),
        ('unit = "pJ/bit"', 'unit = "pJ"', "the unit must be 'pJ/bit', but is 'pJ'"),
        ('kind = "derived"', 'kind = "guessed"', "read, derived, assumed, but is 'guessed'"),
        ('lanes = "derived', 'lanes = "inferred', "must begin with one of read, derived, assumed"),
        ('lanes = "derived', 'lames = "derived', "lacks the source 'lanes'"),
        ("float_shortcut_at_int8", "float_shortcut_at_int4", "unknown quirk"),
        ("node_nm = 65", "node_nm = ", "must be TOML"),
    ],
)
def test_a_broken_profile_is_one_sentence(old, new, sentence):
    text = text_of("boolnet65")
    assert old in text
    with pytest.raises(InvalidValue, match="mine") as error:
        parse_profile(text.replace(old, new, 1), "mine")
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_a_rate_of_zero_is_refused():
    text = text_of("rpi4")
    with pytest.raises(InvalidValue, match="a rate must be positive"):
        parse_profile(text.replace("low = 1.73e10", "low = 0.0"), "mine")


def test_an_unknown_profile_lists_what_exists():
    with pytest.raises(InvalidValue, match=", ".join(profile_names())):
        load_profile("boolnet64")
