"""The quantizer that a width stands for."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.quantizers.estimators import ESTIMATORS
from bitfront.spaces.quantizers.progressive import ProgressiveSign
from bitfront.spaces.quantizers.quantizer import Quantizer
from bitfront.spaces.quantizers.rsign import RSign
from bitfront.spaces.quantizers.sign import Sign
from bitfront.spaces.quantizers.uniform import DoReFa, DoReFaWeight, Half, Identity, Symmetric

IDENTITY: Final = Identity()
SIGN: Final = Sign()
SIGN_WEIGHT: Final = Sign(clipped=False)
WEIGHT_ESTIMATORS: Final = ("sign", "progressive")
"""How a recipe can train the signs of weights."""
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


def estimated_input(quantizer: Quantizer, estimator: str) -> Quantizer:
    """What training applies to a layer's inputs: the signs have the estimator's derivative.

    Args:
        quantizer: The graph's; whatever it is, its values stay.
        estimator: One of ``ESTIMATORS``.

    Raises:
        InvalidValue: If the estimator is unknown.
    """
    _check_known("estimator", estimator, tuple(ESTIMATORS))
    if isinstance(quantizer, Sign) and estimator != "sign":
        return ESTIMATORS[estimator]
    if isinstance(quantizer, RSign) and quantizer.estimator == "sign":
        return replace(quantizer, estimator=estimator)
    return quantizer


def estimated_weight(quantizer: Quantizer, estimator: str) -> Quantizer:
    """What training applies to weights; "progressive" approaches the signs.

    Args:
        quantizer: The graph's; whatever it is, its final values stay.
        estimator: One of ``WEIGHT_ESTIMATORS``.

    Raises:
        InvalidValue: If the estimator is unknown.
    """
    _check_known("weight_estimator", estimator, WEIGHT_ESTIMATORS)
    if isinstance(quantizer, Sign) and estimator == "progressive":
        return ProgressiveSign(clipped=quantizer.clipped)
    return quantizer


def _check_known(name: str, value: str, options: tuple[str, ...]) -> None:
    if value not in options:
        raise InvalidValue(f"{name} must be one of {', '.join(options)}, but is {value!r}.")
