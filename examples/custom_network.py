"""Build a network by hand, cost it, train it for an epoch, and save it for the command line.

Run: python examples/custom_network.py
"""

from __future__ import annotations

import json
from pathlib import Path

from bitfront import (
    Architecture,
    Candidate,
    Recipe,
    Trainer,
    count,
    estimate_energy,
    load_dataset,
    load_profile,
    plan,
)
from bitfront.spaces import Stage
from bitfront.spaces.blocks import Classifier, Dense, Improvement, StemThumbnail, Transition


def small_melius() -> Architecture:
    """Two stages of one dense and one improvement block each, 1-bit weights and inputs."""
    return Architecture(
        input=(1, 8, 8),
        stem=StemThumbnail(channels=16),
        stages=(
            Stage(
                blocks=(Dense(growth=16), Improvement(growth=16)),
                transition=Transition(channels=16),
            ),
            Stage(blocks=(Dense(growth=16), Improvement(growth=16))),
        ),
        head=Classifier(classes=10),
    )


def main(folder: Path = Path(".")) -> float:
    """Cost and train it; returns the validation accuracy."""
    architecture = small_melius()
    graph = architecture.lower()
    counts = count(graph, "hpi")
    print(f"{counts.params:,} parameters, {counts.params_binary:,} of them binary")
    for name in ("boolnet65", "horowitz45"):
        mine = estimate_energy(plan(graph), load_profile(name)).total_mj
        twin = estimate_energy(plan(architecture.twin().lower()), load_profile(name)).total_mj
        print(f"{name}: {1e6 * mine:.0f} nJ, its 32-bit twin {twin / mine:.1f} times that")
    recipe = Recipe(optimizer="adamw", learning_rate=0.01, epochs=1, batch_size=64)
    data = load_dataset("digits", data_dir="data")
    trainer = Trainer(Candidate(architecture=architecture, recipe=recipe), data, seed=0, threads=1)
    result = trainer.run_epoch()
    print(f"one epoch: {result.validation_accuracy:.1%} of the validation images")
    path = folder / "small_melius.json"
    path.write_text(json.dumps(architecture.json(), indent=1) + "\n", encoding="utf-8")
    print(f"bitfront cost {path} --layers")
    return result.validation_accuracy


if __name__ == "__main__":
    main()
