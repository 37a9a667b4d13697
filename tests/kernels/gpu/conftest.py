"""GPU kernels in Triton's interpreter, on a machine without a GPU.

``TRITON_INTERPRET=1`` counts only if it is set before Triton is loaded for the first time: its own
functions are made for the interpreter then, or never. Other tests of this session may have loaded
Triton already (parts of torch do), others compile kernels, and a worker of pytest-xdist loads the
modules of all tests. So each test module named here is one item, which runs the module in a pytest
of its own with the variable set. To choose among its tests, set the variable yourself (modules that
compile kernels are then left out)::

    TRITON_INTERPRET=1 python -m pytest tests/kernels/gpu -k codes
    TRITON_INTERPRET=0 python -m pytest tests/kernels/gpu     # compiled, on a CUDA device
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bitfront.kernels import CodeFormat, PackedBits, PackedCodes, pack, pack_codes

INTERPRETED = {
    "test_comparing.py",
    "test_conv.py",
    "test_custom_ops.py",
    "test_finish.py",
    "test_int8.py",
    "test_interleave.py",
    "test_packing.py",
    "test_popcount.py",
    "test_unpacking.py",
    "test_wrong_input.py",
}
VARIABLE = "TRITON_INTERPRET"


class InterpretedModule(pytest.File):
    """A test module that becomes one item."""

    def collect(self) -> Iterator[pytest.Item]:
        yield InterpretedRun.from_parent(self, name="interpreted")


class InterpretedRun(pytest.Item):
    """Runs its module in a pytest of its own."""

    def runtest(self) -> None:
        if find_spec("triton") is None:
            pytest.skip("Triton is not installed: pip install 'bitfront[gpu]'")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
        done = subprocess.run(
            [*command, str(self.path)],
            cwd=self.config.rootpath,
            env={**os.environ, VARIABLE: "1", "PYTEST_ADDOPTS": ""},
            capture_output=True,
            text=True,
            check=False,
        )
        # no test collected is a failure too
        if done.returncode:
            raise InterpretedFailure(done.stdout + done.stderr)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> str:
        if isinstance(excinfo.value, InterpretedFailure):
            return str(excinfo.value)
        return str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, f"{self.path.name}, interpreted"


class InterpretedFailure(Exception):
    """What the pytest of a module said."""


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """With the variable set, leave out what is compiled."""
    compiles = collection_path.name.startswith("test_") and collection_path.name not in INTERPRETED
    return True if compiles and os.environ.get(VARIABLE) == "1" else None


def pytest_pycollect_makemodule(
    module_path: Path, parent: pytest.Collector
) -> InterpretedModule | None:
    if module_path.name in INTERPRETED and VARIABLE not in os.environ:
        return InterpretedModule.from_parent(parent, path=module_path)
    return None


@pytest.fixture(scope="session")
def device() -> torch.device:
    """Where the kernels run: interpreted on the CPU, else compiled."""
    return torch.device("cpu" if os.environ[VARIABLE] == "1" else "cuda")


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh memory holds rubbish, so a value that a kernel forgets to write is seen."""
    empty = torch.empty

    def rubbish(*args: object, **kwargs: object) -> Tensor:
        fresh = empty(*args, **kwargs)
        return fresh.fill_(float("nan") if fresh.is_floating_point() else 0x0BADF00D)

    monkeypatch.setattr(torch, "empty", rubbish)


@pytest.fixture(scope="session")
def signs(device: torch.device) -> Callable[..., PackedBits]:
    """Random signs of a shape, and rows of only one sign among them."""

    def make(*shape: int, seed: int = 0) -> PackedBits:
        x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        x[0] = -1.0
        if shape[0] > 1:
            x[1] = 1.0
        return pack(x.to(device))

    return make


@pytest.fixture(scope="session")
def codes(device: torch.device) -> Callable[..., PackedCodes]:
    """Random codes of a shape, the smallest and the largest value in rows of their own."""

    def make(shape: tuple[int, ...], format: CodeFormat, seed: int = 0) -> PackedCodes:
        generator = torch.Generator().manual_seed(seed)
        values = torch.randint(0, 2**format.bits, shape, generator=generator)
        values = format.low + format.step * values
        values[0] = format.low
        if shape[0] > 1:
            values[1] = format.high
        return pack_codes(values.to(device), format)

    return make
