"""Tracing an image through two programs: is what differs explained by rounding at a threshold?

Two correct programs round floats differently, by about 1e-7 of a value. A quantizer turns that
into another level where a value lies that close to a threshold, and everything behind it then
differs visibly. So an image is walked through node by node: the first quantizer whose levels
differ must have had all of those values next to a threshold, a *flip*. What follows from a flip is
its consequence; what differs without one is an error of the program.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from bitfront.export.verification import Flip
from bitfront.spaces.network import Network
from bitfront.spaces.ops import Quantize
from bitfront.spaces.quantizers import Learned, Quantizer

ROUNDING: Final = 1e-4
"""Values deviate if they differ by more: absolutely, or as a share of the map's largest."""

THRESHOLD: Final = 1e-5
"""How close to a threshold rounding decides: absolutely, or as a share of the value."""

SAME_LEVEL: Final = 1e-6
"""Levels that differ by less, absolutely or as a share, are one level, rounded twice."""


def deviates(mine: Tensor, theirs: Tensor) -> Tensor:
    """Per image, bool (B,): whether values (B, ...) differ by more than rounding; NaN does."""
    mine, theirs = mine.flatten(1), theirs.flatten(1)
    bound = ROUNDING * mine.abs().amax(1).clamp_min(1.0)
    return ~((mine - theirs).abs().amax(1) <= bound)


def trace_flips(
    network: Network, mine: Mapping[int, Tensor], theirs: Mapping[int, Tensor], image: int
) -> tuple[tuple[Flip, ...], str]:
    """Walk through one image's values.

    Args:
        network: Whose values are explained.
        mine: The network's values by node, (1, ...).
        theirs: The other program's: quantizers, what they read, and others at will.
        image: Number of the image, for the result.

    Returns:
        The flips that nothing else explains, and what is wrong ("" if nothing is).
    """
    flips: list[Flip] = []
    follows: set[int] = set()
    for node in network.graph.nodes:
        index = node.index
        if not follows.isdisjoint(node.inputs):
            follows.add(index)
        elif index not in theirs:
            continue
        elif isinstance(node.op, Quantize):
            differ = ~(
                (mine[index] - theirs[index]).abs() <= SAME_LEVEL * mine[index].abs() + SAME_LEVEL
            )
            if not bool(differ.any()):
                continue
            x = mine[node.inputs[0]]
            params = network.quantizer_parameters(index)
            distance = float(threshold_distance(node.op.quantizer, x, *params)[differ].max())
            count = int(differ.sum())
            if not distance <= THRESHOLD:
                return tuple(flips), (
                    f"{count} values of {node.name} differ, up to {distance:.2g} from a threshold"
                )
            flips.append(Flip(image=image, node=node.name, values=count, distance=distance))
            follows.add(index)
        elif bool(deviates(mine[index], theirs[index])):
            difference = float((mine[index] - theirs[index]).abs().max())
            return tuple(flips), f"{node.name} differs by {difference:.2g} without a flip before it"
    return tuple(flips), ""


def threshold_distance(quantizer: Quantizer, x: Tensor, *params: Tensor) -> Tensor:
    """How far each value is from the nearest threshold of its quantizer.

    Args:
        quantizer: Of the node.
        x: What it reads, (B, C, H, W).
        *params: Of the quantizer.

    Returns:
        Shape of what it emits; absolute where ``|x| <= 1``, else as a share of ``|x|``.
    """
    given = params if isinstance(quantizer, Learned) else ()
    scale = x.abs().clamp_min(1.0)
    return quantizer.margin(x, *given) / torch.cat([scale] * quantizer.slices, dim=1)
