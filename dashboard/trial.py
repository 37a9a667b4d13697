"""One trial with everything that its page shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from bitfront.dashboard.network import NetworkView, network_view
from bitfront.evaluators.hardware.profile import profile_names
from bitfront.search.record import ExportRecord, Retraining, StudyRecord, TrialRecord
from bitfront.search.store import StoreReader
from bitfront.spaces.candidate import Candidate
from bitfront.spaces.errors import InvalidValue

DEFAULT_PROFILE = "boolnet65"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Accuracies of several trainings.

    Attributes:
        mean: Fraction.
        deviation: Standard deviation of the sample; None for a single training.
        count: Trainings.
    """

    mean: float
    deviation: float | None
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialView:
    """A trial.

    Attributes:
        study: The study that it belongs to.
        record: The trial.
        candidate: Read from the record; None where there is none or it cannot be read.
        network: Its network; None where there is none.
        problem: Why there is no network; "" where there is one.
        retrainings: By seed.
        exports: By time.
    """

    study: StudyRecord
    record: TrialRecord
    candidate: Candidate | None
    network: NetworkView | None
    problem: str
    retrainings: tuple[Retraining, ...]
    exports: tuple[ExportRecord, ...]

    @property
    def profile(self) -> str:
        """Hardware profile to begin with: that of the trial's own energy where it is known."""
        energy = self.record.measurement("energy")
        wanted = [energy.hardware if energy else "", str(self.study.config.get("hardware") or "")]
        return next((name for name in wanted if name in profile_names()), DEFAULT_PROFILE)


def trial_view(store: StoreReader, study: StudyRecord, number: int) -> TrialView:
    """Read a trial.

    Raises:
        UnknownRecord: If there is no such trial.
    """
    record = store.trial(study.id, number)
    candidate, network, problem = None, None, ""
    try:
        candidate = record.candidate
        if candidate is not None:
            network = network_view(candidate.architecture)
        else:
            problem = record.error or "The decisions of this trial give no network."
    except InvalidValue as error:
        # a newer bitfront wrote it, or its shapes do not fit
        problem = str(error)
    return TrialView(
        study=study,
        record=record,
        candidate=candidate,
        network=network,
        problem=problem,
        retrainings=tuple(r for r in store.retrainings(study.id) if r.trial == number),
        exports=tuple(e for e in store.exports(study.id) if e.trial == number),
    )


def spread(accuracies: Sequence[float]) -> Spread:
    """Mean and standard deviation of at least one accuracy."""
    return Spread(
        mean=mean(accuracies),
        deviation=stdev(accuracies) if len(accuracies) > 1 else None,
        count=len(accuracies),
    )
