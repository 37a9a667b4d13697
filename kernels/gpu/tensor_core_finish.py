"""The end of a tensor-core product: a tile of sums becomes int32, floats or packed codes.

The Gluon twin of `bitfront.kernels.gpu.epilogue`, over a layout of registers that is given.
"""

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl


@gluon.jit
def to_words(bits: gl.tensor, ROWS: gl.constexpr, WORDS: gl.constexpr) -> gl.tensor:
    """0 and 1 [ROWS, 32 * WORDS] to int32 words [ROWS, WORDS]."""
    by_word = gl.reshape(bits, [ROWS, WORDS, 32])
    layout: gl.constexpr = by_word.type.layout
    place = gl.arange(0, 32, layout=gl.SliceLayout(0, gl.SliceLayout(1, layout)))
    place = gl.expand_dims(gl.expand_dims(place, 0), 1)
    return gl.sum(by_word << place, 2)


@gluon.jit
def store_words(
    words: gl.tensor,
    m0: gl.tensor,
    M: gl.tensor,
    exist: gl.tensor,
    start_ptr: gl.tensor,
    out_row: gl.tensor,
) -> None:
    """Store words [rows, words] of rows m0 and on, as many of each row as ``exist``."""
    layout: gl.constexpr = words.type.layout
    row = m0 + gl.arange(0, words.shape[0], layout=gl.SliceLayout(1, layout))
    word = gl.arange(0, words.shape[1], layout=gl.SliceLayout(0, layout))
    place = gl.expand_dims(row, 1) * out_row + gl.expand_dims(word, 0)
    stored = gl.expand_dims(row < M, 1) & gl.expand_dims(word < exist, 0)
    gl.store(start_ptr + place, words, mask=stored)


@gluon.jit
def affine(
    x: gl.tensor, values_ptr: gl.tensor, N: gl.tensor, n: gl.tensor, is_column: gl.tensor
) -> gl.tensor:
    """``scale * x + shift`` of float32 [rows, columns]; the two are rows of float32 [2, N]."""
    scale = gl.load(values_ptr + n, mask=is_column, other=0.0)
    shift = gl.load(values_ptr + N + n, mask=is_column, other=0.0)
    return x * gl.expand_dims(scale, 0) + gl.expand_dims(shift, 0)


@gluon.jit
def store_result(
    sums: gl.tensor,
    m0: gl.tensor,
    group_first: gl.tensor,
    n0: gl.tensor,
    share: gl.tensor,
    M: gl.tensor,
    N: gl.tensor,
    out_ptr: gl.tensor,
    out_row: gl.tensor,
    out_plane: gl.tensor,
    finish_ptr: gl.tensor,
    out_ones_ptr: gl.tensor,
    FINISH: gl.constexpr,
    BITS: gl.constexpr,
    AFTER: gl.constexpr,
    MERGES: gl.constexpr,
    ONES: gl.constexpr,
    ROWS: gl.constexpr,
    COLUMNS: gl.constexpr,
    layout: gl.constexpr,
) -> None:
    """Finish a tile of sums and store it; the codes are those of `bitfront.kernels.gpu.epilogue`.

    Columns n0 and on of a group's ``share``, whose first is column ``group_first`` of all N; rows
    are ``out_row`` elements apart, bit planes of codes ``out_plane`` words. ONES says whether the
    ones of each row of codes are left out (0), stored (1), or added where other blocks add too (2).
    """
    m = m0 + gl.arange(0, ROWS, layout=gl.SliceLayout(1, layout))
    in_group = n0 + gl.arange(0, COLUMNS, layout=gl.SliceLayout(0, layout))
    n = group_first + in_group
    is_row = gl.expand_dims(m < M, 1)
    is_column = in_group < share
    if FINISH == 3:
        passed = gl.full([ROWS, COLUMNS], 0, gl.int32, layout)
        for level in gl.static_range((1 << BITS) - 1):
            threshold = gl.load(finish_ptr + level * N + n, mask=is_column, other=0)
            passed += gl.cast(sums >= gl.expand_dims(threshold, 0), gl.int32)
        flip_ptr = finish_ptr + ((1 << BITS) - 1) * N
        flip = gl.expand_dims(gl.load(flip_ptr + n, mask=is_column, other=0), 0)
        codes = gl.where(flip != 0, (1 << BITS) - 1 - passed, passed)
        codes = gl.where(gl.expand_dims(is_column, 0), codes, 0)
        for plane in gl.static_range(BITS):
            bits = (codes >> plane) & 1
            words = to_words(bits, ROWS, COLUMNS // 32)
            start = out_ptr + plane * out_plane + (group_first + n0) // 32
            store_words(words, m0, M, (share - n0 + 31) // 32, start, out_row)
            if ONES == 1:
                gl.store(out_ones_ptr + plane * M + m, gl.sum(bits, 1), mask=m < M)
            elif ONES == 2:
                gl.atomic_add(out_ones_ptr + plane * M + m, gl.sum(bits, 1), mask=m < M)
    else:
        place = gl.expand_dims(m, 1) * out_row + gl.expand_dims(n, 0)
        stored = is_row & gl.expand_dims(is_column, 0)
        if FINISH == 0:
            gl.store(out_ptr + place, sums, mask=stored)
        else:
            floats = affine(gl.cast(sums, gl.float32), finish_ptr, N, n, is_column)
            if AFTER >= 1:
                # a maximum would lose a NaN
                floats = gl.where(floats < 0.0, 0.0, floats)
            if AFTER == 2:
                floats = affine(floats, finish_ptr + 2 * N, N, n, is_column)
            if MERGES:
                held = gl.load(out_ptr + place, mask=stored, other=0.0)
                floats = gl.cast(held, gl.float32) + floats
            if FINISH == 2:
                floats = gl.cast(floats, gl.bfloat16)
            gl.store(out_ptr + place, floats, mask=stored)
