"""Driving a study: the lease, the energy ledger, and what both searching and retraining tell."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from bitfront.evaluators.training.data import load_dataset
from bitfront.search.carbon import carbon_g
from bitfront.search.config import SearchConfig
from bitfront.search.meter import NodeEnergyMeter
from bitfront.search.record import EnergyEntry, StudyRecord
from bitfront.search.stopping import Stop, StopReason
from bitfront.search.store import Lease, LeaseLost, Store, StoreError
from bitfront.search.store.leases import host_id
from bitfront.spaces import Task

_log = logging.getLogger(__name__)
RENEW_S: Final = 10.0
BOOK_S: Final = 5.0
WATCH_S: Final = 0.25


@contextmanager
def driving(store: Store, study: StudyRecord, stop: Stop) -> Iterator[Lease]:
    """Be the study's only driver inside; a thread gives signs of life.

    Raises:
        StudyBusy: If another driver is at work.
    """
    lease = store.acquire_lease(study.id)
    done = threading.Event()

    def renew() -> None:
        while not done.wait(RENEW_S):
            try:
                store.renew_lease(lease)
            except LeaseLost:
                _log.error("Another driver has taken the study %r: this one stops.", study.name)
                stop.set(StopReason.ERROR)
                return
            except StoreError as error:
                # the lease outlives a few missed signs
                _log.warning("The lease could not be renewed: %s", error)

    keeper = threading.Thread(target=renew, name="bitfront-lease", daemon=True)
    keeper.start()
    try:
        yield lease
    finally:
        done.set()
        keeper.join()
        store.release_lease(lease)


class Ledger:
    """Books the energy of a run in its study, and ends the run when a budget is used up.

    Args:
        store: Of the study.
        study: Whose ledger it is.
        config: Its budgets, grid and PUE.
        meter: Of this machine; started and stopped by ``running``.
        stop: Set when a budget is used up.
    """

    def __init__(
        self,
        store: Store,
        study: StudyRecord,
        config: SearchConfig,
        stop: Stop,
        meter: NodeEnergyMeter | None = None,
    ) -> None:
        self._store = store
        self._study = study
        self._config = config
        self._stop = stop
        self._meter = meter or NodeEnergyMeter()
        self._before_kwh = sum(entry.kwh for entry in store.energy(study.id))
        self._booked_at = time.monotonic()

    @property
    def run_kwh(self) -> float:
        """Energy of this machine in this run."""
        return self._meter.node_kwh

    @property
    def study_kwh(self) -> float:
        """Energy of the study, its earlier runs included."""
        return self._before_kwh + self.run_kwh

    @contextmanager
    def running(self) -> Iterator[None]:
        """Measure inside; everything is booked at the end."""
        with self._meter:
            yield
        self.book()

    def begin(self, account: str, report: Mapping[str, Any]) -> None:
        """A worker trains for an account; one on another machine is not seen by this meter."""
        if report["host"] == host_id():
            self._meter.attach(account, int(report["pid"]), report["gpus"])

    def end(self, account: str) -> tuple[EnergyEntry, ...]:
        """It has ended; returns all energy that is not booked yet, for the caller to book."""
        self._meter.detach(account)
        return self._meter.drain()

    def tick(self) -> None:
        """Book now and then, and compare with the budgets."""
        now = time.monotonic()
        if now - self._booked_at >= BOOK_S:
            self._booked_at = now
            self.book()
        budget_kwh, budget_g = self._config.budget_kwh, self._config.budget_co2_g
        if budget_kwh is not None and self.study_kwh >= budget_kwh:
            self._stop.set(StopReason.ENERGY)
        if budget_g is not None:
            grams = carbon_g(self.study_kwh, self._config.grid, self._config.pue)
            if grams >= budget_g:
                self._stop.set(StopReason.CARBON)

    def book(self) -> None:
        """Write what was used since the last time to the study's ledger."""
        entries = self._meter.drain()
        if entries:
            self._store.add_energy(self._study.id, entries)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedData:
    """What a driver keeps of a data set, which itself is for the workers.

    Attributes:
        name: That loads it again.
        digest: Of its content and splits.
        task: What a space is asked for.
    """

    name: str
    digest: str
    task: Task


def load_task(config: SearchConfig) -> LoadedData:
    """Load the data set once, to know that it is there and what it is.

    Raises:
        InvalidValue: If its files are broken.
        DataMissing: If they are missing and cannot be fetched.
    """
    data = load_dataset(config.dataset, data_dir=config.data_dir)
    return LoadedData(name=data.name, digest=data.digest, task=data.task(config.epochs))
