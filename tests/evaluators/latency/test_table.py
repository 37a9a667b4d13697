"""Tables of layer times as files: read back as written, and refused in one sentence."""

import json
from dataclasses import replace

import pytest

from bitfront.evaluators.latency import (
    Latency,
    LatencySetting,
    LayerTable,
    LayerTime,
    find_table,
    layers_of,
    read_table,
    table_names,
    write_table,
)
from bitfront.evaluators.latency import table as table_module
from bitfront.spaces import zoo
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.value import decode, encode

SETTING = LatencySetting(
    device="cpu", machine="A <CPU>", kernels="avx2", versions="bitfront 1, torch 2", threads=2
)
LAYERS = tuple(dict.fromkeys(layers_of(zoo.get("quicknet").architecture().lower())))
TIMES = [
    LayerTime(layer, Latency(0.3 + n / 7, 0.2, 1e3, 0.1, 20, n % 2), 1.79e9 + 86_400 * n)
    for n, layer in enumerate(LAYERS)
]


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "below" / "t.latency.json"
    write_table(LayerTable(SETTING, TIMES), file)
    return file


def test_a_file_is_read_back_as_it_was_written(path):
    table = read_table(path)
    assert table.setting == SETTING
    assert list(table) == TIMES
    assert table.redone == len(TIMES) // 2
    assert table.dates == ("2026-09-21", "2026-10-14")
    assert find_table(str(path)).json() == table.json()
    # a line for each layer
    assert len(path.read_text().splitlines()) == len(TIMES) + 13


def test_the_last_time_of_a_layer_counts():
    first, second = TIMES[0], TIMES[0]._replace(times=TIMES[1].times)
    assert list(LayerTable(SETTING, [first, second])) == [second]
    table = LayerTable(SETTING, [first])
    table.add([second])
    assert table[first.layer] == second
    assert LayerTable(SETTING).dates is None


def test_settings_of_other_places_are_others():
    again = LatencySetting(
        device="cpu", machine="A <CPU>", kernels="avx2", versions="bitfront 1, torch 2", threads=2
    )
    assert again.digest == SETTING.digest
    assert SETTING.place == "A <CPU>, avx2, 2 threads, batch 1"
    assert replace(SETTING, threads=1).place == "A <CPU>, avx2, 1 thread, batch 1"
    # the same names on another device are another place
    gpu = replace(SETTING, device="cuda", threads=1, batch=32)
    assert gpu.place == "A <CPU>, avx2, batch 32"
    assert gpu.digest != replace(SETTING, threads=1, batch=32).digest
    narrow = replace(gpu, maps="bfloat16")
    assert narrow.place == gpu.place.replace("batch 32", "bfloat16 maps, batch 32")
    assert narrow.digest != gpu.digest
    # tables of before know no maps
    assert "maps" not in encode(gpu)
    assert decode(LatencySetting, encode(narrow), "setting") == narrow


def test_the_table_of_a_gpu_is_read_back(tmp_path):
    setting = replace(
        SETTING, device="cuda", machine="A GPU", kernels="Triton, sm_90", threads=1, batch=32
    )
    path = tmp_path / "gpu.latency.json"
    write_table(LayerTable(setting, TIMES), path)
    assert read_table(path).setting == setting
    total = read_table(path).latency(LAYERS)
    assert total.hardware == "A GPU, Triton, sm_90, batch 32"
    data = json.loads(path.read_text())
    data["setting"]["threads"] = 2
    path.write_text(json.dumps(data))
    with pytest.raises(InvalidValue, match="threads must be 1 on the device cuda"):
        read_table(path)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"format": "other"}, "must be a layer table, with format 'bitfront-layer-table'"),
        ({"version": 2}, "must have version 1, but has 2"),
        ({"setting": {}}, "lacks the field 'device'"),
        ({"layers": {}}, "layers must be a list"),
        ({"layers": [1]}, r"layers\[0\] must be an object with a layer"),
        ({"layers": [{"layer": {}}]}, r"layers\[0\].median_ms must be a number, but is None"),
    ],
)
def test_files_that_are_refused(path, change, match):
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InvalidValue, match=match):
        read_table(path)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"median_ms": -1}, "median_ms must be 0 to 1e"),
        ({"median_ms": "1"}, "median_ms must be a number, but is '1'"),
        ({"median_ms": 1e12}, "median_ms must be 0 to 1e"),
        ({"repeats": 1.5}, "repeats must be a whole number, but is 1.5"),
        ({"repeats": True}, "repeats must be a whole number"),
        ({"repeats": 0}, "from 1 repeat"),
        ({"p90_ms": 0.0}, "p10 <= median <= p90"),
        ({"layer": {"kind": "binary"}}, "must be a layer of packed inference"),
    ],
)
def test_rows_that_are_refused(path, change, match):
    data = json.loads(path.read_text())
    data["layers"] = [{**data["layers"][0], **change}]
    path.write_text(json.dumps(data))
    with pytest.raises(InvalidValue, match=match):
        read_table(path)


@pytest.mark.parametrize("content", [b"", b"[1", b"\xff", b"[" * 10_000, b"null"])
def test_what_is_no_table(path, content):
    path.write_bytes(content)
    with pytest.raises(InvalidValue, match=r"must be (JSON|a layer table)"):
        read_table(path)


def test_a_table_that_is_not_there(tmp_path):
    with pytest.raises(InvalidValue, match="cannot be read: No such file"):
        find_table(str(tmp_path / "a.json"))
    with pytest.raises(InvalidValue, match="No layer times were recorded for the hardware 'rpi4'"):
        find_table("rpi4")
    # how to get them, and what they are good for
    with pytest.raises(InvalidValue, match="--save h200.latency.json, with --device cuda") as error:
        find_table("h200")
    assert "answers for the layers that it holds" in str(error.value)
    with pytest.raises(InvalidValue, match="must be a file .* but is 'nowhere'"):
        find_table("nowhere")


def test_a_table_that_ships_is_found_by_name(path, monkeypatch):
    assert "t" not in table_names()
    monkeypatch.setattr(table_module, "_shipped", lambda: path.parent)
    assert table_names() == ("t",)
    assert find_table("t").json() == read_table(path).json()
    with pytest.raises(InvalidValue, match="or one of t"):
        find_table("rpi4")


@pytest.mark.parametrize(
    "change",
    [
        {"device": "tpu"},
        {"machine": ""},
        {"threads": 0},
        {"threads": 2, "device": "cuda"},
        {"maps": "bfloat16"},
        {"maps": "float16", "device": "cuda"},
        {"batch": 2000},
    ],
)
def test_settings_that_are_refused(change):
    values = {"device": "cpu", "machine": "m", "kernels": "k", "versions": "v", **change}
    with pytest.raises(InvalidValue, match=next(iter(change))):
        LatencySetting(**values)
