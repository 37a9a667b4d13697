"""The benchmark of a day with a GPU: its arithmetic, and its calls on a machine without one."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from bitfront.cli import app
from bitfront.kernels.finish import Finish, finished
from bitfront.kernels.geometry import Conv2dGeometry
from bitfront.kernels.gpu import autotune, bench, exactness, tensor_core_product, timing
from bitfront.kernels.gpu.comparing import Bounds
from bitfront.kernels.gpu.device import DeviceFacts, driver_version, power_limit_w, versions
from bitfront.kernels.gpu.emulation import emulate
from bitfront.kernels.gpu.peers import Absent, Contender, OtherLibraries
from bitfront.kernels.gpu.report import draw
from bitfront.kernels.gpu.roofline import (
    CASES,
    GOALS,
    Goal,
    GpuCase,
    Limits,
    conv_case,
    gemm_case,
    ratios,
)
from bitfront.kernels.gpu.timing import Calls
from bitfront.kernels.gpu.tuning import read_table
from bitfront.kernels.gpu.weight import GpuWeight
from bitfront.kernels.layout import PackedBits
from bitfront.kernels.packing import pack, pack_bits
from bitfront.kernels.reference import xnor_conv2d
from bitfront.spaces.errors import InvalidValue


def test_work_and_bytes_of_a_case() -> None:
    matrix = gemm_case(8, 4096, 1000)
    assert matrix.name == "gemm 8x4096x1000"
    assert matrix.is_matrix
    assert matrix.macs == 8 * 4096 * 1000
    # 1000 bits are 32 words
    assert matrix.bytes(1, 32) == (8 + 4096) * 128 + 8 * 4096 * 4
    assert matrix.bytes(16, 16) == (8 + 4096) * 2000 + 8 * 4096 * 2
    assert matrix.bytes(8, 32, weight_bits=1) == 8 * 1000 + 4096 * 128 + 8 * 4096 * 4
    conv = conv_case(64, 56, 256)
    assert conv.name == "conv3x3 64x56x56 b256"
    assert not conv.is_matrix
    pixels = 256 * 56 * 56
    assert conv.macs == pixels * 64 * 64 * 9
    assert conv.bytes(1, 1) == pixels * 8 + 64 * 9 * 8 + pixels * 8
    assert conv.bytes(8, 32) == pixels * 64 + 64 * 9 * 64 + pixels * 64 * 4


def test_the_cases_are_those_of_the_goals() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names) == 13
    assert {name for goal in GOALS for name in goal.cases} == set(names)
    assert {"gemm 8192x8192x8192", "conv3x3 512x7x7 b256", "gemm 1x16384x16384"} <= set(names)


def test_limits_of_an_h200() -> None:
    h200 = Limits(multiprocessors=132, clock_hz=1.755e9, bytes_per_s=4.3e12)
    assert h200.popcount_macs_per_s == pytest.approx(119e12, rel=0.01)
    assert h200.binary_macs_per_s == pytest.approx(4100e12, rel=0.01)
    square = gemm_case(4096, 4096, 4096)
    rate = h200.binary_macs_per_s
    assert h200.least_ms(square.macs, rate, square.bytes(1, 1)) == square.macs / rate * 1e3
    vector = gemm_case(1, 4096, 4096)
    assert h200.least_ms(vector.macs, rate, vector.bytes(1, 32)) == pytest.approx(
        vector.bytes(1, 32) / 4.3e12 * 1e3
    )


def test_ratios_are_to_the_fastest_peer_of_a_precision() -> None:
    rows = [
        {"name": "cuBLAS", "precision": "bf16", "ms": 8.0},
        {"name": "other", "precision": "bf16", "ms": 6.0},
        {"name": "b1", "precision": "1-bit", "ms": 1.5},
        {"name": "b1, XOR", "precision": "XOR", "ms": 3.0},
        {"name": "BitBLAS", "precision": "W1A8", "ms": None},
    ]
    assert ratios(rows) == {"bf16 / b1": 4.0, "XOR / b1": 2.0}


def ran(name: str, **ms: float | None) -> dict[str, Any]:
    precisions = {"ours": "1-bit", "slower": "1-bit", "peer": "bf16", "better": "bf16"}
    rows = [{"name": key, "precision": precisions[key], "ms": value} for key, value in ms.items()]
    return {"name": name, "contenders": rows}


def test_a_goal_is_met_in_the_worst_of_its_cases() -> None:
    goal = Goal(name="fast", cases=("a", "b"), peer="bf16", target=5.0)
    good = ran("a", ours=1.0, slower=9.0, peer=8.0, better=7.0)
    outcome = goal.outcome([good, ran("b", ours=2.0, peer=10.0), ran("c", ours=1.0, peer=1.0)])
    assert outcome == {
        "name": "fast",
        "cases": ["a", "b"],
        "target": 5.0,
        "value": 5.0,
        "met": True,
    }
    assert goal.outcome([good, ran("b", ours=2.1, peer=10.0)])["met"] is False
    # what was skipped, or had no peer, is neither met nor missed
    for other in ([], [ran("b", ours=2.0)], [ran("b", ours=2.0, peer=None)], [ran("b", peer=1.0)]):
        outcome = goal.outcome([good, *other])
        assert outcome["value"] is outcome["met"] is None


def test_a_goal_may_be_a_share_of_the_popcount_limit() -> None:
    goal = next(goal for goal in GOALS if not goal.peer)
    rows = [
        {"name": "popcount", "precision": "1-bit", "ms": 1.0, "share_of_limit": 0.75},
        {"name": "b1", "precision": "1-bit", "ms": 0.5, "share_of_limit": 0.1},
    ]
    outcome = goal.outcome([{"name": goal.cases[0], "contenders": rows}])
    assert (outcome["value"], outcome["met"]) == (0.75, True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="it would run")
def test_without_a_device_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main([]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "needs a CUDA device" in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="it would run")
def test_it_runs_from_a_plain_checkout_with_torch_triton_and_numpy_alone(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    (tmp_path / "bitfront").mkdir()
    # as the module's docstring says
    for part in ("kernels", "src/bitfront/__init__.py"):
        (tmp_path / "bitfront" / Path(part).name).symlink_to(root / part)
        assert f'"$PWD/{part}"' in str(bench.__doc__)
    others = "optuna ray sqlalchemy alembic dash plotly typer rich onnx onnxruntime sklearn psutil"
    code = (
        f"import sys\nfor name in {others.split()}: sys.modules[name] = None\n"
        "import bitfront\nprint(bitfront.__file__)\nimport runpy\n"
        "runpy.run_module('bitfront.kernels.gpu.bench', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error::ImportWarning", "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout.strip() == str(tmp_path / "bitfront" / "__init__.py")
    assert "needs a CUDA device" in done.stderr
    assert done.stderr.count("\n") == 1


CPU = torch.device("cpu")


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, kernels by numpy, those of Triton by the reference."""

    def launch(kernel: Any, count: int, arguments: dict[str, Any], warps: int) -> None:
        emulate(kernel, count, arguments)

    def prepare(
        conv: Conv2dGeometry,
        format: object,
        weight: GpuWeight,
        *,
        method: str = "popcount",
        fill: int = 0,
        finish: Finish | None = None,
    ) -> Callable[..., Tensor]:
        source = weight.source
        assert isinstance(source, PackedBits)

        def product(words: Tensor, out: Tensor | None = None) -> Tensor:
            x = PackedBits(
                words=words[0], channels=conv.channels, popcount=torch.zeros_like(words[0, ..., 0])
            )
            made = finished(xnor_conv2d(x, source, padding=conv.padding, fill=-1), finish)
            return made if out is None else out.add_(made)

        return product

    monkeypatch.setattr(bench, "launch", launch)
    for module in (bench, exactness):
        monkeypatch.setattr(module, "prepare_triton_product", prepare)
    monkeypatch.setattr(bench, "prepare_product", prepare)
    monkeypatch.setattr(tensor_core_product, "launch", launch)


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("case", [gemm_case(5, 33, 70), conv_case(33, 4, 1)], ids=repr)
def test_kernels_are_checked(case: GpuCase, monkeypatch: pytest.MonkeyPatch) -> None:
    assert exactness.check(case, CPU) == 2 * 4 + 1
    assert exactness.check(case, CPU, every=True) == 8 * 4 + 1
    assert exactness.check_planes(case, CPU) == 4
    right = exactness.expected_sums
    monkeypatch.setattr(exactness, "expected_sums", lambda *given: right(*given) + 1)
    with pytest.raises(exactness.InexactKernel, match="must equal the reference"):
        exactness.check(case, CPU)
    monkeypatch.setattr(exactness.reference, "bitserial_conv2d", lambda *_, **__: torch.zeros(1))
    with pytest.raises(exactness.InexactKernel, match="zeros outside"):
        exactness.check_planes(case, CPU)


def test_packers_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exactness, "gpu_pack", pack)

    def compared(x: Tensor, bounds: Bounds) -> Tensor:
        codes = torch.full(x.shape, bounds.start)
        for value, flip, change in zip(bounds.values, bounds.flips, bounds.changes, strict=True):
            codes = torch.where((x >= value) != flip, codes ^ change, codes)
        return torch.stack([pack_bits((codes >> q & 1) != 0) for q in range(bounds.planes)])

    monkeypatch.setattr(exactness, "pack_compared", compared)
    assert exactness.check_packing(CPU) == 9
    monkeypatch.setattr(exactness, "pack_compared", lambda *given: ~compared(*given))
    with pytest.raises(exactness.InexactKernel, match="codes must equal the reference"):
        exactness.check_packing(CPU)


def ways_of(case: GpuCase, cache_bytes: int = 0) -> list[Contender | Absent]:
    return list(bench.contenders(case, CPU, OtherLibraries(CPU), cache_bytes=cache_bytes))


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("case", [gemm_case(70, 40, 100), gemm_case(3, 40, 100)], ids=repr)
def test_every_contender_computes_the_product(case: GpuCase) -> None:
    expected = exactness.expected_sums(case, *exactness.operands(case, 2, CPU)).flatten(0, 2)
    is_small = case.conv.rows == 3
    # the weight is 40 rows of 16 words
    ways = ways_of(case, cache_bytes=4000)
    assert {"bf16", "1-bit"} <= {way.precision for way in ways}
    ours = [way for way in ways if isinstance(way, Contender) and way.precision == "1-bit"]
    assert {"as dispatched", "popcount" if is_small else "unpacked to int8"} < {
        way.name for way in ours
    }
    for way in ours:
        # copies are twice as large as the cache, where the weight is what is read
        assert len(way.calls) == (4 if is_small else 1)
        for call in way.calls:
            result = call()
            assert isinstance(result, Tensor)
            assert torch.equal(result.reshape(expected.shape), expected)


@pytest.mark.usefixtures("emulated")
def test_without_1_bit_tensor_cores_the_other_kernels_are_checked_and_measured() -> None:
    for case in (gemm_case(70, 40, 100), conv_case(33, 4, 1)):
        assert exactness.check(case, CPU, has_tensor_cores=False) == 2 * 2
        ways = bench.contenders(
            case, CPU, OtherLibraries(CPU), cache_bytes=0, has_tensor_cores=False
        )
        names = {way.name for way in ways if way.precision in ("1-bit", "XOR")}
        others = {"unpacked to int8"} if case.is_matrix else set()
        assert names == {"as dispatched"} | others


@pytest.mark.usefixtures("emulated")
def test_the_xor_peer_gives_the_same() -> None:
    case = gemm_case(70, 40, 512)
    x, w = exactness.operands(case, 2, CPU)
    kept = []
    launched = bench.launch

    def launch(kernel: Any, count: int, arguments: dict[str, Any], warps: int) -> None:
        launched(kernel, count, arguments, warps)
        kept.append(arguments["out_ptr"])

    for way in ways_of(case):
        if isinstance(way, Contender) and way.precision == "XOR":
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(bench, "launch", launch)
                way.calls[0]()
    assert len(kept) == 4
    for out in kept:
        assert torch.equal(out, exactness.expected_sums(case, x, w)[0, 0])


@pytest.mark.usefixtures("emulated")
def test_a_layer_of_the_benchmark_stays_packed() -> None:
    case = conv_case(33, 4, 1)
    ways = [way for way in ways_of(case) if isinstance(way, Contender)]
    results = [way.calls[0]() for way in ways if way.precision == "1-bit"]
    assert len(results) == 3
    sums = exactness.expected_sums(case, *exactness.operands(case, 2, CPU))
    words = finished(sums, exactness.threshold_of(33, CPU))
    for result in results:
        made = result.words if isinstance(result, PackedBits) else result
        assert torch.equal(made, words)


def library(name: str, **members: object) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(members)
    return module


class OneBitPacker:
    """GemLite's calls, computed with torch."""

    def __init__(self, device: str, dtype: torch.dtype) -> None:
        assert (device, dtype) == ("cpu", torch.float16)

    def from_weights(
        self, bits: Tensor, scales: Tensor, zeros: Tensor
    ) -> Callable[[Tensor], Tensor]:
        assert bits.dtype == torch.uint8
        assert scales.shape == zeros.shape == (len(bits), 1)
        weight = (bits - zeros) * scales
        return lambda x: (x.float() @ weight.float().T).half()


class Matmul:
    """BitBLAS' calls, computed with torch."""

    def __init__(self, config: dict[str, object]) -> None:
        self.config = config
        assert (config["A_dtype"], config["W_dtype"]) == ("int8", "int1")

    def transform_weight(self, weight: Tensor) -> Tensor:
        assert weight.shape == (self.config["N"], self.config["K"])
        return weight

    def __call__(self, a: Tensor, weight: Tensor) -> Tensor:
        return torch._int_mm(a, weight.T)


def peers(libraries: OtherLibraries, turns: int = 1) -> list[Contender | Absent]:
    case = gemm_case(20, 32, 64)
    signs = [torch.ones(n, 64, dtype=torch.int8) for n in (20, 32)]
    signs[0][::3] = -1
    return list(libraries.contenders(case, signs[0], signs[1], lambda size: turns))


def test_other_libraries_take_part_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    helper = library("gemlite.helper", A16W1_HQQ_INT=OneBitPacker)
    monkeypatch.setitem(sys.modules, "gemlite", library("gemlite", helper=helper))
    monkeypatch.setitem(sys.modules, "gemlite.helper", helper)
    bitblas = library("bitblas", Matmul=Matmul, MatmulConfig=dict)
    monkeypatch.setitem(sys.modules, "bitblas", bitblas)
    ways = peers(OtherLibraries(CPU), turns=3)
    assert [(way.name, way.precision) for way in ways] == [
        ("GemLite", "W1A16"),
        ("BitBLAS", "W1A8"),
    ]
    for way in ways:
        assert isinstance(way, Contender)
        assert way.weight_bits == 1
        assert len(way.calls) == 3
    # a library that computes something else is not timed
    monkeypatch.setattr(Matmul, "__call__", lambda self, a, weight: torch._int_mm(a, -weight.T))
    monkeypatch.setattr(OneBitPacker, "from_weights", None)
    reasons = [way.reason for way in peers(OtherLibraries(CPU)) if isinstance(way, Absent)]
    assert "TypeError" in reasons[0]
    assert reasons[1] == "its result has a relative error of 2"


def test_a_library_that_is_missing_or_takes_too_long_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "gemlite", None)
    monkeypatch.setitem(
        sys.modules, "bitblas", library("bitblas", Matmul=Matmul, MatmulConfig=dict)
    )
    ticks = iter(range(0, 1000, 50))
    libraries = OtherLibraries(CPU, seconds=60, clock=lambda: float(next(ticks)))
    first, second = peers(libraries)
    assert isinstance(first, Absent)
    missing = first.reason
    assert missing.startswith("the package gemlite")
    assert missing.endswith("is not installed")
    assert isinstance(second, Contender)
    assert [way.reason for way in peers(libraries) if isinstance(way, Absent)] == [
        missing,
        "the time for other libraries was used up",
    ]


H200 = Limits(multiprocessors=132, clock_hz=1.755e9, bytes_per_s=4.3e12)


def result() -> dict[str, Any]:
    """Made up, for the plot alone: its times are no measurement."""
    case = gemm_case(4096, 4096, 4096)
    ways = [
        Contender("cuBLAS", "bf16", 16, 16, (int,)),
        Absent("BitBLAS", "W1A8", "the package bitblas is not installed"),
        Contender("<b1> & more", "1-bit", 1, 32, (int, int), "binary"),
    ]
    rows = [bench.measured(case, ways, H200, [{"ms": 0.2}, {"ms": 0.04}])]
    return {
        "device": "made up <device>",
        "date": "2026-01-31",
        "versions": {"torch": "0", "triton": "0"},
        "limits": bench.plain_limits(H200, rows),
        "cases": rows,
    }


def test_what_is_reported_of_a_case() -> None:
    made = result()
    first, absent, ours = made["cases"][0]["contenders"]
    macs = 4096**3
    assert first["macs_per_s"] == pytest.approx(macs / 0.2e-3)
    assert first["bytes"] == 3 * 4096 * 4096 * 2
    assert "roofline_ms" not in first
    assert absent["ms"] is None
    assert absent["absent"] == "the package bitblas is not installed"
    assert ours["copies"] == 2
    assert ours["share_of_limit"] == pytest.approx(macs / 0.04e-3 / H200.binary_macs_per_s)
    assert ours["share_of_roofline"] == ours["roofline_ms"] / 0.04
    assert made["cases"][0]["ratios"] == {"bf16 / <b1> & more": 5.0}
    assert made["limits"]["bf16_macs_per_s"] == first["macs_per_s"]


def test_the_plot_shows_points_below_roofs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = result()
    drawn = draw(made)
    root = ElementTree.fromstring(drawn)
    space = "{http://www.w3.org/2000/svg}"
    titles = [title.text for title in root.iter(f"{space}title")]
    assert titles == [
        "gemm 4096x4096x4096, bf16 cuBLAS: 0.2 ms",
        "gemm 4096x4096x4096, 1-bit <b1> & more: 0.04 ms",
    ]
    texts = [text.text or "" for text in root.iter(f"{space}text")]
    assert "Binary products on made up <device>" in texts
    for roof in ("1-bit tensor cores, 4100 T/s", "bf16, as measured, 344 T/s", "popcount, 119 T/s"):
        assert roof in texts
    assert "memory, 4.30 TB/s, as measured" in texts
    dots = [dot for dot in root.iter(f"{space}circle") if len(dot)]
    # more products a byte lie to the right, more a second higher
    (x1, y1), (x2, y2) = ((float(dot.get("cx", 0)), float(dot.get("cy", 0))) for dot in dots)
    assert x1 < x2
    assert y1 > y2
    kept, plot = tmp_path / "gpu.json", tmp_path / "gpu.svg"
    kept.write_text(json.dumps(made), encoding="utf-8")
    assert bench.main(["--read", str(kept), "--plot", str(plot)]) == 0
    assert plot.read_text(encoding="utf-8") == drawn
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "change",
    [
        {"cases": []},
        {"cases": 3},
        {"cases": [{"name": "a"}]},
        {"limits": {}},
        {"limits": {"bytes_per_s": 0}},
        {"versions": {}},
    ],
    ids=repr,
)
def test_what_is_no_result_is_not_drawn(
    change: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="The result must"):
        draw({**result(), **change})
    kept = tmp_path / "gpu.json"
    kept.write_text(json.dumps({**result(), **change}), encoding="utf-8")
    assert bench.main(["--read", str(kept), "--plot", str(tmp_path / "a.svg")]) == 1
    assert "The result must" in capsys.readouterr().err


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


def faked_times(ways: list[Calls], rounds: int = 0) -> list[dict[str, float]]:
    return [timing.spread([0.1 + n, 0.2 + n, 0.4 + n]) for n, calls in enumerate(ways)]


@pytest.fixture
def faked(emulated: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that is none: kernels are emulated, and times are made up."""
    facts = DeviceFacts(
        name="Fake 9000",
        capability=90,
        multiprocessors=132,
        clock_hz=1.98e9,
        shared_bytes=227 << 10,
        cache_bytes=4000,
    )
    monkeypatch.setattr(bench, "require_cuda", lambda: CPU)
    for module in (bench, autotune):
        monkeypatch.setattr(module, "device_facts", lambda device: facts)
    monkeypatch.setattr(bench, "device_limits", lambda facts, device: H200)
    monkeypatch.setattr(bench, "timed", faked_times)
    monkeypatch.setattr(bench, "power_limit_w", lambda device: 700.0)
    monkeypatch.setattr(bench, "check_packing", lambda device: 9)
    monkeypatch.setattr(bench, "THOROUGH", (gemm_case(5, 33, 70),))
    monkeypatch.setattr(bench, "ODD", (gemm_case(5, 33, 70), conv_case(33, 3, 1)))
    monkeypatch.setattr(bench, "WIDE", ())


@pytest.mark.usefixtures("faked")
def test_a_whole_run_is_plain_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = (gemm_case(70, 40, 100), gemm_case(3, 40, 100), conv_case(33, 4, 1))
    begun: list[str] = []
    made = bench.run(cases, progress=begun.append)
    assert json.loads(json.dumps(made)) == made
    assert begun[0].startswith("Fake 9000 (9.0) has 1-bit tensor cores: ")
    assert made["paths"] == begun[0]
    assert made["exact"] == {
        "gemm 5x33x70": 8 * 4 + 1 + 4,
        "conv3x3 33x3x3 b1": 2 * 4 + 1 + 4,
        "packing": 9,
    }
    assert [case["name"] for case in made["cases"]] == [case.name for case in cases]
    rows = made["cases"][1]["contenders"]
    assert {"GemLite", "BitBLAS"} == {row["name"] for row in rows if row["ms"] is None}
    assert all(goal["met"] is None for goal in made["goals"])
    assert len(made["goals"]) == len(GOALS)
    assert made["skipped"] == []
    assert made["power_limit_w"] == 700.0
    assert draw(made).startswith("<svg")
    # no case begins after its time
    monkeypatch.setattr(bench, "BUDGET_S", -1)
    assert bench.run(cases)["skipped"] == [case.name for case in cases]


def test_a_library_that_cannot_be_timed_does_not_end_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(ways: list[Calls]) -> list[dict[str, float]]:
        if any(float in calls for calls in ways):
            raise RuntimeError("operation not permitted when stream is capturing")
        return faked_times(ways)

    monkeypatch.setattr(bench, "timed", failing)
    ours = Contender("b1", "1-bit", 1, 32, (int,))
    missing = Absent("BitBLAS", "W1A8", "not installed")
    other = Contender("GemLite", "W1A16", 16, 16, (float,), is_optional=True)
    assert bench.timed_ways([ours, missing]) == ([ours, missing], faked_times([(int,)]))
    ways, times = bench.timed_ways([other, ours, missing])
    assert ways[1:] == [ours, missing]
    assert isinstance(ways[0], Absent)
    assert "RuntimeError: operation not permitted" in ways[0].reason
    assert times == faked_times([(int,)])
    with pytest.raises(RuntimeError, match="not permitted"):
        bench.timed_ways([ours, Contender("own", "1-bit", 1, 32, (float,))])


@pytest.mark.usefixtures("faked")
def test_the_command_line_shows_and_keeps_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = bench.run
    monkeypatch.setattr(bench, "run", lambda progress: run((gemm_case(70, 40, 100),), progress))
    kept, plot = tmp_path / "gpu.json", tmp_path / "gpu.svg"
    words = ["bench", "kernels", "--device", "cuda", "--to", str(kept), "--plot", str(plot)]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0, shown.output
    text = " ".join(shown.output.split())
    assert "1-bit as dispatched" in text
    assert "absent: W1A8 BitBLAS: the package bitblas is not installed" in text
    assert "goal: square products, bf16 / 1-bit, at least 5.0: not measured" in text
    assert json.loads(kept.read_text(encoding="utf-8"))["device"] == "Fake 9000"
    assert plot.read_text(encoding="utf-8").startswith("<svg")


@pytest.mark.usefixtures("faked")
def test_the_command_line_tunes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    product = autotune.TunedProduct(conv=gemm_case(300, 40, 100).conv)
    one = partial(autotune.tune, timer=faked_times)
    monkeypatch.setattr(autotune, "tune", one)
    tuner = autotune.tune_file

    def tune_file(path: Path, device: torch.device, **options: Any) -> dict[str, Any]:
        return tuner(path, device, **options, products=(product,))

    monkeypatch.setattr(bench, "tune_file", tune_file)
    path = tmp_path / "table.json"
    words = ["bench", "kernels", "--device", "cuda", "--tune", str(path)]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0, shown.output
    text = " ".join(shown.output.split())
    assert "fake-9000.json" in text.replace(" ", "")
    (row,) = read_table(path).rows
    assert (row.case, row.ms) == (product.case, 0.2)
    assert bench.main(["--tune", str(path)]) == 0
    path.write_text("{}", encoding="utf-8")
    assert isinstance(CliRunner().invoke(app, words).exception, InvalidValue)
    assert bench.main(["--tune", str(path)]) == 1


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
    def record(graph: Graph) -> Iterator[None]:
        before = len(log)
        time = now[0]
        yield
        graph.calls = log[before:]
        now[0] = time

    def run(name: str) -> None:
        log.append(name)
        now[0] += {"a": 0.5, "b": 0.01, "c": 0.03}[name]

    cuda = SimpleNamespace(
        Event=Event,
        Stream=lambda: SimpleNamespace(synchronize=lambda: None),
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
