"""Dropout: noise in training, nothing at inference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bitfront.spaces.errors import InfeasibleArchitecture, InvalidValue
from bitfront.spaces.graph import Domain, Facts, Op, TensorType
from bitfront.spaces.ops.op import ops


@ops.register("dropout")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dropout(Op):
    """In training each value is 0 with a probability, else ``x / (1 - probability)``.

    At inference it is the identity, and that is what a graph describes: no work, the same type.

    Attributes:
        probability: Of a value to be dropped.

    References:
        Srivastava et al. 2014, Dropout (JMLR 15); scaled in training, as torch does.
    """

    kind: ClassVar[str] = "dropout"
    fusable: ClassVar[bool] = True
    probability: float = 0.5

    def check(self) -> None:
        """At least one value is kept, on average."""
        if not 0.0 <= self.probability < 1.0:
            raise InvalidValue(
                f"probability must be at least 0 and below 1, but is {self.probability}."
            )

    def infer(self, *inputs: TensorType) -> Facts:
        """The input's type; codes and signs would be neither any more in training."""
        (x,) = inputs
        if x.domain is not Domain.FLOAT:
            raise InfeasibleArchitecture(
                f"Dropout scales what it keeps, so it needs real values, but got {x.domain}; drop "
                "out before quantising."
            )
        return Facts(out=x)
