"""The quantizer that a width stands for."""

from __future__ import annotations

from typing import Final

from bitfront.spaces.quantizers.quantizer import Quantizer
from bitfront.spaces.quantizers.sign import Sign
from bitfront.spaces.quantizers.uniform import DoReFa, DoReFaWeight, Half, Identity, Symmetric

IDENTITY: Final = Identity()
SIGN: Final = Sign()
SIGN_WEIGHT: Final = Sign(clipped=False)
_HALF: Final = Half()


def activation_quantizer(bits: int) -> Quantizer:
    """The quantizer of a layer's inputs: sign at 1 bit, DoReFa at 2 to 8, none at 32."""
    if bits == 1:
        return SIGN
    if bits <= 8:
        return DoReFa(width=bits)
    return _HALF if bits == 16 else IDENTITY


def weight_quantizer(bits: int) -> Quantizer:
    """The quantizer of a layer's weights: sign at 1 bit, DoReFa at 2 to 8, none at 32."""
    if bits == 1:
        return SIGN_WEIGHT
    if bits <= 8:
        return DoReFaWeight(width=bits)
    return _HALF if bits == 16 else IDENTITY


def storage_quantizer(bits: int) -> Quantizer:
    """The quantizer of a stored feature map: symmetric codes at 2 to 8 bits.

    Raises:
        InvalidValue: At 1 bit; a one-bit map is what ``MultiSign`` emits.
    """
    if bits <= 8:
        return Symmetric(width=bits, limit=4.0 if bits > 4 else 2.5)
    return _HALF if bits == 16 else IDENTITY
