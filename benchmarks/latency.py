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
from bitfront.evaluators.cost import count, estimate_energy
from bitfront.evaluators.hardware.profile import load_profile
from bitfront.spaces import zoo
from bitfront.spaces.plan import plan

PROFILE = "boolnet65"
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


def costs(name: str) -> dict[str, float | None]:
    """What is counted and estimated for the same network: where it leads, and where it misleads."""
    graph = zoo.get(name).architecture().lower()
    planned = plan(graph)
    energy = estimate_energy(planned, load_profile(PROFILE))
    return {
        "ops_hpi": count(graph, "hpi", plan=planned).ops,
        "ops_full": count(graph, "full", plan=planned).ops,
        "energy_mj": energy.total_mj,
    }


def side_by_side(rows: list[dict[str, Any]]) -> str:
    """Operations, energy and latency as multiples of the first network's, in Markdown."""
    first = rows[0]
    lines = [
        f"| network | OPs (full) | energy ({PROFILE}) | latency, packed | OPs a second, packed |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        ops, energy, ms = row["ops_full"], row["energy_mj"], row["latency"]["median_ms"]
        base = first["ops_full"], first["energy_mj"], first["latency"]["median_ms"]
        times = [f"{x / y:.2f}" for x, y in zip((ops, energy, ms), base, strict=True)]
        lines.append(
            f"| {row['name']} | {ops / 1e6:.0f} M ({times[0]}) | {energy:.2f} mJ ({times[1]}) | "
            f"{ms:.1f} ms ({times[2]}) | {ops / ms / 1e6:.0f} G |"
        )
    return "\n".join(lines)


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
        rows.append({"name": name, **costs(name), **data})
        print(summary(rows[-1]), flush=True)
    print(side_by_side(rows))
    if arguments.json:
        result = {"date": datetime.now(UTC).date().isoformat(), "networks": rows}
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
