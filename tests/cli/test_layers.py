"""``bitfront layers`` and the layer tables of ``bitfront latency``."""

from __future__ import annotations

import json

import pytest

from bitfront.evaluators.latency import read_table
from bitfront.search.store import open_store
from bitfront.spaces import Architecture, Stage
from bitfront.spaces.blocks import BiReal, Classifier, StemThumbnail

SMALL = Architecture(
    input=(3, 16, 16),
    stem=StemThumbnail(channels=32),
    stages=(Stage(blocks=(BiReal(channels=32),)),),
    head=Classifier(classes=5),
)


@pytest.fixture
def small(tmp_path):
    (tmp_path / "small.json").write_text(json.dumps(SMALL.json()))


def test_a_table_is_measured_saved_and_used(bitfront, small, tmp_path):
    first = ("latency", "small.json", "--repeats", "2", "--save", "t.latency.json")
    text = bitfront(*first).out
    assert "t.latency.json holds 7 layers." in text
    before = (tmp_path / "t.latency.json").read_bytes()
    # what is there is not timed again
    assert bitfront(*first, "--json").json["table"] == {"file": "t.latency.json", "layers": 7}
    assert (tmp_path / "t.latency.json").read_bytes() == before
    ran = bitfront("latency", "small.json", "--table", "t.latency.json", "--layers", "--json")
    data = ran.json
    table = read_table(tmp_path / "t.latency.json")
    assert data["latency"]["value"] == pytest.approx(sum(x["median_ms"] for x in data["layers"]))
    assert data["latency"]["method"] == "estimated"
    assert data["table"]["layers"] == 7
    assert data["table"]["machine"] == table.setting.machine
    assert data["table"]["first_day"] == data["table"]["last_day"]
    text = bitfront("latency", "small.json", "--table", "t.latency.json", "--layers").out
    assert "binary conv2d 32x16x16 -> 32x16x16" in text
    assert "not timed here" in text


def test_tables_in_a_database(bitfront, small, tmp_path):
    bitfront("latency", "small.json", "--repeats", "2", "--save", "t.json")
    assert bitfront("layers", "load", "t.json", "--store", "a.db").out.startswith(
        "Loaded 7 of 7 layers"
    )
    assert bitfront("layers", "load", "t.json", "--store", "a.db").out.startswith(
        "Loaded 0 of 7 layers"
    )
    (table,) = bitfront("layers", "list", "--store", "a.db", "--json").json["tables"]
    assert (table["table"], table["layers"], table["threads"]) == (1, 7, 1)
    assert table["kernels"] in bitfront("layers", "list", "--store", "a.db").out
    assert bitfront("layers", "save", "b.json", "--store", "a.db").out == (
        "Wrote 7 layers to b.json.\n"
    )
    rows = [sorted(map(str, read_table(tmp_path / f))) for f in ("t.json", "b.json")]
    assert rows[0] == rows[1]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("latency", "small.json", "--table", "t.json"), "t.json cannot be read: No such file"),
        (("latency", "small.json", "--table", "x"), "A layer table must be a file"),
        (("latency", "small.json", "--table", "x", "--twin"), "no --twin, no --save"),
        (("latency", "small.json", "--repeats", "2", "--save", "small.json"), "must be a layer"),
        (("layers", "load", "small.json", "--store", "a.db"), "must be a layer table"),
        (("layers", "list", "--store", "none.db"), "none.db"),
        (("search", "--latency", ""), "latency must be cpu"),
        (("search", "--objectives", "accuracy,latency", "--latency", "q"), "is 'q'"),
    ],
)
def test_wrong_use_is_one_sentence(bitfront, small, arguments, match):
    ran = bitfront(*arguments)
    assert ran.status == 2
    assert match in ran.err
    assert "Traceback" not in ran.err


def test_a_database_without_a_table(bitfront, tmp_path):
    open_store(str(tmp_path / "a.db"), create=True).close()
    ran = bitfront("layers", "save", "b.json", "--store", "a.db")
    assert ran.status == 2
    assert "holds no layer table yet" in ran.err


def test_a_network_that_a_table_does_not_cover(bitfront, small):
    bitfront("latency", "small.json", "--repeats", "2", "--save", "t.json")
    ran = bitfront("latency", "quicknet", "--table", "t.json")
    assert ran.status == 2
    assert "has no time for" in ran.err
    assert "the first: input 3x224x224" in ran.err


def test_a_table_that_is_not_there_leaves_no_store(bitfront, tmp_path):
    ran = bitfront(
        "search", "--store", "a.db", "--objectives", "accuracy,latency", "--latency", "no.json"
    )
    assert ran.status == 2
    assert "no.json cannot be read" in ran.err
    assert not (tmp_path / "a.db").exists()
