"""A study without workers: the real engine and a real store, accuracies by a formula.

Run as a script it prints the proposals of such a study, for tests of determinism.
"""

import json
import math
import sys
import tempfile

from bitfront.evaluators.measurement import Measurement
from bitfront.search.config import SearchConfig
from bitfront.search.engine import Engine
from bitfront.search.front import reference_point
from bitfront.search.layers import layer_source
from bitfront.search.record import CurvePoint, TrialState
from bitfront.search.reference import worst_costs
from bitfront.search.store import open_store
from bitfront.spaces import Task


def accuracy_of(trial):
    """Grows with the network, peaks at one learning rate, t_clip and kernel size."""
    recipe = trial.candidate.recipe
    block = trial.candidate.architecture.stages[0].blocks[0]
    off = 0.1 * abs(math.log(recipe.learning_rate / 5e-3)) + 0.1 * abs(recipe.t_clip - 1.3)
    off += 0.05 * (block.kernel_size != 3) + 0.03 * (block.shortcut_bits == 4)
    size = 0.216 * math.log10(trial.value("params") / 5000)
    return min(1.0, max(0.0, 0.35 + size - off))


class ToyStudy:
    """A study in a store, and the engine that drives it."""

    def __init__(self, store, **settings):
        self.store = store
        self.config = SearchConfig.resolve({"trials": 20, "epochs": 2, **settings})
        self.task = Task(input=(1, 8, 8), classes=10, epochs=self.config.epochs)
        self.layers = layer_source(self.config, store)
        objectives = self.config.study_objectives
        worst = worst_costs(self.config, self.task, self.layers)
        self.study = store.create_study(
            self.config.name,
            config=self.config.stored(),
            objectives=objectives,
            reference_point=reference_point(objectives, worst),
            dataset="digits",
            dataset_digest="d" * 64,
            seed=self.config.seed,
        )
        self.engine = None
        self.reopen()

    def reopen(self):
        """Build the engine anew from the store, as after a crash."""
        self.engine = Engine(self.store, self.study, self.config, self.task, self.layers)
        return self.engine

    def train(self, number, *, epochs=None):
        """Write a curve that ends in the formula's accuracy."""
        trial = self.store.trial(self.study.id, number)
        accuracy = accuracy_of(trial)
        points = [
            CurvePoint(
                epoch=epoch,
                train_loss=1.0,
                validation_loss=1.0,
                validation_accuracy=accuracy,
                seconds=1.0,
            )
            for epoch in range(1, (epochs or trial.full_fidelity) + 1)
        ]
        self.store.append_curve(self.study.id, number, points)
        return Measurement(objective="accuracy", value=accuracy, unit="fraction", method="measured")

    def complete(self, number):
        """Train a trial to its end."""
        measured = self.train(number)
        return self.engine.finish(number, TrialState.COMPLETE, measurements=[measured])

    def run(self, *, workers=1, reopen_every=None):
        """Search with so many trials under way; the engine is rebuilt after every so many ends."""
        live = []
        while True:
            while len(live) < workers:
                trial = self.engine.propose()
                if trial is None:
                    break
                live.append(trial.number)
            if not live:
                return self.engine
            # not always the oldest ends first
            self.complete(live.pop(len(live) // 2 if live[0] % 3 else 0))
            if reopen_every and self.engine.counted % reopen_every == 0:
                self.reopen()
                # what was under way is handed out again, in the order of the numbers
                again = [self.engine.propose().number for _ in live]
                assert again == sorted(live)
                live = again

    def proposals(self):
        """What was asked, in order: number, state and decisions."""
        trials = self.store.points(self.study.id)
        return [[t.number, t.state.value, dict(t.decisions)] for t in trials]


def main(sampler, seed, trials):
    with (
        tempfile.TemporaryDirectory() as folder,
        open_store(f"{folder}/a.db", create=True) as store,
    ):
        toy = ToyStudy(store, sampler=sampler, seed=int(seed), trials=int(trials))
        toy.run(workers=2)
        print(json.dumps(toy.proposals()))


if __name__ == "__main__":
    main(*sys.argv[1:])
