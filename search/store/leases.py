"""Leases: one driver at a time works on a study.

A driver on this machine is alive when its process is: same number, same start time. One on another
machine cannot be asked, so it counts as alive for ``STALE_S`` after its last sign.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import psutil

STALE_S: Final = 60.0
# the start time of a process moves a little when the clock is set
_START_TOLERANCE_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Who drives a study.

    Attributes:
        study_id: The study.
        token: Random; tells this lease from a later one.
        host: Name of the machine, to be shown.
        host_id: Tells machines, boots and containers of one name apart.
        pid: Process of the driver.
        process_started_at: When that process started.
        renewed_at: Its last sign, by the clock of the store.
    """

    study_id: int
    token: str
    host: str
    host_id: str
    pid: int
    process_started_at: float
    renewed_at: float

    def is_live(self, now: float) -> bool:
        """Whether the driver may still be at work.

        Args:
            now: Seconds since 1970-01-01 UTC, by the clock of the store.
        """
        if self.host_id != host_id():
            return now - self.renewed_at <= STALE_S
        try:
            started_at = float(psutil.Process(self.pid).create_time())
        except psutil.NoSuchProcess:
            return False
        except psutil.AccessDenied:
            return now - self.renewed_at <= STALE_S
        return abs(started_at - self.process_started_at) <= _START_TOLERANCE_S


@cache
def host_id() -> str:
    """Name of this machine with its boot and its process space."""
    return f"{socket.gethostname()}/{_boot()}/{_process_space()}"


def own_start() -> float:
    """When this process started, in seconds since 1970-01-01 UTC."""
    return float(psutil.Process(os.getpid()).create_time())


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _process_space() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
