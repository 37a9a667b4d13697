"""CBCN: four filters from one by turning it (Liu et al. 2019, arXiv:1910.10853)."""

from __future__ import annotations

from typing import Final

from bitfront.spaces.architecture import Architecture
from bitfront.spaces.blocks import Circulant
from bitfront.spaces.zoo.bireal import RECIPE
from bitfront.spaces.zoo.entry import Published, ZooEntry, enter
from bitfront.spaces.zoo.layout import resnet_layout

PAPER: Final = "Liu et al. 2019, Circulant Binary Convolutional Networks (arXiv:1910.10853)"


def circulant() -> Architecture:
    """Bi-Real Net 18 with four turns of each filter."""
    return resnet_layout(
        (4, 4, 4, 4),
        lambda channels, stride: Circulant(channels=channels, stride=stride),
        activation="none",
    )


enter(
    ZooEntry(
        name="circulant-resnet18",
        family="CBCN",
        architecture=circulant,
        recipe=RECIPE,
        published=Published(top1=61.4, source=PAPER),
        notes="A form of our own: later tables print (1/1)x4 bits, but its code and widths were "
        "not found. Here each convolution adds up the results of the four turns, with a "
        "learned factor per turn and filter, in Bi-Real's layout: 2.42e8 operations and 4.05 MiB, "
        "the turns being read from one stored tensor. No such figures were found in print. The "
        "original adds a centre loss; the recipe is Bi-Real's.",
    )
)
