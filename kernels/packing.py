"""Packing, unpacking and counting bits: the exact reference of every faster packer.

Integers only, on whatever device the tensor is. `bitfront.kernels.layout` draws the layout.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bitfront.kernels.layout import (
    WORD_BITS,
    CodeFormat,
    PackedBits,
    PackedCodes,
    require_clear_padding,
    require_tensor,
    require_type,
    word_count,
)

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_SIGNED = (*_FLOATS, torch.int8, torch.int16, torch.int32, torch.int64)
_INTEGERS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def pack(x: Tensor) -> PackedBits:
    """Pack the last axis: bit = (x >= 0), so sign(0) = +1.

    Args:
        x: real [..., C], for example NHWC activations or a matrix [M, K].

    Returns:
        words [..., P] and popcount [...].

    Raises:
        TypeError: not a dense tensor of a signed real dtype. Unsigned and bool tensors have no sign
            (every bit would be 1); 0/1 values and codes are packed by `pack_codes`.
        ValueError: a NaN, no element, or more than 2^31 - 1 elements.
    """
    _require_dtype("x", require_tensor("x", x), _SIGNED, "pack 0/1 values with pack_codes")
    if x.dtype in _FLOATS and bool(x.isnan().any()):
        raise ValueError("`x` must not have NaN, which has no sign, but got at least one.")
    words = pack_bits(x >= 0)
    return PackedBits(words=words, channels=x.shape[-1], popcount=row_count(words))


def pack_nchw(x: Tensor) -> PackedBits:
    """Pack axis 1 of four: activations [B, C, H, W], or convolution weights [N, C / G, kh, kw].

    Returns:
        words [B, H, W, P], or [N, kh, kw, P].

    Raises:
        TypeError: as `pack`.
        ValueError: as `pack`, and where `x` does not have four axes.
    """
    if require_tensor("x", x).dim() != 4:
        raise ValueError(f"`x` must be [B, C, H, W], but got shape {tuple(x.shape)}.")
    return pack(x.permute(0, 2, 3, 1))


def unpack(packed: PackedBits, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the values -1 and +1, [..., C], channels last.

    Raises:
        TypeError: `packed` is no `PackedBits`, or `dtype` cannot hold -1.
        ValueError: a padding bit is 1.
    """
    require_type("packed", packed, PackedBits)
    if dtype not in _SIGNED:
        raise TypeError(f"`dtype` must be {_names(_SIGNED)}, but got {dtype}.")
    require_clear_padding("packed", packed.words, packed.channels)
    return (2 * unpack_bits(packed.words, packed.channels) - 1).to(dtype)


def pack_codes(values: Tensor, format: CodeFormat) -> PackedCodes:
    """Pack the last axis of integer values into bit planes.

    Args:
        values: bool or integers [..., C], each a value of `format`.
        format: the number of bits and what they are worth.

    Returns:
        words [Q, ..., P] and popcount [Q, ...].

    Raises:
        TypeError: not a dense tensor of integers, or no `CodeFormat`.
        ValueError: a value that `format` does not have, no element, or too many.
    """
    require_type("format", format, CodeFormat)
    _require_dtype("values", require_tensor("values", values), _INTEGERS, "round floats first")
    wide = values.to(torch.int64)
    low, high = int(wide.min()), int(wide.max())
    in_step = not bool(((wide - format.offset) % format.step).any())
    if low < format.low or high > format.high or not in_step:
        raise ValueError(
            f"`values` must be {format.low} to {format.high} in steps of {format.step} for "
            f"{format}, but got values from {low} to {high}"
            + (f", some off the steps from {format.low}." if not in_step else ".")
        )
    codes = format.encode(wide)
    words = torch.stack([pack_bits((codes >> q & 1).bool()) for q in range(format.bits)])
    return PackedCodes(
        words=words, channels=values.shape[-1], format=format, popcount=row_count(words)
    )


def unpack_codes(packed: PackedCodes) -> Tensor:
    """Return the integer values, int32 [..., C], channels last.

    Raises:
        TypeError: `packed` is no `PackedCodes`.
        ValueError: a padding bit is 1.
    """
    require_type("packed", packed, PackedCodes)
    require_clear_padding("packed", packed.words, packed.channels)
    bits = unpack_bits(packed.words, packed.channels)
    scaled = [value * plane for value, plane in zip(packed.format.plane_values, bits, strict=True)]
    return torch.stack(scaled).sum(0, dtype=torch.int32) + packed.format.offset


def popcount(words: Tensor) -> Tensor:
    """Count the ones of each int32 word, bit 31 included; int32 of the same shape.

    Sums neighbouring fields of 1, 2 and 4 bits, then adds the four bytes by one multiplication.
    Right shifts copy the sign bit; the first two masks drop the copies, then no sum reaches bit 31.

    Raises:
        TypeError: not a dense int32 tensor.
        ValueError: no element, or more than 2^31 - 1.
    """
    _require_dtype("words", require_tensor("words", words), (torch.int32,), "words are signed")
    x = words - ((words >> 1) & 0x55555555)
    x = (x & 0x33333333) + ((x >> 2) & 0x33333333)
    x = (x + (x >> 4)) & 0x0F0F0F0F
    return (x * 0x01010101) >> 24


def row_count(words: Tensor) -> Tensor:
    """Ones of each row, int32 [...] of int32 words [..., P]."""
    return popcount(words).sum(-1, dtype=torch.int32)


def _bit_numbers(device: torch.device) -> Tensor:
    return torch.arange(WORD_BITS, dtype=torch.int32, device=device)


def pack_bits(bits: Tensor) -> Tensor:
    """Bool [..., C] to int32 [..., P]."""
    channels = bits.shape[-1]
    words = word_count(channels)
    padded = torch.nn.functional.pad(bits, (0, words * WORD_BITS - channels))
    by_word = padded.reshape(*bits.shape[:-1], words, WORD_BITS).to(torch.int32)
    # bit 31 is -2^31 and the others add up to 2^31 - 1 at most: no sum overflows
    return (by_word << _bit_numbers(bits.device)).sum(-1, dtype=torch.int32)


def unpack_bits(words: Tensor, channels: int) -> Tensor:
    """int32 [..., P] to int32 0/1 [..., C]."""
    bits = (words[..., None] >> _bit_numbers(words.device)) & 1
    return bits.flatten(-2)[..., :channels]


def _require_dtype(name: str, x: Tensor, accepted: tuple[torch.dtype, ...], hint: str) -> None:
    if x.dtype not in accepted:
        raise TypeError(f"`{name}` must be {_names(accepted)}, but got {x.dtype} ({hint}).")


def _names(dtypes: tuple[torch.dtype, ...]) -> str:
    return " or ".join(str(dtype) for dtype in dtypes)
