"""Quantizers: what they emit, how the gradient passes, which bits they need.

A quantizer is a frozen value without torch; ``q`` and ``dq`` are written with operators that
torch tensors have, and import torch only when they are called.
"""

from bitfront.spaces.quantizers.choice import (
    IDENTITY,
    SIGN,
    SIGN_WEIGHT,
    WEIGHT_ESTIMATORS,
    activation_quantizer,
    estimated_input,
    estimated_weight,
    storage_quantizer,
    weight_quantizer,
)
from bitfront.spaces.quantizers.estimators import ESTIMATORS, ApproxSign, SwishSign
from bitfront.spaces.quantizers.hwgq import HalfWave
from bitfront.spaces.quantizers.learned import Learned
from bitfront.spaces.quantizers.lq_net import LqNet, LqNetWeight
from bitfront.spaces.quantizers.lsq import Lsq, LsqWeight
from bitfront.spaces.quantizers.pact import Pact
from bitfront.spaces.quantizers.progressive import ProgressiveSign
from bitfront.spaces.quantizers.quantizer import Quantizer, quantizers
from bitfront.spaces.quantizers.rotated import RotatedSign
from bitfront.spaces.quantizers.rsign import RSign
from bitfront.spaces.quantizers.scaled import MagnitudeSign, Scaled, TernaryScaled, XnorSign
from bitfront.spaces.quantizers.sign import Heaviside, MultiSign, ShiftedSign, Sign
from bitfront.spaces.quantizers.ternary import Ternary
from bitfront.spaces.quantizers.trained import Syq, Ttq
from bitfront.spaces.quantizers.uniform import DoReFa, DoReFaWeight, Half, Identity, Symmetric

__all__ = [
    "ApproxSign",
    "DoReFa",
    "DoReFaWeight",
    "ESTIMATORS",
    "Half",
    "HalfWave",
    "Heaviside",
    "IDENTITY",
    "Identity",
    "Learned",
    "LqNet",
    "LqNetWeight",
    "Lsq",
    "LsqWeight",
    "MagnitudeSign",
    "MultiSign",
    "Pact",
    "ProgressiveSign",
    "Quantizer",
    "RSign",
    "RotatedSign",
    "SIGN",
    "SIGN_WEIGHT",
    "Scaled",
    "ShiftedSign",
    "Sign",
    "SwishSign",
    "Symmetric",
    "Syq",
    "Ternary",
    "TernaryScaled",
    "Ttq",
    "WEIGHT_ESTIMATORS",
    "XnorSign",
    "activation_quantizer",
    "estimated_input",
    "estimated_weight",
    "quantizers",
    "storage_quantizer",
    "weight_quantizer",
]
