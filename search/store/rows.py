"""Rows of the tables to records and back; the statements that read many trials at once."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from sqlalchemy import Connection, Select, Table, delete, insert, select, update
from sqlalchemy.engine import RowMapping

from bitfront.evaluators.measurement import Measurement
from bitfront.search.record import (
    CurvePoint,
    EnergyEntry,
    ExportRecord,
    Retraining,
    StudyObjective,
    StudyRecord,
    StudyState,
    TrialPoint,
    TrialRecord,
    TrialState,
)
from bitfront.search.store.schema import (
    curve_points,
    energy,
    exports,
    measurements,
    retrainings,
    studies,
    trials,
)
from bitfront.spaces.errors import InvalidValue

# what a TrialPoint leaves out
_DOCUMENTS: Final = ("candidate", "attributes", "error", "checkpoint")
_POINT_COLUMNS: Final = [c for c in trials.c if c.name not in _DOCUMENTS]
_MEASURED: Final = [c for c in measurements.c if c.name not in ("trial_id", "position")]
_CURVE: Final = [c for c in curve_points.c if c.name != "trial_id"]


def document(data: Any) -> str:
    """JSON text of plain data, in the order it has.

    Raises:
        InvalidValue: If it has no JSON form, or holds a number that is not finite.
    """
    try:
        return json.dumps(data, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidValue(f"What is stored must be JSON data: {error}.") from None


def plain(text: str) -> str:
    """Text of any origin, such as an error's, without what a database does not take."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


# studies


def study_values(study: StudyRecord) -> dict[str, Any]:
    """The columns of a study, without its id."""
    return {
        "name": study.name,
        "config": document(dict(study.config)),
        "objectives": document(
            [{"name": o.name, "unit": o.unit, "direction": o.direction} for o in study.objectives]
        ),
        "reference_point": document(dict(study.reference_point)),
        "dataset": study.dataset,
        "dataset_digest": study.dataset_digest,
        "seed": study.seed,
        "state": study.state.value,
        "message": plain(study.message),
        "created_at": study.created_at,
        "revision": study.revision,
    }


def study_of(row: RowMapping) -> StudyRecord:
    """The study of a row."""
    values = dict(row)
    values["config"] = json.loads(values["config"])
    values["objectives"] = tuple(StudyObjective(**o) for o in json.loads(values["objectives"]))
    values["reference_point"] = json.loads(values["reference_point"])
    values["state"] = StudyState(values["state"])
    return StudyRecord(**values)


def read_study(connection: Connection, study_id: int) -> StudyRecord | None:
    """The study of an id, None if there is none."""
    row = connection.execute(select(studies).where(studies.c.id == study_id)).mappings().first()
    return None if row is None else study_of(row)


# trials


def trial_values(study_id: int, trial: TrialRecord) -> dict[str, Any]:
    """The columns of a trial, without its id and revision."""
    return {
        "study_id": study_id,
        "number": trial.number,
        "state": trial.state.value,
        "seed": trial.seed,
        "fidelity": trial.fidelity,
        "full_fidelity": trial.full_fidelity,
        "attempt": trial.attempt,
        "decisions": document(dict(trial.decisions)),
        "constraints": document(dict(trial.constraints)),
        "attributes": document(dict(trial.attributes)),
        "candidate": trial.candidate_json,
        "candidate_digest": trial.candidate_digest,
        "architecture_digest": trial.architecture_digest,
        "error": plain(trial.error),
        "started_at": trial.started_at,
        "finished_at": trial.finished_at,
        "energy_kwh": trial.energy_kwh,
        "checkpoint": trial.checkpoint,
        "duplicate_of": trial.duplicate_of,
    }


def selection(
    study_id: int,
    *,
    states: Collection[TrialState] | None = None,
    after: int = -1,
    since: int = 0,
    number: int | None = None,
    limit: int | None = None,
) -> Select[Any]:
    """Select the ids of trials, by number.

    Args:
        study_id: The study.
        states: Only these; None means all.
        after: Only numbers above this one.
        since: Only what changed after this revision.
        number: Only this one.
        limit: At most so many.
    """
    chosen = select(trials.c.id).where(trials.c.study_id == study_id)
    if states is not None:
        chosen = chosen.where(trials.c.state.in_([state.value for state in states]))
    if after >= 0:
        chosen = chosen.where(trials.c.number > after)
    if since > 0:
        chosen = chosen.where(trials.c.revision > since)
    if number is not None:
        chosen = chosen.where(trials.c.number == number)
    if limit is not None:
        chosen = chosen.order_by(trials.c.number).limit(limit)
    return chosen


def read_points(connection: Connection, chosen: Select[Any]) -> tuple[TrialPoint, ...]:
    """The chosen trials without their documents; two statements, however many they are."""
    rows = connection.execute(
        select(*_POINT_COLUMNS).where(trials.c.id.in_(chosen)).order_by(trials.c.number)
    )
    measured = _measurements(connection, chosen)
    return tuple(
        TrialPoint(**_point_values(row, measured.get(row["id"], ()))) for row in rows.mappings()
    )


def read_records(connection: Connection, chosen: Select[Any]) -> tuple[TrialRecord, ...]:
    """The chosen trials with everything; three statements, however many they are."""
    rows = connection.execute(
        select(trials).where(trials.c.id.in_(chosen)).order_by(trials.c.number)
    )
    measured = _measurements(connection, chosen)
    curves = _curves(connection, chosen)
    return tuple(
        TrialRecord(
            **_point_values(row, measured.get(row["id"], ())),
            candidate_json=row["candidate"],
            attributes=json.loads(row["attributes"]),
            curve=curves.get(row["id"], ()),
            error=row["error"],
            checkpoint=row["checkpoint"],
        )
        for row in rows.mappings()
    )


def read_curves(connection: Connection, chosen: Select[Any]) -> dict[int, tuple[CurvePoint, ...]]:
    """Curves of the chosen trials by number; a trial without one is left out."""
    numbers = select(trials.c.id, trials.c.number).where(trials.c.id.in_(chosen))
    curves = _curves(connection, chosen)
    return {
        number: curves[trial_id]
        for trial_id, number in connection.execute(numbers.order_by(trials.c.number))
        if trial_id in curves
    }


def _point_values(row: RowMapping, measured: tuple[Measurement, ...]) -> dict[str, Any]:
    return {
        "number": row["number"],
        "state": TrialState(row["state"]),
        "decisions": json.loads(row["decisions"]),
        "candidate_digest": row["candidate_digest"],
        "architecture_digest": row["architecture_digest"],
        "seed": row["seed"],
        "fidelity": row["fidelity"],
        "full_fidelity": row["full_fidelity"],
        "attempt": row["attempt"],
        "measurements": measured,
        "constraints": json.loads(row["constraints"]),
        "energy_kwh": row["energy_kwh"],
        "started_at": row["started_at"],
        "finished_at": row["finished_at"],
        "duplicate_of": row["duplicate_of"],
        "revision": row["revision"],
    }


def _measurements(
    connection: Connection, chosen: Select[Any]
) -> dict[int, tuple[Measurement, ...]]:
    rows = connection.execute(
        select(measurements.c.trial_id, *_MEASURED)
        .where(measurements.c.trial_id.in_(chosen))
        .order_by(measurements.c.trial_id, measurements.c.position)
    )
    names = [c.name for c in _MEASURED]
    found: dict[int, list[Measurement]] = {}
    for trial_id, *values in rows:
        found.setdefault(trial_id, []).append(Measurement(**dict(zip(names, values, strict=True))))
    return {trial_id: tuple(values) for trial_id, values in found.items()}


def _curves(connection: Connection, chosen: Select[Any]) -> dict[int, tuple[CurvePoint, ...]]:
    rows = connection.execute(
        select(curve_points.c.trial_id, *_CURVE)
        .where(curve_points.c.trial_id.in_(chosen))
        .order_by(curve_points.c.trial_id, curve_points.c.epoch)
    )
    names = [c.name for c in _CURVE]
    found: dict[int, list[CurvePoint]] = {}
    for trial_id, *values in rows:
        found.setdefault(trial_id, []).append(CurvePoint(**dict(zip(names, values, strict=True))))
    return {trial_id: tuple(points) for trial_id, points in found.items()}


# what hangs on a trial


def write_measurements(
    connection: Connection, trial_id: int, new: Iterable[Measurement]
) -> tuple[Measurement, ...]:
    """Add measurements to a trial; one of equal objective, hardware and method is replaced.

    Returns:
        All measurements of the trial.
    """
    old = _measurements(connection, select(trials.c.id).where(trials.c.id == trial_id))
    merged = {_source(m): m for m in old.get(trial_id, ())}
    merged.update({_source(m): m for m in new})
    connection.execute(delete(measurements).where(measurements.c.trial_id == trial_id))
    if merged:
        names = [c.name for c in _MEASURED]
        connection.execute(
            insert(measurements),
            [
                {"trial_id": trial_id, "position": i, **{name: getattr(m, name) for name in names}}
                for i, m in enumerate(merged.values())
            ],
        )
    return tuple(merged.values())


def _source(m: Measurement) -> tuple[str, str, str]:
    return m.objective, m.hardware, m.method


def write_curve(connection: Connection, trial_id: int, points: Mapping[int, CurvePoint]) -> None:
    """Add points to a curve; an epoch that is there already is replaced."""
    connection.execute(
        delete(curve_points).where(
            curve_points.c.trial_id == trial_id, curve_points.c.epoch.in_(list(points))
        )
    )
    names = [c.name for c in _CURVE]
    connection.execute(
        insert(curve_points),
        [
            {"trial_id": trial_id, **{name: getattr(point, name) for name in names}}
            for point in points.values()
        ],
    )


def values_of(record: Any, table: Table) -> dict[str, Any]:
    """The columns of a table that a record has fields for."""
    return {c.name: getattr(record, c.name) for c in table.c if hasattr(record, c.name)}


def read_retrainings(connection: Connection, study_id: int) -> tuple[Retraining, ...]:
    """Retrainings of a study, by trial and seed."""
    columns = [c for c in retrainings.c if c.name != "trial_id"]
    rows = connection.execute(
        select(trials.c.number.label("trial"), *columns)
        .join(trials, trials.c.id == retrainings.c.trial_id)
        .where(trials.c.study_id == study_id)
        .order_by(trials.c.number, retrainings.c.seed)
    )
    return tuple(Retraining(**row) for row in rows.mappings())


def read_exports(connection: Connection, study_id: int) -> tuple[ExportRecord, ...]:
    """Exports of a study, by trial and time."""
    columns = [c for c in exports.c if c.name != "trial_id"]
    rows = connection.execute(
        select(trials.c.number.label("trial"), *columns)
        .join(trials, trials.c.id == exports.c.trial_id)
        .where(trials.c.study_id == study_id)
        .order_by(trials.c.number, exports.c.created_at)
    )
    return tuple(ExportRecord(**row) for row in rows.mappings())


def add_energy(connection: Connection, study_id: int, entry: EnergyEntry, revision: int) -> bool:
    """Add to the ledger, and to the trial if the account is a trial's; False if there is none."""
    account = (energy.c.account == entry.account) & (energy.c.method == entry.method)
    added = connection.execute(
        update(energy)
        .where(energy.c.study_id == study_id, account)
        .values(kwh=energy.c.kwh + entry.kwh)
    )
    if added.rowcount == 0:
        new = insert(energy).values(study_id=study_id, **values_of(entry, energy))
        connection.execute(new)
    if entry.trial is None:
        return True
    spent = connection.execute(
        update(trials)
        .where(trials.c.study_id == study_id, trials.c.number == entry.trial)
        .values(energy_kwh=trials.c.energy_kwh + entry.kwh, revision=revision)
    )
    return spent.rowcount == 1


def read_energy(connection: Connection, study_id: int) -> tuple[EnergyEntry, ...]:
    """The energy ledger of a study, by account."""
    rows = connection.execute(
        select(energy.c.account, energy.c.kwh, energy.c.method).where(energy.c.study_id == study_id)
    )
    entries = [EnergyEntry(**row) for row in rows.mappings()]
    return tuple(sorted(entries, key=_account_order))


def _account_order(entry: EnergyEntry) -> tuple[bool, int, str, str]:
    return entry.trial is not None, entry.trial or 0, entry.account, entry.method
