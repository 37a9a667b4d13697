"""The autotuner and the benchmark's checks on real kernels in Triton's interpreter.

test_tuning.py runs this with the interpreter switched on. Times mean nothing there: what is shown
is that every candidate runs and is exact, that the fastest is chosen, that a table of it decides
how a product is computed, and that the checks before a benchmark pass.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter

import pytest
import torch
from torch import Tensor

from bitfront.kernels import CodeFormat, Conv2dGeometry
from bitfront.kernels.gpu import autotune, prepare_product
from bitfront.kernels.gpu.autotune import TunedProduct, candidates, keep_tuning, tune
from bitfront.kernels.gpu.exactness import check, check_packing
from bitfront.kernels.gpu.roofline import conv_case, gemm_case
from bitfront.kernels.gpu.timing import Calls
from bitfront.kernels.gpu.tuning import Choice, Tuning, read_table

CPU = torch.device("cpu")
CAPABILITY = 100
U2 = CodeFormat(bits=2, coding="unsigned")
S2 = CodeFormat(bits=2, coding="symmetric")


def matrix(rows: int, outputs: int, depth: int) -> Conv2dGeometry:
    return Conv2dGeometry.of(image=(1, 1, rows, depth), weight=(outputs, 1, 1, depth))


LAYER = Conv2dGeometry.of(image=(1, 2, 3, 40), weight=(32, 3, 1, 40), padding=(1, 0))
GROUPS = Conv2dGeometry.of(image=(1, 3, 3, 66), weight=(6, 1, 2, 33), stride=2, groups=2)
PRODUCTS = (
    TunedProduct(conv=matrix(3, 20, 100)),
    TunedProduct(conv=LAYER, kind="codes"),
    TunedProduct(conv=GROUPS, x_format=U2, w_format=S2, kind="floats"),
)


def by_the_clock(ways: Sequence[Calls]) -> list[dict[str, float]]:
    rows = []
    for calls in ways:
        start = perf_counter()
        for call in calls:
            call()
        rows.append({"ms": (perf_counter() - start) / len(calls) * 1e3})
    return rows


def test_every_candidate_is_exact_and_the_fastest_is_kept(tmp_path: Path) -> None:
    seen: list[list[float]] = []

    def timer(ways: Sequence[Calls]) -> list[dict[str, float]]:
        rows = by_the_clock(ways)
        seen.append([row["ms"] for row in rows])
        return rows

    one = partial(tune, device=CPU, capability=CAPABILITY, timer=timer, copies=2)
    path = tmp_path / "table.json"
    said = keep_tuning(path, "the interpreter", CAPABILITY, one, products=PRODUCTS)
    assert said["refused"] == said["inexact"] == {}
    assert said["skipped"] == []
    table = read_table(path)
    assert [row.case for row in table.rows] == [product.case for product in PRODUCTS]
    routes = set()
    for product, row, times, found in zip(PRODUCTS, table.rows, seen, said["found"], strict=True):
        ways = candidates(CAPABILITY, product, autotune.LEAST_SHARED_BYTES)
        routes |= {way.route for way in ways}
        assert len(times) == len(ways) == found["timed"] > 3
        assert row.choice == ways[times.index(min(times))]
        assert row.ms == min(times)
        assert found["default_ms"] == times[0]
    assert routes == {"popcount", "int8"}


def test_a_table_decides_how_a_product_is_computed(tmp_path: Path) -> None:
    product = PRODUCTS[0]
    *_, last = candidates(CAPABILITY, product, autotune.LEAST_SHARED_BYTES)

    def timer(ways: Sequence[Calls]) -> list[dict[str, float]]:
        return [{"ms": float(len(ways) - n)} for n in range(len(ways))]

    one = partial(tune, device=CPU, capability=CAPABILITY, timer=timer)
    keep_tuning(tmp_path / "table.json", "it", CAPABILITY, one, products=(product,))
    tuning = Tuning((read_table(tmp_path / "table.json"),))
    weight = autotune._weight(product, CPU)
    prepare = partial(prepare_product, product.conv, product.x_format, weight)
    plain, tuned = prepare(), prepare(tuning=tuning)
    assert (tuned.method, tuned.tile) == (last.route, last.tile)
    assert (plain.method, plain.tile) != (last.route, last.tile)
    x = autotune._codes((1, 1, 3), product, CPU)
    assert torch.equal(plain(x.words), tuned(x.words))
    # a method that is asked for is not overruled
    assert prepare(method="popcount", tuning=tuning).method == "popcount"
    with pytest.raises(TypeError, match="`tuning` must be a"):
        prepare(tuning=tuning.tables)


def test_what_is_wrong_or_refused_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    product = PRODUCTS[0]
    ways = candidates(CAPABILITY, product, autotune.LEAST_SHARED_BYTES)
    right = autotune.prepare_choice

    def prepare(*given: object, **named: object) -> Callable[[Tensor], Tensor]:
        ready = right(*given, **named)
        choice = next(each for each in given if isinstance(each, Choice))
        if choice == ways[1]:
            return lambda words: ready(words) + 1
        if choice == ways[2]:
            raise RuntimeError("out of resources")
        return ready

    monkeypatch.setattr(autotune, "prepare_choice", prepare)
    # the wrong one would be the fastest
    outcome = tune(product, CPU, capability=CAPABILITY, timer=by_the_clock)
    assert outcome.inexact == [str(ways[1])]
    assert outcome.refused == {str(ways[2]): "RuntimeError: out of resources"}
    assert outcome.timed == len(ways) - 2
    assert outcome.row.choice not in ways[1:3]


def test_a_default_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(*given: object, **named: object) -> Callable[[Tensor], Tensor]:
        raise RuntimeError("no device")

    monkeypatch.setattr(autotune, "prepare_choice", prepare)
    with pytest.raises(RuntimeError, match="no device"):
        tune(PRODUCTS[0], CPU, capability=CAPABILITY, timer=by_the_clock)


def test_the_checks_of_the_benchmark_pass_with_every_finish() -> None:
    case = gemm_case(5, 33, 70)
    assert check(case, CPU, every=True, has_tensor_cores=False) == 8 * 2
    assert check(conv_case(33, 3, 1), CPU, has_tensor_cores=False) == 2 * 2
    assert check_packing(CPU) == 9


if __name__ == "__main__":
    sys.exit(
        pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--noconftest", __file__])
    )
