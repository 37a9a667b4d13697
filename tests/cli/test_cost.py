"""``bitfront cost`` and ``bitfront zoo``: figures, JSON, and one sentence for what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

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
    assert energy["without_quirks"]["total_mj"] > energy["total_mj"]


def test_layers_add_up_to_the_total(bitfront):
    data = bitfront(
        "cost", "binarydensenet28", "--hardware", "horowitz45", "--layers", "--json"
    ).json
    layers = data["layers"]
    assert sum(row["macs"] for row in layers) == data["flops"] + data["bops"] + 576 * 1000
    for term in ("compute_mj", "sram_mj"):
        assert sum(row[term] for row in layers) == pytest.approx(data["energy"][term])


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


def test_zoo_lists_every_network(bitfront):
    data = bitfront("zoo", "--json").json
    assert {row["name"] for row in data["networks"]} == set(zoo.zoo)
    table = bitfront("zoo").out
    assert all(name in table for name in zoo.zoo)


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
        (["cost", "meliusnet23"], ["meliusnet23", "meliusnet22", "zoo"]),
        (["cost", "quicknet", "--convention", "mlperf"], ["mlperf", "hpi, reactnet, larq, full"]),
        (["cost", "quicknet", "--hardware", "boolnet64"], ["boolnet64", "boolnet65"]),
        (["cost", "quicknet", "--hardware", "boolnet65", "--scope", "stem"], ["stem", "body"]),
        (["cost", "nothing.json"], ["nothing.json", "cannot be read"]),
        (["cost", "boolnet-k4", "--twin"], ["stem_boolnet", "32-bit"]),
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
