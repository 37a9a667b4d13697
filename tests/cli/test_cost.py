"""``bitfront cost``: figures, JSON, reports, and one sentence for what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from bitfront.evaluators.cost import CONVENTIONS
from bitfront.evaluators.hardware.profile import profile_names
from bitfront.spaces import zoo

KEYS = {
    "name",
    "convention",
    "params",
    "params_binary",
    "flops",
    "bops",
    "ops",
    "size_mib",
    "memory_peak_bytes",
}
ENERGY_KEYS = {
    "total_mj",
    "compute_mj",
    "sram_mj",
    "dram_mj",
    "static_mj",
    "low_mj",
    "high_mj",
    "profile",
    "scope",
    "quirks",
    "feature_buffer_bytes",
    "spilled_bytes",
    "loaded_bytes",
    "time_ms",
}


def one_sentence(ran, *parts: str) -> None:
    lines = [line for line in ran.err.splitlines() if line.strip()]
    assert ran.status == 2, ran
    assert ran.out == ""
    assert len(lines) == 1, ran.err
    assert "Traceback" not in ran.err
    for part in parts:
        assert part in lines[0]


def test_meliusnet22_as_its_authors_count(bitfront):
    ran = bitfront("cost", "meliusnet22", "--convention", "hpi", "--json")
    assert ran.status == 0
    data = ran.json
    assert data.keys() >= KEYS
    assert data["name"] == "meliusnet22"
    assert data["params"] == 6944584
    assert data["params_binary"] == 6119424
    assert data["flops"] == pytest.approx(135.88e6, rel=1e-4)
    assert data["bops"] == pytest.approx(4.62e9, rel=2e-3)
    assert data["ops"] == pytest.approx(208.13e6, rel=1e-4)
    assert data["size_mib"] == pytest.approx(3.88, abs=5e-3)
    assert "energy" not in data


@pytest.mark.parametrize(("name", "published_mj"), [("birealnet18", 3.90), ("boolnet-k4", 0.84)])
def test_published_energy_of_the_body(bitfront, name, published_mj):
    ran = bitfront("cost", name, "--hardware", "boolnet65", "--scope", "body", "--json")
    energy = ran.json["energy"]
    assert energy.keys() >= ENERGY_KEYS
    assert energy["total_mj"] == pytest.approx(published_mj, rel=0.03)
    assert energy["low_mj"] < energy["total_mj"] < energy["high_mj"]
    plain = energy["without_quirks"]
    assert plain.keys() == energy.keys() - {"without_quirks", "constants"}
    assert plain["quirks"] == []
    assert plain["total_mj"] > energy["total_mj"]


def test_quirks_can_be_left_out_or_asked_for(bitfront):
    arguments = ("cost", "boolnet-k4", "--hardware", "boolnet65", "--json", "--scope")
    plain = bitfront(*arguments, "body", "--no-quirks").json["energy"]
    assert plain["quirks"] == []
    assert plain["total_mj"] == pytest.approx(0.981, abs=5e-4)
    # "adding the first convolution and the classifier": 0.84 -> 1.35 mJ
    published = bitfront(*arguments, "network", "--quirks").json["energy"]
    assert published["total_mj"] == pytest.approx(1.35, rel=0.05)
    assert published["without_quirks"]["quirks"] == []
    network = bitfront(*arguments, "network").json["energy"]
    assert network["quirks"] == []
    assert network["total_mj"] == published["without_quirks"]["total_mj"]


def test_both_estimates_are_printed_side_by_side(bitfront):
    text = bitfront("cost", "boolnet-k4", "--hardware", "boolnet65", "--scope", "body").out
    assert "as published" in text
    assert "by the graph" in text
    assert "832 µJ" in text
    assert "981 µJ" in text
    assert "slices_share_shortcut_weights" in text


def test_a_publications_storage_width_is_applied_and_named(bitfront):
    arguments = ("cost", "xnornet-resnet18", "--hardware", "boolnet65", "--json", "--scope")
    body = bitfront(*arguments, "body").json["energy"]
    assert "features_stored_at_16_bits" in body["quirks"]
    assert body["total_mj"] < body["without_quirks"]["total_mj"] / 2


def test_layers_add_up_to_the_total(bitfront):
    data = bitfront(
        "cost", "binarydensenet28", "--hardware", "horowitz45", "--layers", "--json"
    ).json
    layers, energy = data["layers"], data["energy"]
    assert sum(row["macs"] for row in layers) == data["flops"] + data["bops"] + 576 * 1000
    for term in ("compute_mj", "sram_mj"):
        assert sum(row[term] for row in layers) == pytest.approx(energy[term])
    assert sum(row["spilled_bytes"] for row in layers) == energy["spilled_bytes"] > 0
    assert energy["feature_buffer_bytes"] == 196_608 < data["memory_peak_bytes"]
    # the image and the logits cross the border once and belong to no layer
    border_mj = (3 * 224 * 224 * 8 + 1000 * 32) * 20.3 / 1e9
    dram = sum(row["dram_mj"] for row in layers) + border_mj
    assert dram == pytest.approx(energy["dram_mj"])
    assert max(row["memory_bytes"] for row in layers) == data["memory_peak_bytes"]
    for row in layers:
        terms = row["compute_mj"] + row["sram_mj"] + row["dram_mj"]
        assert row["low_mj"] <= terms <= row["high_mj"]


def test_layers_are_printed_with_every_term(bitfront):
    text = bitfront("cost", "birealnet18", "--hardware", "horowitz45", "--layers").out
    heads = next(line for line in text.splitlines() if "compute" in line and "SRAM" in line)
    assert heads.split() == (
        ["step", "fused", "out", "w/a", "MACs", "memory", "compute", "SRAM", "DRAM", "spilled"]
    )
    (row,) = [line for line in text.splitlines() if "stages.0.blocks.1.conv " in line]
    # the map of 64 x 56 x 56 x 32 bits, its 1-bit copy, and what does not fit in 192 KiB, twice
    assert " 827,904 " in row
    assert row.split()[-1] == f"{2 * (827_904 - 196_608):,}"


def test_memory_is_compared_with_the_buffer(bitfront):
    text = " ".join(bitfront("cost", "birealnet18", "--hardware", "horowitz45").out.split())
    assert "the peak of 1,229,312 bytes does not fit the buffer of 196,608" in text
    assert "bytes spill" in text
    assert "fits the buffer" in bitfront("cost", "birealnet18", "--hardware", "h200").out


def test_every_estimate_says_how_far_to_trust_it(bitfront):
    text = " ".join(bitfront("cost", "quicknet", "--hardware", "h200").out.split())
    assert "factor of 2 to 3" in text
    assert "assumed" in text
    assert "a lower bound" in text
    assert " low " in text
    assert " high " in text


def test_the_help_names_every_profile_and_convention(bitfront):
    text = " ".join(bitfront("cost", "--help").out.replace("│", " ").split())
    for name in (*profile_names(), *CONVENTIONS):
        assert name in text


@pytest.mark.parametrize("profile", profile_names())
def test_every_profile_estimates(bitfront, profile):
    energy = bitfront("cost", "quicknet-small", "--hardware", profile, "--json").json["energy"]
    assert energy["profile"] == profile
    assert set(energy["constants"]) == {"read", "derived", "assumed"}
    assert 0 < energy["low_mj"] <= energy["total_mj"] <= energy["high_mj"]
    assert (energy["time_ms"] is None) == (energy["static_mj"] == 0)


def test_fvbitcore_divides_by_32(bitfront):
    data = bitfront("cost", "birealnet18", "--convention", "fvbitcore", "--json").json
    assert data["ops"] == data["flops"] + data["bops"] / 32
    assert not data["extended"]


def test_larq_has_no_operations(bitfront):
    assert bitfront("cost", "quicknet", "--convention", "larq", "--json").json["ops"] is None


def test_an_architecture_file_costs_what_its_network_costs(bitfront, tmp_path):
    architecture = zoo.get("quicknet-small").architecture()
    (tmp_path / "mine.json").write_text(json.dumps(architecture.json()))
    (tmp_path / "wrapped.json").write_text(json.dumps({"architecture": architecture.json()}))
    published = bitfront("cost", "quicknet-small", "--json").json
    for name in ("mine.json", "wrapped.json"):
        mine = bitfront("cost", name, "--json").json
        assert {**mine, "name": ""} == {**published, "name": ""}


def test_the_twin_has_no_binary_parameter(bitfront):
    data = bitfront("cost", "meliusnet22", "--twin", "--json").json
    assert data["params_binary"] == data["bops"] == 0
    assert data["params"] == 6944584


def test_cost_is_quick_and_loads_no_torch():
    script = (
        "import sys; from bitfront.cli import app; "
        "app(['cost', 'meliusnet22', '--hardware', 'horowitz45'], standalone_mode=False); "
        "print(sorted(set(sys.modules) & {'torch', 'optuna', 'ray', 'sqlalchemy', 'dash'}))"
    )
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
    # a bound against loading what is heavy, far above what it takes
    assert time.perf_counter() - start < 20


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["cost", "meliusnet22b"], ["meliusnet22b", "meliusnet22", "zoo"]),
        (
            ["cost", "quicknet", "--convention", "mlperf"],
            ["mlperf", "hpi, reactnet, larq, full, fvbitcore"],
        ),
        (["cost", "quicknet", "--hardware", "boolnet64"], ["boolnet64", "boolnet65"]),
        (["cost", "quicknet", "--hardware", "boolnet65", "--scope", "stem"], ["stem", "body"]),
        (["cost", "nothing.json"], ["nothing.json", "cannot be read"]),
    ],
)
def test_wrong_use_is_one_sentence(bitfront, arguments, parts):
    one_sentence(bitfront(*arguments), *parts)


def broken(change) -> str:
    data = zoo.get("meliusnet22").architecture().json()
    change(data)
    return json.dumps(data)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("{", ["must be JSON"]),
        ("[" * 100_000, ["nested too deeply"]),
        ("[1, 2]", ["must be an object"]),
        (broken(lambda d: d.update(version=2)), ["version", "2", "newer"]),
        (broken(lambda d: d.update(input=[3, 100_000, 100_000])), ["4096", "100000"]),
        (broken(lambda d: d.update(input=[3, 8, 8])), ["window", "does not"]),
        (broken(lambda d: d.update(colour="red")), ["colour"]),
        (broken(lambda d: d["stem"].update(kind="steam")), ["steam", "stem_grouped"]),
        (broken(lambda d: d["stem"].update(channels=-64)), ["channels", "-64"]),
        (broken(lambda d: d["stem"].update(channels=10**9)), ["channels", "1000000000"]),
        (broken(lambda d: d["stages"][0]["blocks"][0].update(growth="64")), ["whole number"]),
        (broken(lambda d: d["stages"][0]["blocks"][0].update(dilation=99)), ["dilation", "99"]),
        (broken(lambda d: d["stages"][0].update(blocks=[])), ["at least one block"]),
        (broken(lambda d: d["stages"][0]["blocks"].append(d["stem"])), ["is a stem"]),
    ],
)
def test_a_broken_architecture_file_is_one_sentence(bitfront, tmp_path, text, parts):
    (tmp_path / "broken.json").write_text(text)
    one_sentence(bitfront("cost", "broken.json"), *parts)
