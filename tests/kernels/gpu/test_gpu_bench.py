"""The benchmark of a day with a GPU: its arithmetic, and its calls on a machine without one."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from bitfront.cli import app
from bitfront.kernels.finish import Finish, finished
from bitfront.kernels.geometry import Conv2dGeometry
from bitfront.kernels.gpu import autotune, bench, exactness, tensor_core_product, timing
from bitfront.kernels.gpu.comparing import Bounds
from bitfront.kernels.gpu.device import DeviceFacts
from bitfront.kernels.gpu.emulation import emulate
from bitfront.kernels.gpu.peers import Absent, Contender, OtherLibraries
from bitfront.kernels.gpu.report import draw
from bitfront.kernels.gpu.roofline import (
    GOALS,
    GpuCase,
    Limits,
    conv_case,
    gemm_case,
)
from bitfront.kernels.gpu.timing import Calls
from bitfront.kernels.gpu.tuning import read_table
from bitfront.kernels.gpu.weight import GpuWeight
from bitfront.kernels.layout import PackedBits
from bitfront.kernels.packing import pack, pack_bits
from bitfront.kernels.reference import xnor_conv2d
from bitfront.spaces.errors import InvalidValue


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


H200 = Limits(multiprocessors=132, clock_hz=1.755e9, bytes_per_s=4.3e12)


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


@pytest.mark.usefixtures("faked")
def test_a_case_that_fails_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right, wrong = gemm_case(70, 40, 100), conv_case(33, 4, 1)
    path, kept, begun = tmp_path / "gpu.json", [], bench.contenders

    def contenders(case: GpuCase, *given: Any, **named: Any) -> Any:
        if path.exists():
            kept.append([row["name"] for row in json.loads(path.read_text("utf-8"))["cases"]])
        if case == wrong:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return begun(case, *given, **named)

    run = bench.run
    monkeypatch.setattr(bench, "contenders", contenders)
    monkeypatch.setattr(bench, "run", lambda **named: run((right, wrong, right), **named))
    assert bench.main(["--output", str(path)]) == 1
    # what was measured is in the file before the next case begins
    assert kept == [[right.name], [right.name]]
    result = json.loads(path.read_text("utf-8"))
    assert [row["name"] for row in result["cases"]] == [right.name, right.name]
    assert "illegal memory access" in result["failed"][wrong.name]
    assert "illegal memory access" in capsys.readouterr().err


def test_all_that_is_wrong_is_told_at_once() -> None:
    def inexact() -> int:
        raise exactness.InexactKernel("gemm: sums must equal the reference, but do not.")

    def failing() -> int:
        raise RuntimeError("no kernel image")

    checks = {"a": lambda: 3, "b": inexact, "c": failing}
    begun: list[str] = []
    with pytest.raises(exactness.InexactKernel) as told:
        exactness.all_checked(checks, begun.append)
    assert str(told.value).splitlines() == [
        "gemm: sums must equal the reference, but do not.",
        "c: RuntimeError: no kernel image",
    ]
    assert begun == ["exactness: a", "exactness: b", "exactness: c"]
    assert exactness.all_checked({"a": lambda: 3}, begun.append) == {"a": 3}


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
    monkeypatch.setattr(bench, "run", partial(bench.run, (gemm_case(70, 40, 100),)))
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

    def broken(*operands: object, **options: object) -> None:
        raise RuntimeError("an illegal address")

    monkeypatch.setattr(bench, "contenders", broken)
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 1
    assert "70x40x100 failed: RuntimeError: an illegal address" in " ".join(shown.output.split())


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
