"""Bit planes on the CPU: each comparison is packed on its own, planes are their XOR."""

from __future__ import annotations

import torch
from torch import Tensor

from bitfront.evaluators.packed.fold import Crossings
from bitfront.evaluators.packed.planes import Staircase
from bitfront.kernels.cpu import Thresholds
from bitfront.kernels.cpu.packer import pack_into
from bitfront.kernels.native_library import NativeLibrary
from bitfront.kernels.packing import pack_bits


class Planes:
    """Packs floats into the bit planes of their codes.

    Args:
        stairs: How planes follow from comparisons.
        library: The compiled kernels.
        variant: Of the kernels.
    """

    def __init__(self, stairs: Staircase, library: NativeLibrary, variant: str | None) -> None:
        self._stairs = stairs
        found = stairs.crossings
        self._thresholds = () if found is None else cpu_thresholds(found)
        bits = range(stairs.bits)
        self._changes = [[q for q in bits if mask >> q & 1] for mask in stairs.changes]
        # planes whose bit is 1 below the first threshold
        self._inverted = [q for q in bits if stairs.start >> q & 1]
        self._ones = pack_bits(torch.ones(stairs.channels, dtype=torch.bool))
        self._library, self._variant = library, variant

    def __call__(self, x_BHWC: Tensor) -> Tensor:
        """int32 words [Q, B, H, W, P].

        Raises:
            ValueError: If a value is NaN.
        """
        shape = (*x_BHWC.shape[:-1], len(self._ones))
        words = torch.empty(self._stairs.bits, *shape, dtype=torch.int32)
        spare = torch.empty(shape, dtype=torch.int32)
        parts = self._of_images(x_BHWC)
        begun: set[int] = set()
        for step, planes in enumerate(self._changes):
            # a comparison that starts a plane is packed into it
            start = next((q for q in planes if q not in begun), None)
            packed = spare if start is None else words[start]
            for images, thresholds in parts:
                pack_into(
                    self._library, x_BHWC[images], packed[images], self._variant, thresholds[step]
                )
            for q in planes:
                if q in begun:
                    words[q].bitwise_xor_(packed)
                elif q != start:
                    words[q].copy_(packed)
            begun.update(planes)
        for q in self._inverted:
            words[q].bitwise_xor_(self._ones)
        return words

    def _of_images(self, x_BHWC: Tensor) -> list[tuple[slice, tuple[Thresholds, ...]]]:
        """Which images are compared with which thresholds."""
        if self._stairs.cut is None:
            return [(slice(None), self._thresholds)]
        nowhere = torch.zeros_like(self._ones)
        return [
            (
                slice(image, image + 1),
                tuple(
                    Thresholds(values=bound.repeat(self._stairs.channels), flip_words=nowhere)
                    for bound in pair
                ),
            )
            for image, pair in enumerate(self._stairs.of_images(x_BHWC).T)
        ]


def cpu_thresholds(crossings: Crossings) -> tuple[Thresholds, ...]:
    """Crossings as the CPU's packer takes them, one for each row."""
    flips = pack_bits(crossings.flips)
    return tuple(
        Thresholds(values=values.contiguous(), flip_words=words)
        for values, words in zip(crossings.values, flips, strict=True)
    )
