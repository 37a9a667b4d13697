"""What hands out trainings, and hears what became of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from bitfront.search.record import CurvePoint
from bitfront.search.worker import Job


class Source(Protocol):
    """Where jobs come from and what they gave goes to; called on the main thread only."""

    def next_job(self) -> Job | None:
        """The next job; None if there is none now."""
        ...

    @property
    def is_over(self) -> bool:
        """Whether there will never be another one."""
        ...

    def started(self, job: Job, report: Mapping[str, Any]) -> None:
        """A worker began, or began again."""
        ...

    def progressed(self, job: Job, points: list[CurvePoint], checkpoint: str | None) -> None:
        """Epochs were trained; a newer checkpoint may lie in a folder."""
        ...

    def should_stop(self, job: Job, points: list[CurvePoint]) -> bool:
        """Whether it is not worth training on; asked before ``progressed`` with the same epochs."""
        ...

    def succeeded(self, job: Job, report: Mapping[str, Any]) -> None:
        """All epochs are trained; ``report`` has everything that was reported."""
        ...

    def stopped(self, job: Job, epoch: int) -> None:
        """It ended early because ``should_stop`` said so."""
        ...

    def failed(self, job: Job, reason: str) -> None:
        """It did not get to its end."""
        ...

    def tick(self) -> None:
        """Some time has passed."""
        ...


class Run(Source, Protocol):
    """A source from the moment that Ray starts until it is gone.

    Attributes:
        device: Where trainings run, "auto" or "cpu"; known when Ray is there.
    """

    device: str

    def begin(self) -> None:
        """The workers are ready."""
        ...

    def tell(self, phase: str, message: str = "") -> None:
        """Tell the watcher how it stands."""
        ...
