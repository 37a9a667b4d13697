"""One thread per test process, and a pytest of its own for GPU kernels in Triton's interpreter.

Tests run in several processes on few cores, and the number of threads decides the order in which
floats are added: with it, on which side of a threshold a value falls.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def interpreted(pytestconfig: pytest.Config) -> Callable[[Path], None]:
    """A function that runs a test module with ``TRITON_INTERPRET=1``, which fails as it fails.

    The variable counts only before Triton is loaded, and other tests of this session may have.
    """

    def run(module: Path) -> None:
        if find_spec("triton") is None:
            pytest.skip("Triton is not installed: pip install 'bitfront[gpu]'")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
            + [str(module)],
            cwd=pytestconfig.rootpath,
            env={**os.environ, "TRITON_INTERPRET": "1", "PYTEST_ADDOPTS": ""},
            capture_output=True,
            text=True,
            check=False,
        )
        # no test collected is a failure too
        assert done.returncode == 0, done.stdout + done.stderr

    return run
