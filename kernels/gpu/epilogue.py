"""The end of a product: the sums of a tile become int32, floats or packed codes, and are stored."""

from __future__ import annotations

from typing import Final

import triton
import triton.language as tl

from bitfront.kernels.gpu.bits import to_words

SUMS: Final = 0
FLOAT32: Final = 1
BFLOAT16: Final = 2
CODES: Final = 3


@triton.jit
def to_bfloat16(values: tl.tensor) -> tl.tensor:
    """The bits of float32 values as bfloat16, int16: to nearest, ties to even.

    By integers, since the conversion of Triton's interpreter cuts the low bits off.
    """
    bits = values.to(tl.int32, bitcast=True)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return tl.where(values == values, rounded, 0x7FC0).to(tl.int16)


@triton.jit
def store(
    sums: tl.tensor,
    rows: tl.tensor,
    is_row: tl.tensor,
    group_first: tl.tensor,
    tile_first: tl.tensor,
    group_outputs: tl.tensor,
    outputs: tl.tensor,
    out_ptr: tl.tensor,
    out_row: tl.tensor,
    out_plane: tl.tensor,
    first_ptr: tl.tensor,
    second_ptr: tl.tensor,
    FINISH: tl.constexpr,
    BITS: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_OUTPUTS: tl.constexpr,
) -> None:
    """Finish a tile and store it.

    Args:
        sums: int32 [TILE_ROWS, TILE_OUTPUTS].
        rows: Numbers of its rows.
        is_row: Which of them the result has.
        group_first: Number of the first output of its group.
        tile_first: Number of its first output within the group.
        group_outputs: Outputs of a group.
        outputs: N, of all groups.
        out_ptr: The result; bfloat16 is given as int16.
        out_row: Elements from a row of the result to the next.
        out_plane: Words from a bit plane of the result to the next.
        first_ptr: Scale of each output, or thresholds [2^BITS - 1, N].
        second_ptr: Shift of each output, or flip as int8.
        FINISH: 0 sums, 1 float32, 2 bfloat16, 3 codes.
        BITS: Of a code.
        TILE_ROWS: Rows of the tile.
        TILE_OUTPUTS: Outputs of the tile; a multiple of 32 where codes are stored.
    """
    in_group = tile_first + tl.arange(0, TILE_OUTPUTS)
    is_output = in_group < group_outputs
    numbers = group_first + in_group
    row_start = rows.to(tl.int64) * out_row
    if FINISH == 3:
        passed = tl.zeros((TILE_ROWS, TILE_OUTPUTS), tl.int32)
        for level in tl.static_range((1 << BITS) - 1):
            threshold = tl.load(first_ptr + level * outputs + numbers, mask=is_output, other=0)
            passed += (sums >= threshold[None, :]).to(tl.int32)
        flip = tl.load(second_ptr + numbers, mask=is_output, other=0).to(tl.int32)
        codes = tl.where(flip[None, :] != 0, (1 << BITS) - 1 - passed, passed)
        codes = tl.where(is_output[None, :], codes, 0)
        words = tl.arange(0, TILE_OUTPUTS // 32)
        is_word = tile_first + 32 * words < group_outputs
        place = row_start[:, None] + ((group_first + tile_first) // 32 + words)[None, :]
        for plane in tl.static_range(BITS):
            packed = to_words((codes >> plane) & 1, TILE_ROWS, TILE_OUTPUTS // 32)
            tl.store(
                out_ptr + plane * out_plane + place,
                packed,
                mask=is_row[:, None] & is_word[None, :],
            )
    else:
        place = row_start[:, None] + numbers[None, :]
        stored = is_row[:, None] & is_output[None, :]
        if FINISH == 0:
            tl.store(out_ptr + place, sums, mask=stored)
        else:
            scale = tl.load(first_ptr + numbers, mask=is_output, other=0.0)
            shift = tl.load(second_ptr + numbers, mask=is_output, other=0.0)
            floats = sums.to(tl.float32) * scale[None, :] + shift[None, :]
            if FINISH == 2:
                tl.store(out_ptr + place, to_bfloat16(floats), mask=stored)
            else:
                tl.store(out_ptr + place, floats, mask=stored)
