"""The exact integer products: every kernel must equal these functions bit for bit.

Written to be read, not to be fast; integers only, on whatever device the tensors are. Inputs are
checked down to the padding bits, which faster kernels trust.

Shape suffixes: B batch, H height, W width, P words of a row, M rows, N outputs, K bits of a row,
Q and R bit planes of the two operands, h and w the two axes of a kernel, T its taps (h * w),
G groups, Y and X rows and columns of a result.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bitfront.kernels.geometry import Conv2dGeometry, Fill, Pair
from bitfront.kernels.layout import (
    BINARY,
    CodeFormat,
    PackedBits,
    PackedCodes,
    require_clear_padding,
    require_type,
)
from bitfront.kernels.operands import (
    conv_geometry,
    fill_words,
    regroup,
    require_accumulator,
    require_matrices,
    taps,
    weighted_rows,
)
from bitfront.kernels.packing import row_count

# words held at once by the temporaries of a product
_CHUNK_WORDS = 1 << 20


def xnor_gemm(a_MP: Tensor, b_NP: Tensor, k: int) -> Tensor:
    """Product of two matrices of -1 and +1: ``K - 2 * popcount(a ^ b)``, which is ``a @ b.T``.

    Args:
        a_MP: int32 words [M, P].
        b_NP: int32 words [N, P], one row for each output.
        k: K, the bits of a row; P = ceil(K / 32).

    Returns:
        int32 [M, N].

    Raises:
        TypeError: words are not int32 tensors, or `k` is not an int.
        ValueError: shapes do not agree, a size is 0, padding bits are not 0, or a tensor has more
            than 2^31 - 1 elements.
    """
    require_matrices(a_MP, b_NP, k)
    return k - 2 * _count_matrix(a_MP, b_NP, torch.bitwise_xor)


def and_gemm(a_MP: Tensor, b_NP: Tensor, k: int) -> Tensor:
    """Product of two matrices of 0 and 1: ``popcount(a & b)``, which is ``a @ b.T``.

    Arguments, result and errors as `xnor_gemm`.
    """
    require_matrices(a_MP, b_NP, k)
    return _count_matrix(a_MP, b_NP, torch.bitwise_and)


def bitserial_gemm(a: PackedCodes, b: PackedCodes) -> Tensor:
    """Product of two matrices of k-bit codes, ``a @ b.T`` of their integer values.

    With value = o + sum_q p_q * bit_q on either side::

        sum_ij p_i p_j popcount(a_i & b_j)                      AND and shift, plane by plane
        + o_b sum_i p_i popcount(a_i) + o_a sum_j p_j popcount(b_j) + K o_a o_b

    Args:
        a: words [Q, M, P].
        b: words [R, N, P], one row for each output; its format may differ.

    Returns:
        int32 [M, N].

    Raises:
        TypeError: an operand is no `PackedCodes`.
        ValueError: shapes do not agree, padding bits are not 0, or the largest possible sum or the
            number of results exceeds 2^31 - 1.
    """
    for name, operand in (("a", a), ("b", b)):
        require_type(name, operand, PackedCodes)
        if operand.words.dim() != 3:
            raise ValueError(
                f"`{name}` must hold words [planes, rows, words], "
                f"but got shape {tuple(operand.words.shape)}."
            )
    if a.channels != b.channels:
        raise ValueError(
            f"`a.channels == b.channels` must hold, but got ({a.channels}, {b.channels})."
        )
    require_matrices(a.words[0], b.words[0], a.channels)
    require_clear_padding("a", a.words, a.channels)
    require_clear_padding("b", b.words, b.channels)
    require_accumulator(a.format, b.format, a.channels)
    return _plane_product(a.words, b.words, a.format, b.format, a.channels)


def xnor_conv2d(
    x: PackedBits,
    weight: PackedBits,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    fill: Fill = 0,
) -> Tensor:
    """Convolution (as torch's: a correlation) of -1 and +1 values.

    Args:
        x: words [B, H, W, P].
        weight: words [N, kh, kw, ceil(C / groups / 32)] of C / groups channels.
        stride: an int or (vertical, horizontal).
        padding: pixels on both sides, an int or (vertical, horizontal).
        dilation: an int or (vertical, horizontal).
        groups: divides C and N.
        fill: what lies in the padding: -1 or +1 (a bit like any other), 0 (exact: computed with
            -1, then the sum of the weights at the outside taps is added), or "replicate" (the
            nearest pixel).

    Returns:
        int32 [B, Y, X, N], channels last.

    Raises:
        TypeError: an operand is no `PackedBits`, or an argument is no int.
        ValueError: shapes or arguments do not agree, padding bits are not 0, or a size exceeds
            2^31 - 1.
    """
    require_type("x", x, PackedBits)
    require_type("weight", weight, PackedBits)
    x_QBHWP, w_RNhwP = x.words[None], weight.words[None]
    conv = conv_geometry(
        x_QBHWP, w_RNhwP, x.channels, weight.channels, stride, padding, dilation, groups
    )

    def product(a_QMP: Tensor, b_RNP: Tensor) -> Tensor:
        return conv.dot_length - 2 * _count_matrix(a_QMP[0], b_RNP[0], torch.bitwise_xor)

    return _convolve(x_QBHWP, w_RNhwP, conv, BINARY, BINARY, fill, product)


def bitserial_conv2d(
    x: PackedCodes,
    weight: PackedCodes,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    fill: Fill = 0,
) -> Tensor:
    """Convolution of k-bit codes; `bitserial_gemm` says how, `xnor_conv2d` what the arguments are.

    Args:
        x: words [Q, B, H, W, P].
        weight: words [R, N, kh, kw, ceil(C / groups / 32)]; its format may differ.
        stride: as `xnor_conv2d`.
        padding: as `xnor_conv2d`.
        dilation: as `xnor_conv2d`.
        groups: as `xnor_conv2d`.
        fill: 0, any value of the format of `x`, or "replicate".

    Returns:
        int32 [B, Y, X, N], channels last.

    Raises:
        TypeError: an operand is no `PackedCodes`, or an argument is no int.
        ValueError: as `xnor_conv2d`, and where the largest possible sum exceeds 2^31 - 1.
    """
    require_type("x", x, PackedCodes)
    require_type("weight", weight, PackedCodes)
    conv = conv_geometry(
        x.words, weight.words, x.channels, weight.channels, stride, padding, dilation, groups
    )
    require_accumulator(x.format, weight.format, conv.dot_length)

    def product(a_QMP: Tensor, b_RNP: Tensor) -> Tensor:
        return _plane_product(a_QMP, b_RNP, x.format, weight.format, conv.dot_length)

    return _convolve(x.words, weight.words, conv, x.format, weight.format, fill, product)


def _count_matrix(
    a_MP: Tensor, b_NP: Tensor, combine: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """int32 [M, N]: the ones in `combine` of each row of `a_MP` with each row of `b_NP`."""
    step = max(1, _CHUNK_WORDS // b_NP.numel())
    return torch.cat([row_count(combine(rows[:, None], b_NP)) for rows in torch.split(a_MP, step)])


def _plane_product(
    a_QMP: Tensor, b_RNP: Tensor, a_format: CodeFormat, b_format: CodeFormat, k: int
) -> Tensor:
    a_sum_M1 = weighted_rows(a_QMP, a_format)[:, None]
    b_sum_1N = weighted_rows(b_RNP, b_format)[None, :]
    total_MN = k * a_format.offset * b_format.offset + (
        b_format.offset * a_sum_M1 + a_format.offset * b_sum_1N
    )
    for a_value, a_MP in zip(a_format.plane_values, a_QMP, strict=True):
        for b_value, b_NP in zip(b_format.plane_values, b_RNP, strict=True):
            total_MN = total_MN + a_value * b_value * _count_matrix(a_MP, b_NP, torch.bitwise_and)
    return total_MN.to(torch.int32)


def _convolve(
    x_QBHWP: Tensor,
    w_RNhwP: Tensor,
    conv: Conv2dGeometry,
    x_format: CodeFormat,
    w_format: CodeFormat,
    fill: Fill,
    product: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Gather the words under each window, multiply group by group, correct a zero padding."""
    rows_Yh, row_inside_Yh = taps(conv, 0, x_QBHWP.device)
    columns_Xw, column_inside_Xw = taps(conv, 1, x_QBHWP.device)
    inside_YXhw = row_inside_Yh[:, None, :, None] & column_inside_Xw[None, :, None, :]
    fill_QP = fill_words(conv, x_format, fill, x_QBHWP.device)
    corrects = fill == 0 and not x_format.is_value(0)

    outside_YXT = ~inside_YXhw.flatten(2)

    x_QBHWGP = regroup(x_QBHWP, conv)
    window_words = conv.out_height * conv.out_width * conv.taps * x_QBHWGP.shape[-1]
    step = max(1, _CHUNK_WORDS // window_words)
    results = []
    for group in range(conv.groups):
        first = group * conv.group_outputs
        w_RNTP = w_RNhwP[:, first : first + conv.group_outputs].flatten(2, 3)
        parts = []
        for images in torch.split(x_QBHWGP[..., group, :], step, dim=1):
            windows = images[:, :, rows_Yh[:, None, :, None], columns_Xw[None, :, None, :]]
            if fill_QP is not None:
                border = fill_QP[:, None, None, None, None, None, :]
                windows = torch.where(inside_YXhw[..., None], windows, border)
            # [Q, B, Y, X, h, w, P] -> [Q, M, T * P]
            parts.append(product(windows.flatten(4).flatten(1, 3), w_RNTP.flatten(2)))
        acc_BYXN = torch.cat(parts).reshape(
            conv.batch, conv.out_height, conv.out_width, conv.group_outputs
        )
        if corrects:
            # the outside taps were counted with the value of code 0, `offset`, in place of 0
            outside_YXN = _outside_sum(outside_YXT, w_RNTP, w_format, conv.group_channels)
            acc_BYXN = acc_BYXN - x_format.offset * outside_YXN
        results.append(acc_BYXN)
    return torch.cat(results, dim=-1)


def _outside_sum(
    outside_YXT: Tensor, w_RNTP: Tensor, w_format: CodeFormat, channels: int
) -> Tensor:
    """int32 [Y, X, N]: the sum of the weights at the taps that lie outside the input."""
    tap_sum_NT = (weighted_rows(w_RNTP, w_format) + channels * w_format.offset).to(torch.int32)
    total_YXN = torch.zeros(
        (*outside_YXT.shape[:2], tap_sum_NT.shape[0]), dtype=torch.int32, device=w_RNTP.device
    )
    # tap by tap, since torch has no integer matrix product on GPUs
    for outside_YX, tap_sum_N in zip(outside_YXT.unbind(-1), tap_sum_NT.unbind(-1), strict=True):
        total_YXN += outside_YX[..., None] * tap_sum_N
    return total_YXN
