"""Does every network of the zoo work? Each is costed, trained a step, exported and verified.

``network_check.py`` says what is checked. Each network runs in a process of its own, so its memory
is free after it.

``python benchmarks/zoo_check.py`` checks all; names or patterns choose some; ``--missing`` chooses
those that have no good result in their present form. Results are kept in
``benchmarks/results/zoo_check.json`` and shown in ``docs/coverage.md``, which ``--document`` renews
without checking anything. Exit status 1 if a network fails.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from importlib.metadata import version
from pathlib import Path
from subprocess import PIPE, Popen, TimeoutExpired
from typing import Any, Final

import zoo_coverage

from bitfront.spaces.zoo import zoo

ONE_NETWORK: Final = Path(__file__).with_name("network_check.py")
PACKAGES: Final = ("torch", "onnx", "onnxruntime")
TIMEOUT_S: Final = 1800


def run_one(name: str) -> dict[str, Any]:
    """Check one network in a process of its own and measure that process.

    Returns:
        Its row, with peak memory and what it was checked with.
    """
    start = time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2")}
    command = [sys.executable, str(ONE_NETWORK), name]
    with Popen(command, stdout=PIPE, stderr=PIPE, env=environment, text=True) as child:
        try:
            out, err = child.communicate(timeout=TIMEOUT_S)
        except TimeoutExpired:
            child.kill()
            out, err = child.communicate()
            err += f"not done after {TIMEOUT_S} seconds"
    lines = out.splitlines()
    if child.returncode == 0 and lines:
        row: dict[str, Any] = json.loads(lines[-1])
    else:
        last = err.strip().splitlines()[-1:] or [f"exit status {child.returncode}"]
        row = {"seconds": {}, "failed": [f"process: {last[0][:300]}"]}
    row["total_seconds"] = round(time.perf_counter() - start, 1)
    row["digest"] = zoo[name].architecture().digest
    row["date"] = datetime.now(UTC).date().isoformat()
    row["versions"] = {package: version(package) for package in PACKAGES}
    return row


def chosen(patterns: list[str], missing: bool) -> list[str]:
    """Names of the networks to check."""
    names = [
        name
        for name in sorted(zoo)
        if not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)
    ]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            sys.exit(f"No network is named {pattern!r}; `bitfront zoo` lists them.")
    if missing:
        results = zoo_coverage.load_results()
        names = [name for name in names if zoo_coverage.state(name, results) != "works"]
    return names


def main() -> None:
    """Check, keep the results, renew the document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks, or patterns; all")
    parser.add_argument("--missing", action="store_true", help="only what has no good result yet")
    parser.add_argument("--document", action="store_true", help="only renew docs/coverage.md")
    options = parser.parse_args()
    failures = 0
    if not options.document:
        names = chosen(options.names, options.missing)
        print(f"{'network':26} {'input':>9} {'parameters':>12} {'s':>6} {'MiB':>6}  failed")
        for name in names:
            row = run_one(name)
            failures += bool(row["failed"])
            side = "x".join(map(str, row.get("input", ())))
            parameters = f"{row['parameters']:,}" if "parameters" in row else "-"
            peak = max(row.get("peak_mib", {}).values(), default=0)
            print(
                f"{name:26} {side:>9} {parameters:>12} {row['total_seconds']:6.1f} "
                f"{peak:6}  {'; '.join(row['failed']) or '-'}",
                flush=True,
            )
            zoo_coverage.keep(name, row)
        print(f"{len(names) - failures} of {len(names)} networks work.")
    zoo_coverage.renew()
    if failures:
        sys.exit(1)


if __name__ == "__main__":
    main()
