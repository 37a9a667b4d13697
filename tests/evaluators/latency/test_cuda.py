"""What a GPU's timing can be without one: its settings, its refusals, and when it times again."""

import os
import subprocess
import sys
from contextlib import nullcontext
from importlib.util import find_spec

import pytest
import torch

from bitfront.evaluators.latency import cuda, take_turns, twin
from bitfront.evaluators.latency.cuda import (
    CudaClock,
    cuda_versions,
    require_usable,
    setting_of,
)
from bitfront.evaluators.latency.inference import time_inference
from bitfront.evaluators.latency.measure import clock_of, setting_here
from bitfront.evaluators.latency.twin import INDUCTOR, bfloat16, compiled, cuda_twins
from bitfront.evaluators.packed import cuda_graphs
from bitfront.spaces import Architecture, Stage, build
from bitfront.spaces.blocks import BiReal, Classifier, StemThumbnail
from bitfront.spaces.errors import InvalidValue

SMALL = Architecture(
    input=(3, 8, 8),
    stem=StemThumbnail(channels=32),
    stages=(Stage(blocks=(BiReal(channels=32),)),),
    head=Classifier(classes=5),
)


def test_the_setting_of_a_device():
    used = {"python": "3.12", "bitfront": "1", "torch": "2.13.0", "triton": "3.7.1", "CUDA": "13.0"}
    found = setting_of("NVIDIA H200", (9, 0), used, batch=32)
    assert (found.device, found.machine, found.threads) == ("cuda", "NVIDIA H200", 1)
    assert found.kernels == "Triton, sm_90"
    assert found.versions == "bitfront 1, torch 2.13.0, triton 3.7.1, CUDA 13.0"
    assert found.place == "NVIDIA H200, Triton, sm_90, batch 32"
    with pytest.raises(InvalidValue, match="threads must be 1 on the device cuda"):
        setting_of("NVIDIA H200", (9, 0), used, threads=4)


@pytest.mark.parametrize(
    ("name", "capability", "has_triton", "match"),
    [
        ("", None, True, r"needs a CUDA device of compute capability 8.0 or higher.*finds none"),
        ("Tesla T4", (7, 5), True, r"capability 8.0 or higher, but Tesla T4 has 7.5: use the"),
        ("NVIDIA H200", (9, 0), False, r"on NVIDIA H200 needs Triton, .*bitfront\[gpu\]"),
    ],
)
def test_devices_that_are_refused(name, capability, has_triton, match):
    with pytest.raises(InvalidValue, match=match):
        require_usable(name, capability, has_triton=has_triton)


def test_devices_that_are_accepted():
    for capability in ((8, 0), (9, 0), (10, 0)):
        require_usable("a GPU", capability, has_triton=True)


@pytest.mark.parametrize(
    "call",
    [
        lambda: setting_here("cuda"),
        lambda: time_inference(SMALL, device="cuda"),
        lambda: cuda_twins(SMALL, batch=1),
    ],
)
def test_a_machine_without_a_gpu_says_so(call, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InvalidValue, match="use the device cpu, or name a layer table"):
        call()


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
def test_other_tilings_are_other_versions(monkeypatch):
    from bitfront.kernels.gpu import tuning

    name = "a GPU that nobody has"
    plain = cuda_versions(name)
    assert plain.keys() == {"python", "bitfront", "torch", "triton", "CUDA"}
    texts = {"one": "first", "two": "second"}
    monkeypatch.setattr(tuning, "table_text", texts.__getitem__)
    seen = []
    for tables in (["one"], ["two"], ["one", "two"]):
        known = type("Tuning", (), {"tables": tables})
        monkeypatch.setattr(tuning, "known_tuning", lambda device, known=known: known)
        found = cuda_versions(name)
        assert found.items() > plain.items()
        assert f"tuning {found['tuning']}" in setting_of(name, (9, 0), found).versions
        seen.append(found["tuning"])
    assert len(set(seen)) == 3

    def broken(device):
        raise ValueError("The tuning is of another device.")

    monkeypatch.setattr(tuning, "known_tuning", broken)
    with pytest.raises(InvalidValue, match="of another device"):
        cuda_versions(name)


def test_devices_have_their_clocks():
    assert isinstance(clock_of("cuda", 1), CudaClock)
    assert clock_of("cpu", 2).name == "wall clock"
    with pytest.raises(InvalidValue, match="device must be one of cpu, cuda"):
        setting_here("tpu")


INTERPRETED = """
import torch
from bitfront.evaluators.latency import LatencySetting, layers_of, measure
from bitfront.evaluators.packed import PackedNetwork
from bitfront.evaluators.packed.gpu_kernels import GpuKernels
from bitfront.spaces import Architecture, Stage
from bitfront.spaces.blocks import BiReal, Classifier, Dense, Improvement, StemThumbnail

network = Architecture(
    input=(3, 6, 6),
    stem=StemThumbnail(channels=32),
    stages=(Stage(blocks=(Dense(growth=32), Improvement(growth=32))),),
    head=Classifier(classes=5),
)
kernels = GpuKernels(torch.device("cpu"))
setting = LatencySetting(device="cpu", machine="none", kernels=kernels.name, versions="none")
measure.PackedNetwork = lambda network, **_: PackedNetwork(network, kernels=kernels)
times = measure.time_layers(network, setting, repeats=2, patience_s=0.0)
assert [time.layer for time in times] == list(dict.fromkeys(layers_of(network.lower())))
assert measure.time_network(network, setting, repeats=2, patience_s=0.0).repeats == 2
"""


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
def test_the_steps_on_the_gpu_kernels_are_the_layers():
    """In Triton's interpreter, whose times say nothing and are thrown away."""
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, "-c", INTERPRETED], env=environment, check=True)


class ScriptedWatch:
    """A stopwatch of a device that does not exist: it tells what a script says."""

    script: list
    log: list

    def __init__(self, delay, waits):
        assert waits
        self.log.append("delay")

    def mark(self):
        self.log.append("mark")

    def seconds(self):
        return self.script.pop(0)


def test_a_call_that_the_host_queued_too_late_is_made_again(monkeypatch):
    watch = type("Watch", (ScriptedWatch,), {"script": [None, None, [0.004]], "log": []})
    monkeypatch.setattr(cuda, "EventStopwatch", watch)
    clock = CudaClock()
    rows, late = clock.runs(
        lambda: clock.seconds(lambda: watch.log.append("call")), 1, patience_s=0.0
    )
    assert (rows, late) == ([0.004], 2)
    # a call before the delay fills the caches; the timed one is between the marks
    assert watch.log == ["call", "delay", "mark", "call", "mark"] * 3


def test_late_calls_are_told_and_all_runs_count(monkeypatch):
    script = [[9.0], [9.0], [0.001], None, [0.003], [0.002]]
    watch = type("Watch", (ScriptedWatch,), {"script": script, "log": []})
    monkeypatch.setattr(cuda, "EventStopwatch", watch)
    monkeypatch.setattr(CudaClock, "warm_up_s", 0.0)
    found = take_turns({"a": lambda: None}, CudaClock(), repeats=3)["a"]
    assert (found.median_ms, found.min_ms) == (pytest.approx(2), pytest.approx(1))
    assert (found.repeats, found.redone) == (3, 1)


def test_a_delay_is_not_lengthened_for_ever():
    delay = cuda_graphs.Delay()
    while delay.lengthen():
        pass
    assert not delay.lengthen()


@pytest.mark.parametrize("ends", [True, False])
def test_a_capture_that_fails_leaves_the_stream_as_it_was(ends, monkeypatch):
    """With the rules of torch's own context, which ends a capture first and then its stream."""
    streams = ["before"]

    class Stream(list):
        def wait_stream(self, other):
            pass

    class Graph:
        def __init__(self, graph, stream):
            # made under the device of the call, unlike torch's own
            assert isinstance(stream, Stream)

        def __enter__(self):
            streams.append("capture")

        def __exit__(self, *args):
            if not ends:
                raise RuntimeError("operation failed due to a previous error during capture")
            streams.pop()

    def call(x):
        if streams[-1] == "capture":
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        return x

    for name, made in (
        ("Stream", Stream),
        ("current_stream", lambda: Stream([streams[-1]])),
        ("set_stream", lambda stream: streams.append(stream[0])),
        ("stream", lambda stream: nullcontext()),
        ("CUDAGraph", object),
        ("graph", Graph),
    ):
        monkeypatch.setattr(torch.cuda, name, made)
    with pytest.warns(RuntimeWarning, match="on its own: operation not permitted .*capturing$"):
        assert cuda_graphs.captured(call, torch.zeros(1, 3, 4, 4)) is None
    assert streams[-1] == "before"


def test_the_twin_runs_in_bfloat16():
    network = bfloat16(build(SMALL.twin()).eval())
    images = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        expected = build(SMALL.twin()).eval()(images)
        found = network(images.bfloat16().contiguous(memory_format=torch.channels_last))
    assert found.dtype == torch.bfloat16
    assert torch.allclose(found.float(), expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("wrong", [lambda y: y, lambda y: y * 1.5, lambda y: y * torch.nan])
def test_a_twin_with_other_logits_takes_no_part(wrong, monkeypatch):
    monkeypatch.setattr(twin, "captured", lambda call, images: call)
    images = torch.randn(2, 3)
    found = twin._graph("torch", lambda x: wrong(x * 2).bfloat16(), images, images * 2)
    if wrong(1) == 1:
        assert found.call is not None
        assert found.absent == ""
    else:
        assert found.call is None
        assert "its logits have a relative error of" in found.absent


@pytest.mark.slow
def test_the_twin_compiles_as_a_whole():
    """By the options that are used on a GPU; which kernels they give is another matter there."""
    assert INDUCTOR["freezing"]
    network = bfloat16(build(SMALL.twin()).eval())
    images = torch.randn(1, 3, 8, 8).bfloat16().contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        expected = network(images)
        found = compiled(network)(images)
    assert torch.allclose(found.float(), expected.float(), rtol=0.05, atol=0.05)
