"""What a device says of itself, and the clock, without a device."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from bitfront.kernels.gpu import timing
from bitfront.kernels.gpu.device import driver_version, power_limit_w, versions

CPU = torch.device("cpu")


def library(name: str, **members: object) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(members)
    return module


def test_versions_name_what_is_absent(tmp_path: Path) -> None:
    found = versions()
    assert {"torch", "triton", "cuda", "driver", "gemlite", "bitblas", "python"} == set(found)
    assert found["torch"] == torch.__version__
    file = tmp_path / "version"
    assert driver_version(file) == "absent"
    file.write_text("NVRM version: NVIDIA Open Kernel Module x86_64  580.159.03  Release Build 1\n")
    assert driver_version(file) == "580.159.03"


class NVMLError(Exception):
    """As of NVIDIA's package."""


def test_the_power_limit_is_told_where_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert power_limit_w(CPU) is None
    properties = SimpleNamespace(uuid="123", L2_cache_size=50 << 20)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)

    def limit(handle: str) -> int:
        if handle != "GPU-123":
            raise NVMLError
        return 700_000

    nvml = library(
        "pynvml",
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetPowerManagementLimit=limit,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert power_limit_w(CPU) == 700.0
    properties.uuid = "124"
    assert power_limit_w(CPU) is None


def test_graphs_take_turns_and_calls_their_operands(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    now = [0.0]

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            self.at = 0.0

        def record(self, stream: object = None) -> None:
            self.at = now[0]

        def synchronize(self) -> None:
            pass

        def elapsed_time(self, end: "Event") -> float:
            return end.at - self.at

    class Graph:
        def __init__(self) -> None:
            self.calls: list[str] = []

        def replay(self) -> None:
            for call in self.calls:
                run(call)

    @contextmanager
    def record(graph: Graph, stream: object) -> Iterator[None]:
        assert stream is own
        before = len(log)
        time = now[0]
        yield
        graph.calls = log[before:]
        now[0] = time

    def run(name: str) -> None:
        log.append(name)
        now[0] += {"a": 0.5, "b": 0.01, "c": 0.03}[name]

    own = SimpleNamespace(synchronize=lambda: None)
    delays: list[int] = []
    cuda = SimpleNamespace(
        Event=Event,
        Stream=lambda: own,
        _sleep=delays.append,
        stream=lambda stream: nullcontext(),
        CUDAGraph=Graph,
        graph=record,
        synchronize=lambda: None,
    )
    monkeypatch.setattr(timing, "torch", SimpleNamespace(cuda=cuda))
    one, two = timing.timed([[partial(run, "a")], [partial(run, "b"), partial(run, "c")]], rounds=3)
    assert one["ms"] == pytest.approx(0.5)
    # the mean of both operands
    assert two["ms"] == pytest.approx(0.02)
    graph = ["a"] * 4 + ["b", "c"] * 100
    assert log[-3 * len(graph) :] == graph * 3
    # the host is not timed: once for each way's first call, then for each of its graphs
    assert delays == [timing.DELAY_CYCLES] * (2 + 3 * 2)
