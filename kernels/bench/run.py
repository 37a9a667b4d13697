"""The measurement: interleaved rounds, medians, the popcount limit of the same run."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from statistics import median, quantiles
from time import perf_counter, thread_time
from typing import Any, Final

import torch

from bitfront.kernels import cpu
from bitfront.kernels.bench.cases import CASES, ConvCase, GemmCase
from bitfront.kernels.bench.ours import InexactKernel, ours
from bitfront.kernels.bench.peers import Contender, peers
from bitfront.kernels.native_library import load

__all__ = ["InexactKernel", "run"]

ROUND_SECONDS: Final = 0.01
LIMIT_ROUNDS: Final = 200_000


def run(
    *,
    cases: Sequence[ConvCase | GemmCase] = CASES,
    threads: int = 1,
    rounds: int = 15,
    variant: str | None = None,
    progress: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """Measure our kernels and their peers.

    One thread is timed by its CPU time, so other load does not count; more are timed by the wall
    clock and want a quiet machine. Contenders take turns within every round.

    Args:
        cases: What to compute.
        threads: Threads of every contender.
        rounds: Rounds of at least 10 ms for each contender.
        variant: Instruction set of our kernels; None takes the fastest.
        progress: Told the name of each case before it starts.

    Returns:
        Plain data: the machine, the limit, and per case the medians and ratios.

    Raises:
        ValueError: If the variant cannot run here, or the library was not compiled.
        InexactKernel: If a result of ours is not exact.
    """
    library = load()
    if library is None:
        raise ValueError(
            "The benchmark needs the compiled CPU kernels: install a C compiler and reinstall "
            "bitfront."
        )
    chosen = variant or library.variants[-1]
    if chosen not in library.variants:
        raise ValueError(
            f"variant must be one of {', '.join(library.variants)} on this CPU, but is {chosen!r}."
        )
    clock = thread_time if threads == 1 else perf_counter
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        limit = _limit(chosen, threads)
        rows = []
        for case in cases:
            progress(case.name)
            contenders = [*ours(case, chosen, threads), *peers(case, threads)]
            rows.append(_case(case, contenders, rounds, clock, limit))
    finally:
        torch.set_num_threads(before)
    return {
        "benchmark": "kernels",
        "device": "cpu",
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": _cpu_name(),
        "variant": chosen,
        "variants": list(cpu.variants()),
        "threads": threads,
        "clock": "CPU time of the thread" if threads == 1 else "wall clock",
        "rounds": rounds,
        "limit_macs_per_s": limit,
        "versions": _versions(),
        "cases": rows,
    }


def _limit(variant: str, threads: int) -> float:
    library = load()
    best = 0.0
    for _ in range(9):
        start = thread_time()
        macs = library.peak(variant, LIMIT_ROUNDS) if library else 0
        best = max(best, macs / (thread_time() - start))
    return best * threads


def _case(
    case: ConvCase | GemmCase,
    contenders: list[Contender],
    rounds: int,
    clock: Callable[[], float],
    limit: float,
) -> dict[str, Any]:
    calls = {n: c.call for n, c in enumerate(contenders) if c.call is not None}
    repeats = {n: _repeats(call, clock) for n, call in calls.items()}
    seconds: dict[int, list[float]] = {n: [] for n in calls}
    for _ in range(rounds):
        for n, call in calls.items():
            start = clock()
            for _ in range(repeats[n]):
                call()
            seconds[n].append((clock() - start) / repeats[n])
    rows = []
    for n, contender in enumerate(contenders):
        row: dict[str, Any] = {"name": contender.name, "precision": contender.precision}
        if n in seconds:
            times = seconds[n]
            low, *_, high = quantiles(times, n=10) if len(times) > 1 else (times[0], times[0])
            row |= {
                "ms": median(times) * 1e3,
                "ms_p10": low * 1e3,
                "ms_p90": high * 1e3,
                "median_over_min": median(times) / min(times),
                "macs_per_s": case.macs / median(times),
            }
        else:
            row |= {"ms": None, "absent": contender.absent}
        rows.append(row)
    return {"name": case.name, "macs": case.macs, "contenders": rows, **_ratios(rows, limit)}


def _repeats(call: Callable[[], object], clock: Callable[[], float]) -> int:
    call()
    start = clock()
    call()
    once = max(clock() - start, 1e-7)
    return max(1, int(ROUND_SECONDS / once))


def _ratios(rows: list[dict[str, Any]], limit: float) -> dict[str, Any]:
    """Best peer of each precision over each of our rows, and the share of the limit."""

    def best(precision: str) -> float | None:
        times = [r["ms"] for r in rows if r["precision"] == precision and r["ms"] is not None]
        return min(times, default=None)

    mine = {r["name"]: r for r in rows if r["precision"] == "1-bit" and r["ms"] is not None}
    ratios = {
        f"{precision} / {name}": peer / row["ms"]
        for precision in ("fp32", "bf16", "int8")
        if (peer := best(precision)) is not None
        for name, row in mine.items()
    }
    kernel = mine.get("bitfront packed chain") or mine.get("bitfront kernel")
    share = kernel["macs_per_s"] / limit if kernel else None
    return {"ratios": ratios, "share_of_limit": share}


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in ("bitfront", "torch", "onnxruntime", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found
