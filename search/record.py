"""What the search keeps of a study and of its trials, as frozen values.

Times are seconds since 1970-01-01 UTC, energies kWh, accuracies fractions of one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

from bitfront.evaluators.measurement import Measurement
from bitfront.spaces.candidate import Candidate
from bitfront.spaces.choose import Decision
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.value import canonical

DIRECTIONS: Final = ("maximize", "minimize")
ENERGY_METHODS: Final = ("measured", "estimated")
OVERHEAD: Final = "overhead"
MAX_NAME: Final = 200
MAX_SEED: Final = 2**63 - 1


class TrialState(StrEnum):
    """Where a trial stands; COMPLETE and PRUNED count towards a study's budget."""

    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    INFEASIBLE = "INFEASIBLE"
    DUPLICATE = "DUPLICATE"
    FAILED = "FAILED"


class StudyState(StrEnum):
    """Where a study stands; whether a driver is at work now is what its lease says."""

    OPEN = "OPEN"
    FINISHED = "FINISHED"
    EXHAUSTED = "EXHAUSTED"


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """What one epoch of training gave.

    Attributes:
        epoch: Epochs done, from 1.
        train_loss: Mean loss of the epoch on the training split.
        validation_loss: Mean loss on the validation split.
        validation_accuracy: Fraction of the validation split that is classified right.
        seconds: Wall-clock time of the epoch.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    validation_accuracy: float
    seconds: float

    def __post_init__(self) -> None:
        if self.epoch < 1:
            raise InvalidValue(f"epoch must be at least 1, but is {self.epoch}.")
        for name in ("train_loss", "validation_loss", "validation_accuracy", "seconds"):
            _finite(name, getattr(self, name))


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyObjective:
    """One objective of a study.

    Attributes:
        name: As in the measurements.
        unit: Of its values.
        direction: "maximize" or "minimize".
    """

    name: str
    unit: str
    direction: str

    def __post_init__(self) -> None:
        if self.direction not in DIRECTIONS:
            raise InvalidValue(f"direction must be one of {DIRECTIONS}, but is {self.direction!r}.")

    @property
    def is_cost(self) -> bool:
        """Whether less is better."""
        return self.direction == "minimize"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyEntry:
    """Energy of one account of the ledger.

    Attributes:
        account: ``trial_account(number)``, or "overhead" for what belongs to no trial.
        kwh: Electrical energy, not negative.
        method: "measured" (a hardware counter) or "estimated" (a power model).
    """

    account: str
    kwh: float
    method: str

    def __post_init__(self) -> None:
        _finite("kwh", self.kwh)
        if self.kwh < 0:
            raise InvalidValue(f"kwh must not be negative, but is {self.kwh}.")
        if self.method not in ENERGY_METHODS:
            raise InvalidValue(f"method must be one of {ENERGY_METHODS}, but is {self.method!r}.")
        if not self.account:
            raise InvalidValue("An energy account needs a name.")

    @property
    def trial(self) -> int | None:
        """Number of the trial whose account this is, None for another account."""
        head, _, number = self.account.partition("/")
        return int(number) if head == "trial" and number.isdecimal() else None


def trial_account(number: int) -> str:
    """Name of the energy account of a trial."""
    return f"trial/{number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialPoint:
    """A trial without its documents: what tables, fronts and plots read by the thousand.

    Attributes:
        number: From 0, unique in its study.
        state: Where it stands.
        decisions: Answers to the space's questions, by name.
        candidate_digest: None where the decisions gave no candidate.
        architecture_digest: Likewise.
        seed: Of the training.
        fidelity: Epochs trained.
        full_fidelity: Epochs of a complete training.
        attempt: From 1; a re-queued trial has the next one.
        measurements: In the order they were given; the first of an objective is the one that
            the search ran on.
        constraints: Violations by name; not positive means kept.
        energy_kwh: Energy spent on it so far.
        started_at: When it was proposed.
        finished_at: None while it runs.
        duplicate_of: Number of the equal trial, for a DUPLICATE.
        revision: Of the study, when the trial last changed; the store sets it.
    """

    number: int
    state: TrialState
    decisions: Mapping[str, Decision]
    candidate_digest: str | None
    architecture_digest: str | None
    seed: int
    full_fidelity: int
    started_at: float
    fidelity: int = 0
    attempt: int = 1
    measurements: tuple[Measurement, ...] = ()
    constraints: Mapping[str, float] = field(default_factory=dict)
    energy_kwh: float = 0.0
    finished_at: float | None = None
    duplicate_of: int | None = None
    revision: int = 0

    def __post_init__(self) -> None:
        _within("number", self.number, 0)
        _within("seed", self.seed, 0)
        _within("attempt", self.attempt, 1)
        _within("full_fidelity", self.full_fidelity, 0)
        _within("fidelity", self.fidelity, 0)
        _finite("energy_kwh", self.energy_kwh)
        for name, violation in self.constraints.items():
            _finite(f"constraint {name!r}", violation)
        if (self.duplicate_of is not None) != (self.state is TrialState.DUPLICATE):
            raise InvalidValue(
                "duplicate_of must be given for a DUPLICATE and for nothing else, but trial "
                f"{self.number} is {self.state} with duplicate_of {self.duplicate_of}."
            )
        if (self.finished_at is None) != (self.state is TrialState.RUNNING):
            raise InvalidValue(
                "finished_at must be missing for a RUNNING trial and for no other, but trial "
                f"{self.number} is {self.state} with finished_at {self.finished_at}."
            )

    @property
    def is_feasible(self) -> bool:
        """Whether every constraint is kept."""
        return all(violation <= 0 for violation in self.constraints.values())

    @property
    def is_eligible(self) -> bool:
        """Whether it may enter a front: complete, fully trained, every constraint kept."""
        return (
            self.state is TrialState.COMPLETE
            and self.fidelity >= self.full_fidelity
            and self.is_feasible
        )

    def measurement(self, objective: str) -> Measurement | None:
        """The first measurement of an objective, None where there is none."""
        return next((m for m in self.measurements if m.objective == objective), None)

    def value(self, objective: str) -> float | None:
        """The value of ``measurement(objective)``."""
        found = self.measurement(objective)
        return None if found is None else found.value


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRecord(TrialPoint):
    """A trial with everything that is kept of it.

    Attributes:
        candidate_json: Canonical JSON text of the candidate, None where the decisions gave none.
        attributes: What the sampler needs to replay the trial: parameters, distributions, system
            attributes. JSON data.
        curve: One point per epoch, in order.
        error: Why it failed or is infeasible; "" otherwise.
        checkpoint: Path of the last checkpoint, None where there is none.
    """

    candidate_json: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    curve: tuple[CurvePoint, ...] = ()
    error: str = ""
    checkpoint: str | None = None

    @property
    def candidate(self) -> Candidate | None:
        """The candidate, read from its JSON.

        Raises:
            InvalidValue: If a newer bitfront wrote it.
        """
        return None if self.candidate_json is None else _read_candidate(self.candidate_json)


def new_trial(
    number: int,
    *,
    decisions: Mapping[str, Decision],
    candidate: Candidate | None,
    state: TrialState,
    seed: int,
    full_fidelity: int,
    now: float,
    measurements: Iterable[Measurement] = (),
    constraints: Mapping[str, float] | None = None,
    attributes: Mapping[str, Any] | None = None,
    error: str = "",
    duplicate_of: int | None = None,
) -> TrialRecord:
    """The record of a trial at the moment it is proposed: RUNNING, or refused at once.

    Args:
        number: Its number in the study.
        decisions: Answers to the space's questions.
        candidate: What the space made of them; None if they gave no candidate.
        state: RUNNING, INFEASIBLE, DUPLICATE or FAILED.
        seed: Of the training.
        full_fidelity: Epochs of a complete training.
        now: Seconds since 1970-01-01 UTC.
        measurements: The costs, which are known before the training.
        constraints: Violations by name; not positive means kept.
        attributes: What the sampler needs to replay the trial; JSON data.
        error: Why it was refused.
        duplicate_of: The equal trial, for a DUPLICATE.
    """
    return TrialRecord(
        number=number,
        state=state,
        decisions=dict(decisions),
        candidate_json=None if candidate is None else canonical(candidate.json()),
        candidate_digest=None if candidate is None else candidate.digest,
        architecture_digest=None if candidate is None else candidate.architecture.digest,
        seed=seed,
        full_fidelity=full_fidelity,
        started_at=now,
        finished_at=None if state is TrialState.RUNNING else now,
        measurements=tuple(measurements),
        constraints=dict(constraints or {}),
        attributes=dict(attributes or {}),
        error=error,
        duplicate_of=duplicate_of,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRecord:
    """A study.

    Attributes:
        id: Number of the study in its store; survives a rename.
        name: Verbatim.
        config: The search configuration, JSON data with its own version.
        objectives: At least one; names are distinct.
        reference_point: Worst value of each objective in its own unit, frozen at the start, so
            that hypervolumes stay comparable over time.
        dataset: Name of the data set.
        dataset_digest: Of its content and split.
        seed: Of the study.
        state: Where it stands.
        message: One sentence on how its last run ended; "" before that.
        created_at: When.
        revision: Grows by one with every change.
    """

    id: int
    name: str
    config: Mapping[str, Any]
    objectives: tuple[StudyObjective, ...]
    reference_point: Mapping[str, float]
    dataset: str
    dataset_digest: str
    seed: int
    created_at: float
    state: StudyState = StudyState.OPEN
    message: str = ""
    revision: int = 0

    def __post_init__(self) -> None:
        check_name(self.name)
        _within("seed", self.seed, 0)
        check_objectives(self.objectives, self.reference_point)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retraining:
    """A member of the front, trained once more with another seed.

    Attributes:
        trial: Number of the trial.
        seed: Of this training.
        epochs: Trained.
        validation_accuracy: Fraction.
        test_accuracy: Fraction; no search decision ever reads it.
        created_at: When.
        checkpoint: Path, None where it is not kept.
    """

    trial: int
    seed: int
    epochs: int
    validation_accuracy: float
    test_accuracy: float
    created_at: float
    checkpoint: str | None = None

    def __post_init__(self) -> None:
        _within("seed", self.seed, 0)
        _within("epochs", self.epochs, 1)
        _finite("validation_accuracy", self.validation_accuracy)
        _finite("test_accuracy", self.test_accuracy)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRecord:
    """A trial that was exported.

    Attributes:
        trial: Number of the trial.
        format: Name of the exporter.
        path: Of the file.
        verified: Whether the file, read back, agreed with the network.
        flips: Images whose predicted class differed.
        images: Images compared.
        created_at: When.
    """

    trial: int
    format: str
    path: str
    verified: bool
    flips: int
    images: int
    created_at: float

    def __post_init__(self) -> None:
        _within("flips", self.flips, 0)
        _within("images", self.images, self.flips)


def check_name(name: str) -> str:
    """Return a study name that is allowed: 1 to 200 characters, none of them a control character.

    Raises:
        InvalidValue: If it is not.
    """
    if not 1 <= len(name) <= MAX_NAME:
        raise InvalidValue(
            f"A study name must have 1 to {MAX_NAME} characters, but has {len(name)}."
        )
    # lone surrogates have no UTF-8 form, so no database takes them
    if any(ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) <= 0xDFFF for c in name):
        raise InvalidValue(f"A study name must not hold control characters, but is {name!r}.")
    return name


def check_objectives(
    objectives: Sequence[StudyObjective], reference_point: Mapping[str, float]
) -> None:
    """Check that objectives are distinct and that each has a finite reference.

    Raises:
        InvalidValue: If not.
    """
    names = [o.name for o in objectives]
    if not names or len(set(names)) != len(names):
        raise InvalidValue(f"A study needs distinct objectives, at least one, but got {names}.")
    if set(reference_point) != set(names):
        raise InvalidValue(
            f"The reference point must have the objectives {sorted(names)}, but has "
            f"{sorted(reference_point)}."
        )
    for name, value in reference_point.items():
        _finite(f"reference point of {name}", value)


@lru_cache(maxsize=512)
def _read_candidate(text: str) -> Candidate:
    return Candidate.from_json(json.loads(text))


def _within(name: str, value: int, low: int) -> None:
    if not low <= value <= MAX_SEED:
        raise InvalidValue(f"{name} must be at least {low} and below 2^63, but is {value}.")


def _finite(name: str, value: float) -> None:
    if not math.isfinite(value):
        raise InvalidValue(f"{name} must be finite, but is {value!r}.")
