"""Products on the 1-bit tensor cores: matrices, for capabilities 8.0 to 9.0.

Planes of 0 and 1 meet in AND and are counted by the tensor cores, which from capability 9.0 know no
XOR. With value = o + sum_q p_q * bit_q on either side, as in `bitfront.kernels.reference`::

    out[m, n] = sum_ij p_i p_j popcount(x_i[m] & w_j[n]) + sum_i v_i ones(x_i[m]) + beta[n]

    v_i  = o_w p_i                              0 where 0 is what a code 0 of the weight is worth
    beta = o_x sum_j p_j ones(w_j) + K o_x o_w

The planes' products are added by Horner's rule, the most significant first, so that one accumulator
does: every ``p_i p_j`` is a power of two or its negative.

=====  ============================================
name   meaning
=====  ============================================
M, N   rows and columns of the result
KW     words of a row of either operand, a multiple of 16
Q, R   bit planes of the two operands
=====  ============================================
"""

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.ampere import async_copy

from bitfront.kernels.gpu.fragments import (
    along,
    column_of,
    matrix_part,
    multiply,
    multiply_staged,
    operand_layout,
    result_layout,
    row_of,
    staged_column,
    staged_row,
)
from bitfront.kernels.gpu.tensor_core_finish import store_result


@gluon.jit
def fetch(
    tiles: gl.tuple,
    slot: gl.tensor,
    low_start: gl.tensor,
    high_start: gl.tensor,
    columns_start: gl.tensor,
    word: gl.tensor,
) -> None:
    """Begin to copy one step of both operands to shared memory."""
    async_copy.async_copy_global_to_shared(tiles[0].index(slot), low_start + word)
    async_copy.async_copy_global_to_shared(tiles[1].index(slot), high_start + word)
    async_copy.async_copy_global_to_shared(tiles[2].index(slot), columns_start + word)


@gluon.jit
def gemm_kernel(
    x_ptr: gl.tensor,
    w_ptr: gl.tensor,
    ones_ptr: gl.tensor,
    beta_ptr: gl.tensor,
    out_ptr: gl.tensor,
    finish_ptr: gl.tensor,
    out_ones_ptr: gl.tensor,
    M: gl.tensor,
    N: gl.tensor,
    KW: gl.tensor,
    x_plane: gl.tensor,
    w_plane: gl.tensor,
    out_row: gl.tensor,
    out_plane: gl.tensor,
    PAIRS: gl.constexpr,
    LAST: gl.constexpr,
    ROW_VALUES: gl.constexpr,
    FINISH: gl.constexpr,
    BITS: gl.constexpr,
    AFTER: gl.constexpr,
    MERGES: gl.constexpr,
    ONES: gl.constexpr,
    MT: gl.constexpr,
    NT: gl.constexpr,
    WM: gl.constexpr,
    WN: gl.constexpr,
    STAGES: gl.constexpr,
    OPERATOR: gl.constexpr,
) -> None:
    """One tile of a matrix product.

    Args:
        x_ptr: int32 words [Q, M, KW].
        w_ptr: int32 words [R, N, KW].
        ones_ptr: int32 [Q, M], the ones of each row of each plane.
        beta_ptr: int32 [N].
        out_ptr: The result.
        finish_ptr: As FINISH, BITS, AFTER and MERGES: see `bitfront.kernels.gpu.epilogue`.
        out_ones_ptr: int32 [BITS, M], the ones of each row of codes.
        M: Rows.
        N: Columns.
        KW: Words of a row, a multiple of 16.
        x_plane: Words from a plane of the rows to the next.
        w_plane: Words from a plane of the columns to the next.
        out_row: Elements from a row of the result to the next.
        out_plane: Words from a bit plane of the result to the next.
        PAIRS: Plane of the rows, plane of the columns, factor of all sums before: most significant
            pair first.
        LAST: Factor of the final sum.
        ROW_VALUES: v_i of each plane of the rows.
        FINISH: See finish_ptr.
        BITS: See finish_ptr.
        AFTER: See finish_ptr.
        MERGES: See finish_ptr.
        ONES: 1 stores the ones of codes, 2 adds them to zeros, 0 does neither.
        MT: As NT, WM and WN: see `bitfront.kernels.gpu.fragments`.
        NT: See MT.
        WM: See MT.
        WN: See MT.
        STAGES: Steps held in shared memory; 0 reads operands straight into registers.
        OPERATOR: In which planes meet: "and". With "xor", LAST -2, a beta of K and no row values
            signs are multiplied, which capability 9.0 emulates: for comparison only.
    """
    ROWS: gl.constexpr = 16 * MT * WM
    COLUMNS: gl.constexpr = 8 * NT * WN
    layout: gl.constexpr = operand_layout(MT, NT, WM, WN)
    across = (N + COLUMNS - 1) // COLUMNS
    m0 = (gl.program_id(0) // across) * ROWS
    n0 = (gl.program_id(0) % across) * COLUMNS
    acc = gl.full([MT, NT, WM, WN, 8, 16], 0, gl.int32, layout)
    if STAGES == 0:
        g = along(8, 4, layout)
        word = along(16, 5, layout)
        row = m0 + row_of(along(MT, 0, layout), along(WM, 2, layout), g, WM)
        column = n0 + column_of(along(NT, 1, layout), along(WN, 3, layout), g, NT)
        # rows past the last are read again and never stored
        low_at = gl.minimum(row, M - 1) * KW + word
        high_at = gl.minimum(row + 8, M - 1) * KW + word
        columns_at = gl.minimum(column, N - 1) * KW + word
        for pair in gl.static_range(len(PAIRS)):
            x_start = x_ptr + PAIRS[pair][0] * x_plane
            w_start = w_ptr + PAIRS[pair][1] * w_plane
            acc = acc * PAIRS[pair][2]
            for step in range(0, KW, 16):
                low = gl.load(x_start + (low_at + step))
                high = gl.load(x_start + (high_at + step))
                columns = gl.load(w_start + (columns_at + step))
                acc = multiply(acc, low, high, columns, OPERATOR, False)
    else:
        copied: gl.constexpr = gl.BlockedLayout([1, 4], [8, 4], [WM * WN, 1], [1, 0])
        plain: gl.constexpr = gl.SwizzledSharedLayout(1, 1, 1, [1, 0])
        tiles = (
            gl.allocate_shared_memory(gl.int32, [STAGES, ROWS // 2, 16], plain),
            gl.allocate_shared_memory(gl.int32, [STAGES, ROWS // 2, 16], plain),
            gl.allocate_shared_memory(gl.int32, [STAGES, COLUMNS, 16], plain),
        )
        word = gl.expand_dims(gl.arange(0, 16, layout=gl.SliceLayout(0, copied)), 0)
        s_m = gl.expand_dims(gl.arange(0, ROWS // 2, layout=gl.SliceLayout(1, copied)), 1)
        s_n = gl.expand_dims(gl.arange(0, COLUMNS, layout=gl.SliceLayout(1, copied)), 1)
        row = m0 + staged_row(s_m, WM)
        column = n0 + staged_column(s_n, NT, WN)
        low_at = gl.minimum(row, M - 1) * KW + word
        high_at = gl.minimum(row + 8, M - 1) * KW + word
        columns_at = gl.minimum(column, N - 1) * KW + word
        for pair in gl.static_range(len(PAIRS)):
            low_start = x_ptr + PAIRS[pair][0] * x_plane + low_at
            high_start = x_ptr + PAIRS[pair][0] * x_plane + high_at
            columns_start = w_ptr + PAIRS[pair][1] * w_plane + columns_at
            acc = acc * PAIRS[pair][2]
            # the last steps of the pair before are still being read
            gl.barrier()
            for early in gl.static_range(STAGES - 1):
                if early * 16 < KW:
                    fetch(tiles, early, low_start, high_start, columns_start, early * 16)
                async_copy.commit_group()
            for step in range(0, KW // 16):
                async_copy.wait_group(STAGES - 2)
                gl.barrier()
                ahead = step + STAGES - 1
                if ahead * 16 < KW:
                    fetch(tiles, ahead % STAGES, low_start, high_start, columns_start, ahead * 16)
                async_copy.commit_group()
                acc = multiply_staged(acc, tiles, step % STAGES, OPERATOR, False, MT, NT, WM, WN)
    result: gl.constexpr = result_layout(NT, WM, WN)
    n = n0 + gl.arange(0, COLUMNS, layout=gl.SliceLayout(0, result))
    beta = gl.expand_dims(gl.load(beta_ptr + n, mask=n < N, other=0), 0)
    for part in gl.static_range(MT):
        first = m0 + part * (16 * WM)
        m = first + gl.arange(0, 16 * WM, layout=gl.SliceLayout(1, result))
        sums = matrix_part(acc, part, MT, NT, WM, WN) * LAST + beta
        for plane in gl.static_range(len(ROW_VALUES)):
            if ROW_VALUES[plane] != 0:
                ones = gl.load(ones_ptr + plane * M + m, mask=m < M, other=0)
                sums += gl.expand_dims(ones * ROW_VALUES[plane], 1)
        store_result(
            sums,
            first,
            0,
            n0,
            N,
            M,
            N,
            out_ptr,
            out_row,
            out_plane,
            finish_ptr,
            out_ones_ptr,
            FINISH,
            BITS,
            AFTER,
            MERGES,
            ONES,
            16 * WM,
            COLUMNS,
            result,
        )
