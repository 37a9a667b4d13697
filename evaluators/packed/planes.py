"""Maps of few bits as bit planes: each threshold is compared and packed, planes are their XOR.

Thresholds are found with the network's own forms, so the codes are those of the network.

Shape suffixes: B batch, H height, W width, C channels, P words of a row, Q planes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from bitfront.evaluators.packed.codes import step_of
from bitfront.evaluators.packed.fold import code_thresholds
from bitfront.evaluators.packed.routes import has_fixed_thresholds, input_grid
from bitfront.kernels.cpu import Thresholds
from bitfront.kernels.cpu.packer import pack_into
from bitfront.kernels.native_library import NativeLibrary
from bitfront.kernels.packing import pack_bits, unpack_bits
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.graph import Node
from bitfront.spaces.network import Network
from bitfront.spaces.quantizers import LqNet, Quantizer


class Planes:
    """Packs floats into the bit planes of their codes.

    A code of k bits is found by its ``2^k - 1`` thresholds: each comparison is packed on its own,
    and a plane is the XOR of those where its bit changes.

    Args:
        network: Holds the parameters.
        chain: A quantizer to codes, and what is monotone before it.
        library: The compiled kernels.
        variant: Of the kernels.
    """

    def __init__(
        self,
        network: Network,
        chain: Sequence[Node],
        library: NativeLibrary,
        variant: str | None,
    ) -> None:
        nodes = network.graph.nodes
        self._channels = nodes[chain[0].inputs[0]].type.torch_shape[0]
        form: Any = network.get_submodule(chain[-1].name)
        quantizer, params = form.given(), form.quantizer_parameters()
        self._count = quantizer.bits
        codes, between = levels_of(quantizer, params)
        self._thresholds: tuple[Thresholds, ...] = ()
        self._cut: Callable[[Tensor], Tensor] | None = None
        if has_fixed_thresholds(quantizer):
            self._thresholds = code_thresholds(network, chain, self._channels, between)
        else:
            self._cut = quantizer.cut
        changed = [before ^ after for before, after in zip(codes, codes[1:], strict=False)]
        self._changes = [[q for q in range(self._count) if bits >> q & 1] for bits in changed]
        # planes whose bit is 1 below the first threshold
        self._inverted = [q for q in range(self._count) if codes[0] >> q & 1]
        self._ones = _ones(self._channels)
        self._library, self._variant = library, variant

    def repeat(self, pixels: int) -> None:
        """Pack flattened maps from now on: each channel is so many values behind each other."""
        self._channels *= pixels
        self._ones = _ones(self._channels)
        self._thresholds = tuple(repeated(t, pixels) for t in self._thresholds)

    def __call__(self, x_BHWC: Tensor) -> Tensor:
        """int32 words [Q, B, H, W, P].

        Raises:
            ValueError: If a value is NaN.
        """
        shape = (*x_BHWC.shape[:-1], len(self._ones))
        words = torch.empty(self._count, *shape, dtype=torch.int32)
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
        if self._cut is None:
            return [(slice(None), self._thresholds)]
        cuts = self._cut(x_BHWC.permute(0, 3, 1, 2)).flatten()
        # -d is not below the first threshold, d is below the second; nothing is above infinity
        above = torch.where(cuts.isinf(), torch.nan, cuts.nextafter(cuts + torch.inf))
        pairs = torch.stack([-cuts, above], dim=1)
        nowhere = torch.zeros_like(self._ones)
        return [
            (
                slice(image, image + 1),
                tuple(
                    Thresholds(values=bound.repeat(self._channels), flip_words=nowhere)
                    for bound in pair
                ),
            )
            for image, pair in enumerate(pairs)
        ]


def levels_of(quantizer: Quantizer, params: Sequence[Tensor]) -> tuple[list[int], Tensor]:
    """The codes of a quantizer's levels, ascending, and bounds between each two of these.

    Args:
        quantizer: Of maps, with levels on a grid or of a basis.
        params: Of the quantizer.

    Returns:
        One code for each level, and float64 [levels - 1].
    """
    if isinstance(quantizer, LqNet):
        levels, numbers = quantizer.ascending(params[0].detach())
        ascending = levels[0].double()
        return numbers[0].tolist(), (ascending[1:] + ascending[:-1]) / 2
    grid = input_grid(quantizer)
    if grid is None:
        raise InvalidValue(f"The quantizer {quantizer.kind!r} must have levels on a grid.")
    values = range(grid.low, grid.high + 1, grid.format.step)
    bounds = torch.tensor(values[:-1], dtype=torch.float64) + grid.format.step / 2
    return [grid.format.encode(value) for value in values], bounds * step_of(quantizer, params)


def _ones(channels: int) -> Tensor:
    """int32 words [P] of a row of +1."""
    return pack_bits(torch.ones(channels, dtype=torch.bool))


def repeated(thresholds: Thresholds, pixels: int) -> Thresholds:
    """Those of a flattened map, each channel's values behind each other."""
    channels = len(thresholds.values)
    flips = unpack_bits(thresholds.flip_words, channels).bool()
    return Thresholds(
        values=thresholds.values.repeat_interleave(pixels),
        flip_words=pack_bits(flips.repeat_interleave(pixels)),
    )
