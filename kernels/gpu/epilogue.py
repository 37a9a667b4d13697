"""The end of a product: the sums of a tile become int32, floats or packed codes, and are stored."""

from __future__ import annotations

import triton
import triton.language as tl

from bitfront.kernels.gpu.bits import to_words


@triton.jit
def to_bfloat16(values: tl.tensor) -> tl.tensor:
    """The bits of float32 values as bfloat16, int16: to nearest, ties to even.

    By integers, since the conversion of Triton's interpreter cuts the low bits off.
    """
    bits = values.to(tl.int32, bitcast=True)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return tl.where(values == values, rounded, 0x7FC0).to(tl.int16)


@triton.jit
def from_bfloat16(bits: tl.tensor) -> tl.tensor:
    """The float32 values of bfloat16, which are given as int16."""
    return (bits.to(tl.int32) << 16).to(tl.float32, bitcast=True)


@triton.jit
def affine(
    x: tl.tensor,
    values_ptr: tl.tensor,
    outputs: tl.tensor,
    n: tl.tensor,
    is_output: tl.tensor,
) -> tl.tensor:
    """``scale * x + shift`` of float32 [rows, outputs]; the two are rows of float32 [2, N]."""
    scale = tl.load(values_ptr + n, mask=is_output, other=0.0)
    shift = tl.load(values_ptr + outputs + n, mask=is_output, other=0.0)
    return x * scale[None, :] + shift[None, :]


@triton.jit
def store(
    sums: tl.tensor,
    m: tl.tensor,
    is_row: tl.tensor,
    group: tl.tensor,
    tile_first: tl.tensor,
    outputs: tl.tensor,
    group_outputs: tl.tensor,
    out_ptr: tl.tensor,
    out_row: tl.tensor,
    out_plane: tl.tensor,
    finish_ptr: tl.tensor,
    FINISH: tl.constexpr,
    BITS: tl.constexpr,
    AFTER: tl.constexpr,
    MERGES: tl.constexpr,
) -> None:
    """Finish a tile and store it.

    Args:
        sums: int32 [rows, outputs]; a multiple of 32 outputs where codes are stored.
        m: Numbers of its rows.
        is_row: Which of them the result has.
        group: Number of its group.
        tile_first: Number of its first output within the group.
        outputs: N, of all groups.
        group_outputs: Outputs of a group.
        out_ptr: The result; bfloat16 is given as int16.
        out_row: Elements from a row of the result to the next.
        out_plane: Words from a bit plane of the result to the next.
        finish_ptr: float32 [2, N] or [4, N], scale and shift, then those after a ReLU; or int32
            [2^BITS, N], thresholds, then flip.
        FINISH: 0 sums, 1 float32, 2 bfloat16, 3 codes.
        BITS: Of a code.
        AFTER: What floats meet: 0 nothing, 1 a ReLU, 2 a ReLU and then another scale and shift.
        MERGES: Whether floats are added to what is in the result.
    """
    TILE_ROWS: tl.constexpr = sums.shape[0]
    TILE_OUTPUTS: tl.constexpr = sums.shape[1]
    group_first = group * group_outputs
    in_group = tile_first + tl.arange(0, TILE_OUTPUTS)
    is_output = in_group < group_outputs
    n = group_first + in_group
    row_start = m.to(tl.int64) * out_row
    if FINISH == 3:
        passed = tl.zeros((TILE_ROWS, TILE_OUTPUTS), tl.int32)
        for level in tl.static_range((1 << BITS) - 1):
            threshold = tl.load(finish_ptr + level * outputs + n, mask=is_output, other=0)
            passed += (sums >= threshold[None, :]).to(tl.int32)
        flip_ptr = finish_ptr + ((1 << BITS) - 1) * outputs
        flip = tl.load(flip_ptr + n, mask=is_output, other=0)
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
        place = row_start[:, None] + n[None, :]
        stored = is_row[:, None] & is_output[None, :]
        if FINISH == 0:
            tl.store(out_ptr + place, sums, mask=stored)
        else:
            floats = affine(sums.to(tl.float32), finish_ptr, outputs, n, is_output)
            if AFTER >= 1:
                # a maximum would lose a NaN
                floats = tl.where(floats < 0.0, 0.0, floats)
            if AFTER == 2:
                after_ptr = finish_ptr + 2 * outputs
                floats = affine(floats, after_ptr, outputs, n, is_output)
            if MERGES:
                held = tl.load(out_ptr + place, mask=stored, other=0)
                floats = (from_bfloat16(held) if FINISH == 2 else held) + floats
            if FINISH == 2:
                tl.store(out_ptr + place, to_bfloat16(floats), mask=stored)
            else:
                tl.store(out_ptr + place, floats, mask=stored)
