"""Floats to bit planes on the GPU: each value is compared with the bounds of its channel.

A sign behind a batch norm is one comparison and one plane; a code of k bits takes its
``2^k - 1`` bounds, and a plane is the XOR of the comparisons where its bit changes.

Shape suffixes: S comparisons, Q planes, B images, H height, W width, C channels, P words of a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
import triton
import triton.language as tl
from torch import Tensor

from bitfront.kernels.gpu.bits import to_words
from bitfront.kernels.gpu.launch import blocks, on_device, power_of_two, require_device
from bitfront.kernels.gpu.rows import require_out, require_row_count, row_start, rows_of
from bitfront.kernels.layout import (
    MAX_CODE_BITS,
    WORD_BITS,
    require_int,
    require_type,
    word_count,
)
from bitfront.kernels.operands import require_same_device

MAX_COMPARISONS: Final = 31
"""Bounds of a code of 5 bits."""

TILE_WORDS: Final = 2
"""Most words of a row in one tile. Their bounds are fewer than the threads, so that each thread
loads those it compares with; more would be handed around in shared memory."""

TILE_BYTES: Final = 8192
"""Values of a tile: 64 bytes for each thread."""

_FLOATS: Final = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bounds:
    """Where the bits of codes change.

    Comparison s of channel c is ``(x >= values[s, c]) != flips[s, c]``. Bit q of a code is bit q
    of ``start``, changed once by each comparison that passes and has bit q in its ``changes``.

    Attributes:
        values: float32 [S, C], or [S, B, C] where images have their own; any strides, so an
            expanded axis takes no memory. A bound of -infinity is always reached, one of NaN never.
        flips: bool [S, C], any strides.
        changes: For each comparison, the planes that it changes, as the bits of a number.
        start: The bits where no comparison passes, as a number.
        planes: Q.

    Raises:
        TypeError: If one is of another type or dtype.
        ValueError: If shapes or devices do not agree, there are more than 31 comparisons or 8
            planes, or a number has a bit of a plane that is not there.
    """

    values: Tensor
    flips: Tensor
    changes: tuple[int, ...]
    start: int
    planes: int

    def __post_init__(self) -> None:
        for name, x, dtype in (
            ("values", self.values, torch.float32),
            ("flips", self.flips, torch.bool),
        ):
            if not isinstance(x, Tensor) or x.dtype != dtype or x.layout != torch.strided:
                raise TypeError(
                    f"`{name}` must be a dense tensor of {dtype}, but got {_kind_of(x)}."
                )
        shape = (*self.values.shape[:1], *self.values.shape[-1:])
        if self.values.dim() not in (2, 3) or self.flips.shape != shape or not self.values.numel():
            raise ValueError(
                "`values` must be [S, C] or [S, B, C], not empty, and `flips` [S, C], but got "
                f"{list(self.values.shape)} and {list(self.flips.shape)}."
            )
        require_same_device("values", self.values, "flips", self.flips)
        comparisons = len(self.values)
        if comparisons > MAX_COMPARISONS:
            raise ValueError(
                f"`values` must have 1 to {MAX_COMPARISONS} comparisons (codes of up to 5 bits), "
                f"but got {comparisons}."
            )
        require_int("planes", self.planes, 1, MAX_CODE_BITS)
        if not isinstance(self.changes, tuple) or len(self.changes) != comparisons:
            raise ValueError(
                f"`changes` must be a tuple of one number for each of {comparisons} comparisons, "
                f"but got {self.changes!r}."
            )
        for name, number in (("start", self.start), *(("changes", n) for n in self.changes)):
            require_int(name, number, 0, (1 << self.planes) - 1)

    @property
    def channels(self) -> int:
        """C."""
        return self.values.shape[-1]

    @property
    def images(self) -> int | None:
        """B where images have their own bounds, else None."""
        return self.values.shape[1] if self.values.dim() == 3 else None


def signs(channels: int, device: torch.device | str) -> Bounds:
    """Bounds at 0: one plane whose bit is ``x >= 0``."""
    shape = (1, require_int("channels", channels, 1))
    return Bounds(
        values=torch.zeros(shape, device=device),
        flips=torch.zeros(shape, dtype=torch.bool, device=device),
        changes=(1,),
        start=0,
        planes=1,
    )


@triton.jit
def compare_kernel(
    x_ptr: tl.tensor,
    values_ptr: tl.tensor,
    flips_ptr: tl.tensor,
    words_ptr: tl.tensor,
    nan_ptr: tl.tensor,
    word_tiles: tl.tensor,
    row_tiles: tl.tensor,
    rows: tl.tensor,
    pixels: tl.tensor,
    channels: tl.tensor,
    x_outer: tl.tensor,
    x_line: tl.tensor,
    x_pixel: tl.tensor,
    x_channel: tl.tensor,
    out_plane: tl.tensor,
    out_outer: tl.tensor,
    out_line: tl.tensor,
    out_pixel: tl.tensor,
    value_step: tl.tensor,
    value_outer: tl.tensor,
    value_channel: tl.tensor,
    flip_step: tl.tensor,
    flip_channel: tl.tensor,
    CHANGES: tl.constexpr,
    COMPARISONS: tl.constexpr,
    START: tl.constexpr,
    PLANES: tl.constexpr,
    OUTER: tl.constexpr,
    LINES: tl.constexpr,
    CHECK: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_WORDS: tl.constexpr,
) -> None:
    """Compare a tile of rows and pack its planes; with CHECK, a NaN makes `nan` 1.

    There are `rows` rows, `pixels` of them in a line, below each index of an outer axis. The
    arguments after `channels` are steps: elements of a tensor from one index of an axis to the
    next. LINES and OUTER say whether there are more than one of these.
    """
    # tiles of one row follow each other, as their values do
    tile = tl.program_id(0) // word_tiles
    first_word = (tl.program_id(0) % word_tiles) * TILE_WORDS
    outer = (tile // row_tiles if OUTER else tile * 0).to(tl.int64)
    row = (tile % row_tiles if OUTER else tile) * TILE_ROWS + tl.arange(0, TILE_ROWS)
    # the last tile may number rows past 2^31 - 1, which turn negative
    is_row = (row >= 0) & (row < rows)
    channel = first_word * 32 + tl.arange(0, TILE_WORDS * 32)
    is_channel = channel < channels
    column = channel.to(tl.int64)
    start = outer * x_outer + row_start(row, pixels, x_line, x_pixel, LINES)
    x = tl.load(
        x_ptr + (start[:, None] + (column * x_channel)[None, :]),
        mask=is_row[:, None] & is_channel[None, :],
        other=0.0,
    ).to(tl.float32)
    codes = tl.zeros((TILE_ROWS, TILE_WORDS * 32), tl.int32)
    # flips and the bits at the start are the same in all rows
    base = tl.full((TILE_WORDS * 32,), START, tl.int32)
    values = values_ptr + (outer * value_outer + column * value_channel)
    flips = flips_ptr + column * flip_channel
    for s in tl.static_range(COMPARISONS):
        value = tl.load(values, mask=is_channel, other=0.0)
        flip = tl.load(flips, mask=is_channel, other=0)
        codes ^= tl.where(x >= value[None, :], CHANGES[s], 0)
        base ^= tl.where(flip != 0, CHANGES[s], 0)
        # by pointers, as a number of elements may not fit into 32 bits
        values += value_step
        flips += flip_step
    codes = tl.where(is_channel[None, :], codes ^ base[None, :], 0)
    if CHECK:
        tl.store(nan_ptr, 1, mask=tl.max((x != x).to(tl.int32)) > 0)
    word = first_word + tl.arange(0, TILE_WORDS)
    place = outer * out_outer + row_start(row, pixels, out_line, out_pixel, LINES)
    words = words_ptr + (place[:, None] + word[None, :])
    written = is_row[:, None] & (word * 32 < channels)[None, :]
    for q in tl.static_range(PLANES):
        tl.store(words, to_words((codes >> q) & 1, TILE_ROWS, TILE_WORDS), mask=written)
        words += out_plane


def pack_compared(
    x_BHWC: Tensor, bounds: Bounds, *, nan: Tensor | None = None, out: Tensor | None = None
) -> Tensor:
    """Compare floats with the bounds of their channels and pack the planes of their codes.

    Waits for nothing, so a CUDA graph can record it.

    Args:
        x_BHWC: float32, bfloat16 or float16, any strides (a part of a wider map; NCHW seen as
            NHWC); compared as float32. A NaN reaches no bound.
        bounds: One for each channel, on the same device.
        nan: int32 [1] on the same device; becomes 1 if a value is NaN, else is left as it is. None
            looks for none.
        out: Where to write the words: int32 [Q, B, H, W, P], any strides but that of the last
            axis (such as the inside of a border), sharing no memory with the others. None makes
            new ones.

    Returns:
        int32 words [Q, B, H, W, P]; padding bits are 0.

    Raises:
        TypeError: If an argument is of another type or dtype.
        ValueError: If shapes, devices or steps are not as above.
    """
    require_type("bounds", bounds, Bounds)
    _require_map(x_BHWC, bounds)
    images, height, width, channels = x_BHWC.shape
    shape = (bounds.planes, images, height, width, word_count(channels))
    if out is None:
        out = torch.empty(shape, dtype=torch.int32, device=x_BHWC.device)
    else:
        require_out("out", out, shape, x_BHWC.device)
    if nan is not None:
        _require_flag(nan, x_BHWC.device)
    require_row_count("x_BHWC", x_BHWC)
    has_own = bounds.images is not None
    rows = rows_of(x_BHWC.shape[:3], x_BHWC.stride()[:3], out.stride()[1:4], keeps_first=has_own)
    x_steps, out_steps = rows.steps
    values, flips = bounds.values, bounds.flips.view(torch.uint8)
    tile_words = _tile_words(shape[-1])
    tile_bytes = WORD_BITS * tile_words * x_BHWC.element_size()
    tile_rows = min(power_of_two(rows.count), TILE_BYTES // tile_bytes)
    word_tiles, row_tiles = blocks(shape[-1], tile_words), blocks(rows.count, tile_rows)
    with on_device(x_BHWC):
        compare_kernel[(rows.outer * row_tiles * word_tiles,)](
            x_BHWC,
            values,
            flips,
            out,
            out if nan is None else nan,
            word_tiles,
            row_tiles,
            rows.count,
            rows.pixels,
            channels,
            *x_steps,
            x_BHWC.stride(3),
            out.stride(0),
            *out_steps,
            values.stride(0),
            values.stride(1) if has_own else 0,
            values.stride(-1),
            flips.stride(0),
            flips.stride(1),
            CHANGES=bounds.changes,
            COMPARISONS=len(values),
            START=bounds.start,
            PLANES=bounds.planes,
            OUTER=rows.outer > 1,
            LINES=rows.lines > 1,
            CHECK=nan is not None,
            TILE_ROWS=tile_rows,
            TILE_WORDS=tile_words,
        )
    return out


def _tile_words(row_words: int) -> int:
    """Words of a tile: as many as cover a row with the fewest to spare."""
    sizes = [TILE_WORDS >> n for n in range(TILE_WORDS.bit_length())]
    return min(sizes, key=lambda size: size * blocks(row_words, size))


def _require_map(x: object, bounds: Bounds) -> None:
    if not isinstance(x, Tensor) or x.dtype not in _FLOATS or x.layout != torch.strided:
        raise TypeError(
            f"`x_BHWC` must be a dense tensor of {' or '.join(map(str, _FLOATS))}, but got "
            f"{_kind_of(x)}."
        )
    require_device("x_BHWC", x)
    require_same_device("x_BHWC", x, "bounds", bounds.values)
    if x.dim() != 4 or x.shape[-1] != bounds.channels or not x.numel():
        raise ValueError(
            f"`x_BHWC` must be [B, H, W, {bounds.channels}], as `bounds` have as many channels, "
            f"and not empty, but got {list(x.shape)}."
        )
    if bounds.images not in (None, len(x)):
        raise ValueError(
            f"`x_BHWC` must have {bounds.images} images, as `bounds` have values for so many, but "
            f"got {len(x)}."
        )


def _require_flag(nan: object, device: torch.device) -> None:
    if not isinstance(nan, Tensor) or nan.dtype != torch.int32:
        raise TypeError(f"`nan` must be a tensor of torch.int32, but got {_kind_of(nan)}.")
    if nan.shape != (1,) or nan.device != device:
        raise ValueError(
            f"`nan` must be [1] on {device}, but got {list(nan.shape)} on {nan.device}."
        )


def _kind_of(x: object) -> str:
    return f"{x.dtype}, {x.layout}" if isinstance(x, Tensor) else type(x).__name__
