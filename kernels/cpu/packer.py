"""Packing floats on the CPU, as `bitfront.kernels.pack` does."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from bitfront.kernels.layout import PackedBits, word_count
from bitfront.kernels.native_library import load
from bitfront.kernels.packing import pack as reference_pack


def pack(x: Tensor, *, variant: str | None = None) -> PackedBits:
    """As `bitfront.kernels.pack`: bit = (x >= 0) along the last axis.

    float32 on the CPU takes the compiled packer, strided last axes too (a permuted NCHW map);
    anything else takes the reference.
    """
    library = load()
    if (
        library is None
        or not isinstance(x, Tensor)
        or x.dtype != torch.float32
        or x.device.type != "cpu"
        or x.layout != torch.strided
        or x.dim() == 0
        or x.numel() == 0
    ):
        return reference_pack(x)
    x = x.detach()
    channels = x.shape[-1]
    words = torch.empty(*x.shape[:-1], word_count(channels), dtype=torch.int32)
    nan = False
    for rows, out in _matrices(x, words):
        nan |= library.pack(
            rows.data_ptr(),
            rows.shape[0],
            channels,
            rows.stride(0),
            rows.stride(1),
            out.data_ptr(),
            words.shape[-1],
            variant or library.variants[-1],
        )
    if nan:
        raise ValueError("`x` must not have NaN, which has no sign, but got at least one.")
    ones = torch.empty(words.shape[:-1], dtype=torch.int32)
    library.row_ones(words.data_ptr(), ones.numel(), words.shape[-1], ones.data_ptr())
    return PackedBits(words=words, channels=channels, popcount=ones)


def pack_nchw(x: Tensor, *, variant: str | None = None) -> PackedBits:
    """As `bitfront.kernels.pack_nchw`: axis 1 of [B, C, H, W] to words [B, H, W, P]."""
    if not isinstance(x, Tensor) or x.dim() != 4:
        raise ValueError("`x` must be a tensor [B, C, H, W].")
    return pack(x.permute(0, 2, 3, 1), variant=variant)


def _matrices(x: Tensor, words: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Split [..., C] into matrices [M, C] with one step between rows, and the words of each."""
    try:
        matrix = x.view(-1, x.shape[-1])
    except RuntimeError:
        for part, out in zip(x.unbind(0), words.unbind(0), strict=True):
            yield from _matrices(part, out)
        return
    yield matrix, words.view(-1, words.shape[-1])
