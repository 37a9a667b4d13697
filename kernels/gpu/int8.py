"""Products on int8 tensor cores: bits become bytes in registers, for any number of bits.

A code c is taken as the int8 ``u = (c ^ FLIP) * SCALE + OFFSET``, which is its value where that
fits; `bitfront.kernels.gpu.product` puts what is left of it into the constants::

    out[m, n] = beta[class of m, n] + FACTOR sum_k u_x[m, k] u_w[n, k] + ROW_FACTOR sum_k u_x[m, k]
"""

from __future__ import annotations

import triton
import triton.language as tl

from bitfront.kernels.gpu.epilogue import store
from bitfront.kernels.gpu.window import (
    constant_of,
    load_words,
    row_origin,
    tile_place,
    under_window,
)


@triton.jit
def one_bit_bytes(words: tl.tensor, ROWS: tl.constexpr, WORDS: tl.constexpr) -> tl.tensor:
    """int32 words [ROWS, WORDS] to uint32 [ROWS, 8 * WORDS] of four bytes 0 or 1.

    Joined half by half, so that a thread keeps the bits of its words and stores them as one run of
    bytes; a shift by `arange` would deal them out to the threads of a warp.
    """
    x = words.to(tl.uint32, bitcast=True)
    x = tl.join(x, x >> 4)
    x = tl.join(x, x >> 2)
    x = tl.join(x, x >> 1)
    return tl.reshape(x & 0x01010101, (ROWS, WORDS * 8))


@triton.jit
def to_int8(
    codes: tl.tensor,
    FLIP: tl.constexpr,
    SCALE: tl.constexpr,
    OFFSET: tl.constexpr,
    ROWS: tl.constexpr,
    WORDS: tl.constexpr,
) -> tl.tensor:
    """uint32 [ROWS, WORDS] of four codes to int8 [ROWS, 4 * WORDS].

    Four at once: no code of 7 bits reaches the next byte when it is doubled, and the sum of each
    byte but its top bit carries only into that bit.
    """
    x = codes
    if FLIP != 0:
        x = x ^ (FLIP * 0x01010101)
    x = x * SCALE
    if OFFSET != 0:
        added = (OFFSET & 0xFF) * 0x01010101
        x = ((x & 0x7F7F7F7F) + (added & 0x7F7F7F7F)) ^ ((x ^ added) & 0x80808080)
    x = tl.join(x, x >> 16)
    x = tl.join(x, x >> 8)
    return tl.reshape(x.to(tl.int8), (ROWS, WORDS * 4))


@triton.jit
def int8_kernel(
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
    X_FLIP: tl.constexpr,
    X_SCALE: tl.constexpr,
    X_OFFSET: tl.constexpr,
    W_FLIP: tl.constexpr,
    W_SCALE: tl.constexpr,
    W_OFFSET: tl.constexpr,
    FACTOR: tl.constexpr,
    ROW_FACTOR: tl.constexpr,
    FINISH: tl.constexpr,
    BITS: tl.constexpr,
    AFTER: tl.constexpr,
    MERGES: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_OUTPUTS: tl.constexpr,
    TILE_WORDS: tl.constexpr,
) -> None:
    """One tile of a product; `bitfront.kernels.gpu.product` says what it is given."""
    WORDS: tl.constexpr = GEOMETRY[0][0] * GEOMETRY[0][1] * P
    size, out_size = (height, width), (out_height, out_width)
    m, is_row, group, tile_first = tile_place(rows, outputs, group_outputs, TILE_ROWS, TILE_OUTPUTS)
    in_group = tile_first + tl.arange(0, TILE_OUTPUTS)
    is_output = in_group < group_outputs
    n = group * group_outputs + in_group
    origin, top, left = row_origin(m, group, size, out_size, X_PIXEL, P, GEOMETRY, WINDOW)
    x_start = x_ptr + origin[:, None]
    w_start = w_ptr + (n.to(tl.int64) * ROW_WORDS)[:, None]
    total = tl.zeros((TILE_ROWS, TILE_OUTPUTS), tl.int32)
    row_total = tl.zeros((TILE_ROWS,), tl.int32)
    for first in range(0, WORDS, TILE_WORDS):
        words = first + tl.arange(0, TILE_WORDS)
        offset, read, outside = under_window(
            words, is_row, top, left, size, X_PIXEL, P, GEOMETRY, WINDOW, REPLICATE
        )
        w_read = is_output[:, None] & (words < WORDS)[None, :]
        x_codes = tl.zeros((TILE_ROWS, 8 * TILE_WORDS), tl.uint32)
        for i in tl.static_range(X_BITS):
            start, border_ptr = x_start + i * x_plane, fill_ptr + i * P
            x = load_words(start, offset, read, outside, words, border_ptr, P, FILL)
            x_codes |= one_bit_bytes(x, TILE_ROWS, TILE_WORDS) << i
        w_codes = tl.zeros((TILE_OUTPUTS, 8 * TILE_WORDS), tl.uint32)
        for j in tl.static_range(W_BITS):
            w = tl.load(w_start + j * w_plane + words[None, :], mask=w_read, other=0)
            w_codes |= one_bit_bytes(w, TILE_OUTPUTS, TILE_WORDS) << j
        x_bytes = to_int8(x_codes, X_FLIP, X_SCALE, X_OFFSET, TILE_ROWS, 8 * TILE_WORDS)
        w_bytes = to_int8(w_codes, W_FLIP, W_SCALE, W_OFFSET, TILE_OUTPUTS, 8 * TILE_WORDS)
        total = tl.dot(x_bytes, tl.trans(w_bytes), total, out_dtype=tl.int32)
        if ROW_FACTOR != 0:
            row_total += tl.sum(x_bytes.to(tl.int32), 1)
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
        beta + FACTOR * total + ROW_FACTOR * row_total[:, None],
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
