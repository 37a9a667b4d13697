"""The store: the only way to SQL.

Every writing method is one transaction. Several processes may read and write one store; one of
them at a time drives a study, which a lease sees to.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, CursorResult, Engine, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from bitfront.evaluators.latency import LatencySetting, LayerTime
from bitfront.evaluators.measurement import Measurement
from bitfront.search.record import (
    CurvePoint,
    EnergyEntry,
    ExportRecord,
    Retraining,
    StudyObjective,
    StudyRecord,
    StudyState,
    TrialRecord,
    TrialState,
    check_name,
)
from bitfront.search.store import layer_tables, rows
from bitfront.search.store.connection import WRITES, open_engine, translated
from bitfront.search.store.errors import (
    LeaseLost,
    StoreConflict,
    StoreError,
    StudyBusy,
    UnknownRecord,
)
from bitfront.search.store.leases import Lease, host_id, own_start
from bitfront.search.store.location import Location, locate
from bitfront.search.store.reading import StoreReader, no_trial
from bitfront.search.store.schema import exports, leases, retrainings, studies, trials

_ENDS: Final = (
    TrialState.COMPLETE,
    TrialState.PRUNED,
    TrialState.INFEASIBLE,
    TrialState.FAILED,
)


class _Standing(NamedTuple):
    """What a change of a trial has to know of it."""

    id: int
    state: str
    attempt: int
    fidelity: int
    full_fidelity: int
    revision: int


def open_store(url: str, *, create: bool, read_only: bool = False) -> Store:
    """Open a store.

    Args:
        url: A file (``bitfront.db``), ``sqlite:///FILE``, or ``postgresql://...``.
        create: Whether to create it if there is none.
        read_only: Whether every write shall be refused; never creates.

    Raises:
        StoreError: If it cannot be opened, is no bitfront store, or has another schema version.
    """
    location = locate(url)
    return Store(location, open_engine(location, create=create, read_only=read_only), read_only)


class Store(StoreReader):
    """An open store; ``open_store`` makes it. Its methods may be called from several threads.

    What can be read is in ``StoreReader``; what writes is here, each method one transaction. Every
    method raises ``StoreError`` if the database fails, and ``UnknownRecord`` if the study or the
    trial that it names does not exist.
    """

    def __init__(self, location: Location, engine: Engine, read_only: bool) -> None:
        super().__init__(location, engine, read_only)
        self._writer = engine.execution_options(**{WRITES: True})
        # leases that this store holds, by study
        self._tokens: dict[int, str] = {}

    # studies

    def create_study(
        self,
        name: str,
        *,
        config: Mapping[str, Any],
        objectives: Sequence[StudyObjective],
        reference_point: Mapping[str, float],
        dataset: str,
        dataset_digest: str,
        seed: int,
    ) -> StudyRecord:
        """Create a study.

        Args:
            name: 1 to 200 characters, stored verbatim.
            config: The search configuration; JSON data.
            objectives: At least one.
            reference_point: Worst value of each objective in its own unit; never changes.
            dataset: Name of the data set.
            dataset_digest: Of its content and split.
            seed: Of the study.

        Raises:
            InvalidValue: If a value breaks a rule.
            StoreConflict: If the name is taken.
        """
        study = StudyRecord(
            id=0,
            name=name,
            config=config,
            objectives=tuple(objectives),
            reference_point=reference_point,
            dataset=dataset,
            dataset_digest=dataset_digest,
            seed=seed,
            created_at=time.time(),
        )
        with self._writing() as connection:
            with self._unique(f"The store {self.url} has a study {name!r} already."):
                inserted = connection.execute(insert(studies).values(rows.study_values(study)))
            return replace(study, id=_new_id(inserted))

    def rename_study(self, study_id: int, name: str) -> StudyRecord:
        """Rename a study, also while it runs.

        Raises:
            InvalidValue: If the name is not allowed.
            StoreConflict: If it is taken.
        """
        check_name(name)
        with self._changing(study_id) as (connection, _):
            with self._unique(f"The store {self.url} has a study {name!r} already."):
                self._update_study(connection, study_id, name=name)
            return self._study(connection, study_id)

    def delete_study(self, study_id: int) -> None:
        """Delete a study with everything that hangs on it.

        Raises:
            StudyBusy: If a driver is at work on it.
        """
        with self._changing(study_id) as (connection, _):
            self._require_idle(connection, study_id)
            connection.execute(delete(studies).where(studies.c.id == study_id))

    def set_study_config(self, study_id: int, config: Mapping[str, Any]) -> None:
        """Replace the configuration of a study: a later run may have another budget.

        Raises:
            InvalidValue: If it is no JSON data.
        """
        with self._changing(study_id) as (connection, _):
            self._update_study(connection, study_id, config=rows.document(dict(config)))

    def set_study_state(self, study_id: int, state: StudyState, message: str = "") -> None:
        """Set where a study stands, with one sentence on how its last run ended."""
        with self._changing(study_id) as (connection, _):
            self._update_study(connection, study_id, state=state.value, message=rows.plain(message))

    # trials

    def add_trial(self, study_id: int, trial: TrialRecord) -> None:
        """Add a trial that was proposed; ``record.new_trial`` makes the record.

        Raises:
            StoreConflict: If the number is taken.
            InvalidValue: If a document has no JSON form.
        """
        with self._changing(study_id) as (connection, revision):
            values = rows.trial_values(study_id, trial)
            with self._unique(f"The study has a trial {trial.number} already."):
                inserted = connection.execute(insert(trials).values(**values, revision=revision))
            trial_id = _new_id(inserted)
            if trial.measurements:
                rows.write_measurements(connection, trial_id, trial.measurements)
            if trial.curve:
                rows.write_curve(connection, trial_id, {p.epoch: p for p in trial.curve})

    def append_curve(self, study_id: int, number: int, points: Sequence[CurvePoint]) -> None:
        """Add epochs to a trial's curve and raise its fidelity to the last of them.

        An epoch that was trained once more, after a fault, replaces the former one.
        """
        if not points:
            return
        with self._changing_trial(study_id, number) as (connection, row):
            rows.write_curve(connection, row.id, {p.epoch: p for p in points})
            fidelity = max(row.fidelity, *(p.epoch for p in points))
            self._update_trial(connection, row.id, fidelity=fidelity)

    def set_checkpoint(self, study_id: int, number: int, path: str | None) -> None:
        """Set the path of a trial's last checkpoint, or None when it was collected."""
        with self._changing_trial(study_id, number) as (connection, row):
            self._update_trial(connection, row.id, checkpoint=path)

    def add_measurements(
        self, study_id: int, number: int, measurements: Iterable[Measurement]
    ) -> None:
        """Add measurements to a trial, finished or not.

        One of the same objective, hardware and method is replaced; the others come after what is
        there, so ``trial.measurement(objective)`` remains what the search ran on.
        """
        with self._changing_trial(study_id, number) as (connection, row):
            rows.write_measurements(connection, row.id, measurements)

    def finish_trial(
        self,
        study_id: int,
        number: int,
        *,
        state: TrialState,
        measurements: Iterable[Measurement] = (),
        constraints: Mapping[str, float] | None = None,
        attributes: Mapping[str, Any] | None = None,
        fidelity: int | None = None,
        error: str = "",
        energy: Iterable[EnergyEntry] = (),
    ) -> TrialRecord:
        """End a RUNNING trial.

        Args:
            study_id: The study.
            number: The trial.
            state: COMPLETE, PRUNED, INFEASIBLE or FAILED.
            measurements: Added to those it has.
            constraints: Violations that only the training could show, added to those it has.
            attributes: What the sampler needs for replay; None keeps what is there.
            fidelity: Epochs trained; None keeps what the curve gave.
            error: Why it failed.
            energy: Added to the ledger, in the same transaction.

        Returns:
            The trial as it is now.

        Raises:
            StoreConflict: If it is finished already; or if it shall be COMPLETE without full
                fidelity or without a measurement of every objective.
        """
        if state not in _ENDS:
            raise StoreConflict(f"A trial ends as one of {', '.join(_ENDS)}, but got {state}.")
        with self._changing_trial(study_id, number) as (connection, row):
            if row.state != TrialState.RUNNING:
                raise StoreConflict(
                    f"Trial {number} is {row.state} and cannot be finished as {state}."
                )
            known = rows.write_measurements(connection, row.id, measurements)
            epochs = row.fidelity if fidelity is None else fidelity
            if state is TrialState.COMPLETE:
                missing = [
                    o.name
                    for o in self._study(connection, study_id).objectives
                    if all(m.objective != o.name for m in known)
                ]
                if missing or epochs < row.full_fidelity:
                    raise StoreConflict(
                        f"A COMPLETE trial has every objective and {row.full_fidelity} epochs, but "
                        f"trial {number} has {epochs} and lacks {', '.join(missing) or 'nothing'}."
                    )
            former = self._record(connection, study_id, number)
            self._update_trial(
                connection,
                row.id,
                state=state.value,
                fidelity=epochs,
                error=rows.plain(error),
                finished_at=time.time(),
                constraints=rows.document({**former.constraints, **(constraints or {})}),
                attributes=rows.document(
                    dict(former.attributes if attributes is None else attributes)
                ),
            )
            self._add_energy(connection, study_id, energy, row.revision)
            return self._record(connection, study_id, number)

    def requeue(self, study_id: int, number: int) -> TrialRecord:
        """Start the next attempt of a RUNNING trial whose driver or worker is gone.

        Its checkpoint and its curve remain, the attempt grows by one.

        Raises:
            StoreConflict: If the trial is finished.
        """
        with self._changing_trial(study_id, number) as (connection, row):
            if row.state != TrialState.RUNNING:
                raise StoreConflict(f"Trial {number} is {row.state} and cannot be queued again.")
            self._update_trial(connection, row.id, attempt=row.attempt + 1)
            return self._record(connection, study_id, number)

    # retrainings, exports, energy

    def add_retraining(self, study_id: int, retraining: Retraining) -> None:
        """Add a retraining; one of the same trial and seed is replaced."""
        with self._changing_trial(study_id, retraining.trial) as (connection, row):
            connection.execute(
                delete(retrainings).where(
                    retrainings.c.trial_id == row.id, retrainings.c.seed == retraining.seed
                )
            )
            connection.execute(
                insert(retrainings).values(
                    trial_id=row.id, **rows.values_of(retraining, retrainings)
                )
            )

    def add_export(self, study_id: int, export: ExportRecord) -> None:
        """Add an export; one of the same trial, format and path is replaced."""
        with self._changing_trial(study_id, export.trial) as (connection, row):
            connection.execute(
                delete(exports).where(
                    exports.c.trial_id == row.id,
                    exports.c.format == export.format,
                    exports.c.path == export.path,
                )
            )
            connection.execute(
                insert(exports).values(trial_id=row.id, **rows.values_of(export, exports))
            )

    def add_energy(self, study_id: int, entries: Iterable[EnergyEntry]) -> None:
        """Add energy to the ledger; that of a trial's account is added to the trial as well."""
        with self._changing(study_id) as (connection, revision):
            self._add_energy(connection, study_id, entries, revision)

    # layer times

    def add_layer_times(self, setting: LatencySetting, times: Iterable[LayerTime]) -> None:
        """Add layers to the table of a setting, or replace their times."""
        with self._writing() as connection:
            layer_tables.write_times(connection, setting, times)

    # the lease of a driver

    def acquire_lease(self, study_id: int) -> Lease:
        """Become the driver of a study; from now on, every write checks that this still holds.

        Raises:
            StudyBusy: If another driver is at work; the text names it.
        """
        with self._writing() as connection:
            connection.execute(
                select(studies.c.id).where(studies.c.id == study_id).with_for_update()
            )
            self._study(connection, study_id)
            self._require_idle(connection, study_id)
            lease = Lease(
                study_id=study_id,
                token=secrets.token_hex(16),
                host=socket.gethostname(),
                host_id=host_id(),
                pid=os.getpid(),
                process_started_at=own_start(),
                renewed_at=self._clock(connection),
            )
            connection.execute(delete(leases).where(leases.c.study_id == study_id))
            connection.execute(insert(leases).values(rows.values_of(lease, leases)))
        self._tokens[study_id] = lease.token
        return lease

    def renew_lease(self, lease: Lease) -> None:
        """Give a sign of life; to be called every 10 s or so.

        Raises:
            LeaseLost: If another driver has taken the study.
        """
        with self._writing() as connection:
            renewed = connection.execute(
                update(leases)
                .where(leases.c.study_id == lease.study_id, leases.c.token == lease.token)
                .values(renewed_at=self._clock(connection))
            )
            if renewed.rowcount == 0:
                raise LeaseLost(_lost(lease.study_id))

    def release_lease(self, lease: Lease) -> None:
        """Stop being the driver; without effect if another one has taken the study."""
        self._tokens.pop(lease.study_id, None)
        with self._writing() as connection:
            connection.execute(
                delete(leases).where(
                    leases.c.study_id == lease.study_id, leases.c.token == lease.token
                )
            )

    # inside a transaction

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        if self.read_only:
            raise StoreError(f"The store {self.url} is open for reading only.")
        with translated(self._location), self._writer.begin() as connection:
            yield connection

    @contextmanager
    def _changing(self, study_id: int) -> Iterator[tuple[Connection, int]]:
        """A transaction that changes a study: in line with the others, with its new revision."""
        with self._writing() as connection:
            self._update_study(connection, study_id, revision=studies.c.revision + 1)
            revision = connection.execute(
                select(studies.c.revision).where(studies.c.id == study_id)
            ).scalar_one()
            token = self._tokens.get(study_id)
            if token is not None:
                held = select(leases.c.token).where(leases.c.study_id == study_id)
                if connection.execute(held).scalar() != token:
                    raise LeaseLost(_lost(study_id))
            yield connection, revision

    @contextmanager
    def _changing_trial(self, study_id: int, number: int) -> Iterator[tuple[Connection, _Standing]]:
        """The same for one of its trials, which is stamped with the new revision."""
        with self._changing(study_id) as (connection, revision):
            connection.execute(
                update(trials)
                .where(trials.c.study_id == study_id, trials.c.number == number)
                .values(revision=revision)
            )
            row = connection.execute(
                select(*(trials.c[name] for name in _Standing._fields)).where(
                    trials.c.study_id == study_id, trials.c.number == number
                )
            ).first()
            if row is None:
                raise UnknownRecord(no_trial(self._study(connection, study_id), number))
            yield connection, _Standing(*row)

    def _update_study(self, connection: Connection, study_id: int, **values: Any) -> None:
        changed = connection.execute(
            update(studies).where(studies.c.id == study_id).values(**values)
        )
        if changed.rowcount == 0:
            raise UnknownRecord(f"The store {self.url} has no study of id {study_id}.")

    def _update_trial(self, connection: Connection, trial_id: int, **values: Any) -> None:
        connection.execute(update(trials).where(trials.c.id == trial_id).values(**values))

    @contextmanager
    def _unique(self, taken: str) -> Iterator[None]:
        """Turn a second row of one key into a ``StoreConflict``."""
        try:
            yield
        except IntegrityError:
            raise StoreConflict(taken) from None

    def _require_idle(self, connection: Connection, study_id: int) -> None:
        lease = self._live_lease(connection, study_id)
        if lease is not None:
            raise StudyBusy(
                f"The study {self._study(connection, study_id).name!r} is being searched by "
                f"process {lease.pid} on {lease.host}: stop that one first."
            )

    def _add_energy(
        self, connection: Connection, study_id: int, entries: Iterable[EnergyEntry], revision: int
    ) -> None:
        for entry in entries:
            if not rows.add_energy(connection, study_id, entry, revision):
                study = self._study(connection, study_id)
                raise UnknownRecord(no_trial(study, entry.trial or 0))


def _lost(study_id: int) -> str:
    return f"Another driver has taken the study of id {study_id}: this one stops."


def _new_id(inserted: CursorResult[Any]) -> int:
    key = inserted.inserted_primary_key
    if key is None:
        raise TypeError("An insert of one row gives its key.")
    return int(key[0])
