"""The trials of a study over two axes, sorted into the front and the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bitfront.dashboard import texts
from bitfront.dashboard.axes import Axis, title_of
from bitfront.dashboard.data import Snapshot, standing
from bitfront.search.pareto import non_dominated
from bitfront.search.record import TrialPoint

_HOVERED: Final = ("accuracy", "energy", "ops", "size_mib")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cloud:
    """Points of one kind.

    Attributes:
        numbers: Of the trials.
        x, y: Values.
        labels: What hovering shows, markup escaped.
    """

    numbers: NDArray[np.int64]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scatter:
    """The trials of a study over two axes.

    Attributes:
        x, y: The axes.
        front: Trials that no other one dominates in these two axes, in the order of x.
        dominated: Other trials that may enter a front.
        excluded: Trials that may not: a constraint is broken, or the training is not complete.
        is_stepped: Whether the front is a staircase, which takes axes that have a direction.
    """

    x: Axis
    y: Axis
    front: Cloud
    dominated: Cloud
    excluded: Cloud
    is_stepped: bool

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not any(len(c.numbers) for c in (self.front, self.dominated, self.excluded))

    def place(self, number: int | None) -> tuple[float, float] | None:
        """Where a trial is drawn, None where it is not."""
        for cloud in (self.front, self.dominated, self.excluded):
            for i in np.flatnonzero(cloud.numbers == number):
                return float(cloud.x[i]), float(cloud.y[i])
        return None


def scatter(snapshot: Snapshot, x: Axis, y: Axis, *, feasible_only: bool = True) -> Scatter:
    """Sort the trials of a study that have a value on both axes."""
    eligible: list[tuple[TrialPoint, float, float]] = []
    excluded: list[tuple[TrialPoint, float, float]] = []
    for trial in snapshot.trials:
        at = place_of(trial, x, y, feasible_only=feasible_only)
        if at is not None:
            (eligible if trial.is_eligible else excluded).append((trial, *at))
    stepped = bool(x.direction and y.direction) and x.key != y.key
    if stepped:
        signed = [
            [_minimised(vx, x.direction), _minimised(vy, y.direction)] for _, vx, vy in eligible
        ]
        on_front = non_dominated(np.array(signed, dtype=np.float64).reshape(-1, 2))
    else:
        members = {m.number for m in snapshot.front.members}
        on_front = np.array([t.number in members for t, _, _ in eligible], dtype=np.bool_)
    front = [entry for entry, chosen in zip(eligible, on_front, strict=True) if chosen]
    front.sort(key=lambda entry: (entry[1], entry[2], entry[0].number))
    return Scatter(
        x=x,
        y=y,
        front=_cloud(front, x, y),
        dominated=_cloud([e for e, on in zip(eligible, on_front, strict=True) if not on], x, y),
        excluded=_cloud(excluded, x, y),
        is_stepped=stepped,
    )


def place_of(
    trial: TrialPoint | None, x: Axis, y: Axis, *, feasible_only: bool = True
) -> tuple[float, float] | None:
    """Where ``scatter`` puts a trial, None where it does not."""
    if trial is None or (feasible_only and not trial.is_eligible):
        return None
    at = (x.value(trial), y.value(trial))
    return None if at[0] is None or at[1] is None else (at[0], at[1])


def _minimised(value: float, direction: str) -> float:
    return -value if direction == "maximize" else value


def _cloud(entries: Sequence[tuple[TrialPoint, float, float]], x: Axis, y: Axis) -> Cloud:
    return Cloud(
        numbers=np.array([t.number for t, _, _ in entries], dtype=np.int64),
        x=np.array([vx for _, vx, _ in entries], dtype=np.float64),
        y=np.array([vy for _, _, vy in entries], dtype=np.float64),
        labels=tuple(_label(t, x, y) for t, _, _ in entries),
    )


def _label(trial: TrialPoint, x: Axis, y: Axis) -> str:
    shown = dict.fromkeys([*_HOVERED, x.objective, y.objective])
    lines = [
        f"{title_of(m.objective, '')}: {texts.quantity(m.value, m.unit)}"
        for name in shown
        if (m := trial.measurement(name)) is not None
    ]
    state = "" if trial.is_eligible else f" · {standing(trial)}"
    return "<br>".join([f"<b>#{trial.number}</b>{state}", *map(texts.plot_text, lines)])
