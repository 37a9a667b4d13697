"""Constraints: bounds on objectives, written as ``energy<=0.002``.

The number is in the objective's own unit: energy in mJ, size_mib in MiB, memory in bytes, ops in
operations (FLOPs + BOPs/64), params in parameters, accuracy as a fraction.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Final

from bitfront.evaluators.objective import Objective, objectives
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.value import Value

OPERATORS: Final = ("<=", ">=", "<", ">")
_FORM: Final = re.compile(r"\s*(\w+)\s*(<=|>=|<|>)\s*([^\s<>=]+)\s*")
# the violation of a strict bound that is met exactly
_JUST: Final = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Constraint(Value):
    """A bound on one objective.

    Attributes:
        objective: Name of a registered objective.
        operator: "<=", ">=", "<" or ">".
        bound: In the objective's unit.
    """

    objective: str
    operator: str
    bound: float

    def check(self) -> None:
        """The objective is known, the bound finite."""
        # an unknown name raises, with the nearest one
        objectives[self.objective]
        if self.operator not in OPERATORS:
            raise InvalidValue(
                f"An operator must be one of {', '.join(OPERATORS)}, but is {self.operator!r}."
            )
        if not math.isfinite(self.bound):
            raise InvalidValue(
                f"The bound of {self.objective} must be finite, but is {self.bound}."
            )

    @property
    def text(self) -> str:
        """The one way to write it; the name under which violations are stored."""
        return f"{self.objective}{self.operator}{self.bound!r}"

    @property
    def target(self) -> Objective:
        """The objective that is bounded."""
        return objectives[self.objective]

    @property
    def is_upper(self) -> bool:
        """Whether the bound is from above."""
        return self.operator.startswith("<")

    def violation(self, value: float) -> float:
        """How far a value lies beyond the bound, as a share of the bound; not positive: kept.

        Shares make violations of different units comparable, which samplers add up.
        """
        excess = value - self.bound if self.is_upper else self.bound - value
        share = excess / abs(self.bound) if self.bound else excess
        return _JUST if share == 0 and len(self.operator) == 1 else share

    @classmethod
    def from_json(cls, data: Any, where: str = "constraint") -> Constraint:
        """Read the text that ``text`` gave.

        Raises:
            InvalidValue: If it is no constraint.
        """
        if not isinstance(data, str):
            raise InvalidValue(f"{where} must be a text like 'energy<=0.002', but is {data!r}.")
        return parse_constraint(data)


def parse_constraint(text: str) -> Constraint:
    """Read a constraint such as ``size_mib<=0.1``.

    >>> parse_constraint("energy <= 2e-3").text
    'energy<=0.002'

    Raises:
        InvalidValue: If it has another form, or names an unknown objective.
    """
    match = _FORM.fullmatch(text)
    bound = _number(match[3]) if match else None
    if match is None or bound is None:
        raise InvalidValue(
            f"A constraint must be OBJECTIVE{{{','.join(OPERATORS)}}}NUMBER, such as "
            f"'energy<=0.002', but is {text!r}."
        )
    return Constraint(objective=match[1], operator=match[2], bound=bound)


def check_together(constraints: tuple[Constraint, ...]) -> None:
    """Refuse constraints that no value can keep.

    Raises:
        InvalidValue: If a lower bound lies above an upper bound of the same objective.
    """
    for upper in constraints:
        for lower in constraints:
            if upper.objective != lower.objective or not upper.is_upper or lower.is_upper:
                continue
            strict = len(upper.operator) == 1 or len(lower.operator) == 1
            if lower.bound > upper.bound or (strict and lower.bound == upper.bound):
                raise InvalidValue(
                    f"No value of {upper.objective} keeps both {lower.text} and {upper.text}."
                )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
