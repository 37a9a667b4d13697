"""Weights as the GPU kernels read them: one row of words for each output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import pad

from bitfront.kernels.layout import (
    BINARY,
    CodeFormat,
    PackedBits,
    PackedCodes,
    require_clear_padding,
    require_int,
    require_type,
)
from bitfront.kernels.packing import row_count

Packed = PackedBits | PackedCodes

ROW_WORDS: Final = 16
"""Rows end on a multiple of so many words: one step of the tensor cores, 512 bits."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GpuWeight:
    """A weight as the kernels read it; made by `prepare_weight`.

    Attributes:
        source: What it was made of.
        words: int32 [R, N, h, w, P] of the source.
        format: What the bits are worth.
        groups: G.
        rows: int32 [R, N, KW]: the words of all taps, tap by tap, then 0 up to a multiple of 16.
        ones: int32 [R, N], the ones of each plane of each output.
        tap_sums: int32 [T, N], the sum of an output's weights at a tap.
    """

    source: Packed
    words: Tensor
    format: CodeFormat
    groups: int
    rows: Tensor
    ones: Tensor
    tap_sums: Tensor


def planes_of(packed: Packed) -> tuple[Tensor, CodeFormat]:
    """Words [Q, ..., P], and what their bits are worth.

    Raises:
        TypeError: If the operand is not packed.
    """
    if isinstance(packed, PackedBits):
        return packed.words[None], BINARY
    require_type("an operand", packed, PackedCodes)
    return packed.words, packed.format


def prepare_weight(weight: Packed, groups: int = 1) -> GpuWeight:
    """Bring a weight into rows of words, on the device where it is.

    Args:
        weight: words [N, h, w, P] or [N, P] of each plane.
        groups: Of the convolution.

    Raises:
        TypeError: If it is neither `PackedBits` nor `PackedCodes`.
        ValueError: If its shape or padding bits are wrong, or groups do not divide N.
    """
    words, format = planes_of(weight)
    if words.dim() == 3:
        words = words[:, :, None, None]
    if words.dim() != 5:
        raise ValueError(
            "`weight` must be [N, h, w, words] or [N, words] of each plane, but got "
            f"{tuple(words.shape[1:])}."
        )
    require_int("groups", groups, 1)
    if words.shape[1] % groups:
        raise ValueError(
            f"`N % groups == 0` must hold, but got (N={words.shape[1]}, groups={groups})."
        )
    require_clear_padding("weight", words, weight.channels)
    ones_RNT = row_count(words.flatten(2, 3))
    plane_values = torch.tensor(format.plane_values, dtype=torch.int32, device=words.device)
    sums_NT = (plane_values[:, None, None] * ones_RNT).sum(0, dtype=torch.int32)
    sums_NT += weight.channels * format.offset
    flat = words.flatten(2)
    return GpuWeight(
        source=weight,
        words=words,
        format=format,
        groups=groups,
        rows=pad(flat, (0, -flat.shape[-1] % ROW_WORDS)).contiguous(),
        ones=ones_RNT.sum(-1, dtype=torch.int32),
        tap_sums=sums_NT.T.contiguous(),
    )
