"""Data sets, augmentation and the training loop; torch is loaded when a training is built."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from bitfront.evaluators.training.augment import augment, augmentations
    from bitfront.evaluators.training.checkpoint import (
        Checkpoint,
        Progress,
        read_checkpoint,
        read_weights,
        weights_file,
        write_checkpoint,
    )
    from bitfront.evaluators.training.data import datasets, load_dataset
    from bitfront.evaluators.training.errors import DataMissing, EvaluationFailed
    from bitfront.evaluators.training.loop import Trainer, activation_bytes
    from bitfront.evaluators.training.results import EpochResult, Evaluation
    from bitfront.evaluators.training.splits import DataSet, Split

__all__ = [
    "Checkpoint",
    "DataMissing",
    "DataSet",
    "EpochResult",
    "Evaluation",
    "EvaluationFailed",
    "Progress",
    "Split",
    "Trainer",
    "activation_bytes",
    "augment",
    "augmentations",
    "datasets",
    "load_dataset",
    "read_checkpoint",
    "read_weights",
    "weights_file",
    "write_checkpoint",
]

_HOMES: Final = {
    "augment": ("augment", "augmentations"),
    "checkpoint": (
        "Checkpoint",
        "Progress",
        "read_checkpoint",
        "read_weights",
        "weights_file",
        "write_checkpoint",
    ),
    "data": ("datasets", "load_dataset"),
    "errors": ("DataMissing", "EvaluationFailed"),
    "loop": ("Trainer", "activation_bytes"),
    "results": ("EpochResult", "Evaluation"),
    "splits": ("DataSet", "Split"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
