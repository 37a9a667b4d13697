"""How many bits a weight and an activation have, and how they come to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.quantizers import (
    IDENTITY,
    Quantizer,
    activation_quantizer,
    weight_quantizer,
)
from bitfront.spaces.value import Value, added

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
        weight_quantizer: How weights are quantised; None is the usual way at that width: sign at
            1 bit, DoReFa at 2 to 8.
        input_quantizer: How inputs are quantised; None is the usual way at that width.
        weight: The quantizer of the weights, chosen at construction.
        input: The quantizer of the inputs, chosen at construction.
    """

    weights: int
    activations: int
    weight_quantizer: Quantizer | None = added(None)
    input_quantizer: Quantizer | None = added(None)
    weight: Quantizer = field(init=False, repr=False, default=IDENTITY)
    input: Quantizer = field(init=False, repr=False, default=IDENTITY)

    def check(self) -> None:
        """Both widths must be supported, and be those of the quantizers."""
        check_bits("weights", self.weights)
        check_bits("activations", self.activations)
        weight = self.weight_quantizer or weight_quantizer(self.weights)
        given = self.input_quantizer or activation_quantizer(self.activations)
        for name, quantizer, bits, fits in (
            ("weights", weight, self.weights, weight.for_weights),
            ("activations", given, self.activations, given.for_activations),
        ):
            if not fits:
                raise InvalidValue(f"The quantizer {quantizer.kind!r} is not for {name}.")
            if quantizer.bits != bits:
                raise InvalidValue(
                    f"{name} must be the {quantizer.bits} bits of the quantizer "
                    f"{quantizer.kind!r}, but is {bits}."
                )
        object.__setattr__(self, "weight", weight)
        object.__setattr__(self, "input", given)

    @property
    def label(self) -> str:
        """The field's notation, weights/activations: ``1/1``."""
        return f"{self.weights}/{self.activations}"


BINARY: Final = Precision(weights=1, activations=1)
FULL: Final = Precision(weights=32, activations=32)


def precision_of(weight: Quantizer = IDENTITY, input: Quantizer = IDENTITY) -> Precision:
    """The precision that two quantizers give.

    Args:
        weight: Of the weights.
        input: Of the inputs.
    """
    return Precision(
        weights=weight.bits,
        activations=input.bits,
        weight_quantizer=None if weight == weight_quantizer(weight.bits) else weight,
        input_quantizer=None if input == activation_quantizer(input.bits) else input,
    )
