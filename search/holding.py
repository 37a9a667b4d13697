"""Holding the trainings of this machine for a moment, so that a timing has it for itself."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import psutil

# a worker calls itself so once it has a task, and before by the script it runs
_TITLE: Final = "ray::"
_SCRIPT: Final = "default_worker.py"
_PATIENCE_S: Final = 2.0
# its input ends when we let go, and also when this process dies
_KEEPER: Final = 'kill -STOP "$@"; read -r _; kill -CONT "$@"'


@contextmanager
def held(reported: Collection[int] = ()) -> Iterator[int]:
    """Stop the trainings of this machine inside, and let them go on afterwards.

    They are stopped by signal, so they lose nothing but the time. A process of its own lets them go
    on even if this one is killed meanwhile.

    Args:
        reported: Processes of this machine that are known to train; those of Ray below this
            process are found.

    Yields:
        How many processes are held.
    """
    pids = sorted(_workers() | {pid for pid in reported if psutil.pid_exists(pid)})
    if not pids:
        yield 0
        return
    # a session of its own: Ctrl-C reaches all processes of a terminal, and must not reach this one
    keeper = subprocess.Popen(
        ["/bin/sh", "-c", _KEEPER, "bitfront-hold", *map(str, pids)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _await_stop(pids)
        yield len(pids)
    finally:
        if keeper.stdin is not None:
            keeper.stdin.close()
        keeper.wait()
        for pid in pids:
            with suppress(OSError):
                os.kill(pid, signal.SIGCONT)


def _workers() -> set[int]:
    found = set()
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            line = child.cmdline()
            if any(part.startswith(_TITLE) or part.endswith(_SCRIPT) for part in line):
                found.add(child.pid)
    return found


def _await_stop(pids: Collection[int]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline and not all(_is_stopped(pid) for pid in pids):
        time.sleep(0.002)


def _is_stopped(pid: int) -> bool:
    try:
        return str(psutil.Process(pid).status()) in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return True
