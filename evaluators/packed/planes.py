"""Codes of few bits as a staircase: which bits of a code change at which comparison.

A code of k bits is found by its ``2^k - 1`` comparisons with thresholds, and each bit plane is the
XOR of those where its bit changes. Thresholds are found with the network's own forms, so the codes
are those of the network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bitfront.evaluators.packed.codes import step_of
from bitfront.evaluators.packed.fold import Crossings, code_crossings
from bitfront.evaluators.packed.routes import has_fixed_thresholds, input_grid
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.graph import Node
from bitfront.spaces.network import Network
from bitfront.spaces.quantizers import LqNet, Quantizer


class Staircase(NamedTuple):
    """How the bit planes of codes follow from comparisons.

    Attributes:
        channels: Of the map that is compared.
        bits: Of a code.
        start: The code below all thresholds.
        changes: For each comparison the bits, as a number, that change where it passes.
        crossings: Where each passes; None if that is another place in each image.
        cut: Of a map (B, C, H, W), the positive number of each image beyond which a value is -1 or
            +1, and not 0; None where `crossings` are.
    """

    channels: int
    bits: int
    start: int
    changes: tuple[int, ...]
    crossings: Crossings | None
    cut: Callable[[Tensor], Tensor] | None

    def repeated(self, pixels: int) -> Staircase:
        """That of a flattened map, each channel's values behind each other."""
        found = None if self.crossings is None else self.crossings.repeated(pixels)
        return self._replace(channels=self.channels * pixels, crossings=found)

    def of_images(self, x_BHWC: Tensor) -> Tensor:
        """float32 [2, B]: where the two comparisons of each image pass."""
        if self.cut is None:
            raise ValueError("This staircase has the same thresholds for all images.")
        cuts = self.cut(x_BHWC.permute(0, 3, 1, 2)).flatten()
        # -d is not below the first threshold, d is below the second; nothing is above infinity
        above = torch.where(cuts.isinf(), torch.nan, cuts.nextafter(cuts + torch.inf))
        return torch.stack([-cuts, above])


def staircase(network: Network, chain: Sequence[Node]) -> Staircase:
    """That of a quantizer's codes.

    Args:
        network: Holds the parameters.
        chain: A quantizer to codes, and what is monotone before it.
    """
    nodes = network.graph.nodes
    channels = nodes[chain[0].inputs[0]].type.torch_shape[0]
    form: Any = network.get_submodule(chain[-1].name)
    quantizer, params = form.given(), form.quantizer_parameters()
    codes, between = levels_of(quantizer, params)
    is_fixed = has_fixed_thresholds(quantizer)
    return Staircase(
        channels=channels,
        bits=quantizer.bits,
        start=codes[0],
        changes=tuple(before ^ after for before, after in zip(codes, codes[1:], strict=False)),
        crossings=code_crossings(network, chain, channels, between) if is_fixed else None,
        cut=None if is_fixed else quantizer.cut,
    )


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
    step = step_of(quantizer, params).cpu()
    return [grid.format.encode(value) for value in values], bounds * step
