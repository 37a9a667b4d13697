"""A number with what it needs to be believed: unit, method, spread, hardware, versions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.value import Value

METHODS: Final = ("analytic", "estimated", "measured")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measurement(Value):
    """One value of one objective.

    Attributes:
        objective: Name of the objective.
        value: In ``unit``; finite.
        unit: "mJ", "MiB", "fraction", ...
        method: "analytic" (exact by definition), "estimated" (a model) or "measured".
        low: Lower end of the band or of the spread; None where there is none.
        high: Upper end.
        repeats: Runs behind the value.
        hardware: Profile or device, "" where it does not matter.
        versions: Versions of what measured it, "" where it does not matter.
    """

    objective: str
    value: float
    unit: str
    method: str
    low: float | None = None
    high: float | None = None
    repeats: int = 1
    hardware: str = ""
    versions: str = ""

    def check(self) -> None:
        """The value is finite and inside its band, the method is known."""
        if not math.isfinite(self.value):
            raise InvalidValue(f"{self.objective} must be finite, but is {self.value!r}.")
        if self.method not in METHODS:
            raise InvalidValue(f"method must be one of {METHODS}, but is {self.method!r}.")
        if self.repeats < 1:
            raise InvalidValue(f"repeats must be at least 1, but is {self.repeats}.")
        if self.low is not None and self.low > self.value:
            raise InvalidValue(f"low <= value must hold, but got {self.low} and {self.value}.")
        if self.high is not None and self.high < self.value:
            raise InvalidValue(f"value <= high must hold, but got {self.value} and {self.high}.")
