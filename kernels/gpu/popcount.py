"""Products by counting bits: for few rows, where reading the weights is what takes time.

``out[m, n] = beta[class of m, n] + FACTOR sum_ij +-2^(i+j) popcount(x_i[m] op w_j[n])``, `op` being
XOR where the weights are symmetric and AND elsewhere; `bitfront.kernels.cpu` says why.
"""

from __future__ import annotations

import triton
import triton.language as tl

from bitfront.kernels.gpu.bits import popcount
from bitfront.kernels.gpu.epilogue import store
from bitfront.kernels.gpu.window import (
    constant_of,
    load_words,
    row_origin,
    tile_place,
    under_window,
)


@triton.jit
def quarters(
    words: tl.tensor, ROWS: tl.constexpr, WORDS: tl.constexpr, LATE: tl.constexpr
) -> tl.tensor:
    """Each fourth word of [ROWS, WORDS], four times: [ROWS, WORDS / 4], or [ROWS] of 4 words.

    A thread reads four words at once and keeps them.
    """
    if LATE:
        even, odd = tl.split(tl.reshape(words, (ROWS, WORDS // 4, 2, 2)))
    else:
        even, odd = tl.split(tl.reshape(words, (ROWS, 2, 2)))
    first, third = tl.split(even)
    second, fourth = tl.split(odd)
    return first, second, third, fourth


@triton.jit
def count_pairs(x: tl.tensor, w: tl.tensor, XOR: tl.constexpr) -> tl.tensor:
    """Bits that differ (XOR), or are both 1, of each word of x [ROWS, ..] and w [OUTPUTS, ..]."""
    rows, outputs = tl.expand_dims(x, 1), tl.expand_dims(w, 0)
    return popcount(rows ^ outputs if XOR else rows & outputs)


@triton.jit
def popcount_kernel(
    x_ptr: tl.tensor,
    w_ptr: tl.tensor,
    fill_ptr: tl.tensor,
    beta_ptr: tl.tensor,
    row_class_ptr: tl.tensor,
    col_class_ptr: tl.tensor,
    out_ptr: tl.tensor,
    finish_ptr: tl.tensor,
    rows: tl.tensor,
    outputs: tl.tensor,
    group_outputs: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    out_height: tl.tensor,
    out_width: tl.tensor,
    x_plane: tl.tensor,
    w_plane: tl.tensor,
    out_row: tl.tensor,
    out_plane: tl.tensor,
    X_PIXEL: tl.constexpr,
    P: tl.constexpr,
    ROW_WORDS: tl.constexpr,
    WINDOW: tl.constexpr,
    CLASSES: tl.constexpr,
    FILL: tl.constexpr,
    REPLICATE: tl.constexpr,
    GEOMETRY: tl.constexpr,
    X_BITS: tl.constexpr,
    W_BITS: tl.constexpr,
    X_SIGNED: tl.constexpr,
    W_SIGNED: tl.constexpr,
    XOR: tl.constexpr,
    FACTOR: tl.constexpr,
    FINISH: tl.constexpr,
    BITS: tl.constexpr,
    AFTER: tl.constexpr,
    MERGES: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_OUTPUTS: tl.constexpr,
    TILE_WORDS: tl.constexpr,
    LATE: tl.constexpr,
    STAGES: tl.constexpr,
) -> None:
    """One tile of a product; `bitfront.kernels.gpu.product` says what it is given.

    LATE keeps a sum for each four words of a tile and adds them up once, at the end: for few rows,
    where the threads of a warp share the words of a row. Else a tile has four words, so that no sum
    crosses threads.
    """
    WORDS: tl.constexpr = GEOMETRY[0][0] * GEOMETRY[0][1] * P
    size, out_size = (height, width), (out_height, out_width)
    m, is_row, group, tile_first = tile_place(rows, outputs, group_outputs, TILE_ROWS, TILE_OUTPUTS)
    in_group = tile_first + tl.arange(0, TILE_OUTPUTS)
    is_output = in_group < group_outputs
    n = group * group_outputs + in_group
    origin, top, left = row_origin(m, group, size, out_size, X_PIXEL, P, GEOMETRY, WINDOW)
    x_start = x_ptr + origin[:, None]
    w_start = w_ptr + (n.to(tl.int64) * ROW_WORDS)[:, None]
    if LATE:
        total = tl.zeros((TILE_ROWS, TILE_OUTPUTS, TILE_WORDS // 4), tl.int32)
    else:
        total = tl.zeros((TILE_ROWS, TILE_OUTPUTS), tl.int32)
    for first in tl.range(0, WORDS, TILE_WORDS, num_stages=STAGES):
        words = first + tl.arange(0, TILE_WORDS)
        offset, read, outside = under_window(
            words, is_row, top, left, size, X_PIXEL, P, GEOMETRY, WINDOW, REPLICATE
        )
        w_read = is_output[:, None] & (words < WORDS)[None, :]
        for i in tl.static_range(X_BITS):
            start, border_ptr = x_start + i * x_plane, fill_ptr + i * P
            x = load_words(start, offset, read, outside, words, border_ptr, P, FILL)
            x0, x1, x2, x3 = quarters(x, TILE_ROWS, TILE_WORDS, LATE)
            for j in tl.static_range(W_BITS):
                w = tl.load(w_start + j * w_plane + words[None, :], mask=w_read, other=0)
                w0, w1, w2, w3 = quarters(w, TILE_OUTPUTS, TILE_WORDS, LATE)
                # a shift of one count alone would undo the POPC: the compiler moves it inside
                count = count_pairs(x0, w0, XOR) + count_pairs(x1, w1, XOR)
                count += count_pairs(x2, w2, XOR) + count_pairs(x3, w3, XOR)
                if (X_SIGNED and i == X_BITS - 1) != (W_SIGNED and j == W_BITS - 1):
                    total -= count << (i + j)
                else:
                    total += count << (i + j)
    if LATE:
        total = tl.sum(total, 2)
    beta = constant_of(
        m,
        is_row,
        n,
        is_output,
        out_size,
        outputs,
        beta_ptr,
        row_class_ptr,
        col_class_ptr,
        CLASSES,
    )
    store(
        beta + FACTOR * total,
        m,
        is_row,
        group,
        tile_first,
        outputs,
        group_outputs,
        out_ptr,
        out_row,
        out_plane,
        finish_ptr,
        FINISH,
        BITS,
        AFTER,
        MERGES,
    )
