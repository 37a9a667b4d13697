"""What can be read from a store, without a lock that anybody waits for."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from types import TracebackType
from typing import Self

from sqlalchemy import Connection, Engine, func, select, text

from bitfront.evaluators.latency import LatencySetting, LayerTable
from bitfront.search.record import (
    CurvePoint,
    EnergyEntry,
    ExportRecord,
    Retraining,
    StudyRecord,
    TrialPoint,
    TrialRecord,
    TrialState,
)
from bitfront.search.store import layer_tables, rows
from bitfront.search.store.connection import translated
from bitfront.search.store.errors import UnknownRecord
from bitfront.search.store.leases import Lease
from bitfront.search.store.location import Location
from bitfront.search.store.schema import leases, studies, trials


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What changed in a study.

    Attributes:
        study: As it is now.
        cursor: To be given to the next ``changes_since``.
        trials: The trials that changed, as they are now, by number.
    """

    study: StudyRecord
    cursor: int
    trials: tuple[TrialPoint, ...]


class StoreReader:
    """The reading half of a ``Store``.

    Every method reads one state of the database in a constant number of statements, and raises
    ``StoreError`` if the database fails, ``UnknownRecord`` if the study or trial does not exist.
    """

    def __init__(self, location: Location, engine: Engine, read_only: bool) -> None:
        self._location = location
        self._engine = engine
        self._is_server = engine.dialect.name == "postgresql"
        # all statements of a read see one state of the database; in SQLite they do anyway
        isolation = {"isolation_level": "REPEATABLE READ"} if self._is_server else {}
        self._reader = engine.execution_options(**isolation)
        self.read_only = read_only

    @property
    def url(self) -> str:
        """Where the store is, for texts: passwords are masked."""
        return self._location.shown

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def load_study(self, name: str) -> StudyRecord:
        """Return the study of a name.

        Raises:
            UnknownRecord: If there is none; the text suggests the nearest.
        """
        with self._reading() as connection:
            row = (
                connection.execute(select(studies).where(studies.c.name == name)).mappings().first()
            )
            if row is not None:
                return rows.study_of(row)
            names = list(
                connection.execute(select(studies.c.name).order_by(studies.c.id)).scalars()
            )
        near = get_close_matches(name, names, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        known = ", ".join(map(repr, names[-10:])) or "none"
        raise UnknownRecord(
            f"The store {self.url} has no study {name!r}.{hint} Its studies: {known}."
        )

    def study(self, study_id: int) -> StudyRecord:
        """Return the study of an id."""
        with self._reading() as connection:
            return self._study(connection, study_id)

    def list_studies(self) -> tuple[StudyRecord, ...]:
        """Return all studies, in the order of their creation."""
        with self._reading() as connection:
            found = connection.execute(select(studies).order_by(studies.c.id))
            return tuple(rows.study_of(row) for row in found.mappings())

    def counts(self) -> dict[int, dict[TrialState, int]]:
        """Return the number of trials in each state, by study id; every state has a number."""
        with self._reading() as connection:
            ids = connection.execute(select(studies.c.id)).scalars()
            counted = {study_id: dict.fromkeys(TrialState, 0) for study_id in ids}
            grouped = select(trials.c.study_id, trials.c.state, func.count()).group_by(
                trials.c.study_id, trials.c.state
            )
            for study_id, state, count in connection.execute(grouped):
                counted[study_id][TrialState(state)] = count
        return counted

    def trial(self, study_id: int, number: int) -> TrialRecord:
        """Return one trial with everything that is kept of it."""
        with self._reading() as connection:
            self._study(connection, study_id)
            return self._record(connection, study_id, number)

    def trials(
        self,
        study_id: int,
        *,
        states: Collection[TrialState] | None = None,
        after: int = -1,
        limit: int | None = None,
    ) -> tuple[TrialRecord, ...]:
        """Return trials with everything that is kept of them, by number.

        Args:
            study_id: The study.
            states: Only these; None means all.
            after: Only numbers above this one: the last number of the page before.
            limit: Length of a page; None means all.
        """
        with self._reading() as connection:
            self._study(connection, study_id)
            chosen = rows.selection(study_id, states=states, after=after, limit=limit)
            return rows.read_records(connection, chosen)

    def points(
        self, study_id: int, *, states: Collection[TrialState] | None = None
    ) -> tuple[TrialPoint, ...]:
        """Return trials without their documents, by number."""
        with self._reading() as connection:
            self._study(connection, study_id)
            return rows.read_points(connection, rows.selection(study_id, states=states))

    def changes_since(self, study_id: int, cursor: int = 0) -> Changes:
        """Return what changed after a cursor; the first one is 0.

        Raises:
            UnknownRecord: If the study has been deleted.
        """
        with self._reading() as connection:
            study = self._study(connection, study_id)
            if cursor >= study.revision:
                return Changes(study=study, cursor=study.revision, trials=())
            changed = rows.read_points(connection, rows.selection(study_id, since=cursor))
            return Changes(study=study, cursor=study.revision, trials=changed)

    def curves(self, study_id: int, *, since: int = 0) -> dict[int, tuple[CurvePoint, ...]]:
        """Return whole curves by trial number, of the trials that changed after a cursor."""
        with self._reading() as connection:
            self._study(connection, study_id)
            return rows.read_curves(connection, rows.selection(study_id, since=since))

    def retrainings(self, study_id: int) -> tuple[Retraining, ...]:
        """Return the retrainings of a study, by trial and seed."""
        with self._reading() as connection:
            self._study(connection, study_id)
            return rows.read_retrainings(connection, study_id)

    def exports(self, study_id: int) -> tuple[ExportRecord, ...]:
        """Return the exports of a study, by trial and time."""
        with self._reading() as connection:
            self._study(connection, study_id)
            return rows.read_exports(connection, study_id)

    def energy(self, study_id: int) -> tuple[EnergyEntry, ...]:
        """Return the energy ledger: one entry per account and method."""
        with self._reading() as connection:
            self._study(connection, study_id)
            return rows.read_energy(connection, study_id)

    def driver(self, study_id: int) -> Lease | None:
        """Return the lease of the driver that is at work on a study, None if there is none."""
        with self._reading() as connection:
            self._study(connection, study_id)
            return self._live_lease(connection, study_id)

    def layer_table(self, setting: LatencySetting) -> LayerTable:
        """Return the layer times of a setting; an empty table if there are none."""
        with self._reading() as connection:
            return layer_tables.read_table(connection, setting)

    def layer_tables(self) -> tuple[LayerTable, ...]:
        """Return all tables of layer times, in the order of their creation."""
        with self._reading() as connection:
            return layer_tables.read_tables(connection)

    # inside a transaction

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with translated(self._location), self._reader.begin() as connection:
            yield connection

    def _study(self, connection: Connection, study_id: int) -> StudyRecord:
        study = rows.read_study(connection, study_id)
        if study is None:
            raise UnknownRecord(f"The store {self.url} has no study of id {study_id}.")
        return study

    def _record(self, connection: Connection, study_id: int, number: int) -> TrialRecord:
        found = rows.read_records(connection, rows.selection(study_id, number=number))
        if not found:
            raise UnknownRecord(no_trial(self._study(connection, study_id), number))
        return found[0]

    def _live_lease(self, connection: Connection, study_id: int) -> Lease | None:
        held = select(leases).where(leases.c.study_id == study_id)
        row = connection.execute(held).mappings().first()
        lease = None if row is None else Lease(**row)
        return lease if lease is not None and lease.is_live(self._clock(connection)) else None

    def _clock(self, connection: Connection) -> float:
        """Seconds since 1970-01-01 UTC, by the one clock that all drivers of a store share."""
        if not self._is_server:
            return time.time()
        return float(
            connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one()
        )


def no_trial(study: StudyRecord, number: int) -> str:
    """The sentence for a trial that does not exist."""
    return f"The study {study.name!r} has no trial {number}."
