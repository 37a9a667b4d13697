"""What `bitfront store` does: upgrade, check, back up."""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, Table, func, select
from sqlalchemy.exc import SQLAlchemyError

from bitfront.search.record import StudyRecord, TrialRecord, TrialState, trial_account
from bitfront.search.store import rows
from bitfront.search.store.connection import (
    WRITES,
    open_engine,
    require_version,
    stored_version,
    translated,
    whole_file,
)
from bitfront.search.store.errors import StoreError, StudyBusy
from bitfront.search.store.leases import Lease
from bitfront.search.store.location import Location, locate
from bitfront.search.store.schema import VERSION, leases, metadata, studies, trials
from bitfront.spaces.errors import InvalidValue

_PAGE: Final = 500
_MAX_PROBLEMS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreCheck:
    """What a check of a store found.

    Attributes:
        url: Where it is; passwords are masked.
        version: Of its schema.
        studies: Number of studies.
        trials: Number of trials.
        problems: One sentence each; empty if all is well.
    """

    url: str
    version: str
    studies: int
    trials: int
    problems: tuple[str, ...]


def upgrade(url: str) -> tuple[str, str]:
    """Bring a store to the present schema, in one transaction.

    Returns:
        The version that it had, and the one that it has.

    Raises:
        StoreError: If it is no store, a newer bitfront wrote it, or a search is at work on it.
    """
    location = locate(url)
    engine = open_engine(location, create=False, read_only=False, for_upgrade=True)
    try:
        with (
            translated(location),
            engine.execution_options(**{WRITES: True}).begin() as connection,
        ):
            version = stored_version(connection)
            if version is None or version > VERSION:
                require_version(location, version)
            elif version < VERSION:
                _migrate(location, connection)
            return str(version), VERSION
    finally:
        engine.dispose()


def _migrate(location: Location, connection: Connection) -> None:
    from alembic.util import CommandError

    from bitfront.search.store.migrating import migrate

    now = time.time()
    for row in connection.execute(select(leases)).mappings():
        lease = Lease(**row)
        if lease.is_live(now):
            raise StudyBusy(
                f"The store {location.shown} is in use by process {lease.pid} on {lease.host}: "
                "stop that search first."
            )
    try:
        migrate(connection)
    except CommandError as error:
        raise StoreError(f"The store {location.shown} cannot be upgraded: {error}.") from error
    orphans = list(_orphans(connection))
    if orphans:
        raise StoreError(f"The store {location.shown} cannot be upgraded: {orphans[0]}")


def backup(url: str, target: str | Path) -> None:
    """Copy a SQLite store, also while a search writes to it.

    Args:
        url: The store.
        target: A file that does not exist yet.

    Raises:
        StoreError: If the store is on PostgreSQL, or the target cannot be written.
    """
    location = locate(url)
    if location.path is None:
        raise StoreError(
            f"The store {location.shown} is on PostgreSQL, whose own `pg_dump` makes its backups."
        )
    path = Path(target).expanduser().absolute()
    if path.exists():
        raise StoreError(f"A backup goes to a new file, but {target} exists already.")
    if not path.parent.is_dir():
        raise StoreError(
            f"The backup {target} cannot be written: there is no folder {path.parent}."
        )
    engine = open_engine(location, create=False, read_only=True)
    try:
        with translated(location), whole_file(path) as new, engine.connect() as connection:
            source = connection.connection.driver_connection
            if not isinstance(source, sqlite3.Connection):
                raise TypeError("A file is opened by sqlite3.")
            with closing(sqlite3.connect(new)) as copy:
                source.backup(copy)
                found = copy.execute("PRAGMA integrity_check").fetchone()[0]
            if found != "ok":
                raise StoreError(f"The store {location.shown} is damaged ({found}).")
    except OSError as error:
        raise StoreError(f"The backup {target} cannot be written: {error.strerror}.") from error
    finally:
        engine.dispose()


def check(url: str) -> StoreCheck:
    """Check the file, the tables, and what must hold between the rows.

    Raises:
        StoreError: If the store cannot be opened at all.
    """
    location = locate(url)
    engine = open_engine(location, create=False, read_only=True)
    counted = [0, 0]
    problems: list[str] = []
    try:
        with engine.begin() as connection:
            for problem in _problems(connection, engine):
                problems.append(problem)
                if len(problems) == _MAX_PROBLEMS:
                    problems.append(f"Only the first {_MAX_PROBLEMS} problems are listed.")
                    break
            for i, table in enumerate((studies, trials)):
                counted[i] = connection.execute(
                    select(func.count()).select_from(table)
                ).scalar_one()
    except (SQLAlchemyError, StoreError) as error:
        reason = str(getattr(error, "orig", error)).splitlines()[0]
        problems.append(f"The store cannot be read through: {reason}.")
    finally:
        engine.dispose()
    return StoreCheck(
        url=location.shown,
        version=VERSION,
        studies=counted[0],
        trials=counted[1],
        problems=tuple(problems),
    )


def _problems(connection: Connection, engine: Engine) -> Iterator[str]:
    if engine.dialect.name == "sqlite":
        for (found,) in connection.exec_driver_sql("PRAGMA integrity_check(20)"):
            if found != "ok":
                yield f"The file is damaged: {found}."
    for difference in schema_differences(connection):
        yield f"The tables are not those of schema {VERSION}: {difference}."
    yield from _orphans(connection)
    ids = list(connection.execute(select(studies.c.id).order_by(studies.c.id)).scalars())
    for study_id in ids:
        try:
            study = rows.read_study(connection, study_id)
            if study is not None:
                yield from _study_problems(connection, study)
        except (InvalidValue, ValueError, TypeError, KeyError) as error:
            yield f"The study of id {study_id} cannot be read: {error}."


def schema_differences(connection: Connection) -> list[str]:
    """How the tables differ from those of ``schema.py``; other tables do not count."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    def is_ours(name: str | None, kind: str, parents: Any) -> bool:
        return kind != "table" or name in metadata.tables

    context = MigrationContext.configure(
        connection, opts={"include_name": is_ours, "compare_type": True}
    )
    return [str(difference) for difference in compare_metadata(context, metadata)]


def _orphans(connection: Connection) -> Iterator[str]:
    for table in metadata.sorted_tables:
        for key in table.foreign_keys:
            parent: Table = key.column.table
            lost = (
                select(func.count())
                .select_from(table.outerjoin(parent, key.parent == key.column))
                .where(key.column.is_(None))
            )
            count = connection.execute(lost).scalar_one()
            if count:
                yield f"{count} rows of {table.name} have no row of {parent.name}."


def _study_problems(connection: Connection, study: StudyRecord) -> Iterator[str]:
    spent: dict[str, float] = {}
    for entry in rows.read_energy(connection, study.id):
        spent[entry.account] = spent.get(entry.account, 0.0) + entry.kwh
    of_study = select(trials.c.number).where(trials.c.study_id == study.id)
    numbers = set(connection.execute(of_study).scalars())
    after = -1
    while True:
        page = rows.selection(study.id, after=after, limit=_PAGE)
        records = rows.read_records(connection, page)
        for trial in records:
            for problem in _trial_problems(study, trial, spent, numbers):
                yield f"Trial {trial.number} of {study.name!r} {problem}."
        if len(records) < _PAGE:
            return
        after = records[-1].number


def _trial_problems(
    study: StudyRecord, trial: TrialRecord, spent: dict[str, float], numbers: set[int]
) -> Iterator[str]:
    if trial.state is TrialState.COMPLETE:
        for objective in study.objectives:
            if trial.value(objective.name) is None:
                yield f"is COMPLETE without a measurement of {objective.name}"
        if trial.fidelity < trial.full_fidelity:
            yield f"is COMPLETE after {trial.fidelity} of {trial.full_fidelity} epochs"
    if trial.curve and trial.curve[-1].epoch > trial.fidelity:
        yield f"has a curve of {trial.curve[-1].epoch} epochs but fidelity {trial.fidelity}"
    if trial.duplicate_of is not None and trial.duplicate_of not in numbers:
        yield f"is a duplicate of trial {trial.duplicate_of}, which does not exist"
    ledger = spent.get(trial_account(trial.number), 0.0)
    if not math.isclose(ledger, trial.energy_kwh, rel_tol=1e-9, abs_tol=1e-15):
        yield f"has {trial.energy_kwh} kWh but {ledger} kWh in the ledger"
    try:
        candidate = trial.candidate
    except InvalidValue as error:
        yield f"has a candidate that cannot be read: {str(error).rstrip('.')}"
        return
    digests = (
        (None, None) if candidate is None else (candidate.digest, candidate.architecture.digest)
    )
    if digests != (trial.candidate_digest, trial.architecture_digest):
        yield "has digests that are not those of its candidate"
