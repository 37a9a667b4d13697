"""The benchmark of a day with a GPU: its arithmetic, and its calls on a machine without one."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from bitfront.kernels.geometry import Conv2dGeometry
from bitfront.kernels.gpu import bench, tensor_core_product
from bitfront.kernels.gpu.emulation import emulate
from bitfront.kernels.gpu.finish import Finish, finished
from bitfront.kernels.gpu.roofline import (
    CASES,
    GpuCase,
    Limits,
    conv_case,
    gemm_case,
    ratios,
)
from bitfront.kernels.gpu.weight import GpuWeight
from bitfront.kernels.layout import PackedBits
from bitfront.kernels.reference import xnor_conv2d


def test_work_and_bytes_of_a_case() -> None:
    matrix = gemm_case(8, 4096, 1000)
    assert matrix.name == "gemm 8x4096x1000"
    assert matrix.is_matrix
    assert matrix.macs == 8 * 4096 * 1000
    # 1000 bits are 32 words
    assert matrix.bytes(1, 32) == (8 + 4096) * 128 + 8 * 4096 * 4
    assert matrix.bytes(16, 16) == (8 + 4096) * 2000 + 8 * 4096 * 2
    conv = conv_case(64, 56, 256)
    assert conv.name == "conv3x3 64x56x56 b256"
    assert not conv.is_matrix
    pixels = 256 * 56 * 56
    assert conv.macs == pixels * 64 * 64 * 9
    assert conv.bytes(1, 1) == pixels * 8 + 64 * 9 * 8 + pixels * 8
    assert conv.bytes(8, 32) == pixels * 64 + 64 * 9 * 64 + pixels * 64 * 4


def test_the_cases_are_those_of_the_goals() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names) == 12
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
    ]
    assert ratios(rows) == {"bf16 / b1": 4.0}


@pytest.mark.skipif(torch.cuda.is_available(), reason="it would run")
def test_without_a_device_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main([]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "needs a CUDA device" in printed.err
    assert "Traceback" not in printed.err


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
        method: str,
        fill: int = 0,
        finish: Finish | None = None,
    ) -> Callable[[Tensor], Tensor]:
        source = weight.source
        assert isinstance(source, PackedBits)

        def product(words: Tensor) -> Tensor:
            x = PackedBits(
                words=words[0], channels=conv.channels, popcount=torch.zeros_like(words[0, ..., 0])
            )
            return finished(xnor_conv2d(x, source, padding=conv.padding, fill=-1), finish)

        return product

    monkeypatch.setattr(bench, "DEVICE", "cpu")
    monkeypatch.setattr(bench, "launch", launch)
    monkeypatch.setattr(bench, "prepare_triton_product", prepare)
    monkeypatch.setattr(tensor_core_product, "launch", launch)


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("case", [gemm_case(5, 33, 70), conv_case(33, 4, 1)], ids=repr)
def test_kernels_are_checked(case: GpuCase, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(bench.check(case)) == 13
    assert len(bench.check_planes(case)) == 4
    right = bench.expected_sums
    monkeypatch.setattr(bench, "expected_sums", lambda *given: right(*given) + 1)
    with pytest.raises(bench.InexactKernel, match="must equal the reference"):
        bench.check(case)
    monkeypatch.setattr(bench.reference, "bitserial_conv2d", lambda *_, **__: torch.zeros(1))
    with pytest.raises(bench.InexactKernel, match="zeros outside"):
        bench.check_planes(case)


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("case", [gemm_case(70, 40, 100), gemm_case(3, 40, 100)], ids=repr)
def test_every_contender_computes_the_product(case: GpuCase) -> None:
    expected = bench.expected_sums(case, *bench.operands(case, 2)).flatten(0, 2)
    ways = list(bench.contenders(case))
    assert {"bf16", "1-bit"} <= {way.precision for way in ways}
    for way in ways:
        result = way.call()
        if way.precision == "1-bit":
            assert isinstance(result, Tensor)
            assert torch.equal(result.reshape(expected.shape), expected)


@pytest.mark.usefixtures("emulated")
def test_the_xor_peer_gives_the_same() -> None:
    case = gemm_case(70, 40, 512)
    x, w = bench.operands(case, 2)
    kept = []
    launched = bench.launch

    def launch(kernel: Any, count: int, arguments: dict[str, Any], warps: int) -> None:
        launched(kernel, count, arguments, warps)
        kept.append(arguments["out_ptr"])

    for way in bench.contenders(case):
        if way.precision == "XOR":
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(bench, "launch", launch)
                way.call()
    assert len(kept) == 2
    for out in kept:
        assert torch.equal(out, bench.expected_sums(case, x, w)[0, 0])


@pytest.mark.usefixtures("emulated")
def test_a_layer_of_the_benchmark_stays_packed() -> None:
    ways = list(bench.contenders(conv_case(33, 4, 1)))
    results = [way.call() for way in ways if way.precision == "1-bit"]
    assert len(results) == 2
    for result in results:
        assert isinstance(result, PackedBits)
        assert torch.equal(result.words, results[0].words)
