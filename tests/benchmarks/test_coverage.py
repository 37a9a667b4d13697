"""``docs/coverage.md`` names every network of the zoo, no other, and is what its script writes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from bitfront.spaces import Stage
from bitfront.spaces.blocks import Improvement
from bitfront.spaces.zoo import get, zoo

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "coverage.md"
RENEW = "renew it with: python benchmarks/zoo_check.py --document"


@pytest.fixture
def scripts(monkeypatch):
    """The folder of the benchmarks, from which modules can be imported."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


def generated() -> dict[str, str]:
    """The generated parts of the document, by name."""
    pattern = r"<!-- (.+?): generated -->\n(.*?)<!-- \1: end -->"
    return dict(re.findall(pattern, DOCUMENT.read_text(encoding="utf-8"), re.DOTALL))


def test_every_network_of_the_zoo_has_its_row():
    rows = re.findall(r"^\| `([^`]+)` \|", generated()["checks"], re.MULTILINE)
    assert rows == sorted(zoo), RENEW


def test_every_network_belongs_to_a_family():
    assert set(re.findall(r"`([^`]+)`", generated()["families"])) == set(zoo), RENEW
    assert "| others |" not in generated()["families"]


def test_every_network_that_is_named_exists():
    for part in generated().values():
        assert set(re.findall(r"`([^`]+)`", part)) <= set(zoo), RENEW
    # the sentences written by hand
    text = DOCUMENT.read_text(encoding="utf-8")
    assert set(re.findall(r"`([a-z]+net[\w+-]*)`", text)) <= set(zoo)


def test_every_row_of_the_field_stands_in_the_document(scripts):
    from field_tables import BY_METHOD, BY_POWER, BY_SIZE, FAMILIES

    parts = generated()
    for name, rows in (("by method", BY_METHOD), ("by size", BY_SIZE), ("by power", BY_POWER)):
        lines = [line for line in parts[name].splitlines() if line.startswith("|")]
        assert len(lines) == 2 + len(rows), RENEW
        for line, row in zip(lines[2:], rows, strict=True):
            assert line.startswith(f"| {row.method} |")
            assert f"`{row.network}`" in line or "not yet: " in line
    for family in FAMILIES:
        assert f"| {family.name} |" in parts["families"], RENEW


@pytest.mark.slow
def test_the_document_is_what_its_script_writes(scripts):
    from zoo_coverage import renewed

    assert renewed() == DOCUMENT.read_text(encoding="utf-8"), RENEW


@pytest.mark.slow
def test_a_network_passes_all_checks(scripts, tmp_path):
    from network_check import check

    row = check(get("resnet-e18-cifar10"), tmp_path)
    assert row["failed"] == []
    assert row["input"] == [3, 32, 32]
    assert row["binary_layers"] > 0
    assert {"train", "json", "pt2", "onnx"} <= row["seconds"].keys()


def test_a_network_that_does_not_lower_is_told(scripts, tmp_path):
    from network_check import check

    entry = get("meliusnet22")
    narrow = replace(entry.architecture(), stages=(Stage(blocks=(Improvement(growth=4096),)),))
    row = check(replace(entry, architecture=lambda: narrow), tmp_path)
    assert len(row["failed"]) == 1
    assert row["failed"][0].startswith("lower: InfeasibleArchitecture: ")
