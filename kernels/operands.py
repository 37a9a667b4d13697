"""What every product checks of its operands, and derives from them, in the same way."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from bitfront.kernels.geometry import Conv2dGeometry, Fill, Pair
from bitfront.kernels.layout import (
    BINARY,
    MAX_ELEMENTS,
    CodeFormat,
    PackedBits,
    PackedCodes,
    require_clear_padding,
    require_int,
    require_type,
    require_words,
)
from bitfront.kernels.packing import pack_bits, row_count, unpack_bits

Packed = PackedBits | PackedCodes


def planes_of(packed: Packed) -> tuple[Tensor, CodeFormat]:
    """Words [Q, ..., P], and what their bits are worth.

    Raises:
        TypeError: If the operand is not packed.
    """
    if isinstance(packed, PackedBits):
        return packed.words[None], BINARY
    require_type("an operand", packed, PackedCodes)
    return packed.words, packed.format


class WeightSums(NamedTuple):
    """A weight that was checked, and what every kernel needs of it.

    Attributes:
        words: int32 [R, N, h, w, P].
        format: What the bits are worth.
        ones: int32 [R, N], the ones of each plane of each output.
        tap_sums: int32 [N, T], the sum of an output's weights at a tap.
    """

    words: Tensor
    format: CodeFormat
    ones: Tensor
    tap_sums: Tensor


def weight_sums(weight: Packed, groups: int) -> WeightSums:
    """Check a weight, words [N, h, w, P] or [N, P] of each plane, and sum it up.

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
    return WeightSums(words, format, ones_RNT.sum(-1, dtype=torch.int32), sums_NT)


def weighted_rows(words_QXP: Tensor, format: CodeFormat) -> Tensor:
    """int64 [...]: the sum of each row's values, without the offset."""
    planes = zip(format.plane_values, words_QXP, strict=True)
    return torch.stack([value * row_count(plane).to(torch.int64) for value, plane in planes]).sum(0)


def fill_words(
    conv: Conv2dGeometry, format: CodeFormat, fill: Fill, device: torch.device
) -> Tensor | None:
    """int32 [Q, P]: the words of a padding pixel of one group; None to replicate.

    A 0 that the format does not have is filled with code 0, for `_convolve` to correct.
    """
    accepted = (
        f"`fill` must be 0, a value of the input ({format.low} to {format.high} in steps of "
        f'{format.step}) or "replicate", but got {fill!r}.'
    )
    if isinstance(fill, str):
        if fill != "replicate":
            raise ValueError(accepted)
        return None
    if not isinstance(fill, int) or isinstance(fill, bool):
        raise TypeError(accepted)
    if not (fill == 0 or format.is_value(fill)):
        raise ValueError(accepted)
    code = format.encode(fill) if format.is_value(fill) else 0
    ones_P = pack_bits(torch.ones(conv.group_channels, dtype=torch.bool, device=device))
    return torch.stack([ones_P * (code >> q & 1) for q in range(format.bits)])


def taps(conv: Conv2dGeometry, axis: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Of each output position and tap of an axis: the nearest input position; whether inside."""
    size = (conv.height, conv.width)[axis]
    outputs = torch.arange((conv.out_height, conv.out_width)[axis], device=device)
    taps = torch.arange(conv.kernel[axis], device=device)
    position = (outputs * conv.stride[axis] - conv.padding[axis])[:, None] + (
        taps * conv.dilation[axis]
    )
    nearest = position.clamp(0, size - 1)
    return nearest, nearest == position


def regroup(x_QBHWP: Tensor, conv: Conv2dGeometry) -> Tensor:
    """Words of all channels to words of each group's channels, [Q, B, H, W, G, P]."""
    if conv.groups == 1:
        return x_QBHWP[..., None, :]
    bits = unpack_bits(x_QBHWP, conv.channels).bool()
    return pack_bits(bits.reshape(*bits.shape[:-1], conv.groups, conv.group_channels))


def conv_geometry(
    x_QBHWP: Tensor,
    w_RNhwP: Tensor,
    x_channels: int,
    w_channels: int,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> Conv2dGeometry:
    """Check the words of a convolution and derive its geometry.

    Raises:
        ValueError: shapes or arguments do not agree, or padding bits are not 0.
    """
    if x_QBHWP.dim() != 5 or w_RNhwP.dim() != 5:
        raise ValueError(
            "`x` must be [B, H, W, words] and `weight` [N, kh, kw, words] (of each plane), "
            f"but got {tuple(x_QBHWP.shape[1:])} and {tuple(w_RNhwP.shape[1:])}."
        )
    require_same_device("x", x_QBHWP, "weight", w_RNhwP)
    _, batch, height, width, _ = x_QBHWP.shape
    _, outputs, kernel_height, kernel_width, _ = w_RNhwP.shape
    conv = Conv2dGeometry.of(
        image=(batch, height, width, x_channels),
        weight=(outputs, kernel_height, kernel_width, w_channels),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    require_clear_padding("x", x_QBHWP, x_channels)
    require_clear_padding("weight", w_RNhwP, w_channels)
    return conv


def require_matrices(a_MP: Tensor, b_NP: Tensor, k: int) -> None:
    """Check two matrices of words with rows of ``k`` bits.

    Raises:
        ValueError: shapes do not agree, or padding bits are not 0.
    """
    require_int("k", k, 1)
    for name, words in (("a", a_MP), ("b", b_NP)):
        if require_words(name, words, k).dim() != 2:
            raise ValueError(
                f"`{name}` must be a matrix [rows, words], but got shape {tuple(words.shape)}."
            )
    require_same_device("a", a_MP, "b", b_NP)
    if a_MP.shape[0] * b_NP.shape[0] > MAX_ELEMENTS:
        raise ValueError(
            f"`M * N <= {MAX_ELEMENTS}` must hold, but got ({a_MP.shape[0]}, {b_NP.shape[0]})."
        )
    require_clear_padding("a", a_MP, k)
    require_clear_padding("b", b_NP, k)


def require_accumulator(a: CodeFormat, b: CodeFormat, k: int) -> None:
    """Check that int32 holds every sum of ``k`` products.

    Raises:
        ValueError: it does not.
    """
    largest = k * max(-a.low, a.high) * max(-b.low, b.high)
    if largest > MAX_ELEMENTS:
        raise ValueError(
            f"`K * max|a| * max|b| <= {MAX_ELEMENTS}` must hold, so that int32 holds every sum, "
            f"but got {largest} (K={k}, {a}, {b})."
        )


def require_same_device(a_name: str, a: Tensor, b_name: str, b: Tensor) -> None:
    """Check that two operands are on one device.

    Raises:
        ValueError: they are not.
    """
    if a.device != b.device:
        raise ValueError(
            f"`{a_name}` and `{b_name}` must be on one device, but got {a.device} and {b.device}."
        )
