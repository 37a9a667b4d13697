"""What a running search tells whoever watches it; showing it is not done here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bitfront.search.front import Front
from bitfront.search.record import TrialState


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """A training under way.

    Attributes:
        trial: Number of the trial.
        epoch: Epochs done.
        epochs: Of the whole training.
        accuracy: On the validation split after the last epoch; None before the first.
        seed: Of a retraining; None in a search.
    """

    trial: int
    epoch: int
    epochs: int
    accuracy: float | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a search, or the retraining of its front, stands.

    Attributes:
        study: Name of the study.
        phase: "timing layers", "starting", "searching", "retraining", "timing the front" or
            "ending".
        done: Trials (or retrainings) that count as finished.
        target: How many shall be finished.
        counts: Trials by state; every state has a number.
        trainings: Under way, by number.
        front: Of the study.
        seconds: Since this run started.
        eta_s: Seconds to go, by the epochs per second so far; None while nothing is known.
        energy_kwh: That this run has used.
        message: One sentence, where there is something to say.
    """

    study: str
    phase: str
    done: int
    target: int
    counts: Mapping[TrialState, int]
    trainings: tuple[Training, ...]
    front: Front
    seconds: float
    eta_s: float | None = None
    energy_kwh: float = 0.0
    message: str = ""


Watch = Callable[[Progress], None]
"""Called from the main thread, a few times per second; must return at once."""


def unwatched(progress: Progress) -> None:
    """Watch nothing."""


@dataclass(slots=True)
class Pace:
    """Predicts when the work is done, from the epochs per second of this run.

    Attributes:
        started_at: By the clock of the caller, when the first training began; None before.
        epochs: Done in this run.
    """

    started_at: float | None = None
    epochs: int = field(default=0)

    def eta_s(self, now: float, left: int) -> float | None:
        """Seconds for ``left`` epochs; None before the first one."""
        if self.started_at is None or not self.epochs or now <= self.started_at:
            return None
        return left * (now - self.started_at) / self.epochs
