"""Timed calls: they take turns, and disturbed ones are made again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median, quantiles
from time import perf_counter, thread_time
from typing import Final, NamedTuple, Protocol, TypeVar

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


class Clock(Protocol):
    """What calls on a device are timed by.

    Attributes:
        name: What is read: "wall clock".
        warm_up_s: Seconds of calls that go first and are not timed.
    """

    name: str
    warm_up_s: float

    def seconds(self, call: Callable[[], object]) -> float:
        """Time one call."""
        ...

    def runs(self, run: Callable[[], T], count: int, patience_s: float) -> tuple[list[T], int]:
        """Runs that were not disturbed, and how many others were made again.

        Args:
            run: Once.
            count: Runs to return.
            patience_s: Seconds after which disturbed runs count too.
        """
        ...


class CpuClock:
    """Times calls on this machine's CPU.

    One thread is timed by its own CPU time, so the load of other programs does not count; several
    need the wall clock, and a quiet machine.

    Args:
        threads: That a call uses.
    """

    warm_up_s = 0.0

    def __init__(self, threads: int) -> None:
        self.name = "CPU time of the thread" if threads == 1 else "wall clock"
        self._read = thread_time if threads == 1 else perf_counter

    def seconds(self, call: Callable[[], object]) -> float:
        """Time one call."""
        start = self._read()
        call()
        return self._read() - start

    def runs(self, run: Callable[[], T], count: int, patience_s: float) -> tuple[list[T], int]:
        """As `quiet_runs`, by this machine's pace."""
        return quiet_runs(run, count, pace_of(self._read), patience_s)


def take_turns(
    calls: Mapping[str, Callable[[], object]],
    clock: Clock,
    *,
    repeats: int,
    patience_s: float = PATIENCE_S,
) -> dict[str, Latency]:
    """Time calls that take turns, so that a busy spell of the machine meets all of them.

    Args:
        calls: By name.
        clock: Of their device.
        repeats: Timed calls of each; at least two more go first and are not timed.
        patience_s: Seconds to wait for a quiet machine.

    Raises:
        InvalidValue: If there are too few or too many repeats.
    """
    require_repeats(repeats)

    def turn() -> list[float]:
        return [clock.seconds(call) for call in calls.values()]

    warm_up(turn, clock)
    rows, redone = clock.runs(turn, repeats, patience_s)
    return {
        name: latency_of(seconds)._replace(redone=redone)
        for name, seconds in zip(calls, zip(*rows, strict=True), strict=False)
    }


def warm_up(run: Callable[[], object], clock: Clock) -> None:
    """Run twice, and then for as long as the clock's device takes to come to speed."""
    end = time.monotonic() + clock.warm_up_s
    for _ in range(_WARM_UP):
        run()
    while time.monotonic() < end:
        run()


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
