"""Where a tile's words and constants lie: a convolution as a matrix product, never unfolded.

Row m of the product is pixel (image, y, x) of the result; word k of a row is word ``k % P`` of the
pixel under tap ``k // P``. Offsets within an image are int32, those of an image int64.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def tile_place(
    outputs: tl.tensor,
    group_outputs: tl.tensor,
    TILE_ROWS: tl.constexpr,
    TILE_OUTPUTS: tl.constexpr,
) -> tl.tensor:
    """Of this program: numbers of its rows, its group, its first output within the group.

    Programs of the same rows follow each other, so that their words are still in the cache.
    """
    tiles = (group_outputs + TILE_OUTPUTS - 1) // TILE_OUTPUTS
    row_tiles = tiles * (outputs // group_outputs)
    tile = tl.program_id(0) % row_tiles
    rows = (tl.program_id(0) // row_tiles) * TILE_ROWS + tl.arange(0, TILE_ROWS)
    return rows, tile // tiles, (tile % tiles) * TILE_OUTPUTS


@triton.jit
def row_origin(
    rows: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    out_height: tl.tensor,
    out_width: tl.tensor,
    X_PIXEL: tl.constexpr,
    STRIDE_Y: tl.constexpr,
    STRIDE_X: tl.constexpr,
    PADDING_Y: tl.constexpr,
    PADDING_X: tl.constexpr,
) -> tl.tensor:
    """Of each row: the first word of its image, and the position of its window's first tap."""
    pixel = rows // out_width
    # a launch makes a size of 1 a constant, which has no type: only tensors are converted
    image = (pixel // out_height).to(tl.int64) * height * width * X_PIXEL
    top = (pixel % out_height) * STRIDE_Y - PADDING_Y
    left = (rows % out_width) * STRIDE_X - PADDING_X
    return image, top, left


@triton.jit
def under_window(
    words: tl.tensor,
    top: tl.tensor,
    left: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    X_PIXEL: tl.constexpr,
    PIXEL_WORDS: tl.constexpr,
    KERNEL_X: tl.constexpr,
    DILATION_Y: tl.constexpr,
    DILATION_X: tl.constexpr,
    REPLICATE: tl.constexpr,
) -> tl.tensor:
    """Of each row and word: its offset within the image, and whether it lies inside."""
    tap = words // PIXEL_WORDS
    y = top[:, None] + ((tap // KERNEL_X) * DILATION_Y)[None, :]
    x = left[:, None] + ((tap % KERNEL_X) * DILATION_X)[None, :]
    if REPLICATE:
        y = tl.minimum(tl.maximum(y, 0), height - 1)
        x = tl.minimum(tl.maximum(x, 0), width - 1)
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    return (y * width + x) * X_PIXEL + (words % PIXEL_WORDS)[None, :], inside


@triton.jit
def constant_of(
    rows: tl.tensor,
    numbers: tl.tensor,
    is_row: tl.tensor,
    is_output: tl.tensor,
    out_height: tl.tensor,
    out_width: tl.tensor,
    outputs: tl.tensor,
    beta_ptr: tl.tensor,
    row_class_ptr: tl.tensor,
    col_class_ptr: tl.tensor,
    CLASSES: tl.constexpr,
) -> tl.tensor:
    """The constant of each row and output; [1, outputs] where it is the same in all rows."""
    if CLASSES:
        position = tl.load(row_class_ptr + (rows // out_width) % out_height, mask=is_row, other=0)
        position += tl.load(col_class_ptr + rows % out_width, mask=is_row, other=0)
        beta = tl.load(
            beta_ptr + position[:, None] * outputs + numbers[None, :],
            mask=is_row[:, None] & is_output[None, :],
            other=0,
        )
    else:
        beta = tl.load(beta_ptr + numbers, mask=is_output, other=0)[None, :]
    return beta
