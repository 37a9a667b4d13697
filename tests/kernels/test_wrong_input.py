"""Wrong input to every public call of the kernels: a clear error or the right answer, no crash.

The calls run in other processes, since a wrong address ends a process.
"""

import importlib.util
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

CALLS = Path(__file__).parent / "native_driver" / "wrong_calls.py"
_spec = importlib.util.spec_from_file_location("wrong_calls", CALLS)
wrong_calls = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(wrong_calls)
NAMES = [name for name, *_ in wrong_calls.calls()]

pytestmark = pytest.mark.slow


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-X", "faulthandler", str(CALLS), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@cache
def outcomes() -> dict[str, str]:
    """What happened at each call; a process that dies is followed by another."""
    happened: list[str] = []
    while len(happened) < len(NAMES):
        done = run(len(happened))
        happened += [outcome for _, outcome in map(json.loads, done.stdout.splitlines())]
        if len(happened) < len(NAMES):
            happened.append(f"the process ended with {done.returncode}: {done.stderr[:2000]}")
    return dict(zip(NAMES, happened, strict=True))


def test_no_two_calls_have_one_name() -> None:
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_call_is_refused_or_right(name: str) -> None:
    assert outcomes()[name] == ""


def test_conv2d_takes_what_the_reference_takes_and_refuses_the_rest() -> None:
    done = run("any")
    assert done.returncode == 0, done.stderr[-4000:]
    # enough of what it found was sound
    assert int(done.stdout) > 50
