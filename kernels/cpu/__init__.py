"""Low-bit products on a CPU: the compiled kernels, equal to the reference bit for bit.

A weight is brought into panels of 32 outputs once (`prepare_weight`), since a layer runs many
times. Without the compiled library the same calls run on `bitfront.kernels.reference`.

With values a = o_a + sum_i p_i a_i and w = o_w + sum_j q_j w_j of bits a_i and w_j, a product is
one pass over the words for each pair of planes, and all that does not depend on the position is a
constant of the output::

    both symmetric        sum_ij 2^(i+j) (K - 2 popcount(a_i ^ w_j))
    weights symmetric     sum_ij p_i 2^j (popcount(w_j) - popcount(a_i ^ w_j))
    inputs symmetric      sum_ij 2^i q_j (2 popcount(a_i & w_j) - popcount(w_j))
    neither               sum_ij p_i q_j popcount(a_i & w_j)

Shape suffixes: B batch, H height, W width, P words of a row, M rows, N outputs, Q and R planes,
h and w the axes of a kernel, T its taps, G groups, F panels of a group, L the 32 outputs of a
panel, Y and X rows and columns of a result.
"""

from bitfront.kernels.cpu.conv import conv2d, gemm, variants
from bitfront.kernels.cpu.interleave import interleave
from bitfront.kernels.cpu.packer import Thresholds, pack, pack_nchw
from bitfront.kernels.cpu.product import Product, prepare_product
from bitfront.kernels.cpu.weight import CpuWeight, prepare_weight
from bitfront.kernels.finish import Affine, Finish, Threshold
from bitfront.kernels.operands import Packed

__all__ = [
    "Affine",
    "CpuWeight",
    "Finish",
    "Packed",
    "Product",
    "Threshold",
    "Thresholds",
    "conv2d",
    "gemm",
    "interleave",
    "pack",
    "pack_nchw",
    "prepare_product",
    "prepare_weight",
    "variants",
]
