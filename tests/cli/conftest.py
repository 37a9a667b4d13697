"""Runs the command line as a user does: a process of its own, in an empty folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its standard output: one JSON object and nothing else."""
        return json.loads(self.out)


@pytest.fixture
def bitfront(tmp_path: Path):
    """A function that runs ``bitfront`` with arguments."""

    def run(*arguments: str, cwd: Path | None = None, timeout: float = 60) -> Ran:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
        environment.pop("BITFRONT_STORE", None)
        done = subprocess.run(
            [sys.executable, "-m", "bitfront", *arguments],
            cwd=cwd or tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return run
