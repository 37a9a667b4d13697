"""Weights as the GPU kernels read them: one row of words for each output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from torch import Tensor
from torch.nn.functional import pad

from bitfront.kernels.layout import CodeFormat
from bitfront.kernels.operands import Packed, weight_sums

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


def prepare_weight(weight: Packed, groups: int = 1) -> GpuWeight:
    """Bring a weight into rows of words, on the device where it is.

    Args:
        weight: words [N, h, w, P] or [N, P] of each plane.
        groups: Of the convolution.

    Raises:
        TypeError: If it is neither `PackedBits` nor `PackedCodes`.
        ValueError: If its shape or padding bits are wrong, or groups do not divide N.
    """
    words, format, ones_RN, sums_NT = weight_sums(weight, groups)
    flat = words.flatten(2)
    return GpuWeight(
        source=weight,
        words=words,
        format=format,
        groups=groups,
        rows=pad(flat, (0, -flat.shape[-1] % ROW_WORDS)).contiguous(),
        ones=ones_RN,
        tap_sums=sums_NT.T.contiguous(),
    )
