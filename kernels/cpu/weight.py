"""Weights in panels of 32 outputs, as the compiled kernels read them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bitfront.kernels.layout import (
    BINARY,
    CodeFormat,
    PackedBits,
    PackedCodes,
    require_clear_padding,
    require_int,
    require_type,
)
from bitfront.kernels.native_library import PANEL
from bitfront.kernels.packing import row_count

Packed = PackedBits | PackedCodes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CpuWeight:
    """A weight as the kernels read it; made by `prepare_weight`.

    Attributes:
        source: What it was made of.
        words: int32 [R, N, h, w, P] of the source.
        format: What the bits are worth.
        groups: G.
        panels: int32 [R, G, F, T * P, L]; outputs past the last are 0.
        ones: int32 [R, G, F, L], the ones of each plane of each output.
        tap_sums: int32 [T, G, F, L], the sum of an output's weights at a tap.
    """

    source: Packed
    words: Tensor
    format: CodeFormat
    groups: int
    panels: Tensor
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


def prepare_weight(weight: Packed, groups: int = 1) -> CpuWeight:
    """Bring a weight into panels of 32 outputs.

    Args:
        weight: words [N, h, w, P] or [N, P] of each plane.
        groups: Of the convolution.

    Raises:
        TypeError: If it is neither `PackedBits` nor `PackedCodes`.
        ValueError: If its shape, device or padding bits are wrong, or groups do not divide N.
    """
    words, format = planes_of(weight)
    if words.dim() == 3:
        words = words[:, :, None, None]
    if words.dim() != 5 or words.device.type != "cpu":
        raise ValueError(
            "`weight` must be [N, h, w, words] or [N, words] of each plane, on the CPU, but got "
            f"{tuple(words.shape[1:])} on {words.device}."
        )
    require_int("groups", groups, 1)
    if words.shape[1] % groups:
        raise ValueError(
            f"`N % groups == 0` must hold, but got (N={words.shape[1]}, groups={groups})."
        )
    require_clear_padding("weight", words, weight.channels)
    ones_RNT = row_count(words.flatten(2, 3))
    plane_values = torch.tensor(format.plane_values, dtype=torch.int32)
    sums_NT = (plane_values[:, None, None] * ones_RNT).sum(0, dtype=torch.int32)
    sums_NT += weight.channels * format.offset
    return CpuWeight(
        source=weight,
        words=words,
        format=format,
        groups=groups,
        panels=by_panel(words.flatten(2), groups).transpose(-1, -2).contiguous(),
        ones=by_panel(ones_RNT.sum(-1, dtype=torch.int32), groups),
        tap_sums=by_panel(sums_NT.T, groups),
    )


def by_panel(x: Tensor, groups: int) -> Tensor:
    """[D, N, ...] to [D, G, F, L, ...], zeros past the last output of a group."""
    share = x.shape[1] // groups
    panels = -(-share // PANEL)
    padded = x.new_zeros(x.shape[0], groups, panels * PANEL, *x.shape[2:])
    padded[:, :, :share] = x.reshape(x.shape[0], groups, share, *x.shape[2:])
    return padded.reshape(x.shape[0], groups, panels, PANEL, *x.shape[2:])
