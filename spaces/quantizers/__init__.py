"""Quantizers: what they emit, how the gradient passes, which bits they need.

A quantizer is a frozen value without torch; ``q`` and ``dq`` are written with operators that
torch tensors have, and import torch only when they are called.
"""

from bitfront.spaces.quantizers.choice import (
    IDENTITY,
    SIGN,
    SIGN_WEIGHT,
    activation_quantizer,
    storage_quantizer,
    weight_quantizer,
)
from bitfront.spaces.quantizers.quantizer import Quantizer, quantizers
from bitfront.spaces.quantizers.scaled import MagnitudeSign, Scaled
from bitfront.spaces.quantizers.sign import MultiSign, ShiftedSign, Sign
from bitfront.spaces.quantizers.uniform import DoReFa, DoReFaWeight, Half, Identity, Symmetric

__all__ = [
    "DoReFa",
    "DoReFaWeight",
    "Half",
    "IDENTITY",
    "Identity",
    "MagnitudeSign",
    "MultiSign",
    "Quantizer",
    "SIGN",
    "SIGN_WEIGHT",
    "Scaled",
    "ShiftedSign",
    "Sign",
    "Symmetric",
    "activation_quantizer",
    "quantizers",
    "storage_quantizer",
    "weight_quantizer",
]
