"""Builds of the native library with the test driver of tests/kernels/native_driver."""

import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DRIVER = Path(__file__).with_name("native_driver")

Compile = Callable[..., Path]


@pytest.fixture(scope="session")
def compile_native(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """Compile the library's sources as the package does, but with another compiler and flags."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (extension,) = project["tool"]["setuptools"]["ext-modules"]
    sources = [ROOT / source for source in extension["sources"]]

    def compile_native(
        compiler: str, *flags: str, driver: bool, library: Path | None = None
    ) -> Path:
        """The driver with the library in it, or of a library that was made before; or a library."""
        out = tmp_path_factory.mktemp("native") / ("driver" if driver else "library.so")
        arguments = [*extension["extra-compile-args"], "-Wall", "-Wextra", "-Werror", *flags]
        parts = sources if library is None else [library]
        if driver:
            arguments.append(f"-I{sources[0].parent}")
            parts = [*sorted(DRIVER.glob("*.c")), *parts]
        else:
            arguments += ["-shared", "-fPIC"]
        command = [compiler, *arguments, *parts, "-o", out, "-lm"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return out

    return compile_native
