"""What the front's members are handed on with: weights, measurements and where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitfront.evaluators.measurement import Measurement
from bitfront.search.record import StudyRecord
from bitfront.search.retrained import retrained
from bitfront.search.store import Store, UnknownRecord
from bitfront.spaces import Architecture, Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedTrial:
    """A trial whose weights are there.

    Attributes:
        study: Name of the study.
        number: Of the trial.
        architecture: The network.
        recipe: How it was trained.
        weights: Folder of a checkpoint; ``evaluators.training.weights_file`` finds its tensors.
        measurements: Of the search, with the accuracies of the retrainings where there are any:
            then ``accuracy`` and ``test_accuracy`` are those of these very weights, and their ends
            the lowest and highest of all seeds.
        provenance: Study, trial, seed, data set, space, sampler, decisions; JSON data.
    """

    study: str
    number: int
    architecture: Architecture
    recipe: Recipe
    weights: Path
    measurements: tuple[Measurement, ...]
    provenance: Mapping[str, Any]


def trained_trial(store: Store, study: StudyRecord, number: int) -> TrainedTrial:
    """Find the weights of a trial: those of its best retraining, else those of the search.

    Raises:
        UnknownRecord: If there is no such trial, or no weights of it are kept.
    """
    trial = store.trial(study.id, number)
    candidate = trial.candidate
    runs = retrained(store, study, [trial])
    best = runs[0].best if runs else None
    checkpoint = (best.checkpoint if best else None) or trial.checkpoint
    if candidate is None or checkpoint is None:
        raise UnknownRecord(
            f"No weights of trial {number} of the study {study.name!r} are kept: it is not on the "
            f"front. Train it: bitfront train {study.name}/{number}"
        )
    if not (Path(checkpoint) / "checkpoint.json").is_file():
        raise UnknownRecord(
            f"The weights of trial {number} of the study {study.name!r} should lie in "
            f"{checkpoint}, but do not."
        )
    is_retrained = best is not None and checkpoint == best.checkpoint
    seed = best.seed if best is not None and is_retrained else trial.seed
    measurements = {m.objective: m for m in reversed(trial.measurements)}
    if best is not None and is_retrained:
        for name, value, spread in (
            ("accuracy", best.validation_accuracy, runs[0].validation),
            ("test_accuracy", best.test_accuracy, runs[0].test),
        ):
            measurements[name] = Measurement(
                objective=name,
                value=value,
                unit="fraction",
                method="measured",
                low=spread.low,
                high=spread.high,
                repeats=spread.count,
            )
    return TrainedTrial(
        study=study.name,
        number=number,
        architecture=candidate.architecture,
        recipe=candidate.recipe,
        weights=Path(checkpoint),
        measurements=tuple(measurements.values()),
        provenance={
            "study": study.name,
            "trial": number,
            "seed": seed,
            "retrained": is_retrained,
            "dataset": study.dataset,
            "dataset_digest": study.dataset_digest,
            "space": study.config.get("space"),
            "sampler": study.config.get("sampler"),
            "hardware": study.config.get("hardware"),
            "decisions": dict(trial.decisions),
            "candidate_digest": trial.candidate_digest,
        },
    )
