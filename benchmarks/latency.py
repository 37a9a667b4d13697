"""Packed inference beside the 32-bit twins in ONNX Runtime, as ``bitfront latency`` measures them.

Run ``python benchmarks/latency.py``; ``--json FILE`` keeps the raw numbers, step by step. Networks
run one after the other, each in turns with its twin. Set OMP_NUM_THREADS=1 for one thread.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bitfront.cli.latency import measure
from bitfront.spaces import zoo

NETWORKS = (
    "meliusnet22",
    "binarydensenet28",
    "resnet-e18",
    "birealnet18",
    "quicknet",
    "boolnet-k4",
)


def summary(row: dict[str, Any]) -> str:
    """One line: times, ratio, and the shares of the kinds of steps."""
    kinds: dict[str, float] = defaultdict(float)
    for step in row["layers"]:
        kinds[step["kind"]] += step["ms"]
    total = sum(kinds.values())
    largest = sorted(kinds.items(), key=lambda item: -item[1])[:4]
    shares = ", ".join(f"{kind} {ms / total:.0%}" for kind, ms in largest)
    return (
        f"{row['name']:18} packed {row['latency']['median_ms']:7.2f} ms   twin "
        f"{row['twin']['median_ms']:7.2f} ms   {row['ratio']:5.2f}x   {shares}"
    )


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    for name in arguments.networks:
        data = measure(
            zoo.get(name).architecture(),
            batch=arguments.batch,
            threads=arguments.threads,
            repeats=arguments.repeats,
            twin=True,
            layers=True,
        )
        rows.append({"name": name, **data})
        print(summary(rows[-1]), flush=True)
    if arguments.json:
        result = {"date": datetime.now(UTC).date().isoformat(), "networks": rows}
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
