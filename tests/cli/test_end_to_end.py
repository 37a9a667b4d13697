"""The whole path as a user walks it: search, front, show, cost, export, resume, delete."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.slow

SMALL = ("--constraint", "ops<=40000", "--epochs", "2", "--workers", "2", "--study", "<b>mine</b>")


def test_from_search_to_export(bitfront, tmp_path):
    ran = bitfront("search", *SMALL, "--trials", "3", "--retrain", "1", "--json", timeout=240)
    assert ran.status == 0, ran.err
    found = ran.json
    assert found["study"] == "<b>mine</b>"
    assert found["counts"]["COMPLETE"] == 3
    assert found["counts"]["RUNNING"] == 0
    assert found["hypervolume"] > 0
    assert found["energy"]["kwh"] > 0
    for member in found["members"]:
        assert member["state"] == "COMPLETE"
        assert member["fidelity"] == member["full_fidelity"] == 2
        assert member["values"]["ops"] <= 40_000
        assert len(member["retrainings"]) == 1

    # the same command is done already
    again = bitfront("search", *SMALL, "--trials", "3", "--json", timeout=120)
    assert again.status == 0
    assert again.json["counts"] == found["counts"]

    front = bitfront("front", "--json").json
    assert [m["number"] for m in front["members"]] == [m["number"] for m in found["members"]]
    target = f"<b>mine</b>/{front['knee']}"
    shown = bitfront("show", target, "--json").json
    assert len(shown["curve"]) == 2
    cost = bitfront("cost", target, "--hardware", "boolnet65", "--json").json
    knee = next(m for m in front["members"] if m["number"] == front["knee"])
    assert cost["energy"]["total_mj"] == knee["values"]["energy"]

    exported = bitfront("export", "<b>mine</b>/knee", "--format", "json,pt2,onnx", "--json")
    assert exported.status == 0, exported.err
    assert [e["passed"] for e in exported.json["exports"]] == [True] * 3
    files = sorted(p.suffix for p in (tmp_path / "exports").iterdir())
    assert files == [".json", ".onnx", ".pt2", ".safetensors"]
    document = next((tmp_path / "exports").glob("*.json"))
    assert json.loads(document.read_text())["provenance"]["study"] == "<b>mine</b>"
    # an export is an architecture file too
    mine = bitfront("cost", str(document), "--json").json
    assert mine["params"] == cost["params"]

    assert bitfront("store", "check").status == 0
    assert bitfront("store", "backup", "--to", "copy.db").status == 0
    other = bitfront("search", *SMALL, "--epochs", "3")
    assert other.status == 2
    assert "epochs" in other.err
    assert bitfront("studies", "delete", "<b>mine</b>", "--yes").status == 0
    assert bitfront("studies", "--json").json == {"studies": []}
    assert not any((tmp_path / "bitfront-runs").iterdir())


def test_a_constraint_that_nothing_meets(bitfront):
    ran = bitfront("search", "--constraint", "energy<=1e-9", "--trials", "2", timeout=120)
    assert ran.status == 2
    assert ran.out == ""
    assert "energy<=1e-09 cannot be met" in ran.err
    assert "Traceback" not in ran.err
