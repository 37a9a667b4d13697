"""Dealing out the bits of two packed maps in turn, on the GPU: as `bitfront.kernels.cpu` does.

Shape suffix: P words of a row.
"""

from __future__ import annotations

from typing import Final

import torch
import triton
import triton.language as tl
from torch import Tensor

from bitfront.kernels.gpu.launch import blocks, on_device, power_of_two
from bitfront.kernels.gpu.rows import (
    joined_axes,
    require_dense_words,
    require_out,
    require_row_count,
    row_start,
    rows_of,
)

TILE_WORDS: Final = 64
"""Most words of a row of each map in one tile."""

TILE_ELEMENTS: Final = 512
"""Words of each map in a tile: 4 for each thread."""


@triton.jit
def _spread(halves: tl.tensor) -> tl.tensor:
    """The 16 low bits of each uint32 word, each to twice its place."""
    halves = (halves | (halves << 8)) & 0x00FF00FF
    halves = (halves | (halves << 4)) & 0x0F0F0F0F
    halves = (halves | (halves << 2)) & 0x33333333
    return (halves | (halves << 1)) & 0x55555555


@triton.jit
def interleave_kernel(
    first_ptr: tl.tensor,
    second_ptr: tl.tensor,
    out_ptr: tl.tensor,
    rows: tl.tensor,
    pixels: tl.tensor,
    row_words: tl.tensor,
    first_outer: tl.tensor,
    first_line: tl.tensor,
    first_pixel: tl.tensor,
    second_outer: tl.tensor,
    second_line: tl.tensor,
    second_pixel: tl.tensor,
    out_outer: tl.tensor,
    out_line: tl.tensor,
    out_pixel: tl.tensor,
    LINES: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_WORDS: tl.constexpr,
) -> None:
    """Deal out a tile of rows of ``row_words`` words each to rows of twice as many."""
    word_tiles = tl.cdiv(row_words, TILE_WORDS)
    row_tiles = tl.cdiv(rows, TILE_ROWS)
    tile = tl.program_id(0) // word_tiles
    first_word = (tl.program_id(0) % word_tiles) * TILE_WORDS
    outer = (tile // row_tiles).to(tl.int64)
    row = (tile % row_tiles) * TILE_ROWS + tl.arange(0, TILE_ROWS)
    # the last tile may number rows past 2^31 - 1, which turn negative
    is_row = (row >= 0) & (row < rows)
    word = first_word + tl.arange(0, TILE_WORDS)
    read = is_row[:, None] & (word < row_words)[None, :]
    place = outer * first_outer + row_start(row, pixels, first_line, first_pixel, LINES)
    first = tl.load(first_ptr + (place[:, None] + word[None, :]), mask=read, other=0)
    place = outer * second_outer + row_start(row, pixels, second_line, second_pixel, LINES)
    second = tl.load(second_ptr + (place[:, None] + word[None, :]), mask=read, other=0)
    first = first.to(tl.uint32, bitcast=True)
    second = second.to(tl.uint32, bitcast=True)
    low = _spread(first & 0xFFFF) | (_spread(second & 0xFFFF) << 1)
    high = _spread(first >> 16) | (_spread(second >> 16) << 1)
    dealt = tl.interleave(low, high).to(tl.int32, bitcast=True)
    out_word = 2 * first_word + tl.arange(0, 2 * TILE_WORDS)
    written = is_row[:, None] & (out_word < 2 * row_words)[None, :]
    place = outer * out_outer + row_start(row, pixels, out_line, out_pixel, LINES)
    tl.store(out_ptr + (place[:, None] + out_word[None, :]), dealt, mask=written)


def interleave(first: Tensor, second: Tensor, out: Tensor | None = None) -> Tensor:
    """Channel 2 c of the result is channel c of ``first``, channel 2 c + 1 that of ``second``.

    Waits for nothing, so a CUDA graph can record it.

    Args:
        first: int32 words [..., P] whose bits are all channels; any strides but that of the last
            axis, such as a run of words of a larger map.
        second: Words of the same shape.
        out: Where to write it: int32 [..., 2 P], any strides but that of the last axis, sharing no
            memory with the others. None makes a new one.

    Returns:
        int32 words [..., 2 P].

    Raises:
        TypeError: If an argument is not int32 words.
        ValueError: If shapes or devices do not agree, or the last axis is not dense.
    """
    require_dense_words("first", first)
    require_dense_words("second", second)
    if first.shape != second.shape or first.device != second.device:
        raise ValueError(
            "`first` and `second` must have one shape and device, but got "
            f"{list(first.shape)} on {first.device} and {list(second.shape)} on {second.device}."
        )
    require_row_count("first", first)
    *leading, row_words = first.shape
    shape = (*leading, 2 * row_words)
    if out is None:
        out = torch.empty(shape, dtype=torch.int32, device=first.device)
    else:
        require_out("out", out, shape, first.device)
    strides = [words.stride()[:-1] for words in (first, second, out)]
    if len(joined_axes(leading, *strides)) > 3:
        # dense copies have one axis of rows
        return out.copy_(interleave(first.contiguous(), second.contiguous()))
    rows = rows_of(leading, *strides)
    tile_words = min(power_of_two(row_words), TILE_WORDS)
    tile_rows = min(power_of_two(rows.count), TILE_ELEMENTS // tile_words)
    with on_device(first):
        interleave_kernel[
            (rows.outer * blocks(rows.count, tile_rows) * blocks(row_words, tile_words),)
        ](
            first,
            second,
            out,
            rows.count,
            rows.pixels,
            row_words,
            *(step for steps in rows.steps for step in steps),
            LINES=rows.lines > 1,
            TILE_ROWS=tile_rows,
            TILE_WORDS=tile_words,
        )
    return out
