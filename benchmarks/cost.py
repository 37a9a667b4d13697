"""How many distinct MeliusNet22-size architectures are costed per second, beside torchinfo.

An architecture counts when it was never seen before: sampled from the space ``melius``, of 28 to 40
convolutions (MeliusNet22 has 34), digest distinct from all others. Sampling is not timed; lowering,
planning, counting and energy are, on each profile and on all at once. What is remembered between
architectures is the inference per op and the amounts per fused step, as in a search that has been
running for a while: ``--warm`` says for how many architectures. torchinfo counts the same
architectures from built torch modules; its time does not include building them.

Run ``python benchmarks/cost.py``; ``--json FILE`` keeps the result.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bitfront.evaluators.cost import count, estimate_energies, peak_memory_bytes
from bitfront.evaluators.hardware.profile import load_profile, profile_names
from bitfront.spaces import Architecture, RandomChoose, Task, spaces
from bitfront.spaces.plan import plan

TASK = Task(input=(3, 224, 224), classes=1000)


class Fresh:
    """Draws architectures of MeliusNet22's size that it never drew before."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._drawn = 0
        self._seen: set[str] = set()

    def draw(self, number: int) -> list[Architecture]:
        """The next ``number`` distinct architectures."""
        found: list[Architecture] = []
        while len(found) < number:
            choose = RandomChoose(f"{self._seed}/{self._drawn}")
            self._drawn += 1
            architecture = spaces["melius"](choose, TASK).architecture
            blocks = sum(len(stage.blocks) for stage in architecture.stages)
            if 28 <= blocks <= 40 and architecture.digest not in self._seen:
                self._seen.add(architecture.digest)
                found.append(architecture)
        return found


def cost(architecture: Architecture, profiles: list[Any]) -> None:
    """Everything that a search asks of a candidate before it trains it."""
    graph = architecture.lower()
    planned = plan(graph)
    count(graph, "hpi", plan=planned)
    peak_memory_bytes(planned)
    if profiles:
        estimate_energies(planned, profiles)


def rate(work: Callable[[Architecture], None], batches: list[list[Architecture]]) -> dict[str, Any]:
    """Architectures per second of processor time, one figure per batch."""
    rates = []
    for batch in batches:
        start = time.process_time()
        for architecture in batch:
            work(architecture)
        rates.append(len(batch) / (time.process_time() - start))
    return {"median": statistics.median(rates), "min": min(rates), "max": max(rates)}


def main() -> None:
    """Run, print a table, keep the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--warm", type=int, default=4000, help="architectures costed before timing")
    parser.add_argument("--batch", type=int, default=50, help="architectures per timed batch")
    parser.add_argument("--batches", type=int, default=60)
    parser.add_argument(
        "--torchinfo", type=int, default=8, help="architectures for the peer; 0: none"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    fresh = Fresh(seed=22)
    everything = [load_profile(name) for name in profile_names()]
    for architecture in fresh.draw(options.warm):
        cost(architecture, everything)
    result: dict[str, Any] = {
        "benchmark": "cost",
        "unit": "architectures per second of one core",
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        # what else ran: on a busy machine the fastest batch says more than the median
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "warm": options.warm,
        "batch": options.batch,
        "rates": {},
    }
    choices = {"counts only": []}
    choices |= {f"counts and {p.name}": [p] for p in everything}
    choices["counts and all profiles"] = everything
    for title, profiles in choices.items():
        batches = [fresh.draw(options.batch) for _ in range(options.batches)]
        result["rates"][title] = rate(lambda a, p=profiles: cost(a, p), batches)  # type: ignore[misc]
    if options.torchinfo:
        result["rates"]["torchinfo " + version("torchinfo")] = _torchinfo(
            fresh.draw(options.torchinfo)
        )
    for title, figures in result["rates"].items():
        low, high = figures["min"], figures["max"]
        print(f"{title:32} {figures['median']:10.1f} /s   ({low:.1f} to {high:.1f})")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _torchinfo(architectures: list[Architecture]) -> dict[str, Any]:
    import torch
    import torchinfo

    from bitfront.spaces import build

    torch.set_num_threads(1)
    networks = [build(a).eval() for a in architectures]
    rates = []
    for network in networks:
        start = time.process_time()
        torchinfo.summary(network, input_size=(1, *TASK.input), verbose=0)
        rates.append(1 / (time.process_time() - start))
    return {"median": statistics.median(rates), "min": min(rates), "max": max(rates)}


if __name__ == "__main__":
    main()
