"""How fast the machine is now: a fixed piece of work against its own fastest time.

On a shared machine a core may run at two thirds of its speed for seconds, because a neighbour is at
work on its other thread. That slows all runs evenly, so no spread shows it, and the thread's own
processor time counts it in. A reading before and after each run does show it: runs of a slow
machine are thrown away and made again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from statistics import median
from typing import Final

NOISY: Final = 1.1
"""Work that takes so many times as long as at the best was disturbed."""

_READINGS: Final = 5
_CALIBRATION_S: Final = 0.25
_PAUSE_S: Final = 0.004


class Pace:
    """Readings of the machine's speed.

    Args:
        clock: In seconds.
        work: What is timed; about 20 microseconds of the first cache.
        calibration_s: Seconds of readings at the start.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        work: Callable[[], object],
        calibration_s: float = _CALIBRATION_S,
    ) -> None:
        self._clock = clock
        self._work = work
        self._fastest = self._time()
        end = time.monotonic() + calibration_s
        while time.monotonic() < end:
            self.read()
            time.sleep(_PAUSE_S)

    def read(self) -> float:
        """The time of the work now over its fastest so far; 1 at full speed."""
        now = self._time()
        self._fastest = min(self._fastest, now)
        return now / self._fastest if self._fastest > 0 else 1.0

    def _time(self) -> float:
        # a median: a single reading may be interrupted, or luckier than the machine is fast
        seconds = []
        for _ in range(_READINGS):
            start = self._clock()
            self._work()
            seconds.append(self._clock() - start)
        return median(seconds)


@cache
def pace_of(clock: Callable[[], float]) -> Pace:
    """The process's readings by a clock; the first call takes a quarter of a second."""
    # who reads a table times nothing, and need not wait for it
    import numpy as np

    x = np.linspace(0.0, 1.0, 4096, dtype=np.float32)
    y = np.empty_like(x)
    words = np.arange(4096, dtype=np.uint32)
    ones = np.empty(4096, dtype=np.uint8)

    def work() -> None:
        for _ in range(6):
            np.multiply(x, x, out=y)
            np.add(y, x, out=y)
            np.bitwise_count(words, out=ones)

    return Pace(clock, work)
