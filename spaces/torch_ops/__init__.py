"""The torch form of every primitive op.

A form is a small module that holds the parameters of one node and computes its value from the
values of the nodes before it. Feature maps are ``(N, slices*C, H, W)``, slice after slice.
"""

# filling the registry of forms is what these imports are for
from bitfront.spaces.torch_ops import dropout, elementwise, layers, merges, pools, scaling, views
from bitfront.spaces.torch_ops.form import Form, forms, quantized
from bitfront.spaces.torch_ops.layers import NORM_EPS, NORM_MOMENTUM
from bitfront.spaces.torch_ops.quantizing import Quantizing, learned

__all__ = [
    "NORM_EPS",
    "NORM_MOMENTUM",
    "Form",
    "Quantizing",
    "dropout",
    "elementwise",
    "forms",
    "layers",
    "learned",
    "merges",
    "pools",
    "quantized",
    "scaling",
    "views",
]
