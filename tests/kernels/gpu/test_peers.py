"""Other libraries of the GPU benchmark, played by torch: no one is needed."""

import sys
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import Tensor

from bitfront.kernels.gpu.peers import Absent, Contender, OtherLibraries
from bitfront.kernels.gpu.roofline import (
    gemm_case,
)

CPU = torch.device("cpu")


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
