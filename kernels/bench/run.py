"""The measurement: interleaved rounds, medians, the popcount limit of the same run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from statistics import median, quantiles
from time import perf_counter, thread_time
from typing import Any, Final

import torch

from bitfront.kernels import cpu
from bitfront.kernels.bench.cases import CASES, ConvCase, GemmCase
from bitfront.kernels.bench.ours import InexactKernel, ours
from bitfront.kernels.bench.peers import Contender, peers
from bitfront.kernels.machine import cpu_name, versions
from bitfront.kernels.native_library import load

__all__ = ["InexactKernel", "run"]

ROUND_SECONDS: Final = 0.01
LIMIT_ROUNDS: Final = 200_000


def run(
    *,
    cases: Sequence[ConvCase | GemmCase] = CASES,
    threads: Sequence[int] = (1,),
    rounds: int = 15,
    variant: str | None = None,
    progress: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """Measure our kernels and their peers.

    One thread is timed by its CPU time, so other load does not count; more are timed by the wall
    clock and want a quiet machine. Contenders take turns within every round.

    Args:
        cases: What to compute.
        threads: Threads of every contender; each number is measured on its own.
        rounds: Rounds of at least 10 ms for each contender.
        variant: Instruction set of our kernels; None takes the fastest.
        progress: Told each case before it starts.

    Returns:
        Plain data: the machine, and for each number of threads the limit and per case the medians
        and ratios.

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
    before = torch.get_num_threads()
    runs = []
    try:
        for count in threads:
            torch.set_num_threads(count)
            runs.append(_run(cases, count, rounds, chosen, progress))
    finally:
        torch.set_num_threads(before)
    return {
        "benchmark": "kernels",
        "device": "cpu",
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": cpu_name(),
        "variant": chosen,
        "variants": list(cpu.variants()),
        "rounds": rounds,
        "versions": versions(("bitfront", "torch", "onnxruntime", "numpy")),
        "runs": runs,
    }


def _run(
    cases: Sequence[ConvCase | GemmCase],
    threads: int,
    rounds: int,
    variant: str,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """All cases with so many threads."""
    clock = thread_time if threads == 1 else perf_counter
    limit = 0.0
    rows = []
    for case in cases:
        progress(f"{case.name}, {threads} thread(s)")
        # load takes from the limit, too: it is the most that was seen in the whole run
        limit = max(limit, _limit(variant, threads))
        contenders = [*ours(case, variant, threads), *peers(case, threads)]
        rows.append(_case(case, contenders, rounds, clock))
    for row in rows:
        row["shares_of_limit"] = {
            contender["name"]: contender["macs_per_s"] / limit
            for contender in row["contenders"]
            if contender["precision"] == "1-bit" and contender["ms"] is not None
        }
    return {
        "threads": threads,
        "clock": "CPU time of the thread" if threads == 1 else "wall clock",
        "limit_macs_per_s": limit,
        "cases": rows,
    }


def _limit(variant: str, threads: int) -> float:
    """Products of bits per second of XOR, popcount and add on registers, on so many cores."""
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
    return {"name": case.name, "macs": case.macs, "contenders": rows, "ratios": _ratios(rows)}


def _repeats(call: Callable[[], object], clock: Callable[[], float]) -> int:
    call()
    start = clock()
    call()
    once = max(clock() - start, 1e-7)
    return max(1, int(ROUND_SECONDS / once))


def _ratios(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Time of the best peer of each precision over that of each of our rows."""

    def best(precision: str) -> float | None:
        times = [r["ms"] for r in rows if r["precision"] == precision and r["ms"] is not None]
        return min(times, default=None)

    mine = {r["name"]: r["ms"] for r in rows if r["precision"] == "1-bit" and r["ms"] is not None}
    return {
        f"{precision} / {name}": peer / ms
        for precision in ("fp32", "bf16", "int8")
        if (peer := best(precision)) is not None
        for name, ms in mine.items()
    }
