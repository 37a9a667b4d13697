"""Packing on the GPU: signs and codes of any strides to words, equal to `bitfront.kernels.packing`.

The popcount of each row is counted while its words are there. Shape suffixes: P words of a row,
Q planes, C channels, G groups.
"""

from __future__ import annotations

from typing import Final

import torch
import triton
import triton.language as tl
from torch import Tensor

from bitfront.kernels import packing as reference
from bitfront.kernels.geometry import Conv2dGeometry
from bitfront.kernels.gpu.bits import popcount, to_words
from bitfront.kernels.gpu.launch import blocks, on_device, power_of_two, require_device
from bitfront.kernels.gpu.rows import joined_axes
from bitfront.kernels.layout import (
    WORD_BITS,
    CodeFormat,
    PackedBits,
    PackedCodes,
    require_tensor,
    require_type,
    word_count,
)

TILE_WORDS: Final = 8
"""Most words of a row in one step of packing."""

TILE_ELEMENTS: Final = 2048
"""Elements of a step: 16 for each thread."""

_NARROW_FLOATS: Final = (torch.float16, torch.bfloat16)
_INTEGERS: Final = (
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
)
_SIGNED: Final = (*_NARROW_FLOATS, torch.float32, torch.float64, *_INTEGERS[2:])


@triton.jit
def pack_kernel(
    x_ptr: tl.tensor,
    words_ptr: tl.tensor,
    count_ptr: tl.tensor,
    wrong_ptr: tl.tensor,
    rows: tl.tensor,
    inner: tl.tensor,
    outer_step: tl.tensor,
    inner_step: tl.tensor,
    channel_step: tl.tensor,
    channels: tl.tensor,
    row_words: tl.tensor,
    BITS: tl.constexpr,
    SIGNS: tl.constexpr,
    WIDEN: tl.constexpr,
    LOW: tl.constexpr,
    HIGH: tl.constexpr,
    OFFSET: tl.constexpr,
    STEP: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_WORDS: tl.constexpr,
) -> None:
    """Pack some rows: words [BITS, rows, row_words], popcounts [BITS, rows].

    Row r starts at ``(r // inner) * outer_step + (r % inner) * inner_step``. SIGNS makes a bit of
    ``x >= 0``, else a code is ``(x - OFFSET) / STEP``. A NaN, or what is no value of the code,
    makes `wrong` 1.
    """
    row = tl.program_id(0) * TILE_ROWS + tl.arange(0, TILE_ROWS)
    # the last tile may number rows past 2^31 - 1, which turn negative
    is_row = (row >= 0) & (row < rows)
    start = (row // inner).to(tl.int64) * outer_step + (row % inner).to(tl.int64) * inner_step
    # the planes of a code are counted in the fields of one row of counts
    planes = tl.arange(0, 8)
    counts = tl.zeros((TILE_ROWS, 8), tl.int32)
    wrong = tl.zeros((TILE_ROWS,), tl.int32)
    for first in range(0, row_words, TILE_WORDS):
        channel = first * 32 + tl.arange(0, TILE_WORDS * 32)
        read = is_row[:, None] & (channel < channels)[None, :]
        place = start[:, None] + channel.to(tl.int64)[None, :] * channel_step
        x = tl.load(x_ptr + place, mask=read, other=0)
        if SIGNS:
            if WIDEN:
                x = x.to(tl.float32)
            codes = (x >= 0).to(tl.int32)
            is_wrong = x != x
        else:
            if WIDEN:
                x = x.to(tl.int32)
            is_wrong = (x < LOW) | (x > HIGH) | (((x - OFFSET) & (STEP - 1)) != 0)
            codes = ((x - OFFSET) >> (STEP - 1)).to(tl.int32)
        codes = tl.where(read, codes, 0)
        wrong = tl.maximum(wrong, tl.max((read & is_wrong).to(tl.int32), 1))
        word = first + tl.arange(0, TILE_WORDS)
        written = is_row[:, None] & (word < row_words)[None, :]
        for q in tl.static_range(BITS):
            packed = to_words((codes >> q) & 1, TILE_ROWS, TILE_WORDS)
            plane_row = row.to(tl.int64) + q * rows
            tl.store(
                words_ptr + plane_row[:, None] * row_words + word[None, :], packed, mask=written
            )
            ones = tl.sum(popcount(packed), 1)
            counts += tl.where(planes == q, 1, 0)[None, :] * ones[:, None]
    place = planes.to(tl.int64)[None, :] * rows + row[:, None]
    tl.store(count_ptr + place, counts, mask=is_row[:, None] & (planes < BITS)[None, :])
    tl.store(wrong_ptr, 1, mask=tl.max(wrong, 0) > 0)


@triton.jit
def regroup_kernel(
    words_ptr: tl.tensor,
    out_ptr: tl.tensor,
    rows: tl.tensor,
    row_words: tl.tensor,
    group_channels: tl.tensor,
    out_words: tl.tensor,
    GROUP_WORDS: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_WORDS: tl.constexpr,
) -> None:
    """Words of all channels to words of each group's channels, each group from a whole word on."""
    row = tl.program_id(0) * TILE_ROWS + tl.arange(0, TILE_ROWS)
    word = tl.program_id(1) * TILE_WORDS + tl.arange(0, TILE_WORDS)
    is_row = (row >= 0) & (row < rows)
    within = (word % GROUP_WORDS) * 32
    start = (word // GROUP_WORDS) * group_channels + within
    source = row.to(tl.int64)[:, None] * row_words + (start // 32)[None, :]
    exists = is_row[:, None] & (word < out_words)[None, :]
    shift = (start % 32)[None, :]
    low = tl.load(words_ptr + source, mask=exists, other=0).to(tl.uint32, bitcast=True)
    has_high = (shift > 0) & (start // 32 + 1 < row_words)[None, :]
    high = tl.load(words_ptr + source + 1, mask=exists & has_high, other=0)
    # two shifts, as one by 32 is not defined
    joined = (low >> shift.to(tl.uint32)) | (
        (high.to(tl.uint32, bitcast=True) << 1) << (31 - shift).to(tl.uint32)
    )
    unused = tl.maximum(32 - (group_channels - within), 0)
    ones = tl.full((TILE_WORDS,), 0xFFFFFFFF, tl.uint32) >> unused.to(tl.uint32)
    kept = (joined & ones[None, :]).to(tl.int32, bitcast=True)
    tl.store(out_ptr + row.to(tl.int64)[:, None] * out_words + word[None, :], kept, mask=exists)


@triton.jit
def count_kernel(
    words_ptr: tl.tensor,
    count_ptr: tl.tensor,
    rows: tl.tensor,
    row_words: tl.tensor,
    TILE_ROWS: tl.constexpr,
    TILE_WORDS: tl.constexpr,
) -> None:
    """Ones of each row of words."""
    row = tl.program_id(0) * TILE_ROWS + tl.arange(0, TILE_ROWS)
    is_row = (row >= 0) & (row < rows)
    start = row.to(tl.int64)[:, None] * row_words
    ones = tl.zeros((TILE_ROWS,), tl.int32)
    for first in range(0, row_words, TILE_WORDS):
        word = first + tl.arange(0, TILE_WORDS)
        exists = is_row[:, None] & (word < row_words)[None, :]
        words = tl.load(words_ptr + start + word[None, :], mask=exists, other=0)
        ones += tl.sum(popcount(words), 1)
    tl.store(count_ptr + row, ones, mask=is_row)


def pack(x: Tensor, *, check: bool = True) -> PackedBits:
    """Pack the last axis of a tensor on the GPU: bit = (x >= 0).

    Args:
        x: As `bitfront.kernels.pack`; NHWC, or NCHW seen as NHWC, is read as it lies.
        check: Look for NaN, which waits for the device; without it a NaN becomes bit 0.

    Returns:
        words [..., P] and popcount [...].

    Raises:
        TypeError: As `bitfront.kernels.pack`.
        ValueError: As `bitfront.kernels.pack`, and where `x` is not on a CUDA device.
    """
    if require_tensor("x", x).dtype not in _SIGNED:
        return reference.pack(x)
    require_device("x", x)
    words, counts, wrong = _packed(x, None)
    if check and bool(wrong):
        # which says what is wrong
        return reference.pack(x)
    return PackedBits(words=words[0], channels=x.shape[-1], popcount=counts[0])


def pack_nchw(x: Tensor, *, check: bool = True) -> PackedBits:
    """Pack axis 1 of four; as `pack`, and as `bitfront.kernels.pack_nchw`.

    Raises:
        TypeError: As `pack`.
        ValueError: As `pack`, and where `x` does not have four axes.
    """
    if require_tensor("x", x).dim() != 4:
        raise ValueError(f"`x` must be [B, C, H, W], but got shape {tuple(x.shape)}.")
    return pack(x.permute(0, 2, 3, 1), check=check)


def pack_codes(values: Tensor, format: CodeFormat, *, check: bool = True) -> PackedCodes:
    """Pack the last axis of integer values into bit planes on the GPU.

    Args:
        values: As `bitfront.kernels.pack_codes`.
        format: The number of bits and what they are worth.
        check: Look for what is no value of the format, which waits for the device; without it
            such a value becomes some code.

    Returns:
        words [Q, ..., P] and popcount [Q, ...].

    Raises:
        TypeError: As `bitfront.kernels.pack_codes`.
        ValueError: As `bitfront.kernels.pack_codes`, and where `values` are not on a CUDA device.
    """
    require_type("format", format, CodeFormat)
    if require_tensor("values", values).dtype not in _INTEGERS:
        return reference.pack_codes(values, format)
    require_device("values", values)
    words, counts, wrong = _packed(values, format)
    if check and bool(wrong):
        # which says what is wrong
        return reference.pack_codes(values, format)
    return PackedCodes(words=words, channels=values.shape[-1], format=format, popcount=counts)


def regroup(words_QBHWP: Tensor, conv: Conv2dGeometry) -> Tensor:
    """int32 [Q, B, H, W, G * P']: the words of each group's channels side by side."""
    words = words_QBHWP.contiguous()
    *leading, row_words = words.shape
    group_words = word_count(conv.group_channels)
    out = torch.empty(*leading, conv.groups * group_words, dtype=torch.int32, device=words.device)
    rows = words.numel() // row_words
    tile_words = min(power_of_two(out.shape[-1]), 64)
    tile_rows = min(power_of_two(rows), 2048 // tile_words)
    with on_device(words):
        regroup_kernel[(blocks(rows, tile_rows), blocks(out.shape[-1], tile_words))](
            words,
            out,
            rows,
            row_words,
            conv.group_channels,
            out.shape[-1],
            GROUP_WORDS=group_words,
            TILE_ROWS=tile_rows,
            TILE_WORDS=tile_words,
        )
    return out


def count_ones(words: Tensor) -> Tensor:
    """int32 [...]: the ones of each row of words [..., P], as `bitfront.kernels.popcount`.

    Args:
        words: int32, dense.

    Raises:
        TypeError: It holds no int32.
        ValueError: It is not on a CUDA device, or not dense.
    """
    if require_tensor("words", words).dtype != torch.int32:
        raise TypeError(f"`words` must be torch.int32, but got {words.dtype}.")
    require_device("words", words)
    if words.dim() == 0 or not words.is_contiguous():
        raise ValueError(
            f"`words` must be dense words [..., P], but got {list(words.shape)} with steps "
            f"{words.stride()}."
        )
    ones = torch.empty(words.shape[:-1], dtype=torch.int32, device=words.device)
    rows, row_words = ones.numel(), words.shape[-1]
    tile_words = min(power_of_two(row_words), 64)
    tile_rows = min(power_of_two(rows), 2048 // tile_words)
    with on_device(words):
        count_kernel[(blocks(rows, tile_rows),)](
            words, ones, rows, row_words, TILE_ROWS=tile_rows, TILE_WORDS=tile_words
        )
    return ones


def _packed(x: Tensor, format: CodeFormat | None) -> tuple[Tensor, Tensor, Tensor]:
    """Words [Q, ..., P], popcounts [Q, ...], whether something was wrong; None packs signs."""
    *leading, channels = x.shape
    x, axes = _two_axes(x)
    (outer, outer_step), (inner, inner_step) = axes
    bits = 1 if format is None else format.bits
    row_words = word_count(channels)
    words = torch.empty(bits, *leading, row_words, dtype=torch.int32, device=x.device)
    counts = torch.empty(bits, *leading, dtype=torch.int32, device=x.device)
    wrong = torch.zeros(1, dtype=torch.int32, device=x.device)
    rows = outer * inner
    tile_words = min(power_of_two(row_words), TILE_WORDS)
    tile_rows = min(power_of_two(rows), TILE_ELEMENTS // (WORD_BITS * tile_words))
    source = x.view(torch.uint8) if x.dtype == torch.bool else x
    with on_device(x):
        pack_kernel[(blocks(rows, tile_rows),)](
            source,
            words,
            counts,
            wrong,
            rows,
            inner,
            outer_step,
            inner_step,
            x.stride(-1),
            channels,
            row_words,
            BITS=bits,
            SIGNS=format is None,
            WIDEN=x.dtype in _NARROW_FLOATS if format is None else x.dtype != torch.int64,
            LOW=format.low if format else 0,
            HIGH=format.high if format else 0,
            OFFSET=format.offset if format else 0,
            STEP=format.step if format else 1,
            TILE_ROWS=tile_rows,
            TILE_WORDS=tile_words,
        )
    return words, counts, wrong


def _two_axes(x: Tensor) -> tuple[Tensor, tuple[tuple[int, int], tuple[int, int]]]:
    """The leading axes as two of (size, step); a copy where they are more."""
    axes = [(size, step) for size, (step,) in joined_axes(x.shape[:-1], x.stride()[:-1])]
    if len(axes) > 2:
        return _two_axes(x.contiguous())
    outer, inner = [(1, 0)] * (2 - len(axes)) + axes
    return x, (outer, inner)
