"""``bitfront layers`` and the layer tables of ``bitfront latency``."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from bitfront.cli import app
from bitfront.cli.output import milliseconds
from bitfront.evaluators.latency import find_table, layers_of, read_table
from bitfront.evaluators.latency import table as table_module
from bitfront.evaluators.latency.measure import setting_here
from bitfront.evaluators.latency.recording import record
from bitfront.search.store import open_store
from bitfront.spaces import Architecture, InvalidValue, RandomChoose, Stage, Task, spaces
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
        (("layers", "record", "t.json"), "--networks or a --space"),
        (("layers", "record", "t.json", "--networks", "nonet"), "'nonet'"),
        (("layers", "record", "t.json", "--space", "nospace"), "'nospace'"),
        (("layers", "record", "t.json", "--space", "melius", "--input", "32"), "like 3x32x32"),
        (("layers", "record", "t.json", "--space", "melius", "--input", "3x0x9"), "sizes"),
        (("layers", "record", "t.json", "--space", "melius", "--input", "3x1x1"), "of 3x1x1"),
        (("layers", "record", "t.json", "--networks", "quicknet", "--device", "x"), "cpu, cuda"),
        (("layers", "record", "small.json", "--networks", "small.json"), "must be a layer table"),
        (("search", "--latency", ""), "latency must be cpu"),
        (("search", "--objectives", "accuracy,latency", "--latency", "q"), "is 'q'"),
        (
            ("search", "--objectives", "accuracy,latency", "--latency", "h200"),
            "No layer times were recorded for the hardware 'h200' yet",
        ),
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


def test_an_interrupted_recording_keeps_its_layers(tmp_path):
    words = ("layers", "record", "t.latency.json", "--space", "melius", "--samples", "400")
    command = [sys.executable, "-m", "bitfront", *words, "--input", "1x8x8", "--repeats", "2"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as running:
        first = running.stderr.readline()
        running.send_signal(signal.SIGINT)
        said = running.stderr.read()
    assert "1 of " in first
    assert running.returncode == 130
    assert "Interrupted: what was timed is kept in t.latency.json" in " ".join(said.split())
    assert "Traceback" not in said
    assert len(read_table(tmp_path / "t.latency.json")) > 0


def test_a_table_of_many_networks_is_recorded(bitfront, small, tmp_path):
    command = (
        *("layers", "record", "t.latency.json", "--repeats", "2", "--networks", "small.json"),
        *("--space", "melius", "--samples", "2", "--input", "1x8x8"),
    )
    ran = bitfront(*command, "--json")
    data = ran.json
    table = read_table(tmp_path / "t.latency.json")
    assert (data["file"], data["networks"], data["device"]) == ("t.latency.json", 3, "cpu")
    assert data["layers"] == len(table) > 7
    assert 0 <= data["covered"] <= data["covered_of"] == 100
    assert not table.missing(layers_of(SMALL.lower()))
    task = Task(input=(1, 8, 8), classes=10)
    for number in range(2):
        drawn = spaces["melius"](RandomChoose(f"0:record:{number}"), task).architecture
        assert not table.missing(layers_of(drawn.lower()))
    assert "3 of 3: " in ran.err
    # what is there is not timed again
    before = (tmp_path / "t.latency.json").read_bytes()
    ran = bitfront(*command)
    assert "of 100 other candidates of melius" in ran.out
    assert (tmp_path / "t.latency.json").read_bytes() == before


def test_an_interrupted_recording_is_gone_on_with(tmp_path):
    path = tmp_path / "t.json"
    setting = setting_here()

    def interrupted():
        yield SMALL
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record(interrupted(), path, setting, repeats=2)
    assert not read_table(path).missing(layers_of(SMALL.lower()))
    told = []
    record([SMALL], path, setting, repeats=2, tell=lambda *counts: told.append(counts))
    assert told == [(1, 0)]
    with pytest.raises(InvalidValue, match="give another file"):
        record([SMALL], path, setting_here(batch=2))


def test_a_table_that_ships_answers_for_its_hardware(small, tmp_path, monkeypatch):
    """A real table of this CPU, in the place and under a name that tables ship under."""
    record([SMALL], tmp_path / "rpi4.latency.json", setting_here(), repeats=2)
    monkeypatch.setattr(table_module, "_shipped", lambda: tmp_path)
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        return CliRunner().invoke(app, arguments, catch_exceptions=False).stdout

    data = json.loads(run("latency", "small.json", "--hardware", "rpi4", "--json"))
    table = find_table("rpi4")
    total = table.latency(layers_of(SMALL.lower()))
    assert data["latency"]["value"] == total.value
    assert data["table"]["machine"] == table.setting.machine
    # the energy of a network comes with its latency
    cost = json.loads(run("cost", "small.json", "--hardware", "rpi4", "--json"))
    assert cost["latency"]["latency"]["value"] == total.value
    assert cost["latency"]["missing"] == 0
    assert cost["latency"]["table"]["first_day"] == table.dates[0]
    text = run("cost", "small.json", "--hardware", "rpi4")
    assert f"Latency: {milliseconds(total.value)}, by the recorded table of" in text
    assert table.setting.versions in text
    assert table.dates[0] in text
    text = run("cost", "quicknet", "--hardware", "rpi4")
    assert "Latency: the recorded table of" in text
    assert "has no time for" in text
    assert (
        json.loads(run("cost", "quicknet", "--hardware", "rpi4", "--json"))["latency"]["latency"]
        is None
    )
    assert "atency" not in run("cost", "small.json", "--hardware", "boolnet65")
    with pytest.raises(InvalidValue, match="has no time for"):
        run("latency", "quicknet", "--hardware", "rpi4")


def test_a_gpu_that_is_not_there_leaves_no_store(bitfront, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    ran = bitfront(
        "search", "--store", "a.db", "--objectives", "accuracy,latency", "--latency", "cuda"
    )
    assert ran.status == 2
    assert "needs a CUDA device" in ran.err
    assert "Traceback" not in ran.err
    assert list(tmp_path.iterdir()) == []


def test_a_table_that_is_not_there_leaves_no_store(bitfront, tmp_path):
    ran = bitfront(
        "search", "--store", "a.db", "--objectives", "accuracy,latency", "--latency", "no.json"
    )
    assert ran.status == 2
    assert "no.json cannot be read" in ran.err
    assert not (tmp_path / "a.db").exists()
