"""How fast the GPU kernels are beside other libraries, in one run without attendance.

It needs a CUDA device, Python 3.11 or newer, torch, Triton and numpy; no network, and none of the
project's other packages. From a checkout that is not installed, two links make the package::

    mkdir -p /tmp/checkout/bitfront
    ln -sfn "$PWD/kernels" "$PWD/src/bitfront/__init__.py" /tmp/checkout/bitfront
    export PYTHONPATH=/tmp/checkout
    python3 -m bitfront.kernels.gpu.bench --output gpu.json --plot gpu.svg
    python3 -m bitfront.kernels.gpu.bench --tune tuning.json

Each takes less than ten minutes. Every kernel is checked for exactness on odd and on large shapes
before it is timed: a wrong kernel has no speed. Times are those of CUDA graphs, so a launch from
Python costs nothing. Products of few rows read another copy of the weights each time, so that they
come from memory; other operands stay in the caches where they fit.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, Final

import torch
from torch import Tensor

from bitfront.kernels.geometry import Conv2dGeometry
from bitfront.kernels.gpu.autotune import BUDGET_S as TUNE_S
from bitfront.kernels.gpu.autotune import tune_file
from bitfront.kernels.gpu.device import DeviceFacts, device_facts, power_limit_w, versions
from bitfront.kernels.gpu.dispatch import TENSOR_CORE_CAPABILITIES, describe, require_supported
from bitfront.kernels.gpu.exactness import (
    InexactKernel,
    all_checked,
    check,
    check_packing,
    check_planes,
    operands,
    threshold_of,
)
from bitfront.kernels.gpu.peers import Absent, Contender, OtherLibraries, torch_peers
from bitfront.kernels.gpu.prepare import capability_of, prepare_product
from bitfront.kernels.gpu.product import prepare_triton_product
from bitfront.kernels.gpu.report import draw
from bitfront.kernels.gpu.roofline import (
    CASES,
    GOALS,
    OURS,
    POPCOUNT,
    GpuCase,
    Limits,
    conv_case,
    gemm_case,
    ratios,
)
from bitfront.kernels.gpu.tensor_core_product import (
    LARGE,
    SQUARE,
    TensorCoreProduct,
    choose_tile,
    launch,
    prepare_tensor_core_product,
)
from bitfront.kernels.gpu.timing import COLD_ROWS, MOST_COPIES, ROUNDS, copies_of, timed
from bitfront.kernels.gpu.weight import GpuWeight, prepare_weight
from bitfront.kernels.layout import BINARY, PackedBits
from bitfront.kernels.packing import unpack_bits

BUDGET_S: Final = 480
"""Cases that would start later are named skipped."""

STAGES: Final = (0, 4)
"""Operands straight into registers, and through shared memory."""

THOROUGH: Final = (conv_case(33, 9, 3), gemm_case(67, 45, 1000))
"""Checked with every finish."""

ODD: Final = (*THOROUGH, conv_case(130, 9, 2), gemm_case(1, 1, 1), gemm_case(129, 257, 4097))
WIDE: Final = (conv_case(64, 56, 8), conv_case(512, 7, 8), gemm_case(2048, 4096, 8192))


class NoDevice(Exception):
    """There is nothing to measure."""


def contenders(
    case: GpuCase,
    device: torch.device,
    libraries: OtherLibraries,
    *,
    cache_bytes: int,
    has_tensor_cores: bool = True,
) -> Iterator[Contender | Absent]:
    """Peers and kernels of a case.

    Args:
        case: The product.
        device: Where it runs.
        libraries: The peers that torch does not bring.
        cache_bytes: Of the device's last cache.
        has_tensor_cores: Whether the device has 1-bit ones.
    """
    conv = case.conv
    # one of each where reading the weights is not what takes time
    turns = partial(copies_of, cache_bytes if conv.rows <= COLD_ROWS else 0)
    yield from torch_peers(case, device, turns)
    x, w = operands(case, 2, device)
    weight = prepare_weight(w)
    if not case.is_matrix:
        yield from _layers(conv, x, weight, has_tensor_cores)
        return
    a, b = (_signs(bits, conv.channels) for bits in (x, w))
    yield from libraries.contenders(case, a, b, turns)
    count = turns(weight.rows.numel() * 4)
    weights = [weight, *(replace(weight, rows=weight.rows.clone()) for _ in range(count - 1))]
    yield from _products(conv, x, weights, has_tensor_cores)


def _signs(bits: PackedBits, length: int) -> Tensor:
    """int8 [M, K] of -1 and 1."""
    return (2 * unpack_bits(bits.words, length) - 1).to(torch.int8).flatten(0, -2)


def _layers(
    conv: Conv2dGeometry, x: PackedBits, weight: GpuWeight, has_tensor_cores: bool
) -> Iterator[Contender]:
    """Convolutions with a batch norm and a sign, from packed maps to packed maps."""
    finish = threshold_of(conv.outputs, weight.rows.device)
    for stages in STAGES if has_tensor_cores else ():
        product = prepare_tensor_core_product(
            conv, BINARY, weight, fill=-1, finish=finish, stages=stages
        )
        name = f"b1 layer, {stages} stages"
        yield Contender(name, OURS, 1, 1, (partial(product.packed, x),), "binary")
    chosen = prepare_product(conv, BINARY, weight, fill=-1, finish=finish)
    call: Callable[[], object] = partial(chosen, x.words[None])
    if isinstance(chosen, TensorCoreProduct):
        call = partial(chosen.packed, x)
    yield Contender("as dispatched", OURS, 1, 1, (call,), _unit(chosen))


def _products(
    conv: Conv2dGeometry, x: PackedBits, weights: Sequence[GpuWeight], has_tensor_cores: bool
) -> Iterator[Contender]:
    """Matrix products with int32 results."""
    words, ones = x.words[None], x.popcount[None]
    weight = weights[0]
    if conv.rows <= COLD_ROWS:
        calls = [
            partial(prepare_triton_product(conv, BINARY, each, method="popcount"), words)
            for each in weights
        ]
        yield Contender(POPCOUNT, OURS, 1, 32, calls, "popcount")
    if has_tensor_cores:
        yield from _tensor_core_products(conv, words, ones, weights)
    if conv.rows > COLD_ROWS:
        int8 = prepare_triton_product(conv, BINARY, weight, method="int8")
        yield Contender("unpacked to int8", OURS, 1, 32, (partial(int8, words),))
    chosen = [prepare_product(conv, BINARY, each) for each in weights]
    given = (words, ones) if isinstance(chosen[0], TensorCoreProduct) else (words,)
    calls = [partial(product, *given) for product in chosen]
    yield Contender("as dispatched", OURS, 1, 32, calls, _unit(chosen[0]))


def _tensor_core_products(
    conv: Conv2dGeometry, words: Tensor, ones: Tensor, weights: Sequence[GpuWeight]
) -> Iterator[Contender]:
    """The tiles and ways to read operands that the dispatch chooses among, and a peer with XOR."""
    is_wide = conv.rows > COLD_ROWS
    for tile in (SQUARE, LARGE) if is_wide else (choose_tile(conv.rows, conv.outputs),):
        for stages in STAGES:
            products = [
                prepare_tensor_core_product(conv, BINARY, each, tile=tile, stages=stages)
                for each in weights
            ]
            name = f"b1 gemm {tile.rows}x{tile.columns}, {stages} stages"
            calls = [partial(product, words, ones) for product in products]
            yield Contender(name, OURS, 1, 32, calls, "binary")
            # where rows end on a whole step
            if is_wide and conv.channels % 512 == 0:
                call = _xor(products[0], words, ones)
                yield Contender(f"{name}, XOR", "XOR", 1, 32, (call,))


def _unit(product: object) -> str:
    """What bounds a product; int8 tensor cores have no rate here."""
    if isinstance(product, TensorCoreProduct):
        return "binary"
    return "popcount" if getattr(product, "method", "") == "popcount" else ""


def _xor(product: TensorCoreProduct, words: Tensor, ones: Tensor) -> Callable[[], object]:
    """The same kernel with XOR, as libraries for older devices have it."""
    conv, device = product.conv, words.device
    out = torch.empty(conv.rows, conv.outputs, dtype=torch.int32, device=device)
    kernel, count, arguments, warps = product.launch_arguments(words, ones[..., None], out)
    length = torch.full((conv.outputs,), conv.dot_length, dtype=torch.int32, device=device)
    changed = {"OPERATOR": "xor", "LAST": -2, "ROW_VALUES": (0,), "beta_ptr": length}
    return lambda: launch(kernel, count, {**arguments, **changed}, warps)


def timed_ways(
    ways: Sequence[Contender | Absent],
) -> tuple[list[Contender | Absent], list[dict[str, float]]]:
    """Time all who are there; if that fails, without those who are optional.

    Args:
        ways: Who computes a case.

    Returns:
        Who took part or was absent, and the times of those who took part.
    """
    there = [way for way in ways if isinstance(way, Contender)]
    try:
        return list(ways), timed([way.calls for way in there])
    # of CUDA: not every library's calls can be recorded in a graph
    except RuntimeError as error:
        if not any(way.is_optional for way in there):
            raise
        reason = f"timing failed with it: {type(error).__name__}: {str(error):.200}"
    left: list[Contender | Absent] = [
        Absent(way.name, way.precision, reason)
        if isinstance(way, Contender) and way.is_optional
        else way
        for way in ways
    ]
    return left, timed([way.calls for way in left if isinstance(way, Contender)])


def measured(
    case: GpuCase, ways: Sequence[Contender | Absent], limits: Limits, times: Sequence[Any]
) -> dict[str, Any]:
    """What is reported of a case: times, ratios, and shares of what the device can do at most.

    Args:
        case: The product.
        ways: Who computed it.
        limits: Of the device.
        times: Of those that are there, in their order.
    """
    rows: list[dict[str, Any]] = []
    given = iter(times)
    for way in ways:
        row: dict[str, Any] = {"name": way.name, "precision": way.precision}
        rows.append(row)
        if isinstance(way, Absent):
            row |= {"ms": None, "absent": way.reason}
            continue
        row |= next(given)
        row["macs_per_s"] = case.macs / row["ms"] * 1e3
        row["bytes"] = case.bytes(way.operand_bits, way.result_bits, way.weight_bits)
        row["copies"] = len(way.calls)
        if way.unit:
            rate = limits.binary_macs_per_s if way.unit == "binary" else limits.popcount_macs_per_s
            least = limits.least_ms(case.macs, rate, row["bytes"])
            row |= {
                "roofline_ms": least,
                "share_of_roofline": least / row["ms"],
                "share_of_limit": row["macs_per_s"] / rate,
            }
    return {"name": case.name, "macs": case.macs, "contenders": rows, "ratios": ratios(rows)}


def device_limits(facts: DeviceFacts, device: torch.device) -> Limits:
    """Of a device; its bandwidth by a copy that no cache holds."""
    source = torch.randint(256, (1 << 30,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = timed([[partial(target.copy_, source)]])[0]["ms_min"]
    return Limits(
        multiprocessors=facts.multiprocessors,
        clock_hz=facts.clock_hz,
        bytes_per_s=2 * source.numel() / copy * 1e3,
    )


def run(
    cases: Sequence[GpuCase] = CASES,
    progress: Callable[[str], None] = lambda name: None,
    save: Callable[[dict[str, Any]], None] = lambda result: None,
) -> dict[str, Any]:
    """Check, then measure.

    A case that cannot be measured is named with the reason, and the others are.

    Args:
        cases: What to measure.
        progress: Told what begins.
        save: Given the result so far after each case.

    Returns:
        Plain data.

    Raises:
        NoDevice: There is no CUDA device, or it is too old.
        InexactKernel: A kernel is not exact, or does not run.
    """
    device = require_cuda()
    facts = device_facts(device)
    paths = describe(facts.capability, facts.name)
    has_tensor_cores = facts.capability in TENSOR_CORE_CAPABILITIES
    progress(paths)
    start = monotonic()
    torch.backends.cudnn.benchmark = True
    result: dict[str, Any] = {
        "benchmark": "gpu kernels",
        "device": facts.name,
        "capability": [facts.capability // 10, facts.capability % 10],
        "paths": paths,
        "date": datetime.now(UTC).date().isoformat(),
        "versions": versions(),
        "power_limit_w": power_limit_w(device),
        "clock": "CUDA events around CUDA graphs; few rows: copies of the weights in turn, twice "
        f"the cache or {MOST_COPIES}; else operands in the caches where they fit",
        "cache_bytes": facts.cache_bytes,
        "rounds": ROUNDS,
        "exact": all_checked(_checks(device, has_tensor_cores), progress),
    }
    limits = device_limits(facts, device)
    libraries = OtherLibraries(device)
    rows: list[dict[str, Any]] = []
    skipped: list[str] = []
    failed: dict[str, str] = {}
    for case in cases:
        if monotonic() - start > BUDGET_S:
            skipped.append(case.name)
            continue
        progress(case.name)
        # of CUDA, a compiler or a library: what was measured before is kept
        try:
            ways = list(
                contenders(
                    case,
                    device,
                    libraries,
                    cache_bytes=facts.cache_bytes,
                    has_tensor_cores=has_tensor_cores,
                )
            )
            ways, times = timed_ways(ways)
            rows.append(measured(case, ways, limits, times))
        except Exception as error:
            failed[case.name] = f"{type(error).__name__}: {str(error):.200}"
        save(_ended(result, limits, rows, skipped, failed, monotonic() - start))
    return _ended(result, limits, rows, skipped, failed, monotonic() - start)


def _checks(device: torch.device, has_tensor_cores: bool) -> dict[str, Callable[[], int]]:
    def checks(case: GpuCase) -> int:
        done = check(case, device, every=case in THOROUGH, has_tensor_cores=has_tensor_cores)
        return done + (check_planes(case, device) if case in ODD and has_tensor_cores else 0)

    ways: dict[str, Callable[[], int]] = {
        case.name: partial(checks, case) for case in (*ODD, *WIDE)
    }
    return ways | {"packing": partial(check_packing, device)}


def _ended(
    result: dict[str, Any],
    limits: Limits,
    rows: list[dict[str, Any]],
    skipped: list[str],
    failed: dict[str, str],
    seconds: float,
) -> dict[str, Any]:
    return result | {
        "limits": plain_limits(limits, rows),
        "cases": rows,
        "goals": [goal.outcome(rows) for goal in GOALS],
        "skipped": skipped,
        "failed": failed,
        "seconds": seconds,
    }


def require_cuda() -> torch.device:
    """The current CUDA device.

    Raises:
        NoDevice: There is none, or it is too old.
    """
    if not torch.cuda.is_available():
        raise NoDevice(
            "The GPU benchmark needs a CUDA device of capability 8.0 or higher, but torch "
            f"{torch.__version__} finds none on this machine."
        )
    device = torch.device("cuda", torch.cuda.current_device())
    try:
        require_supported(capability_of(device))
    except ValueError as error:
        raise NoDevice(str(error)) from None
    return device


def plain_limits(limits: Limits, cases: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """The limits as plain data, with the fastest bf16 product of the run."""
    rows = [row for case in cases for row in case["contenders"]]
    bf16 = [row["macs_per_s"] for row in rows if row["precision"] == "bf16" and row["ms"]]
    return {
        "multiprocessors": limits.multiprocessors,
        "clock_hz": limits.clock_hz,
        "bytes_per_s": limits.bytes_per_s,
        "popcount_macs_per_s": limits.popcount_macs_per_s,
        "binary_macs_per_s": limits.binary_macs_per_s,
        "bf16_macs_per_s": max(bf16, default=None),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the result as JSON, or write it to files; 1 where there is nothing to measure."""
    parser = argparse.ArgumentParser(
        prog="python -m bitfront.kernels.gpu.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", type=Path, help="a file for the JSON")
    parser.add_argument("--plot", type=Path, help="a file for a roofline plot, SVG")
    parser.add_argument("--read", type=Path, help="plot this JSON of an earlier run; no device")
    parser.add_argument("--tune", type=Path, help="find the fastest tiles, and keep them in a file")
    parser.add_argument(
        "--seconds", type=float, default=TUNE_S, help="for --tune; products that are left are named"
    )
    given = parser.parse_args(arguments)
    if given.read is not None and given.plot is None:
        parser.error("--read needs --plot")
    if given.tune is not None and (given.output or given.plot):
        parser.error("--tune compares nothing: no --output, no --plot")

    def progress(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    try:
        if given.tune is not None:
            found = tune_gpu(given.tune, seconds=given.seconds, progress=progress)
            print(json.dumps(found, indent=1))
            return 1 if found["inexact"] or found["failed"] else 0
        if given.read is not None:
            result = json.loads(given.read.read_text(encoding="utf-8"))
        else:
            result = run(progress=progress, save=partial(_keep, given.output))
            _write(given.output, json.dumps(result, indent=1) + "\n")
        failed = result.get("failed")
        if failed:
            print(json.dumps(failed, indent=1), file=sys.stderr)
        if given.plot is not None:
            _write(given.plot, draw(result))
        if failed:
            return 1
    except (NoDevice, InexactKernel, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def tune_gpu(
    path: Path, *, seconds: float = TUNE_S, progress: Callable[[str], None] = lambda name: None
) -> dict[str, Any]:
    """Find the fastest tiles on the current device: `bitfront.kernels.gpu.autotune.tune_file`.

    Args:
        path: Of the table.
        seconds: After which no product is begun.
        progress: Told what begins.

    Raises:
        NoDevice: There is no CUDA device, or it is too old.
        OSError: If the file cannot be read or written.
        ValueError: If the file is no table of this device.
    """
    return tune_file(path, require_cuda(), budget_s=seconds, progress=progress)


def _keep(path: Path | None, result: dict[str, Any]) -> None:
    """What is measured so far."""
    if path is not None:
        _write(path, json.dumps(result, indent=1) + "\n")


def _write(path: Path | None, text: str) -> None:
    if path is None:
        print(text, end="")
    else:
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
