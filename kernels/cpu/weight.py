"""Weights in panels of 32 outputs, as the compiled kernels read them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bitfront.kernels.layout import CodeFormat
from bitfront.kernels.native_library import PANEL
from bitfront.kernels.operands import Packed, planes_of, weight_sums


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


def prepare_weight(weight: Packed, groups: int = 1) -> CpuWeight:
    """Bring a weight into panels of 32 outputs.

    Args:
        weight: words [N, h, w, P] or [N, P] of each plane.
        groups: Of the convolution.

    Raises:
        TypeError: If it is neither `PackedBits` nor `PackedCodes`.
        ValueError: If its shape, device or padding bits are wrong, or groups do not divide N.
    """
    device = planes_of(weight)[0].device
    if device.type != "cpu":
        raise ValueError(f"`weight` must be on the CPU, but is on {device}.")
    words, format, ones_RN, sums_NT = weight_sums(weight, groups)
    return CpuWeight(
        source=weight,
        words=words,
        format=format,
        groups=groups,
        panels=by_panel(words.flatten(2), groups).transpose(-1, -2).contiguous(),
        ones=by_panel(ones_RN, groups),
        tap_sums=by_panel(sums_NT.T, groups),
    )


def by_panel(x: Tensor, groups: int) -> Tensor:
    """[D, N, ...] to [D, G, F, L, ...], zeros past the last output of a group."""
    share = x.shape[1] // groups
    panels = -(-share // PANEL)
    padded = x.new_zeros(x.shape[0], groups, panels * PANEL, *x.shape[2:])
    padded[:, :, :share] = x.reshape(x.shape[0], groups, share, *x.shape[2:])
    return padded.reshape(x.shape[0], groups, panels, PANEL, *x.shape[2:])
