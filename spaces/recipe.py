"""How a network is trained, as data: searchable and digested like the architecture."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.quantizers import ESTIMATORS, WEIGHT_ESTIMATORS
from bitfront.spaces.value import Value, added, canonical, decode, digest_of, encode

OPTIMIZERS: Final = ("radam", "adamw", "sgd")
SCHEDULES: Final = ("cosine", "constant")
AUGMENTATIONS: Final = ("none", "shift", "crop-flip", "resized-crop-flip")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recipe(Value):
    """A training recipe.

    Attributes:
        optimizer: "radam", "adamw" or "sgd" (Nesterov momentum 0.9).
        learning_rate: Peak learning rate.
        schedule: "cosine" to zero, or "constant".
        warmup_epochs: Epochs of linear warm-up.
        weight_decay: On 32-bit weights; never on norms, biases or latent binary weights.
        epochs: Full fidelity.
        batch_size: Samples of one step.
        t_clip: Where the gradient of a sign is cut: dq/dx = 1 for |x| <= t_clip.
        label_smoothing: Mass that is spread over the other classes.
        augmentation: "none", "shift" (random shift by one pixel), "crop-flip" (pad 4, crop, mirror)
            or "resized-crop-flip" (area 0.08 to 1, aspect 3/4 to 4/3, mirror).
        estimator: The derivative of the signs of activations in training: "sign" (cut at t_clip),
            "approx_sign" (2 - 2|x|) or "swish_sign".
        weight_estimator: How the signs of weights are trained: "sign" (gradient straight through)
            or "progressive" (a ramp that becomes the sign; see ``ProgressiveSign``).
        digest: SHA-256 of the canonical JSON, computed at construction.
    """

    optimizer: str = "radam"
    learning_rate: float = 0.002
    schedule: str = "cosine"
    warmup_epochs: int = 0
    weight_decay: float = 0.0
    epochs: int = 120
    batch_size: int = 64
    t_clip: float = 1.3
    label_smoothing: float = 0.0
    augmentation: str = "none"
    estimator: str = added("sign")
    weight_estimator: str = added("sign")
    digest: str = field(init=False, repr=False, default="")

    def check(self) -> None:
        """Every field is in its range."""
        _one_of("optimizer", self.optimizer, OPTIMIZERS)
        _one_of("schedule", self.schedule, SCHEDULES)
        _one_of("augmentation", self.augmentation, AUGMENTATIONS)
        _one_of("estimator", self.estimator, tuple(ESTIMATORS))
        _one_of("weight_estimator", self.weight_estimator, WEIGHT_ESTIMATORS)
        _within("learning_rate", self.learning_rate, 1e-8, 10.0)
        _within("weight_decay", self.weight_decay, 0.0, 1.0)
        _within("epochs", self.epochs, 1, 100_000)
        _within("warmup_epochs", self.warmup_epochs, 0, self.epochs)
        _within("batch_size", self.batch_size, 1, 65_536)
        _within("t_clip", self.t_clip, 0.01, 100.0)
        _within("label_smoothing", self.label_smoothing, 0.0, 0.9)
        object.__setattr__(self, "digest", digest_of(canonical(encode(self))))

    def json(self) -> dict[str, Any]:
        """Plain data; ``from_json`` reads it back to an equal recipe."""
        return dict(encode(self))

    @classmethod
    def from_json(cls, data: Any, where: str = "recipe") -> Recipe:
        """Read a recipe from the data that ``json`` gave.

        Raises:
            InvalidValue: If the document breaks a rule.
        """
        return decode(cls, data, where)


def _one_of(name: str, value: str, options: tuple[str, ...]) -> None:
    if value not in options:
        raise InvalidValue(f"{name} must be one of {', '.join(options)}, but is {value!r}.")


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InvalidValue(f"{name} must be {low} to {high}, but is {value}.")
