"""Packed signs back to floats on the GPU.

Shape suffixes: B images, H height, W width, P words of a row.
"""

from __future__ import annotations

from typing import Final

import torch
import triton
import triton.language as tl
from torch import Tensor

from bitfront.kernels.gpu.launch import blocks, on_device, power_of_two
from bitfront.kernels.gpu.rows import require_dense_words, require_row_count, row_start, rows_of
from bitfront.kernels.layout import WORD_BITS, word_count

TILE_WORDS: Final = 8
"""Most words of a row in one tile."""

TILE_ELEMENTS: Final = 2048
"""Values of a tile: 16 for each thread."""

_FLOATS: Final = (torch.float32, torch.bfloat16, torch.float16)


@triton.jit
def unpack_kernel(
    words_ptr: tl.tensor,
    out_ptr: tl.tensor,
    rows: tl.tensor,
    pixels: tl.tensor,
    channels: tl.tensor,
    words_outer: tl.tensor,
    words_line: tl.tensor,
    words_pixel: tl.tensor,
    LINES: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_WORDS: tl.constexpr,
) -> None:
    """Unpack a tile of rows to dense rows of -1 and +1."""
    word_tiles = tl.cdiv(tl.cdiv(channels, 32), TILE_WORDS)
    row_tiles = tl.cdiv(rows, TILE_ROWS)
    tile = tl.program_id(0) // word_tiles
    first_word = (tl.program_id(0) % word_tiles) * TILE_WORDS
    outer = (tile // row_tiles).to(tl.int64)
    row = (tile % row_tiles) * TILE_ROWS + tl.arange(0, TILE_ROWS)
    # the last tile may number rows past 2^31 - 1, which turn negative
    is_row = (row >= 0) & (row < rows)
    word = first_word + tl.arange(0, TILE_WORDS)
    place = outer * words_outer + row_start(row, pixels, words_line, words_pixel, LINES)
    words = tl.load(
        words_ptr + (place[:, None] + word[None, :]),
        mask=is_row[:, None] & (word * 32 < channels)[None, :],
        other=0,
    )
    bits = (words[:, :, None] >> tl.arange(0, 32)[None, None, :]) & 1
    values = (2 * tl.reshape(bits, (TILE_ROWS, TILE_WORDS * 32)) - 1).to(tl.float32)
    channel = first_word * 32 + tl.arange(0, TILE_WORDS * 32)
    place = (outer * rows + row) * channels
    tl.store(
        out_ptr + (place[:, None] + channel[None, :]),
        values.to(out_ptr.dtype.element_ty),
        mask=is_row[:, None] & (channel < channels)[None, :],
    )


def unpack_signs(words_BHWP: Tensor, channels: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """The map of -1 and +1 that words hold.

    Waits for nothing, so a CUDA graph can record it.

    Args:
        words_BHWP: int32, any strides but that of the last axis.
        channels: C, of the map; bits past them are not looked at.
        dtype: float32, bfloat16 or float16.

    Returns:
        [B, C, H, W] of -1 and +1 in channels-last memory.

    Raises:
        TypeError: If the words or the dtype are others.
        ValueError: If the words are not [B, H, W, ceil(C / 32)] on a GPU, with a dense last axis.
    """
    require_dense_words("words_BHWP", words_BHWP)
    if dtype not in _FLOATS:
        raise TypeError(f"`dtype` must be {' or '.join(map(str, _FLOATS))}, but got {dtype}.")
    row_words = word_count(channels)
    if words_BHWP.dim() != 4 or words_BHWP.shape[-1] != row_words:
        raise ValueError(
            f"`words_BHWP` must be [B, H, W, {row_words}] for {channels} channels, but got "
            f"{list(words_BHWP.shape)}."
        )
    require_row_count("words_BHWP", words_BHWP)
    out = torch.empty(*words_BHWP.shape[:3], channels, dtype=dtype, device=words_BHWP.device)
    rows = rows_of(words_BHWP.shape[:3], words_BHWP.stride()[:3])
    (steps,) = rows.steps
    tile_words = min(power_of_two(row_words), TILE_WORDS)
    tile_rows = min(power_of_two(rows.count), TILE_ELEMENTS // (WORD_BITS * tile_words))
    with on_device(words_BHWP):
        unpack_kernel[
            (rows.outer * blocks(rows.count, tile_rows) * blocks(row_words, tile_words),)
        ](
            words_BHWP,
            out,
            rows.count,
            rows.pixels,
            channels,
            *steps,
            LINES=rows.lines > 1,
            TILE_ROWS=tile_rows,
            TILE_WORDS=tile_words,
        )
    return out.permute(0, 3, 1, 2)
