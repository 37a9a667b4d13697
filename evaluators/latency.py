"""Measured latency: calls that take turns, their median and spread, and where they ran."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from statistics import median, quantiles
from time import perf_counter, thread_time
from typing import Final, NamedTuple

from bitfront.spaces.errors import InvalidValue

MAX_REPEATS: Final = 1_000_000


class Latency(NamedTuple):
    """Times of one call.

    Attributes:
        median_ms: Half of the calls are faster.
        p10_ms: A tenth is.
        p90_ms: Nine tenths are.
        min_ms: The fastest call.
        repeats: Number of calls.
    """

    median_ms: float
    p10_ms: float
    p90_ms: float
    min_ms: float
    repeats: int


def clock_of(threads: int) -> tuple[str, Callable[[], float]]:
    """What calls of so many threads are timed by.

    One thread is timed by its own CPU time, so the load of other programs does not count; several
    need the wall clock, and a quiet machine.
    """
    if threads == 1:
        return "CPU time of the thread", thread_time
    return "wall clock", perf_counter


def take_turns(
    calls: Mapping[str, Callable[[], object]], *, repeats: int, threads: int
) -> dict[str, Latency]:
    """Time calls that take turns, so that a busy spell of the machine meets all of them.

    Args:
        calls: By name.
        repeats: Timed calls of each; two more go first and are not timed.
        threads: That a call uses: decides the clock.

    Raises:
        InvalidValue: If there are too few or too many repeats.
    """
    if not 2 <= repeats <= MAX_REPEATS:
        raise InvalidValue(f"repeats must be from 2 to {MAX_REPEATS}, but is {repeats}.")
    _, clock = clock_of(threads)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(-2, repeats):
        for name, call in calls.items():
            start = clock()
            call()
            if repeat >= 0:
                seconds[name].append(clock() - start)
    return {name: _latency(times) for name, times in seconds.items()}


def _latency(seconds: list[float]) -> Latency:
    low, *_, high = quantiles(seconds, n=10, method="inclusive")
    return Latency(
        median_ms=median(seconds) * 1e3,
        p10_ms=low * 1e3,
        p90_ms=high * 1e3,
        min_ms=min(seconds) * 1e3,
        repeats=len(seconds),
    )


def cpu_name() -> str:
    """The CPU's name, as the system gives it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Versions of what a measurement depends on."""
    found = {"python": platform.python_version()}
    for package in ("bitfront", "torch", "onnxruntime"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found
