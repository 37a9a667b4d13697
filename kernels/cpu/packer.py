"""Packing floats on the CPU, as `bitfront.kernels.pack` does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from bitfront.kernels.cpu.checks import require_thresholds, require_variant
from bitfront.kernels.cpu.threads import PACK_AXES, run_shared
from bitfront.kernels.layout import MAX_ELEMENTS, PackedBits, word_count
from bitfront.kernels.native_library import NativeLibrary, PackJob, load
from bitfront.kernels.packing import pack as reference_pack

SHARED_FLOATS: Final = 1 << 18
"""Values of a map whose packing takes longer than waking a thread, 20 microseconds."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Thresholds:
    """A sign behind a batch norm: bit = ``(x >= values[c]) != flip[c]``.

    Attributes:
        values: float32 [C], contiguous.
        flip_words: int32 [P], packed like a row of channels.

    Raises:
        TypeError: If one is no tensor of one axis.
        ValueError: If one has another dtype, size, layout or device, or a padding bit is 1.
    """

    values: Tensor
    flip_words: Tensor

    def __post_init__(self) -> None:
        require_thresholds(self.values, self.flip_words)


def pack(x: Tensor, *, variant: str | None = None) -> PackedBits:
    """As `bitfront.kernels.pack`: bit = (x >= 0) along the last axis.

    float32 on the CPU takes the compiled packer, strided axes too (a permuted NCHW map); anything
    else takes the reference.

    Raises:
        TypeError: As `bitfront.kernels.pack`.
        ValueError: As `bitfront.kernels.pack`, or if the variant cannot run here.
    """
    library = load()
    if library is not None:
        variant = require_variant(variant, library.variants)
    if (
        library is None
        or not isinstance(x, Tensor)
        or x.dtype != torch.float32
        or x.device.type != "cpu"
        or x.layout != torch.strided
        or not 1 <= x.dim() <= 4
        or not 1 <= x.numel() <= MAX_ELEMENTS
    ):
        return reference_pack(x)
    words = torch.empty(*x.shape[:-1], word_count(x.shape[-1]), dtype=torch.int32)
    lead = [None] * (4 - x.dim())
    pack_into(library, x.detach().resolve_neg()[(*lead, ...)], words[(*lead, ...)], variant)
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
    Packer(library, out_BHWP, x_BHWC.shape[-1], variant)(x_BHWC, thresholds)


class Packer:
    """Packs float32 maps of one size to one place, again and again.

    Args:
        library: The compiled kernels.
        out_BHWP: int32 words, any strides but that of the last axis.
        channels: Of the maps.
        variant: Instruction set; None takes the fastest.
        threads: Threads that share maps which are large enough.

    Raises:
        ValueError: If the variant cannot run here.
    """

    def __init__(
        self,
        library: NativeLibrary,
        out_BHWP: Tensor,
        channels: int,
        variant: str | None = None,
        threads: int = 1,
    ) -> None:
        self._library = library
        self._variant = require_variant(variant, library.variants)
        # the job holds addresses, which must stay alive
        self._out = out_BHWP
        self._thresholds: Thresholds | None = None
        self._strides: tuple[int, ...] = ()
        batch, height, width, _ = out_BHWP.shape
        is_large = batch * height * width * channels >= SHARED_FLOATS
        self._threads = threads if is_large else 1
        out_image, out_line, out_pixel, _ = out_BHWP.stride()
        self._job = PackJob(
            out=out_BHWP.data_ptr(),
            images=batch,
            lines=height,
            pixels=width,
            channels=channels,
            out_image=out_image,
            out_line=out_line,
            out_pixel=out_pixel,
        )

    def __call__(self, x_BHWC: Tensor, thresholds: Thresholds | None = None) -> None:
        """Pack maps [B, H, W, C] of any strides; raises ``ValueError`` if a value is NaN."""
        job = self._job
        job.x = x_BHWC.data_ptr()
        strides = x_BHWC.stride()
        if strides != self._strides:
            self._strides = strides
            job.image_step, job.line_step, job.pixel_step, job.channel_step = strides
        if thresholds is not self._thresholds:
            if thresholds is not None and len(thresholds.values) != job.channels:
                raise ValueError(
                    f"`thresholds.values` must have one for each of {job.channels} channels, but "
                    f"got {len(thresholds.values)}."
                )
            self._thresholds = thresholds
            job.threshold = None if thresholds is None else thresholds.values.data_ptr()
            job.flip = None if thresholds is None else thresholds.flip_words.data_ptr()
        if any(run_shared(self._library.pack, job, self._variant, self._threads, PACK_AXES)):
            raise ValueError("`x` must not have NaN, which has no sign, but got at least one.")
