"""Timed calls: they take turns, and disturbed ones are made again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median, quantiles
from time import perf_counter, thread_time
from typing import Final, NamedTuple, TypeVar

from bitfront.evaluators.latency.pace import NOISY, Pace, pace_of
from bitfront.spaces.errors import InvalidValue

T = TypeVar("T")

MAX_REPEATS: Final = 1_000_000
PATIENCE_S: Final = 2.0
"""Seconds for which a measurement waits for a quiet machine."""

_WARM_UP: Final = 2


class Latency(NamedTuple):
    """Times of one call.

    Attributes:
        median_ms: Half of the calls are faster.
        p10_ms: A tenth is.
        p90_ms: Nine tenths are.
        min_ms: The fastest call.
        repeats: Number of calls.
        redone: Calls that were disturbed, and were made again.
    """

    median_ms: float
    p10_ms: float
    p90_ms: float
    min_ms: float
    repeats: int
    redone: int = 0


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
    patience_s: float = PATIENCE_S,
) -> dict[str, Latency]:
    """Time calls that take turns, so that a busy spell of the machine meets all of them.

    Args:
        calls: By name.
        repeats: Timed calls of each; two more go first and are not timed.
        threads: That a call uses: decides the clock.
        patience_s: As `quiet_runs`.

    Raises:
        InvalidValue: If there are too few or too many repeats.
    """
    require_repeats(repeats)
    _, clock = clock_of(threads)

    def turn() -> list[float]:
        seconds = []
        for call in calls.values():
            start = clock()
            call()
            seconds.append(clock() - start)
        return seconds

    for _ in range(_WARM_UP):
        turn()
    rows, redone = quiet_runs(turn, repeats, pace_of(clock), patience_s)
    return {
        name: latency_of(seconds)._replace(redone=redone)
        for name, seconds in zip(calls, zip(*rows, strict=True), strict=False)
    }


def quiet_runs(
    run: Callable[[], T], count: int, pace: Pace, patience_s: float = PATIENCE_S
) -> tuple[list[T], int]:
    """Runs between two readings of the machine's speed, both within 1.1 times its best.

    Args:
        run: Once.
        count: Runs to return.
        pace: Of the machine.
        patience_s: Seconds after which disturbed runs count too.

    Returns:
        The runs, and how many others were disturbed and made again.
    """
    found: list[T] = []
    redone = 0
    end = time.monotonic() + patience_s
    before = pace.read()
    while len(found) < count:
        done = run()
        after = pace.read()
        if max(before, after) <= NOISY or time.monotonic() > end:
            found.append(done)
        else:
            redone += 1
        before = after
    return found, redone


def require_repeats(repeats: int) -> None:
    """Refuse a number of timed calls that has no median, or never ends.

    Raises:
        InvalidValue: If it does not lie within 2 and a million.
    """
    if not 2 <= repeats <= MAX_REPEATS:
        raise InvalidValue(f"repeats must be from 2 to {MAX_REPEATS}, but is {repeats}.")


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
