"""What a training reports: one result per epoch, and an evaluation of a split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bitfront.spaces.value import Value


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EpochResult(Value):
    """What one epoch gave.

    Attributes:
        epoch: Epochs done, this one included.
        train_loss: Mean over the epoch's images, label smoothing included.
        validation_loss: Mean cross entropy, without smoothing.
        validation_accuracy: Fraction of the validation images that are classified correctly.
        seconds: Wall time of training and validation.
        learning_rate: Of the epoch's last step.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    validation_accuracy: float
    seconds: float
    learning_rate: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """How a network classifies one split.

    Attributes:
        accuracy: Fraction of the images that are classified correctly.
        loss: Mean cross entropy.
        predictions: int64, (N,), in the order of the split.
    """

    accuracy: float
    loss: float
    predictions: npt.NDArray[np.int64]
