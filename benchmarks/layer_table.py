"""Sums of layer times against 50 networks that are timed end to end.

The architectures are drawn from the space ``melius`` for 3x32x32 images with fixed seeds; those
within a factor of 10 are kept. The table is filled as in a search: each network's missing layers
are timed when it comes, so most layers of a sum were timed inside other networks. Then the networks
are timed end to end, in another order.

Run ``python benchmarks/layer_table.py``; ``--json FILE`` keeps the figures, ``--save FILE`` the
table. On the CPU set OMP_NUM_THREADS=1; ``--device cuda`` measures on a GPU.
"""

from __future__ import annotations

import argparse
import json
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bitfront.evaluators.latency import DEVICES, LayerTable, agreement, layers_of, write_table
from bitfront.evaluators.latency.measure import setting_here, time_layers, time_network
from bitfront.evaluators.latency.pace import NOISY
from bitfront.spaces import RandomChoose, Task, spaces
from bitfront.spaces.architecture import Architecture

TASK = Task(input=(3, 32, 32), classes=10)
NETWORKS = 50
RATIO = 10.0
SEED = "layer table"
PATIENCE_S = 6.0
REDONE = {
    "cpu": f"runs beside a reading of the machine's speed below its best by {NOISY} times",
    "cuda": "runs that the host queued too late",
}


def drawn(space: str, count: int) -> list[tuple[str, Architecture]]:
    """Architectures of fixed seeds, each digest once."""
    found: dict[str, tuple[str, Architecture]] = {}
    n = 0
    while len(found) < count:
        seed = f"{SEED}:{n}"
        architecture = spaces[space](RandomChoose(seed), TASK).architecture
        found.setdefault(architecture.digest, (seed, architecture))
        n += 1
    return list(found.values())


def within(rows: list[dict[str, Any]], ratio: float, count: int) -> list[dict[str, Any]]:
    """The most networks whose slowest is at most ``ratio`` times the fastest, ``count`` of them."""
    ordered = sorted(rows, key=lambda row: row["measured_ms"])
    best: list[dict[str, Any]] = []
    for start, first in enumerate(ordered):
        run = [r for r in ordered[start:] if r["measured_ms"] <= ratio * first["measured_ms"]]
        best = max(best, run, key=len)
    kept = {row["seed"] for row in best}
    return [row for row in rows if row["seed"] in kept][:count]


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="melius")
    parser.add_argument("--networks", type=int, default=NETWORKS)
    parser.add_argument("--device", choices=DEVICES, default="cpu")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--save", type=Path)
    arguments = parser.parse_args()
    setting = setting_here(arguments.device, batch=arguments.batch)
    table = LayerTable(setting)
    # a fifth more than needed, for those beyond the factor of 10
    candidates = drawn(arguments.space, arguments.networks * 6 // 5)
    new: dict[str, int] = {}
    for seed, architecture in candidates:
        missing = table.missing(layers_of(architecture.lower()))
        new[seed] = len(missing)
        table.add(time_layers(architecture, setting, set(missing), patience_s=PATIENCE_S))
    random.Random(SEED).shuffle(candidates)
    rows: list[dict[str, Any]] = []
    for seed, architecture in candidates:
        layers = layers_of(architecture.lower())
        whole = time_network(architecture, setting, patience_s=PATIENCE_S)
        rows.append(
            {
                "seed": seed,
                "digest": architecture.digest,
                "layers": len(layers),
                "timed_in_it": new[seed],
                "sum_ms": table.latency(layers).value,
                "measured_ms": whole.value,
            }
        )
    rows = within(rows, RATIO, arguments.networks)
    found = agreement([(row["sum_ms"], row["measured_ms"]) for row in rows])
    if found is None:
        raise SystemExit("Nothing was measured.")
    times = [row["measured_ms"] for row in rows]
    own = sum(row["timed_in_it"] for row in rows) / sum(row["layers"] for row in rows)
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "space": arguments.space,
        "input": list(TASK.input),
        "measured_on": setting.place,
        "versions": setting.versions,
        "redone": REDONE[setting.device],
        "layers": len(table),
        "layers_with_runs_made_again": table.redone,
        "share_of_layers_timed_in_the_network_itself": own,
        "slowest_over_fastest": max(times) / min(times),
        **found._asdict(),
        "rows": rows,
    }
    print(
        f"{found.networks} networks of {arguments.space}, {min(times):.2f} to {max(times):.2f} ms "
        f"({max(times) / min(times):.1f}x): mean error {found.mean_error:.1%}, largest "
        f"{found.worst_error:.1%}, bias {found.bias:+.1%}, Kendall's tau {found.kendall_tau:.3f}; "
        f"{len(table)} layers, {table.redone} with runs made again, {own:.0%} timed in the network "
        "itself"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    if arguments.save:
        write_table(table, arguments.save)


if __name__ == "__main__":
    main()
