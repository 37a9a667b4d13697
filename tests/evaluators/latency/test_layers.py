"""The text of a layer holds all that decides its time, and nothing of where it stands."""

import json
import subprocess
import sys
from contextlib import contextmanager

import pytest
import torch

from bitfront.evaluators.latency import (
    LatencySetting,
    LayerTable,
    LayerTime,
    MissingLayers,
    layers_of,
    measure,
    shown,
)
from bitfront.evaluators.latency.measure import setting_here, time_layers, time_network
from bitfront.evaluators.latency.timing import Latency
from bitfront.evaluators.packed import PackedNetwork
from bitfront.spaces import Architecture, RandomChoose, Stage, Task, build, spaces, zoo
from bitfront.spaces.blocks import BiReal, Classifier, Dense, Improvement, StemThumbnail


def architecture(*blocks, size=8, channels=32):
    return Architecture(
        input=(3, size, size),
        stem=StemThumbnail(channels=channels),
        stages=(Stage(blocks=blocks),),
        head=Classifier(classes=5),
    )


def layers(*blocks, **options):
    return layers_of(architecture(*blocks, **options).lower())


@pytest.mark.parametrize("name", ["meliusnet22", "boolnet-k4", "quicknet", "birealnet18"])
def test_there_is_one_layer_for_each_step(name):
    entry = zoo.get(name).architecture()
    network = build(entry).eval()
    found = layers_of(network.graph)
    steps = PackedNetwork(network)._steps
    assert [json.loads(text)["kind"] for text in found[1:]] == [s.group.kind for s in steps]
    assert json.loads(found[0])["kind"] == "input"


def test_equal_blocks_have_equal_layers():
    one, two = layers(BiReal(channels=32)), layers(BiReal(channels=32), BiReal(channels=32))
    assert set(one) <= set(two)
    assert max(two.count(text) for text in two) == 2


@pytest.mark.parametrize(
    "other",
    [
        layers(BiReal(channels=32), size=16),
        layers(BiReal(channels=64)),
        layers(BiReal(channels=32, stride=2)),
        layers(Dense(growth=32)),
    ],
)
def test_what_changes_the_work_changes_the_layer(other):
    binary = {x for x in layers(BiReal(channels=32)) if json.loads(x)["kind"] == "binary"}
    assert binary
    assert not binary & set(other)


def test_how_a_map_lies_is_part_of_the_layer():
    """An improvement block adds to channels of a larger map: no layer of a residual block."""
    found = [json.loads(text) for text in layers(Dense(growth=32), Improvement(growth=32))]
    binary = [layer for layer in found if layer["kind"] == "binary"]
    assert [layer["writes"]["lies"] for layer in binary] == ["part", "part"]
    # the improvement block adds to its slice where that lies
    assert [len(layer["over"]) for layer in binary] == [0, 1]


def test_layers_in_few_words():
    words = [shown(text) for text in layers(BiReal(channels=32))]
    assert words[0] == "input 3x8x8"
    assert "binary conv2d 32x8x8 -> 32x8x8" in words


def test_finding_layers_loads_no_torch():
    code = (
        "import sys\n"
        "from bitfront.evaluators.latency import layers_of\n"
        "from bitfront.spaces import zoo\n"
        "assert len(layers_of(zoo.get('meliusnet22').architecture().lower())) > 100\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_layers_of_a_network_are_timed_where_they_stand():
    small = architecture(BiReal(channels=32), BiReal(channels=32))
    setting = setting_here()
    threads = torch.get_num_threads()
    times = time_layers(small, setting, repeats=3)
    assert torch.get_num_threads() == threads
    wanted = layers_of(small.lower())
    assert [time.layer for time in times] == list(dict.fromkeys(wanted))
    for _, measured, _ in times:
        assert 0 < measured.min_ms <= measured.p10_ms <= measured.median_ms <= measured.p90_ms
        assert measured.redone >= 0
    twice = next(t for t in times if wanted.count(t.layer) == 2)
    assert twice.times.repeats == 6
    (one,) = time_layers(small, setting, {twice.layer}, repeats=2)
    assert (one.layer, one.times.repeats) == (twice.layer, 4)
    table = LayerTable(setting, times)
    total = table.latency(wanted)
    assert total.value == pytest.approx(
        sum(table[layer].times.median_ms for layer in wanted), abs=1e-12
    )
    assert total.low <= total.value <= total.high
    assert (total.unit, total.method, total.hardware) == ("ms", "estimated", setting.place)


def test_others_are_kept_away_only_while_a_network_is_timed():
    """Preparing it takes longer than timing it."""
    setting = setting_here()
    small = architecture(BiReal(channels=32))
    inside = []

    @contextmanager
    def alone():
        inside.append(True)
        yield
        inside.append(False)

    class Watched(PackedNetwork):
        def __init__(self, *arguments, **options):
            assert not inside
            super().__init__(*arguments, **options)

        def step_seconds(self, images):
            counts[bool(inside) and inside[-1]] += 1
            return super().step_seconds(images)

    counts = {True: 0, False: 0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "PackedNetwork", Watched)
        time_layers(small, setting, repeats=3, patience_s=0.0, alone=alone)
        assert inside == [True, False]
        assert counts == {False: 1, True: 5}
        inside.clear()
        time_network(small, setting, repeats=2, alone=alone)
    assert inside == [True, False]


def test_a_network_is_timed_end_to_end():
    setting = setting_here(batch=2)
    found = time_network(architecture(BiReal(channels=32)), setting, repeats=3)
    assert 0 < found.low <= found.value <= found.high
    assert (found.method, found.repeats, found.hardware) == ("measured", 3, setting.place)
    assert "batch 2" in found.hardware


def test_nothing_is_interpolated():
    setting = LatencySetting(device="cpu", machine="m", kernels="k", versions="v")
    wanted = layers(BiReal(channels=32))
    table = LayerTable(setting, [LayerTime(wanted[0], Latency(1, 1, 1, 1, 2), 0.0)])
    with pytest.raises(MissingLayers, match=r"no time for \d+ of \d+ layers, the first: conv") as e:
        table.latency(wanted)
    assert e.value.layers == table.missing(wanted) == tuple(dict.fromkeys(wanted[1:]))


@pytest.mark.parametrize("space", sorted(spaces))
def test_every_space_has_layers(space):
    """Each sampled candidate's layers are those of its packed network, step by step."""
    task = Task(input=(3, 16, 16), classes=10, epochs=2)
    for seed in range(3):
        candidate = spaces[space](RandomChoose(f"layers:{seed}"), task)
        network = build(candidate.architecture).eval()
        kinds = [json.loads(text)["kind"] for text in layers_of(network.graph)[1:]]
        assert kinds == [step.group.kind for step in PackedNetwork(network)._steps]
