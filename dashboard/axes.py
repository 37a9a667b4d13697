"""What trials can be drawn over and sorted by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bitfront.evaluators.objective import objectives as known_objectives
from bitfront.search.record import StudyRecord, TrialPoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A quantity that trials have.

    Attributes:
        objective: Name of the objective.
        hardware: Of the measurement; None means the one that the search ran on.
        unit: Of its values.
        direction: "maximize", "minimize", or "" where nobody says which way is better.
    """

    objective: str
    unit: str
    hardware: str | None = None
    direction: str = ""

    @property
    def key(self) -> str:
        """Names the axis among those of a study."""
        return _key(self.objective, self.hardware)

    @property
    def title(self) -> str:
        """For people, with the unit."""
        title = title_of(self.objective, self.unit)
        return title if not self.hardware else f"{title} on {self.hardware}"

    @property
    def head(self) -> str:
        """For the head of a column: the unit only where the values do not carry it."""
        title = title_of(self.objective, "")
        if self.unit not in ("fraction", "OPs", "parameters"):
            title = f"{title} ({self.unit})"
        return title if not self.hardware else f"{title} on {self.hardware}"

    def value(self, trial: TrialPoint) -> float | None:
        """The trial's value, None where it has none."""
        if self.hardware is None:
            return trial.value(self.objective)
        for m in trial.measurements:
            if m.objective == self.objective and m.hardware == self.hardware:
                return m.value
        return None


def title_of(objective: str, unit: str) -> str:
    """Title of an objective, with the unit where one is given."""
    if objective in known_objectives:
        title = known_objectives[objective].title
        return title if unit else title.split(" (")[0]
    return f"{objective} ({unit})" if unit else objective


def axes_of(study: StudyRecord, trials: Iterable[TrialPoint]) -> tuple[Axis, ...]:
    """What a study can be drawn over: its objectives, then everything else that was measured."""
    directions = {o.name: o.direction for o in study.objectives}
    found = {
        o.name: Axis(objective=o.name, unit=o.unit, direction=o.direction) for o in study.objectives
    }
    for trial in trials:
        first: dict[str, str] = {}
        for m in trial.measurements:
            hardware = (
                None if first.setdefault(m.objective, m.hardware) == m.hardware else m.hardware
            )
            key = _key(m.objective, hardware)
            if key not in found:
                known = known_objectives.get(m.objective)
                direction = directions.get(m.objective) or (known.direction if known else "")
                found[key] = Axis(
                    objective=m.objective, unit=m.unit, hardware=hardware, direction=direction
                )
    return tuple(found.values())


def _key(objective: str, hardware: str | None) -> str:
    return objective if hardware is None else f"{objective}@{hardware}"


def default_axes(found: Sequence[Axis]) -> tuple[Axis, Axis]:
    """The x and the y axis to begin with: a cost below, a gain upwards."""
    x = next((a for a in found if a.direction == "minimize"), found[0])
    y = next((a for a in found if a.direction == "maximize" and a is not x), None)
    return x, y or next((a for a in found if a is not x), x)
