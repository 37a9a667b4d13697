"""Where a tile's words and constants lie: a convolution as a matrix product, never unfolded.

Row m of the product is pixel (image, y, x) of the result; word k of a row is word ``k % P`` of the
pixel under tap ``k // P``. Offsets within an image are int32, those of an image int64.

=========  =====================================================================================
name       meaning
=========  =====================================================================================
size       height and width of the map
out_size   height and width of the result
GEOMETRY   kernel, stride, padding and dilation, (vertical, horizontal) each
WINDOW     whether the product has a window; a matrix product reads row m from word m * PIXEL on
X_PIXEL    words of a pixel of the map
P          words of a pixel of one group
=========  =====================================================================================
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def tile_place(
    rows: tl.tensor,
    outputs: tl.tensor,
    group_outputs: tl.tensor,
    TILE_ROWS: tl.constexpr,
    TILE_OUTPUTS: tl.constexpr,
) -> tl.tensor:
    """Of this program: its rows, and which there are; its group, and its first output within it.

    Programs of the same rows follow each other, so that their words are still in the cache.
    """
    tiles = (group_outputs + TILE_OUTPUTS - 1) // TILE_OUTPUTS
    row_tiles = tiles * (outputs // group_outputs)
    tile = tl.program_id(0) % row_tiles
    m = (tl.program_id(0) // row_tiles) * TILE_ROWS + tl.arange(0, TILE_ROWS)
    # the last tile may number rows past 2^31 - 1, which turn negative
    return m, (m >= 0) & (m < rows), tile // tiles, (tile % tiles) * TILE_OUTPUTS


@triton.jit
def row_origin(
    m: tl.tensor,
    group: tl.tensor,
    size: tl.tuple,
    out_size: tl.tuple,
    X_PIXEL: tl.constexpr,
    P: tl.constexpr,
    GEOMETRY: tl.constexpr,
    WINDOW: tl.constexpr,
) -> tl.tensor:
    """Of each row: the first word of its image, or of its pixel, and where its window begins."""
    STRIDE: tl.constexpr = GEOMETRY[1]
    PADDING: tl.constexpr = GEOMETRY[2]
    top, left = m, m
    if WINDOW:
        pixel = m // out_size[1]
        # a launch makes a size of 1 a constant, which has no type: only tensors are converted
        origin = (pixel // out_size[0]).to(tl.int64) * size[0] * size[1] * X_PIXEL
        top = (pixel % out_size[0]) * STRIDE[0] - PADDING[0]
        left = (m % out_size[1]) * STRIDE[1] - PADDING[1]
    else:
        origin = m.to(tl.int64) * X_PIXEL
    return origin + group * P, top, left


@triton.jit
def under_window(
    words: tl.tensor,
    is_row: tl.tensor,
    top: tl.tensor,
    left: tl.tensor,
    size: tl.tuple,
    X_PIXEL: tl.constexpr,
    P: tl.constexpr,
    GEOMETRY: tl.constexpr,
    WINDOW: tl.constexpr,
    REPLICATE: tl.constexpr,
) -> tl.tensor:
    """Of each row and word: its offset from the origin; if it is read; if it is outside the map."""
    KERNEL: tl.constexpr = GEOMETRY[0]
    DILATION: tl.constexpr = GEOMETRY[3]
    exists = is_row[:, None] & (words < KERNEL[0] * KERNEL[1] * P)[None, :]
    offset, read, outside = words[None, :], exists, exists
    if WINDOW:
        tap = words // P
        y = top[:, None] + ((tap // KERNEL[1]) * DILATION[0])[None, :]
        x = left[:, None] + ((tap % KERNEL[1]) * DILATION[1])[None, :]
        if REPLICATE:
            y = tl.minimum(tl.maximum(y, 0), size[0] - 1)
            x = tl.minimum(tl.maximum(x, 0), size[1] - 1)
        inside = (y >= 0) & (y < size[0]) & (x >= 0) & (x < size[1])
        offset = (y * size[1] + x) * X_PIXEL + (words % P)[None, :]
        read, outside = exists & inside, exists & (inside == 0)
    return offset, read, outside


@triton.jit
def load_words(
    start: tl.tensor,
    offset: tl.tensor,
    read: tl.tensor,
    outside: tl.tensor,
    words: tl.tensor,
    fill_ptr: tl.tensor,
    P: tl.constexpr,
    FILL: tl.constexpr,
) -> tl.tensor:
    """The words of a plane of the map; outside it those of a pixel of fill, or 0."""
    x = tl.load(start + offset, mask=read, other=0)
    if FILL:
        border = tl.load(fill_ptr + words % P)
        x = tl.where(outside, border[None, :], x)
    return x


@triton.jit
def constant_of(
    m: tl.tensor,
    is_row: tl.tensor,
    n: tl.tensor,
    is_output: tl.tensor,
    out_size: tl.tuple,
    outputs: tl.tensor,
    beta_ptr: tl.tensor,
    row_class_ptr: tl.tensor,
    col_class_ptr: tl.tensor,
    CLASSES: tl.constexpr,
) -> tl.tensor:
    """The constant of each row and output; [1, outputs] where it is the same in all rows."""
    if CLASSES:
        position = tl.load(row_class_ptr + (m // out_size[1]) % out_size[0], mask=is_row, other=0)
        position += tl.load(col_class_ptr + m % out_size[1], mask=is_row, other=0)
        beta = tl.load(
            beta_ptr + position[:, None] * outputs + n[None, :],
            mask=is_row[:, None] & is_output[None, :],
            other=0,
        )
    else:
        beta = tl.load(beta_ptr + n, mask=is_output, other=0)[None, :]
    return beta
