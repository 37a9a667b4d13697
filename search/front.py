"""The front of a study: which trials are not dominated, how much they dominate, which to pick.

Directions are applied here, so that ``pareto.py`` only minimises. Domination compares the values
as they are. For the hypervolume an objective that is maximised enters as its negative, and one that
is minimised, a cost, as its decimal logarithm: then the volume does not depend on the unit of a
cost (mJ or uJ), and halving a small cost weighs as much as halving a large one. Accuracy and energy
span an area in "fraction x decades".

The reference point is derived once (``reference_point``), stored with the study and never derived
from a front, so hypervolumes stay comparable over time and between the runs of a study.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from bitfront.search.pareto import Floats, hypervolume, non_dominated
from bitfront.search.record import StudyObjective, TrialPoint, check_objectives
from bitfront.spaces.errors import InvalidValue

# a cost below this share of its reference counts as this share: zero has no logarithm
LEAST_SHARE: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """The trials that no other trial dominates.

    Attributes:
        objectives: At least one.
        members: Best first in the first objective, then in the next ones, then by number; trials
            of equal values are all members.
        reference_point: Worst value of each objective that counts, in its own unit.
        hypervolume: In the product of the objectives' fractions and decades.
    """

    objectives: tuple[StudyObjective, ...]
    members: tuple[TrialPoint, ...]
    reference_point: Mapping[str, float]
    hypervolume: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryPoint:
    """The hypervolume after one more trial.

    Attributes:
        number: Of the trial.
        finished_at: When it finished, in seconds since 1970-01-01 UTC.
        evaluated: Trials so far that may enter the front, this one included.
        members: Distinct points of the front so far.
        hypervolume: Of that front.
    """

    number: int
    finished_at: float
    evaluated: int
    members: int
    hypervolume: float


def reference_point(
    objectives: Sequence[StudyObjective], costs: Mapping[str, float]
) -> dict[str, float]:
    """Derive the reference point of a study, once.

    Args:
        objectives: Of the study.
        costs: For each objective that is minimised, the worst value that counts, for instance that
            of the most expensive of many sampled candidates.

    Returns:
        0 for what is maximised, ``costs`` for what is minimised.

    Raises:
        InvalidValue: If a cost is missing or not positive.
    """
    point = {o.name: costs.get(o.name, math.nan) if o.is_cost else 0.0 for o in objectives}
    for name, value in point.items():
        if math.isnan(value):
            raise InvalidValue(
                f"The reference point needs the worst {name}, but got {dict(costs)}."
            )
    _check_reference(objectives, point)
    return point


def front_of(
    trials: Iterable[TrialPoint],
    objectives: Sequence[StudyObjective],
    reference: Mapping[str, float],
) -> Front:
    """Find the front of trials.

    Args:
        trials: Only those that are COMPLETE, fully trained and feasible can be members.
        objectives: Of the study.
        reference: Its frozen reference point.

    Raises:
        InvalidValue: If an eligible trial lacks an objective, or a reference is not usable.
    """
    _check_reference(objectives, reference)
    eligible = [trial for trial in trials if trial.is_eligible]
    values = _minimised(eligible, objectives)
    on_front = np.flatnonzero(non_dominated(values)).tolist()
    on_front.sort(key=lambda i: (*values[i], eligible[i].number))
    volume = hypervolume(
        _coordinates(values[on_front], objectives, reference), _corner(objectives, reference)
    )
    return Front(
        objectives=tuple(objectives),
        members=tuple(eligible[i] for i in on_front),
        reference_point=dict(reference),
        hypervolume=volume,
    )


def knee(front: Front) -> TrialPoint | None:
    """The member that gives up least: the one to pick when nothing else is known.

    With u_j in [0, 1] the normalised coordinate of objective j (0 the best of the front, 1 the
    worst; costs by their logarithm), the knee has the largest distance, towards the ideal point,
    from the plane sum u_j = 1:

        d = (1 - sum u_j) / sqrt(m)

    For two objectives that plane is the chord between the two ends of the front.

    Returns:
        The member; of equal ones that of the lowest number. None for an empty front.
    """
    if not front.members:
        return None
    points = _coordinates(
        _minimised(front.members, front.objectives), front.objectives, front.reference_point
    )
    best, worst = points.min(axis=0), points.max(axis=0)
    spans = np.where(worst > best, worst - best, 1.0)
    lost = np.sum((points - best) / spans, axis=1)
    # a rounding error shall not decide between equal members
    return min(zip(np.round(lost, 12).tolist(), front.members, strict=True), key=_by_loss)[1]


def _by_loss(entry: tuple[float, TrialPoint]) -> tuple[float, int]:
    return entry[0], entry[1].number


def hypervolume_history(
    trials: Iterable[TrialPoint],
    objectives: Sequence[StudyObjective],
    reference: Mapping[str, float],
) -> tuple[HistoryPoint, ...]:
    """Follow the hypervolume over the trials that may enter the front, as they finished.

    Args:
        trials: In any order.
        objectives: Of the study.
        reference: Its frozen reference point.

    Returns:
        One point per eligible trial, by finishing time and number; it never descends.
    """
    _check_reference(objectives, reference)
    eligible = sorted(
        (trial for trial in trials if trial.is_eligible),
        key=lambda trial: (trial.finished_at or 0.0, trial.number),
    )
    points = _coordinates(_minimised(eligible, objectives), objectives, reference)
    corner = _corner(objectives, reference)
    front = np.empty((0, len(objectives)))
    volume = 0.0
    history = []
    for i, (trial, point) in enumerate(zip(eligible, points, strict=True)):
        if not np.any(np.all(front <= point, axis=1)):
            front = np.vstack([front[~np.all(point <= front, axis=1)], point])
            # rounding differs with the order of the sum
            volume = max(volume, hypervolume(front, corner))
        history.append(
            HistoryPoint(
                number=trial.number,
                finished_at=trial.finished_at or 0.0,
                evaluated=i + 1,
                members=len(front),
                hypervolume=volume,
            )
        )
    return tuple(history)


def _minimised(trials: Sequence[TrialPoint], objectives: Sequence[StudyObjective]) -> Floats:
    values = np.empty((len(trials), len(objectives)))
    for i, trial in enumerate(trials):
        for j, objective in enumerate(objectives):
            value = trial.value(objective.name)
            if value is None:
                raise InvalidValue(f"Trial {trial.number} has no value of {objective.name}.")
            values[i, j] = value if objective.is_cost else -value
    return values


def _coordinates(
    values: Floats, objectives: Sequence[StudyObjective], reference: Mapping[str, float]
) -> Floats:
    points = values.copy()
    for j, objective in enumerate(objectives):
        if objective.is_cost:
            points[:, j] = np.log10(
                np.maximum(values[:, j], LEAST_SHARE * reference[objective.name])
            )
    return points


def _corner(objectives: Sequence[StudyObjective], reference: Mapping[str, float]) -> Floats:
    signed = [reference[o.name] if o.is_cost else -reference[o.name] for o in objectives]
    return _coordinates(np.array([signed]), objectives, reference).reshape(-1)


def _check_reference(objectives: Sequence[StudyObjective], reference: Mapping[str, float]) -> None:
    check_objectives(objectives, reference)
    for objective in objectives:
        value = reference[objective.name]
        if objective.is_cost and value <= 0:
            raise InvalidValue(
                f"The reference of {objective.name}, a cost, must be positive, but is {value}."
            )
