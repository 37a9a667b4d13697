"""Ending a search early: Ctrl-C, a termination signal, a budget that is used up."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from types import FrameType
from typing import Final

from bitfront.spaces.errors import BitfrontError

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
# whoever asks so often means it
_INSISTING: Final = 4


class StopReason(StrEnum):
    """Why a run ended before its trials were done."""

    SIGNAL = "signal"
    TIME = "time"
    ENERGY = "energy"
    CARBON = "carbon"
    ERROR = "error"


class Interrupted(BitfrontError):
    """What was under way ended early because it was asked to, and can be gone on with."""


class Stop:
    """A flag that ends a run; the first reason stays.

    Args:
        seconds: The run ends by itself after so long; None: never.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._reason: StopReason | None = None

    def set(self, reason: StopReason) -> None:
        """End the run."""
        if self._reason is None:
            self._reason = reason

    @property
    def reason(self) -> StopReason | None:
        """Why the run ends; None while it goes on."""
        if (
            self._reason is None
            and self._deadline is not None
            and time.monotonic() >= self._deadline
        ):
            self._reason = StopReason.TIME
        return self._reason

    @property
    def is_set(self) -> bool:
        """Whether the run ends."""
        return self.reason is not None


class Signals:
    """Turns SIGINT and SIGTERM into a ``Stop`` while a run lasts, on the main thread."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self._received = 0

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Handle the signals inside; the former handlers are back outside."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        former = {number: signal.getsignal(number) for number in _SIGNALS}
        self.install()
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def install(self) -> None:
        """Take the signals (once more: starting Ray takes SIGTERM for itself)."""
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._received += 1
        self._stop.set(StopReason.SIGNAL)
        if self._received >= _INSISTING:
            raise KeyboardInterrupt
