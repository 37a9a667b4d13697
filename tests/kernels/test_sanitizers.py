"""The native library under AddressSanitizer and UndefinedBehaviorSanitizer.

A driver in C gives it buffers of exactly the size that a job needs and compares every word with
sums of small integers; then the tests of the Python side run on the same build. That errors are
caught is itself tested: a buffer a word too short must end the run with a report from the library.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

GCC = shutil.which("gcc")
FLAGS = (
    *("-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    # calls in place of inlined checks, which take twice as long to compile
    *("--param", "asan-instrumentation-with-call-threshold=0"),
)
OTHER_BUILD = Path(__file__).parent / "native_driver" / "other_build.py"

# positions of the driver's STYLES
STORE, ADD, AFFINE, BITS, MERGE, CLAMPED, CLAMPED_AFFINE, _, CLAMPED_MERGE = KINDS = range(9)
LAST, FIRST, INTERLEAVED = 0, 1, 4


def _runtime() -> Path | None:
    """The sanitizer's library, which a Python that was built without it must load first."""
    if GCC is None:
        return None
    command = [GCC, "-print-file-name=libasan.so"]
    name = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    # an absolute path where it is installed, the bare name where it is not
    return Path(name) if Path(name).is_absolute() else None


RUNTIME = _runtime()

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(RUNTIME is None, reason="there is no gcc with AddressSanitizer"),
]


@pytest.fixture(scope="module")
def library(compile_native) -> Path:
    return compile_native(GCC, *FLAGS, driver=False)


@pytest.fixture(scope="module")
def driver(compile_native, library: Path) -> Path:
    return compile_native(GCC, *FLAGS, driver=True, library=library)


@pytest.fixture(scope="module")
def variants(driver: Path) -> list[str]:
    return run(driver, "variants").stdout.split()


def run(driver: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([driver, *map(str, arguments)], capture_output=True, text=True)


def run_python(library: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Python itself leaks by design
    environment = {**os.environ, "LD_PRELOAD": str(RUNTIME), "ASAN_OPTIONS": "detect_leaks=0"}
    command = [sys.executable, str(OTHER_BUILD), str(library), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.mark.parametrize("place", ["heap", "end", "start"])
def test_every_case_is_exact_and_inside_its_buffers(driver: Path, place: str) -> None:
    done = run(driver, place)
    assert (done.returncode, done.stderr) == (0, "")


def short_buffers() -> Iterator[tuple[str, str, str, int, int]]:
    """Place, buffer, kind of job, its size and option: all that each job reads or writes."""
    for buffer in ("a", "weight", "taps", "row_class", "col_class", "beta"):
        yield "heap", buffer, "product", 64, STORE
    # vector loads and stores under a mask are seen by the fence alone
    for kind in KINDS:
        yield "heap", "out", "product", 64, kind
        yield "end", "out", "product", 40, kind
    for kind in (AFFINE, MERGE, CLAMPED):
        yield "heap", "scale", "product", 64, kind
        yield "heap", "shift", "product", 64, kind
    for kind in (CLAMPED_AFFINE, CLAMPED_MERGE):
        yield "heap", "scale_after", "product", 64, kind
        yield "heap", "shift_after", "product", 64, kind
    yield "heap", "threshold", "product", 64, BITS
    yield "heap", "flip", "product", 64, BITS
    for layout in (LAST, FIRST):
        for channels in (40, 64):
            for buffer in ("x", "threshold", "flip", "out"):
                yield "end", buffer, "packing", channels, layout
    for buffer in ("first", "second", "out"):
        yield "heap", buffer, "packing", 64, INTERLEAVED


@pytest.mark.parametrize(
    "short", list(short_buffers()), ids=lambda short: "-".join(map(str, short))
)
def test_a_buffer_that_is_a_word_too_short_is_reported(
    driver: Path, variants: list[str], short: tuple[str, str, str, int, int]
) -> None:
    for variant in variants:
        done = run(driver, *short, variant)
        assert done.returncode != 0, variant
        assert "ERROR: AddressSanitizer" in done.stderr
        # the fault is the library's access, not the driver's
        assert re.search(r"in bf_(product|pack_float|interleave) ", done.stderr), done.stderr


def test_the_python_side_passes_its_tests_on_this_build(library: Path) -> None:
    folder = Path(__file__).parent
    tests = sorted(map(str, (*folder.glob("test_cpu*.py"), *folder.glob("test_float_conv*.py"))))
    options = ("-q", "-p", "no:xdist", "-p", "no:cacheprovider", *tests)
    done = run_python(library, "tests", *options)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert " passed" in done.stdout
    assert " skipped" not in done.stdout


@pytest.mark.parametrize(
    ("call", "report"),
    [("overrun", "heap-buffer-overflow"), ("misaligned", "misaligned address")],
)
def test_a_wrong_job_of_the_python_side_is_reported(library: Path, call: str, report: str) -> None:
    done = run_python(library, call)
    assert done.returncode != 0
    assert report in done.stderr
