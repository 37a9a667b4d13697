"""How many bits a weight and an activation have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.value import Value

BITS: Final = (1, 2, 3, 4, 5, 6, 7, 8, 16, 32)


def check_bits(name: str, bits: int) -> None:
    """Raise ``InvalidValue`` unless ``bits`` is a supported width."""
    if bits not in BITS:
        raise InvalidValue(f"{name} must be one of {', '.join(map(str, BITS))}, but is {bits}.")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Precision(Value):
    """Bits of the weights and of the inputs of a layer: 1, 2 to 8 integer codes, 16 and 32 float.

    Attributes:
        weights: Bits of one weight.
        activations: Bits of one input value.
    """

    weights: int
    activations: int

    def check(self) -> None:
        """Both widths must be supported."""
        check_bits("weights", self.weights)
        check_bits("activations", self.activations)

    @property
    def label(self) -> str:
        """The field's notation, weights/activations: ``1/1``."""
        return f"{self.weights}/{self.activations}"


BINARY: Final = Precision(weights=1, activations=1)
FULL: Final = Precision(weights=32, activations=32)
