"""Convolutions on the 1-bit tensor cores, for capabilities 8.0 to 9.0.

Row m of the product is pixel (image, y, x) of the result, word k of a row is word ``k % P`` of the
pixel under tap ``k // P``: gathered where it lies, never unfolded in memory. A tap outside the map
reads zeros, code 0. `bitfront.kernels.gpu.tensor_core` has the formula; where 0 is filled and a
code 0 is worth something else, beta takes back what the outside taps added, by class of position.

=====  ============================================================
name   meaning
=====  ============================================================
M      pixels of the result
P      words of a pixel of one group
KW     words of an output's weights: taps * P, up to a multiple of 16
=====  ============================================================
"""

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.ampere import async_copy

from bitfront.kernels.gpu.fragments import (
    along,
    column_of,
    half_word,
    matrix_part,
    multiply,
    multiply_staged,
    operand_layout,
    part_of,
    parts_layout,
    result_layout,
    row_of,
    staged_column,
    staged_row,
)
from bitfront.kernels.gpu.tensor_core_finish import store_result


@gluon.jit
def window_of(
    m: gl.tensor, M: gl.tensor, image_size: gl.tuple, out_size: gl.tuple, GEOMETRY: gl.constexpr
) -> tuple[gl.tensor, gl.tensor]:
    """Of each pixel of the result: the pixel where its window begins; a bit for each tap inside."""
    KERNEL: gl.constexpr = GEOMETRY[0]
    STRIDE: gl.constexpr = GEOMETRY[1]
    PADDING: gl.constexpr = GEOMETRY[2]
    DILATION: gl.constexpr = GEOMETRY[3]
    height, width = image_size
    out_height, out_width = out_size
    top = (m // out_width) % out_height * STRIDE[0] - PADDING[0]
    left = m % out_width * STRIDE[1] - PADDING[1]
    image = m // (out_height * out_width)
    inside = m * 0
    for tap in gl.static_range(KERNEL[0] * KERNEL[1]):
        y = top + tap // KERNEL[1] * DILATION[0]
        x = left + tap % KERNEL[1] * DILATION[1]
        is_inside = (y >= 0) & (y < height) & (x >= 0) & (x < width) & (m < M)
        inside = inside | (gl.cast(is_inside, gl.int32) << tap)
    return (image * height + top) * width + left, inside


@gluon.jit
def word_under(
    k: gl.tensor, width: gl.tensor, P: gl.constexpr, GROUPS: gl.constexpr, GEOMETRY: gl.constexpr
) -> tuple[gl.tensor, gl.tensor]:
    """Of each word of a row: its tap, and its distance from the window's first word."""
    KERNEL: gl.constexpr = GEOMETRY[0]
    DILATION: gl.constexpr = GEOMETRY[3]
    tap = k // P
    pixel = tap // KERNEL[1] * DILATION[0] * width + tap % KERNEL[1] * DILATION[1]
    return tap, pixel * (GROUPS * P) + k % P


@gluon.jit
def half_under(
    k: gl.tensor,
    START: gl.constexpr,
    width: gl.tensor,
    P: gl.constexpr,
    GROUPS: gl.constexpr,
    GEOMETRY: gl.constexpr,
) -> tuple[gl.tensor, gl.tensor]:
    """As `word_under`, of half a step from word START on."""
    if P % 2 == 0:
        # both words of a thread lie in one pixel: the compiler then reads them at once
        tap, first = word_under(START + k // 4 * 2, width, P, GROUPS, GEOMETRY)
        under = first + k % 4
    else:
        tap, under = word_under(START + half_word(k), width, P, GROUPS, GEOMETRY)
    return tap, under


@gluon.jit
def window_ones(
    ones_ptr: gl.tensor,
    ones_plane: gl.tensor,
    m: gl.tensor,
    group: gl.tensor,
    M: gl.tensor,
    image_size: gl.tuple,
    out_size: gl.tuple,
    ROW_VALUES: gl.constexpr,
    GROUPS: gl.constexpr,
    GEOMETRY: gl.constexpr,
) -> gl.tensor:
    """Of each pixel of the result: the ones under its window, each plane worth its row value."""
    KERNEL: gl.constexpr = GEOMETRY[0]
    DILATION: gl.constexpr = GEOMETRY[3]
    origin, inside = window_of(m, M, image_size, out_size, GEOMETRY)
    total = m * 0
    for tap in gl.static_range(KERNEL[0] * KERNEL[1]):
        step = tap // KERNEL[1] * DILATION[0] * image_size[1] + tap % KERNEL[1] * DILATION[1]
        pixel = (origin + step) * GROUPS + group
        for plane in gl.static_range(len(ROW_VALUES)):
            if ROW_VALUES[plane] != 0:
                read = ((inside >> tap) & 1) != 0
                ones = gl.load(ones_ptr + plane * ones_plane + pixel, mask=read, other=0)
                total += ones * ROW_VALUES[plane]
    return total


@gluon.jit
def fetch_window(
    tiles: gl.tuple,
    slot: gl.tensor,
    starts: gl.tuple,
    insides: gl.tuple,
    k: gl.tensor,
    START: gl.tensor,
    w_start: gl.tensor,
    width: gl.tensor,
    P: gl.constexpr,
    GROUPS: gl.constexpr,
    GEOMETRY: gl.constexpr,
    HALF: gl.constexpr,
) -> None:
    """Begin to copy a step, or half of one, of both operands to shared memory."""
    if HALF:
        tap, under = half_under(k, START, width, P, GROUPS, GEOMETRY)
        word = START + half_word(k)
        used = k % 4 < 2
        low_read = (((insides[0] >> tap) & 1) != 0) & used
        high_read = (((insides[1] >> tap) & 1) != 0) & used
    else:
        word = START + k
        tap, under = word_under(word, width, P, GROUPS, GEOMETRY)
        low_read = ((insides[0] >> tap) & 1) != 0
        high_read = ((insides[1] >> tap) & 1) != 0
    async_copy.async_copy_global_to_shared(tiles[0].index(slot), starts[0] + under, mask=low_read)
    async_copy.async_copy_global_to_shared(tiles[1].index(slot), starts[1] + under, mask=high_read)
    async_copy.async_copy_global_to_shared(tiles[2].index(slot), w_start + word)


@gluon.jit
def conv_kernel(
    x_ptr: gl.tensor,
    w_ptr: gl.tensor,
    ones_ptr: gl.tensor,
    beta_ptr: gl.tensor,
    row_class_ptr: gl.tensor,
    col_class_ptr: gl.tensor,
    out_ptr: gl.tensor,
    finish_ptr: gl.tensor,
    out_ones_ptr: gl.tensor,
    M: gl.tensor,
    N: gl.tensor,
    KW: gl.tensor,
    height: gl.tensor,
    width: gl.tensor,
    out_height: gl.tensor,
    out_width: gl.tensor,
    x_plane: gl.tensor,
    w_plane: gl.tensor,
    ones_plane: gl.tensor,
    out_row: gl.tensor,
    out_plane: gl.tensor,
    P: gl.constexpr,
    GROUPS: gl.constexpr,
    GEOMETRY: gl.constexpr,
    CLASSES: gl.constexpr,
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
) -> None:
    """One tile of a convolution.

    Args:
        x_ptr: int32 words [Q, B, H, W, GROUPS * P].
        w_ptr: int32 words [R, N, KW].
        ones_ptr: int32 [Q, B, H, W, GROUPS], the ones of each pixel of each plane.
        beta_ptr: int32 [classes, N].
        row_class_ptr: int32 [Y], where the class of a row begins in beta, if there are classes.
        col_class_ptr: int32 [X], added to it for a column.
        out_ptr: The result, [M, N] or words of codes.
        finish_ptr: As FINISH, BITS, AFTER and MERGES: see `bitfront.kernels.gpu.epilogue`.
        out_ones_ptr: int32 [BITS, M], the ones of each pixel of codes.
        M: Pixels of the result.
        N: Outputs of all groups.
        KW: Words of an output's weights, a multiple of 16.
        height: H of the map.
        width: W of the map.
        out_height: Y of the result.
        out_width: X of the result.
        x_plane: Words from a plane of the map to the next.
        w_plane: Words from a plane of the weights to the next.
        ones_plane: Numbers from a plane of the ones to the next.
        out_row: Elements from a pixel of the result to the next.
        out_plane: Words from a bit plane of the result to the next.
        P: Words of a pixel of one group.
        GROUPS: Of the convolution.
        GEOMETRY: Kernel, stride, padding and dilation, (vertical, horizontal) each; at most 31
            taps.
        CLASSES: Whether beta has classes.
        PAIRS: As LAST, ROW_VALUES and ONES: see `tensor_core.gemm_kernel`.
        LAST: See PAIRS.
        ROW_VALUES: See PAIRS.
        FINISH: See finish_ptr.
        BITS: See finish_ptr.
        AFTER: See finish_ptr.
        MERGES: See finish_ptr.
        ONES: See PAIRS.
        MT: As NT, WM and WN: see `bitfront.kernels.gpu.fragments`.
        NT: See MT.
        WM: See MT.
        WN: See MT.
        STAGES: Steps held in shared memory; 0 reads operands straight into registers.
    """
    ROWS: gl.constexpr = 16 * MT * WM
    COLUMNS: gl.constexpr = 8 * NT * WN
    layout: gl.constexpr = operand_layout(MT, NT, WM, WN)
    # steps of 16 words, then half a step where at most 8 are left
    WORDS: gl.constexpr = GEOMETRY[0][0] * GEOMETRY[0][1] * P
    HALF: gl.constexpr = WORDS % 16 > 0 and WORDS % 16 <= 8
    FULL: gl.constexpr = WORDS // 16 + (WORDS % 16 > 8)
    # a number that the compiler does not know, or it unrolls the loop and runs out of registers
    steps = FULL if FULL <= 1 else KW // 16 - HALF
    share = N // GROUPS
    across = (share + COLUMNS - 1) // COLUMNS
    tile = gl.program_id(0) % (across * GROUPS)
    m0 = gl.program_id(0) // (across * GROUPS) * ROWS
    group = tile // across
    n0 = tile % across * COLUMNS
    image_size = (height, width)
    out_size = (out_height, out_width)
    x_group = x_ptr + group * P
    w_group = w_ptr + group * share * KW
    acc = gl.full([MT, NT, WM, WN, 8, 16], 0, gl.int32, layout)
    if STAGES == 0:
        g = along(8, 4, layout)
        word = along(16, 5, layout)
        row = m0 + row_of(along(MT, 0, layout), along(WM, 2, layout), g, WM)
        column = n0 + column_of(along(NT, 1, layout), along(WN, 3, layout), g, NT)
        low_at, low_inside = window_of(row, M, image_size, out_size, GEOMETRY)
        high_at, high_inside = window_of(row + 8, M, image_size, out_size, GEOMETRY)
        columns_at = gl.minimum(column, share - 1) * KW
        for pair in gl.static_range(len(PAIRS)):
            low_start = x_group + PAIRS[pair][0] * x_plane + low_at * (GROUPS * P)
            high_start = x_group + PAIRS[pair][0] * x_plane + high_at * (GROUPS * P)
            w_start = w_group + PAIRS[pair][1] * w_plane
            acc = acc * PAIRS[pair][2]
            for step in range(0, steps):
                k = step * 16 + word
                tap, under = word_under(k, width, P, GROUPS, GEOMETRY)
                low_read = ((low_inside >> tap) & 1) != 0
                high_read = ((high_inside >> tap) & 1) != 0
                low = gl.load(low_start + under, mask=low_read, other=0)
                high = gl.load(high_start + under, mask=high_read, other=0)
                columns = gl.load(w_start + (columns_at + k))
                acc = multiply(acc, low, high, columns, "and", False)
            if HALF:
                tap, under = half_under(word, FULL * 16, width, P, GROUPS, GEOMETRY)
                used = word % 4 < 2
                low_read = (((low_inside >> tap) & 1) != 0) & used
                high_read = (((high_inside >> tap) & 1) != 0) & used
                low = gl.load(low_start + under, mask=low_read, other=0)
                high = gl.load(high_start + under, mask=high_read, other=0)
                columns = gl.load(w_start + (columns_at + FULL * 16 + half_word(word)))
                acc = multiply(acc, low, high, columns, "and", True)
    else:
        copied: gl.constexpr = gl.BlockedLayout([1, 4], [8, 4], [WM * WN, 1], [1, 0])
        plain: gl.constexpr = gl.SwizzledSharedLayout(1, 1, 1, [1, 0])
        tiles = (
            gl.allocate_shared_memory(gl.int32, [STAGES, ROWS // 2, 16], plain),
            gl.allocate_shared_memory(gl.int32, [STAGES, ROWS // 2, 16], plain),
            gl.allocate_shared_memory(gl.int32, [STAGES, COLUMNS, 16], plain),
        )
        k = gl.expand_dims(gl.arange(0, 16, layout=gl.SliceLayout(0, copied)), 0)
        s_m = gl.expand_dims(gl.arange(0, ROWS // 2, layout=gl.SliceLayout(1, copied)), 1)
        s_n = gl.expand_dims(gl.arange(0, COLUMNS, layout=gl.SliceLayout(1, copied)), 1)
        row = m0 + staged_row(s_m, WM)
        column = n0 + staged_column(s_n, NT, WN)
        low_at, low_inside = window_of(row, M, image_size, out_size, GEOMETRY)
        high_at, high_inside = window_of(row + 8, M, image_size, out_size, GEOMETRY)
        columns_at = gl.minimum(column, share - 1) * KW
        insides = (low_inside, high_inside)
        for pair in gl.static_range(len(PAIRS)):
            x_start = x_group + PAIRS[pair][0] * x_plane
            w_start = w_group + PAIRS[pair][1] * w_plane + columns_at
            starts = (x_start + low_at * (GROUPS * P), x_start + high_at * (GROUPS * P))
            acc = acc * PAIRS[pair][2]
            # the last steps of the pair before are still being read
            gl.barrier()
            for early in gl.static_range(STAGES - 1):
                if early * 16 < WORDS:
                    fetch_window(
                        tiles,
                        early,
                        starts,
                        insides,
                        k,
                        early * 16,
                        w_start,
                        width,
                        P,
                        GROUPS,
                        GEOMETRY,
                        early >= FULL,
                    )
                async_copy.commit_group()
            for step in range(0, steps):
                async_copy.wait_group(STAGES - 2)
                gl.barrier()
                ahead = step + STAGES - 1
                # of one step there is none ahead; Triton 3.6 fails on code that it knows is dead
                if FULL > 1:  # noqa: SIM102
                    if ahead < steps:
                        fetch_window(
                            tiles,
                            ahead % STAGES,
                            starts,
                            insides,
                            k,
                            ahead * 16,
                            w_start,
                            width,
                            P,
                            GROUPS,
                            GEOMETRY,
                            False,
                        )
                # one condition for the compiler, one for the program
                if HALF and FULL >= STAGES - 1:  # noqa: SIM102
                    if ahead == FULL:
                        fetch_window(
                            tiles,
                            FULL % STAGES,
                            starts,
                            insides,
                            k,
                            FULL * 16,
                            w_start,
                            width,
                            P,
                            GROUPS,
                            GEOMETRY,
                            True,
                        )
                async_copy.commit_group()
                acc = multiply_staged(acc, tiles, step % STAGES, "and", False, MT, NT, WM, WN)
            if HALF:
                async_copy.wait_group(0)
                gl.barrier()
                acc = multiply_staged(acc, tiles, FULL % STAGES, "and", True, MT, NT, WM, WN)
    result: gl.constexpr = result_layout(NT, WM, WN)
    by_thread: gl.constexpr = gl.BlockedLayout([1], [32], [WM * WN], [0])
    by_part: gl.constexpr = parts_layout(MT, NT, WM, WN)
    ones = window_ones(
        ones_ptr,
        ones_plane,
        m0 + gl.arange(0, ROWS, layout=by_thread),
        group,
        M,
        image_size,
        out_size,
        ROW_VALUES,
        GROUPS,
        GEOMETRY,
    )
    ones = gl.convert_layout(gl.permute(gl.reshape(ones, [MT, 16 * WM]), (1, 0)), by_part)
    in_group = n0 + gl.arange(0, COLUMNS, layout=gl.SliceLayout(0, result))
    n = group * share + in_group
    if not CLASSES:
        beta = gl.expand_dims(gl.load(beta_ptr + n, mask=in_group < share, other=0), 0)
    for part in gl.static_range(MT):
        first = m0 + part * (16 * WM)
        m = first + gl.arange(0, 16 * WM, layout=gl.SliceLayout(1, result))
        of_row = gl.convert_layout(part_of(ones, part, [16 * WM], MT), gl.SliceLayout(1, result))
        sums = matrix_part(acc, part, MT, NT, WM, WN) * LAST + gl.expand_dims(of_row, 1)
        if CLASSES:
            start = gl.load(row_class_ptr + m // out_width % out_height, mask=m < M, other=0)
            start += gl.load(col_class_ptr + m % out_width, mask=m < M, other=0)
            place = gl.expand_dims(start * N, 1) + gl.expand_dims(n, 0)
            exists = gl.expand_dims(m < M, 1) & gl.expand_dims(in_group < share, 0)
            sums += gl.load(beta_ptr + place, mask=exists, other=0)
        else:
            sums += beta
        store_result(
            sums,
            first,
            group * share,
            n0,
            share,
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
