"""Packing floats on the CPU, as `bitfront.kernels.pack` does."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bitfront.kernels.layout import PackedBits, word_count
from bitfront.kernels.native_library import NativeLibrary, PackJob, load
from bitfront.kernels.packing import pack as reference_pack


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Thresholds:
    """A sign behind a batch norm: bit = ``(x >= values[c]) != flip[c]``.

    Attributes:
        values: float32 [C].
        flip_words: int32 [P], packed like a row of channels.
    """

    values: Tensor
    flip_words: Tensor


def pack(x: Tensor, *, variant: str | None = None) -> PackedBits:
    """As `bitfront.kernels.pack`: bit = (x >= 0) along the last axis.

    float32 on the CPU takes the compiled packer, strided axes too (a permuted NCHW map); anything
    else takes the reference.
    """
    library = load()
    if (
        library is None
        or not isinstance(x, Tensor)
        or x.dtype != torch.float32
        or x.device.type != "cpu"
        or x.layout != torch.strided
        or not 1 <= x.dim() <= 4
        or x.numel() == 0
    ):
        return reference_pack(x)
    words = torch.empty(*x.shape[:-1], word_count(x.shape[-1]), dtype=torch.int32)
    lead = [None] * (4 - x.dim())
    pack_into(library, x.detach()[(*lead, ...)], words[(*lead, ...)], variant)
    ones = torch.empty(words.shape[:-1], dtype=torch.int32)
    library.row_ones(words.data_ptr(), ones.numel(), words.shape[-1], ones.data_ptr())
    return PackedBits(words=words, channels=x.shape[-1], popcount=ones)


def pack_nchw(x: Tensor, *, variant: str | None = None) -> PackedBits:
    """As `bitfront.kernels.pack_nchw`: axis 1 of [B, C, H, W] to words [B, H, W, P]."""
    if not isinstance(x, Tensor) or x.dim() != 4:
        raise ValueError("`x` must be a tensor [B, C, H, W].")
    return pack(x.permute(0, 2, 3, 1), variant=variant)


def pack_into(
    library: NativeLibrary,
    x_BHWC: Tensor,
    out_BHWP: Tensor,
    variant: str | None = None,
    thresholds: Thresholds | None = None,
) -> None:
    """Pack float32 maps into words that are there already, such as the inside of a border.

    Args:
        library: The compiled kernels.
        x_BHWC: float32, any strides.
        out_BHWP: int32 words, any strides but that of the last axis.
        variant: Instruction set; None takes the fastest.
        thresholds: Where each channel's bit changes; None is at 0.

    Raises:
        ValueError: If a value is NaN, or the variant cannot run here.
    """
    if variant is not None and variant not in library.variants:
        raise ValueError(
            f"`variant` must be one of {', '.join(library.variants)} on this CPU, but got "
            f"{variant!r}."
        )
    batch, height, width, channels = x_BHWC.shape
    image_step, line_step, pixel_step, channel_step = x_BHWC.stride()
    out_image, out_line, out_pixel, _ = out_BHWP.stride()
    job = PackJob(
        x=x_BHWC.data_ptr(),
        threshold=None if thresholds is None else thresholds.values.data_ptr(),
        flip=None if thresholds is None else thresholds.flip_words.data_ptr(),
        out=out_BHWP.data_ptr(),
        images=batch,
        lines=height,
        pixels=width,
        channels=channels,
        image_step=image_step,
        line_step=line_step,
        pixel_step=pixel_step,
        channel_step=channel_step,
        out_image=out_image,
        out_line=out_line,
        out_pixel=out_pixel,
    )
    if library.pack(job, variant or library.variants[-1]):
        raise ValueError("`x` must not have NaN, which has no sign, but got at least one.")
