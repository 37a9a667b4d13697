"""The energy ledger of a machine: one meter per machine, never one per worker.

A meter per worker counts the machine once for each of them. This one reads the machine's counters,
hands every interval's energy to the accounts that were at work in it, and books the rest as
overhead, so that

    sum over accounts (overhead is one) = energy of the machine

however many workers there are. The processor's and the memory's energy is shared by processor
time, the idle part included; what processes without an account used is overhead. A GPU's energy is
shared equally by the accounts on it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Protocol, Self

import psutil

from bitfront.search.counters import EnergySource, Unknown, find_sources
from bitfront.search.record import OVERHEAD, EnergyEntry

_log = logging.getLogger(__name__)
_J_PER_KWH: Final = 3.6e6


class ProcessorTimes(Protocol):
    """What the meter asks the operating system."""

    def count(self) -> int:
        """Number of logical processors."""
        ...

    def busy_s(self) -> float:
        """Processor time that the whole machine has used since it started, in seconds."""
        ...

    def process_s(self, pid: int) -> float | None:
        """Processor time of a process and of its finished children; None if it is gone."""
        ...


class SystemTimes:
    """The operating system's own answers."""

    def count(self) -> int:
        """Number of logical processors."""
        return psutil.cpu_count() or 1

    def busy_s(self) -> float:
        """User and system time of all processors; what a hypervisor took away is not ours."""
        times = psutil.cpu_times()
        return float(
            sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq"))
        )

    def process_s(self, pid: int) -> float | None:
        """User and system time."""
        try:
            times = psutil.Process(pid).cpu_times()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return None
        return float(times.user + times.system + times.children_user + times.children_system)


@dataclass(slots=True)
class _Work:
    """An account that is at work: its process, what that had used, its GPUs."""

    pid: int
    used_s: float
    gpus: frozenset[str]


@dataclass(slots=True)
class _Totals:
    """Joules by (account, method)."""

    joules: dict[tuple[str, str], float] = field(default_factory=dict)

    def add(self, account: str, method: str, joules: float) -> None:
        key = (account, method)
        self.joules[key] = self.joules.get(key, 0.0) + joules

    def entries(self) -> tuple[EnergyEntry, ...]:
        return tuple(
            EnergyEntry(account=account, kwh=joules / _J_PER_KWH, method=method)
            for (account, method), joules in self.joules.items()
        )


class NodeEnergyMeter:
    """Measures, or estimates, the energy of this machine from its construction to ``stop``.

    Usage::

        with NodeEnergyMeter() as meter:
            meter.attach(trial_account(3), pid)
            ...
            meter.detach(trial_account(3))
            store.add_energy(study_id, meter.drain())

    Args:
        sources: Of energy; found on this machine if not given.
        interval_s: Time between two samples.
        times: The operating system's processor times.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        sources: Sequence[EnergySource] | None = None,
        *,
        interval_s: float = 1.0,
        times: ProcessorTimes | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.unknown: list[Unknown] = []
        if sources is None:
            sources, self.unknown = find_sources()
        self._sources = list(sources)
        self._interval_s = interval_s
        self._times = times or SystemTimes()
        self._clock = clock
        self._work: dict[str, _Work] = {}
        self._all, self._new = _Totals(), _Totals()
        self._node_j = 0.0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._last_s = clock()
        self._last_busy_s = self._times.busy_s()

    @property
    def components(self) -> dict[str, str]:
        """How each component is known: "measured", "estimated" or "unknown"."""
        known = {source.component: source.method for source in self._sources}
        return {**known, **{lost.component: "unknown" for lost in self.unknown}}

    @property
    def node_kwh(self) -> float:
        """Energy of the machine so far; "unknown" components are not in it."""
        return self._node_j / _J_PER_KWH

    def start(self) -> None:
        """Start sampling in a thread."""
        if self._thread is not None:
            raise RuntimeError("A meter is started once.")
        self._thread = threading.Thread(target=self._run, name="bitfront-energy", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop sampling, with a last sample."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        self.sample()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _run(self) -> None:
        while not self._stopping.wait(self._interval_s):
            self.sample()

    def attach(self, account: str, pid: int, gpus: Iterable[str] = ()) -> None:
        """Say that a process works for an account from now on.

        Args:
            account: For instance ``trial_account(number)``.
            pid: The worker's process, on this machine; one process works for one account.
            gpus: UUIDs of the GPUs it works on.
        """
        self.sample()
        with self._lock:
            for other in [a for a, work in self._work.items() if work.pid == pid]:
                del self._work[other]
            used_s = self._times.process_s(pid)
            self._work[account] = _Work(pid, used_s or 0.0, frozenset(f"gpu:{g}" for g in gpus))

    def detach(self, account: str) -> None:
        """Say that the work for an account has ended; without effect if it had not begun."""
        self.sample()
        with self._lock:
            self._work.pop(account, None)

    def sample(self) -> None:
        """Close the interval since the last sample and book its energy."""
        with self._lock:
            now_s, busy_s = self._clock(), self._times.busy_s()
            seconds = now_s - self._last_s
            if seconds <= 0:
                return
            used_s = {account: self._used(work) for account, work in self._work.items()}
            # the machine was busy at least with what its processes used
            whole_s = max(busy_s - self._last_busy_s, sum(used_s.values()))
            utilisation = min(1.0, max(0.0, whole_s / (seconds * self._times.count())))
            self._last_s, self._last_busy_s = now_s, busy_s
            by_time = {a: s / whole_s for a, s in used_s.items() if s > 0}
            for source in list(self._sources):
                try:
                    joules = source.joules(seconds, utilisation)
                except OSError as error:
                    self._lose(source, str(error))
                    continue
                if source.component.startswith("gpu:"):
                    users = [a for a, w in self._work.items() if source.component in w.gpus]
                    shares = {account: 1 / len(users) for account in users}
                else:
                    shares = by_time
                self._book(source.method, joules, shares)

    def _used(self, work: _Work) -> float:
        used_s = self._times.process_s(work.pid)
        if used_s is None:
            return 0.0
        risen_s = max(0.0, used_s - work.used_s)
        work.used_s = used_s
        return risen_s

    def _book(self, method: str, joules: float, shares: dict[str, float]) -> None:
        self._node_j += joules
        rest = joules
        for account, share in shares.items():
            rest -= joules * share
            self._all.add(account, method, joules * share)
            self._new.add(account, method, joules * share)
        # rounding may leave a rest below zero
        rest = max(0.0, rest)
        self._all.add(OVERHEAD, method, rest)
        self._new.add(OVERHEAD, method, rest)

    def _lose(self, source: EnergySource, reason: str) -> None:
        self._sources.remove(source)
        self.unknown.append(Unknown(component=source.component, reason=reason))
        _log.warning("The energy of %s is no longer counted: %s.", source.component, reason)

    def drain(self) -> tuple[EnergyEntry, ...]:
        """Return what was booked since the last call, for ``Store.add_energy``."""
        self.sample()
        with self._lock:
            new, self._new = self._new, _Totals()
        return new.entries()

    def totals(self) -> tuple[EnergyEntry, ...]:
        """Return what was booked since the meter was made."""
        with self._lock:
            return self._all.entries()
