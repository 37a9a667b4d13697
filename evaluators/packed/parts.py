"""Sums of several products of bits: one for each pair of planes, added up where they lie.

Each product is finished as floats by the kernels, times what its pair is worth. Whole numbers up to
2^24 are exact that way, and the layer's factors follow at the end; worths that are learned take the
factors along.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from bitfront.evaluators.packed.kernels import Kernels, Multiply
from bitfront.kernels import PackedBits, PackedCodes
from bitfront.kernels.finish import Affine
from bitfront.kernels.geometry import Conv2dGeometry, Fill
from bitfront.kernels.layout import BINARY, CodeFormat

EXACT: Final = 1 << 24
"""Whole numbers up to it, and sums of them, are exact in 32-bit floats."""

_BIT: Final = CodeFormat(bits=1, coding="unsigned")


class Pair(NamedTuple):
    """A plane of the maps and one of the weights.

    Attributes:
        plane: Of the maps.
        weight: Bits of -1 and +1, or of 0 and 1.
        worth: What 1 of their product adds to a filter's sum, float64 [N].
    """

    plane: int
    weight: PackedBits | PackedCodes
    worth: Tensor


class Parts:
    """A layer's product as that of all its pairs.

    Args:
        kernels: What multiplies.
        conv: Its geometry.
        pairs: At least one.
        finish: What becomes of the sum.
        signs: Whether the planes of the maps are of -1 and +1, else of 0 and 1.
        exact: Whether worths are whole numbers and no sum is larger than `EXACT`.
        fill: Of the padding.
    """

    def __init__(
        self,
        kernels: Kernels,
        conv: Conv2dGeometry,
        pairs: Sequence[Pair],
        finish: Affine,
        *,
        signs: bool,
        exact: bool,
        fill: Fill,
    ) -> None:
        self._finish = finish
        self._exact = exact
        self._dtype = kernels.dtype
        # what follows the whole sum cannot follow its parts, which are added up in float32
        self._ends = exact or finish.rectifies or kernels.dtype != torch.float32
        self._shifts = bool(finish.shift.any())
        self._products: list[tuple[int, Multiply]] = []
        nothing = torch.zeros_like(finish.shift)
        laid: dict[int, Any] = {}
        for number, (plane, weight, worth) in enumerate(pairs):
            if id(weight) not in laid:
                laid[id(weight)] = kernels.weight(weight, conv.groups)
            factor = worth if exact else worth * finish.scale.double()
            product = kernels.of_words(
                conv,
                BINARY if signs else _BIT,
                laid[id(weight)],
                finish=Affine(
                    scale=factor.float(),
                    shift=nothing if exact or number else finish.shift,
                    merges=number > 0 or (finish.merges and not self._ends),
                ),
                fill=fill,
                dtype=torch.float32,
            )
            self._products.append((plane, product))

    def __call__(self, words: Tensor, into: Tensor | None) -> Tensor:
        """The finished sum.

        Args:
            words: int32 [Q, B, H, W, P].
            into: Where to write it, or what to add it to; None makes a new one.
        """
        (plane, product), *others = self._products
        y = product(words[plane : plane + 1], None if self._ends else into)
        for plane, product in others:
            product(words[plane : plane + 1], y)
        return self._ended(y, into) if self._ends else y

    def _ended(self, y: Tensor, into: Tensor | None) -> Tensor:
        finish = self._finish
        if self._exact:
            y.mul_(finish.scale)
            if self._shifts:
                y.add_(finish.shift)
        if finish.rectifies:
            y.clamp_min_(0.0)
        if finish.scale_after is not None and finish.shift_after is not None:
            y.mul_(finish.scale_after).add_(finish.shift_after)
        if into is None:
            return y.to(self._dtype)
        return into.add_(y) if finish.merges else into.copy_(y)
