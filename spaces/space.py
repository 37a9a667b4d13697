"""Search spaces: functions from a chooser and a task to a candidate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bitfront.spaces.candidate import Candidate
from bitfront.spaces.choose import Choose
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.registry import Registry
from bitfront.spaces.value import Value


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Task(Value):
    """What a network is for; a space fits stem and depth to it.

    Attributes:
        input: Channels, rows and columns of an image.
        classes: Number of classes.
        epochs: Epochs of a full-fidelity training.
    """

    input: tuple[int, int, int]
    classes: int
    epochs: int = 120

    def check(self) -> None:
        """Sizes are positive."""
        if len(self.input) != 3 or min(self.input) < 1:
            raise InvalidValue(f"input must be three positive sizes, but is {list(self.input)}.")
        if self.classes < 2:
            raise InvalidValue(f"classes must be at least 2, but is {self.classes}.")
        if self.epochs < 1:
            raise InvalidValue(f"epochs must be at least 1, but is {self.epochs}.")


Space = Callable[[Choose, Task], Candidate]
spaces: Final[Registry[Space]] = Registry("space")
