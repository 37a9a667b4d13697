"""Timed calls: they take turns, and a noisy round is taken again."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from statistics import median, quantiles
from time import perf_counter, thread_time
from typing import Final, NamedTuple

from bitfront.spaces.errors import InvalidValue

MAX_REPEATS: Final = 1_000_000
NOISY: Final = 1.1
"""A median above so many times the fastest call was disturbed."""

RETRIES: Final = 3
_WARM_UP: Final = 2


class Latency(NamedTuple):
    """Times of one call.

    Attributes:
        median_ms: Half of the calls are faster.
        p10_ms: A tenth is.
        p90_ms: Nine tenths are.
        min_ms: The fastest call.
        repeats: Number of calls.
        redone: Rounds before this one that were noisier, and were taken again.
    """

    median_ms: float
    p10_ms: float
    p90_ms: float
    min_ms: float
    repeats: int
    redone: int = 0

    @property
    def spread(self) -> float:
        """Median over fastest, at least 1."""
        return self.median_ms / self.min_ms if self.min_ms > 0 else 1.0

    @property
    def is_noisy(self) -> bool:
        """Whether the calls were disturbed."""
        return self.spread > NOISY


def clock_of(threads: int) -> tuple[str, Callable[[], float]]:
    """What calls of so many threads are timed by.

    One thread is timed by its own CPU time, so the load of other programs does not count; several
    need the wall clock, and a quiet machine.
    """
    if threads == 1:
        return "CPU time of the thread", thread_time
    return "wall clock", perf_counter


def take_turns(
    calls: Mapping[str, Callable[[], object]],
    *,
    repeats: int,
    threads: int,
    retries: int = RETRIES,
) -> dict[str, Latency]:
    """Time calls that take turns, so that a busy spell of the machine meets all of them.

    A round in which a call's median is above 1.1 times its fastest is taken again, as often as
    ``retries`` allows; the least noisy round counts, for all calls.

    Args:
        calls: By name.
        repeats: Timed calls of each in a round; two more go first and are not timed.
        threads: That a call uses: decides the clock.
        retries: Rounds that a noisy one may be followed by.

    Raises:
        InvalidValue: If there are too few or too many repeats.
    """
    require_repeats(repeats)
    _, clock = clock_of(threads)
    best = _round(calls, repeats, clock)
    redone = 0
    while redone < retries and _noise(best) > NOISY:
        redone += 1
        best = min(best, _round(calls, repeats, clock), key=_noise)
    return {name: times._replace(redone=redone) for name, times in best.items()}


def require_repeats(repeats: int) -> None:
    """Refuse a number of timed calls that has no median, or never ends.

    Raises:
        InvalidValue: If it does not lie within 2 and a million.
    """
    if not 2 <= repeats <= MAX_REPEATS:
        raise InvalidValue(f"repeats must be from 2 to {MAX_REPEATS}, but is {repeats}.")


def _round(
    calls: Mapping[str, Callable[[], object]], repeats: int, clock: Callable[[], float]
) -> dict[str, Latency]:
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(-_WARM_UP, repeats):
        for name, call in calls.items():
            start = clock()
            call()
            if repeat >= 0:
                seconds[name].append(clock() - start)
    return {name: latency_of(times) for name, times in seconds.items()}


def _noise(times: Mapping[str, Latency]) -> float:
    return max((latency.spread for latency in times.values()), default=1.0)


def latency_of(seconds: Sequence[float]) -> Latency:
    """Median and spread of at least two times."""
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
