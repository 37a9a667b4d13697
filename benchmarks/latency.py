"""Packed inference beside the 32-bit twins, as ``bitfront latency`` measures them.

Run ``python benchmarks/latency.py``; ``--json FILE`` keeps the raw numbers, step by step. Networks
run one after the other, each in turns with its twin. On the CPU the twins run in ONNX Runtime; set
OMP_NUM_THREADS=1 for one thread. On a GPU (``--device cuda --batch 1 32 256``) they run in
bfloat16, by torch and torch.compile, and nothing is needed but torch, Triton, numpy and bitfront.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

from bitfront.evaluators.cost import count, estimate_energy
from bitfront.evaluators.hardware.profile import load_profile
from bitfront.evaluators.latency.inference import time_inference
from bitfront.evaluators.latency.twin import Contender, cuda_twins
from bitfront.spaces import build, zoo
from bitfront.spaces.architecture import Architecture
from bitfront.spaces.plan import plan

PROFILES = {"cpu": "boolnet65", "cuda": "h200"}
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
        f"{row['name']:18} batch {row['batch']:3}   packed {row['latency']['median_ms']:8.3f} ms   "
        f"{row['twin']['runtime']} {row['twin']['median_ms']:8.3f} ms   {row['ratio']:5.2f}x   "
        f"{shares}"
    )


def twins(architecture: Architecture, device: str, *, batch: int, threads: int) -> list[Contender]:
    """The ways to run the 32-bit twin."""
    if device == "cuda":
        return cuda_twins(architecture, batch=batch)
    # a machine with a GPU needs no ONNX Runtime
    from bitfront.export.twin import onnx_call

    network = build(architecture.twin()).eval()
    return [Contender("onnxruntime", onnx_call(network, batch=batch, threads=threads))]


def costs(name: str, profile: str) -> dict[str, Any]:
    """What is counted and estimated for the same network: where it leads, and where it misleads."""
    graph = zoo.get(name).architecture().lower()
    planned = plan(graph)
    energy = estimate_energy(planned, load_profile(profile))
    return {
        "ops_hpi": count(graph, "hpi", plan=planned).ops,
        "ops_full": count(graph, "full", plan=planned).ops,
        "energy_mj": energy.total_mj,
        "energy_profile": profile,
    }


def side_by_side(rows: list[dict[str, Any]]) -> str:
    """Operations, energy and latency as multiples of the first network's, in Markdown.

    Args:
        rows: Of one batch.
    """
    first = rows[0]
    head = f"| batch {first['batch']}, {first['maps']} | OPs (full) "
    lines = [
        f"{head}| energy ({first['energy_profile']}) | latency, packed | OPs a second, packed |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        ops, energy, ms = row["ops_full"], row["energy_mj"], row["latency"]["median_ms"]
        base = first["ops_full"], first["energy_mj"], first["latency"]["median_ms"]
        times = [f"{x / y:.2f}" for x, y in zip((ops, energy, ms), base, strict=True)]
        lines.append(
            f"| {row['name']} | {ops / 1e6:.0f} M ({times[0]}) | {energy:.2f} mJ ({times[1]}) | "
            f"{ms:.3g} ms ({times[2]}) | {ops * row['batch'] / ms / 1e6:.0f} G |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--device", choices=PROFILES, default="cpu")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, nargs="+", default=[1])
    parser.add_argument("--maps", nargs="+", default=["float32"])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    device, threads = arguments.device, arguments.threads
    result: dict[str, Any] = {"date": datetime.now(UTC).date().isoformat(), "networks": []}
    rows = result["networks"]
    for batch in arguments.batch:
        for name in arguments.networks:
            architecture = zoo.get(name).architecture()
            beside = twins(architecture, device, batch=batch, threads=threads)
            for maps in arguments.maps:
                data = time_inference(
                    architecture,
                    device=device,
                    batch=batch,
                    threads=threads,
                    repeats=arguments.repeats,
                    maps=maps,
                    twins=beside,
                    layers=True,
                )
                counted = costs(name, PROFILES[device])
                rows.append({"name": name, "device": device, **counted, **data})
                print(summary(rows[-1]), flush=True)
                if arguments.json:
                    # what was measured stays if time runs out
                    arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    for batch, maps in product(arguments.batch, arguments.maps):
        print(side_by_side([r for r in rows if (r["batch"], r["maps"]) == (batch, maps)]))


if __name__ == "__main__":
    main()
