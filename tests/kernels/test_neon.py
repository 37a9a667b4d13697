"""The NEON kernels, compiled for 64-bit ARM and run under QEMU: exactness and bounds, not speed.

On an ARM machine test_cpu.py runs them too; elsewhere this needs Debian's gcc-aarch64-linux-gnu,
libc6-dev-arm64-cross and qemu-user.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

from bitfront.kernels.native_library import VARIANTS

COMPILER = shutil.which("aarch64-linux-gnu-gcc")
EMULATOR = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
SIGSEGV_STATUSES = (-11, 128 + 11)

pytestmark = pytest.mark.skipif(
    COMPILER is None or EMULATOR is None,
    reason="there is no compiler for 64-bit ARM, or no QEMU to run what it makes",
)


@pytest.fixture(scope="module")
def driver(compile_native) -> Path:
    # static, so that QEMU needs no ARM libraries
    return compile_native(COMPILER, "-static", driver=True)


def run(driver: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([EMULATOR, driver, *map(str, arguments)], capture_output=True, text=True)


def test_the_build_has_neon(driver: Path) -> None:
    names = [VARIANTS[int(number)] for number in run(driver, "variants").stdout.split()]
    assert names == ["portable", "neon"]


@pytest.mark.slow
@pytest.mark.parametrize("place", ["end", "start"])
def test_every_case_is_exact_and_inside_its_buffers(driver: Path, place: str) -> None:
    done = run(driver, place)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("buffer", ["a", "weight", "out"])
def test_a_buffer_that_is_a_word_too_short_stops_the_run(driver: Path, buffer: str) -> None:
    neon = VARIANTS.index("neon")
    assert run(driver, "end", buffer, "product", 64, 0, neon).returncode in SIGSEGV_STATUSES
