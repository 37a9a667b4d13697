"""What retrainings gave: accuracies over several seeds, and which weights are kept."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bitfront.search.record import Retraining, StudyRecord, TrialPoint
from bitfront.search.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Values of several runs.

    Attributes:
        mean: Of the values.
        deviation: Standard deviation of a sample (n - 1); None for a single value.
        low: The smallest.
        high: The largest.
        count: How many.
    """

    mean: float
    deviation: float | None
    low: float
    high: float
    count: int


def spread_of(values: Sequence[float]) -> Spread:
    """Sum up at least one value."""
    return Spread(
        mean=statistics.fmean(values),
        deviation=statistics.stdev(values) if len(values) > 1 else None,
        low=min(values),
        high=max(values),
        count=len(values),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrained:
    """A trial that was trained again.

    Attributes:
        trial: As the search left it.
        runs: One per seed.
        best: The run of the best validation accuracy (the lowest seed of equal ones): its weights
            are kept.
    """

    trial: TrialPoint
    runs: tuple[Retraining, ...]
    best: Retraining

    @property
    def validation(self) -> Spread:
        """Accuracy on the validation split."""
        return spread_of([run.validation_accuracy for run in self.runs])

    @property
    def test(self) -> Spread:
        """Accuracy on the test split."""
        return spread_of([run.test_accuracy for run in self.runs])


def retrained(store: Store, study: StudyRecord, trials: Sequence[TrialPoint]) -> list[Retrained]:
    """What is stored of the retrainings of some trials; those without any are left out."""
    runs: dict[int, list[Retraining]] = {}
    for run in store.retrainings(study.id):
        runs.setdefault(run.trial, []).append(run)
    return [
        Retrained(trial=trial, runs=tuple(runs[trial.number]), best=best_run(runs[trial.number]))
        for trial in trials
        if trial.number in runs
    ]


def best_run(runs: Sequence[Retraining]) -> Retraining:
    """The run of the best validation accuracy, the lowest seed of equal ones."""
    return max(runs, key=lambda run: (run.validation_accuracy, -run.seed))
