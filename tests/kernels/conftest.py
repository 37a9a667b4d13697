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

    def compile_native(compiler: str, *flags: str, driver: bool) -> Path:
        out = tmp_path_factory.mktemp("native") / ("driver" if driver else "library.so")
        more = sorted(DRIVER.glob("*.c")) if driver else []
        kind = [f"-I{sources[0].parent}"] if driver else ["-shared", "-fPIC"]
        warnings = ["-Wall", "-Wextra", "-Werror"]
        arguments = [*extension["extra-compile-args"], *warnings, *flags, *kind]
        command = [compiler, *arguments, *sources, *more, "-o", out, "-lm"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return out

    return compile_native
