"""What an exporter receives: a trained network with all that must travel with it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from bitfront import __version__
from bitfront.evaluators.measurement import Measurement
from bitfront.spaces.architecture import Architecture
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.recipe import Recipe
from bitfront.spaces.value import Value, encode

if TYPE_CHECKING:
    from bitfront.evaluators.training import DataSet

VERSION: Final = 1
"""Of the document that ``Winner.json`` gives."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Provenance(Value):
    """Where a network comes from.

    Attributes:
        study: Name of the study that found it; "" if it was trained on its own.
        trial: Its number in that study.
        seed: Of its training.
        started: When its training began, ISO 8601; "" if unknown.
        finished: When its training ended, ISO 8601; "" if unknown.
        bitfront: Version that trained it.
    """

    study: str = ""
    trial: int | None = None
    seed: int | None = None
    started: str = ""
    finished: str = ""
    bitfront: str = ""

    def check(self) -> None:
        """Dates are dates, a trial belongs to a study."""
        for name, text in (("started", self.started), ("finished", self.finished)):
            if text:
                try:
                    datetime.fromisoformat(text)
                except ValueError:
                    raise InvalidValue(
                        f"{name} must be an ISO 8601 date, but is {text!r}."
                    ) from None
        if self.trial is not None and (self.trial < 0 or not self.study):
            raise InvalidValue(
                "trial must be a number from 0 in a named study, but got "
                f"(trial={self.trial}, study={self.study!r})."
            )


def _is_date(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainedOn(Value):
    """The data that a network was trained on, and how its pixels are normalised.

    A network reads ``(x/255 - mean) / std`` per channel, x from 0 to 255.

    Attributes:
        name: What loads the data set again ("digits", "folder:PATH").
        digest: Of its images, labels and splits.
        mean: Per channel.
        std: Per channel; positive.
        class_names: One per logit.
    """

    name: str
    digest: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...] = ()

    def check(self) -> None:
        """One finite mean and one positive deviation per channel."""
        if len(self.mean) != len(self.std) or not self.mean:
            raise InvalidValue(
                f"mean and std must have one value per channel, but have {len(self.mean)} and "
                f"{len(self.std)}."
            )
        if not all(map(math.isfinite, self.mean)):
            raise InvalidValue(f"mean must be finite, but is {self.mean}.")
        if not all(math.isfinite(s) and s > 0 for s in self.std):
            raise InvalidValue(f"std must be positive, but is {self.std}.")

    @classmethod
    def of(cls, data: DataSet) -> TrainedOn:
        """Describe a data set."""
        return cls(
            name=data.name,
            digest=data.digest,
            mean=data.mean,
            std=data.std,
            class_names=data.class_names,
        )

    def affine(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Factor and offset, (C, 1, 1), of ``x * factor + offset``: bitwise as in training."""
        mean, std = np.array(self.mean), np.array(self.std)
        shape = (-1, 1, 1)
        return (
            (1.0 / (255.0 * std)).astype(np.float32).reshape(shape),
            (-mean / std).astype(np.float32).reshape(shape),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Winner:
    """A trained network, ready to be exported.

    Attributes:
        name: Of the files: letters, digits, dots, dashes, pluses, underscores.
        architecture: The network.
        recipe: How it was trained.
        weights: A safetensors file with the network's ``state_dict``, or a training's checkpoint:
            names may start with ``model.``, and other tensors beside those are left out.
        data: What it was trained on.
        measurements: What is known of it.
        provenance: Where it comes from.
    """

    name: str
    architecture: Architecture
    recipe: Recipe
    weights: Path
    data: TrainedOn
    measurements: tuple[Measurement, ...] = ()
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InvalidValue(
                "A name must be 1 to 100 letters, digits, dots, dashes, pluses and underscores, "
                f"and start with a letter or digit, but is {self.name!r}."
            )
        channels = self.architecture.input[0]
        if len(self.data.mean) != channels:
            raise InvalidValue(
                f"mean and std must have one value for each of the {channels} channels, but have "
                f"{len(self.data.mean)}."
            )
        names = len(self.data.class_names)
        if names not in (0, self.architecture.classes):
            raise InvalidValue(
                f"There must be a name for each of the {self.architecture.classes} classes, but "
                f"there are {names}."
            )

    def json(self) -> dict[str, Any]:
        """Plain data: everything but the weights. Every format carries it."""
        return {
            "format": "bitfront",
            "version": VERSION,
            "bitfront": __version__,
            "name": self.name,
            "architecture_digest": self.architecture.digest,
            "architecture": self.architecture.json(),
            "recipe": self.recipe.json(),
            "data": encode(self.data),
            "measurements": encode(self.measurements),
            "provenance": encode(self.provenance),
        }
