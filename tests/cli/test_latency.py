"""``bitfront latency``: figures, JSON, and one sentence for what is wrong."""

from __future__ import annotations

import json

import pytest

from bitfront.cli.latency import _print
from bitfront.evaluators.latency import CpuClock, take_turns
from bitfront.evaluators.latency.inference import time_inference
from bitfront.evaluators.latency.twin import Contender
from bitfront.spaces import Architecture, Stage
from bitfront.spaces.blocks import BiReal, Classifier, StemThumbnail
from bitfront.spaces.errors import InvalidValue

SMALL = Architecture(
    input=(3, 16, 16),
    stem=StemThumbnail(channels=32),
    stages=(Stage(blocks=(BiReal(channels=32),)),),
    head=Classifier(classes=5),
)
TIMES = {"median_ms", "p10_ms", "p90_ms", "min_ms", "repeats"}


def test_times_the_packed_network_its_twin_and_its_steps(bitfront, tmp_path):
    (tmp_path / "small.json").write_text(json.dumps(SMALL.json()))
    ran = bitfront("latency", "small.json", "--repeats", "5", "--twin", "--layers", "--json")
    assert ran.status == 0, ran.err
    data = ran.json
    assert data["name"] == "small.json"
    assert (data["device"], data["batch"], data["threads"]) == ("cpu", 1, 1)
    assert (data["input"], data["weights"]) == ([3, 16, 16], "untrained")
    assert data["packed"] is True
    assert {"python", "bitfront", "torch", "onnxruntime"} <= data["versions"].keys()
    assert data["cpu"]
    for times in (data["latency"], data["twin"]):
        assert times.keys() >= TIMES
        assert 0 < times["min_ms"] <= times["p10_ms"] <= times["median_ms"] <= times["p90_ms"]
        assert times["repeats"] == 5
    assert data["ratio"] == data["twin"]["median_ms"] / data["latency"]["median_ms"]
    kinds = [row["kind"] for row in data["layers"]]
    assert kinds.count("binary") == 1
    assert kinds[-1] == "linear"


def test_tables_for_people(bitfront, tmp_path):
    (tmp_path / "small.json").write_text(json.dumps(SMALL.json()))
    text = bitfront("latency", "small.json", "--repeats", "2", "--input", "20", "--layers").out
    assert "3x20x20, batch 1, 1 thread(s)" in text
    assert "stages.0.blocks.0.conv" in text
    assert "untrained" in text


def test_batches_and_threads():
    data = time_inference(SMALL, batch=2, threads=2, repeats=2)
    assert (data["batch"], data["threads"], data["clock"]) == (2, 2, "wall clock")
    assert "twin" not in data
    assert "layers" not in data
    assert "wall_ms" not in data


def test_the_fastest_contender_is_the_twin(capsys):
    twins = [
        Contender("slow", lambda: sum(range(300_000))),
        Contender("fast", lambda: sum(range(1_000))),
        Contender("broken", None, "no compiler"),
    ]
    data = time_inference(SMALL, repeats=3, twins=twins)
    assert data["twin"]["runtime"] == "fast"
    assert data["ratio"] == data["twin"]["median_ms"] / data["latency"]["median_ms"]
    assert [row["runtime"] for row in data["twins"]] == ["slow", "fast", "broken"]
    assert data["twins"][0]["median_ms"] > data["twins"][1]["median_ms"]
    assert data["twins"][2] == {"runtime": "broken", "absent": "no compiler"}
    with pytest.raises(InvalidValue, match="twin cannot run here: broken: no compiler"):
        time_inference(SMALL, repeats=2, twins=twins[2:])
    _print({"name": "small", "device": "cpu", **data})
    printed = capsys.readouterr().out
    assert "32-bit twin, slow" in printed
    assert "absent: broken: no compiler" in printed


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["meliusnet222"], ["meliusnet222", "meliusnet22"]),
        (["quicknet", "--device", "tpu"], ["device", "cpu, cuda", "tpu"]),
        (["quicknet", "--device", "cuda", "--threads", "2"], ["threads", "--device cuda", "2"]),
        (["quicknet", "--maps", "bfloat16"], ["maps", "float32", "--device cpu", "bfloat16"]),
        (["quicknet", "--device", "cuda", "--maps", "fp8"], ["maps", "bfloat16", "fp8"]),
        (["quicknet", "--table", "a", "--hardware", "h200"], ["--hardware", "--table", "one"]),
        (["quicknet", "--hardware", "h20"], ["h20", "h200"]),
        (["quicknet", "--hardware", "h200", "--save", "a.json"], ["no --twin, no --save"]),
        (["quicknet", "--hardware", "h200"], ["No layer times", "--save h200.latency.json"]),
        (["quicknet", "--input", "3"], ["window", "does not"]),
        (["quicknet", "--input", "0"], ["input", "0"]),
    ],
)
def test_wrong_use_is_one_sentence(bitfront, arguments, parts):
    ran = bitfront("latency", *arguments)
    lines = [line for line in ran.err.splitlines() if line.strip()]
    assert (ran.status, ran.out, len(lines)) == (2, "", 1)
    for part in parts:
        assert part in lines[0]


@pytest.mark.parametrize("more", [["--twin"], ["--save", "t.json"], []])
def test_a_gpu_that_is_not_there(bitfront, tmp_path, monkeypatch, more):
    # hides one that may be there
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    ran = bitfront("latency", "quicknet", "--device", "cuda", *more)
    lines = [line for line in ran.err.splitlines() if line.strip()]
    assert (ran.status, ran.out, len(lines)) == (2, "", 1)
    assert "needs a CUDA device of compute capability 8.0 or higher" in lines[0]
    assert "layer table that was recorded" in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_contenders_take_turns():
    order: list[str] = []
    calls = {name: lambda name=name: order.append(name) for name in "ab"}
    times = take_turns(calls, CpuClock(1), repeats=3, patience_s=0.0)
    assert order == list("ab") * 5
    assert times["a"].repeats == 3
    with pytest.raises(InvalidValue, match="repeats"):
        take_turns(calls, CpuClock(1), repeats=1)
