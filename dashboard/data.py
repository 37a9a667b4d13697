"""From the store to frozen view values: what the pages show, and nothing about how.

Of a study that was read before, only what changed is read again, so that a page which refreshes
itself costs three statements, however many trials there are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any, Final

from bitfront.dashboard import texts
from bitfront.dashboard.axes import Axis, axes_of, title_of
from bitfront.search.front import Front, front_of, knee
from bitfront.search.record import StudyRecord, TrialPoint, TrialState
from bitfront.search.store import StoreReader, UnknownRecord

# studies whose trials are kept in memory
KEPT_STUDIES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A study with its trials, as they were at one revision.

    Attributes:
        study: The study.
        trials: By number, ascending.
        front: Of the trials.
        axes: What they can be drawn over.
        is_running: Whether a driver is at work on it.
    """

    study: StudyRecord
    trials: tuple[TrialPoint, ...]
    front: Front
    axes: tuple[Axis, ...]
    is_running: bool

    @property
    def counts(self) -> dict[TrialState, int]:
        """Number of trials in each state."""
        counted = dict.fromkeys(TrialState, 0)
        for trial in self.trials:
            counted[trial.state] += 1
        return counted

    def trial(self, number: int) -> TrialPoint | None:
        """The trial of a number."""
        return next((trial for trial in self.trials if trial.number == number), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyCard:
    """What the list of studies says about one.

    Attributes:
        study: The study.
        counts: Number of trials in each state.
        bests: Per objective its title and what the front reaches, as text.
        members: Trials on the front.
        hypervolume: Of the front; None without one.
        is_running: Whether a driver is at work on it.
    """

    study: StudyRecord
    counts: Mapping[TrialState, int]
    bests: tuple[tuple[str, str], ...]
    members: int
    hypervolume: float | None
    is_running: bool


class Snapshots:
    """Reads studies from a store, and remembers them; safe to be called from several threads."""

    def __init__(self, store: StoreReader) -> None:
        self._store = store
        self._lock = Lock()
        # keyed by id and creation: SQLite gives the id of a deleted study to the next one
        self._kept: OrderedDict[tuple[int, float], Snapshot] = OrderedDict()
        self._fronts: dict[tuple[int, float], tuple[int, Front]] = {}

    def named(self, name: str) -> Snapshot:
        """The study of a name.

        Raises:
            UnknownRecord: If there is none.
        """
        return self._read(self._store.load_study(name))

    def of(self, study_id: int, created_at: float) -> Snapshot | None:
        """The study of an id, as it is now; None if that study is gone."""
        try:
            study = self._store.study(study_id)
            return self._read(study) if study.created_at == created_at else None
        except UnknownRecord:
            return None

    def is_stale(self, study_id: int, created_at: float, revision: int, was_running: bool) -> bool:
        """Whether a study changed, is gone, or started or stopped running, since it was read."""
        try:
            running = self._store.driver(study_id) is not None
            study = self._store.study(study_id)
        except UnknownRecord:
            return True
        now = (study.created_at, study.revision, running)
        return now != (created_at, revision, was_running)

    def cards(self) -> tuple[StudyCard, ...]:
        """All studies, the latest first."""
        counts = self._store.counts()
        found = []
        for study in self._store.list_studies():
            running = self._store.driver(study.id) is not None
            front = self._front(study, running)
            found.append(
                StudyCard(
                    study=study,
                    counts=counts.get(study.id, dict.fromkeys(TrialState, 0)),
                    bests=bests(front),
                    members=len(front.members),
                    hypervolume=front.hypervolume if front.members else None,
                    is_running=running,
                )
            )
        return tuple(reversed(found))

    def _front(self, study: StudyRecord, is_running: bool) -> Front:
        """The front of a study; of one that is at rest only the complete trials are read."""
        key = (study.id, study.created_at)
        with self._lock:
            kept, known = key in self._kept, self._fronts.get(key)
        if known is not None and known[0] == study.revision:
            return known[1]
        if kept or is_running:
            front = self._read(study).front
        else:
            complete = self._store.points(study.id, states=(TrialState.COMPLETE,))
            front = front_of(complete, study.objectives, study.reference_point)
        with self._lock:
            self._fronts[key] = (study.revision, front)
        return front

    def _read(self, study: StudyRecord) -> Snapshot:
        key = (study.id, study.created_at)
        running = self._store.driver(study.id) is not None
        with self._lock:
            old = self._kept.get(key)
            changes = self._store.changes_since(study.id, old.study.revision if old else 0)
            if old is not None and changes.study.revision < old.study.revision:
                # the store was put back from a backup
                old, changes = None, self._store.changes_since(study.id)
            if old is not None and not changes.trials:
                new = replace(old, study=changes.study, is_running=running)
            else:
                trials = {} if old is None else {t.number: t for t in old.trials}
                trials.update((t.number, t) for t in changes.trials)
                ordered = tuple(trials[number] for number in sorted(trials))
                new = Snapshot(
                    study=changes.study,
                    trials=ordered,
                    front=front_of(ordered, study.objectives, study.reference_point),
                    axes=axes_of(study, ordered),
                    is_running=running,
                )
            self._kept[key] = new
            self._kept.move_to_end(key)
            while len(self._kept) > KEPT_STUDIES:
                self._kept.popitem(last=False)
        return new


def bests(front: Front) -> tuple[tuple[str, str], ...]:
    """Per objective its title and the best value of the front, for a cost also the worst."""
    found = []
    for objective in front.objectives:
        values = [v for m in front.members if (v := m.value(objective.name)) is not None]
        text = texts.NONE
        if values and objective.is_cost:
            text = texts.span(min(values), max(values), objective.unit)
        elif values:
            text = texts.quantity(max(values), objective.unit)
        found.append((title_of(objective.name, ""), text))
    return tuple(found)


def standing(trial: TrialPoint) -> str:
    """How a trial stands, in a word or two."""
    if trial.state is TrialState.COMPLETE and not trial.is_feasible:
        return "breaks a constraint"
    return {
        TrialState.RUNNING: "running",
        TrialState.COMPLETE: "complete",
        TrialState.PRUNED: "stopped early",
        TrialState.INFEASIBLE: "infeasible",
        TrialState.DUPLICATE: "duplicate",
        TrialState.FAILED: "failed",
    }[trial.state]


# picks and the table


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """A member of the front that somebody may want.

    Attributes:
        why: In a few words.
        trial: The trial.
    """

    why: str
    trial: TrialPoint


def picks(front: Front) -> tuple[Pick, ...]:
    """The knee, and the best member in each objective."""
    balanced = knee(front)
    if balanced is None:
        return ()
    found = [Pick(why="Best balance (knee of the front)", trial=balanced)]
    for o in front.objectives:
        sign = 1 if o.is_cost else -1
        best = min(front.members, key=lambda m: (sign * (m.value(o.name) or 0.0), m.number))
        title = title_of(o.name, "").lower()
        found.append(Pick(why=f"{'Lowest' if o.is_cost else 'Highest'} {title}", trial=best))
    return tuple(found)


def table_rows(
    snapshot: Snapshot, *, since: int = 0, also: Collection[int] = ()
) -> tuple[dict[str, Any], ...]:
    """Rows of the table of trials, of those that changed after a revision, and of some others.

    The field of the i-th axis is ``m<i>``: a name of an objective may hold dots, which the grid
    would take for a path.
    """
    members = {m.number for m in snapshot.front.members}
    rows = []
    for trial in snapshot.trials:
        if trial.revision <= since and trial.number not in also:
            continue
        row: dict[str, Any] = {
            "number": trial.number,
            "state": standing(trial),
            "front": "yes" if trial.number in members else "",
            "epochs": trial.fidelity,
            "seconds": None if trial.finished_at is None else trial.finished_at - trial.started_at,
            "started": texts.moment(trial.started_at),
        }
        row.update((f"m{i}", axis.value(trial)) for i, axis in enumerate(snapshot.axes))
        rows.append(row)
    return tuple(rows)
