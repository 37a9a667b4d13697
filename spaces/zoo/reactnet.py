"""ReActNet: learned thresholds and shifted activations (Liu et al. 2020, arXiv:2003.03488)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

from bitfront.spaces.architecture import Architecture, Stage
from bitfront.spaces.blocks import Block, Classifier, ReactMobile, ReactResidual, StemConv3x3
from bitfront.spaces.recipe import Recipe
from bitfront.spaces.zoo.entry import Published, ZooEntry, enter
from bitfront.spaces.zoo.layout import resnet_layout

PAPER: Final = "Liu et al. 2020, ReActNet (arXiv:2003.03488)"
MOBILENET: Final = (32, 64, *[128] * 2, *[256] * 2, *[512] * 6, *[1024] * 2)
"""Channels behind the stem and behind each block."""

Layer = Callable[[int, int, int], Block]
"""A block from its number, counted from 1, its channels and its stride."""


def mobile_stages(channels: Sequence[int], layer: Layer) -> tuple[Stage, ...]:
    """The blocks of a MobileNet, one stage per resolution.

    The first block doubles the channels at full size; wherever channels change after it, the size
    is halved.

    Args:
        channels: Behind the stem and behind each block.
        layer: Makes a block.
    """
    stages: list[list[Block]] = [[]]
    for number, (given, made) in enumerate(pairwise(channels), start=1):
        stride = 2 if number > 1 and made != given else 1
        if stride > 1:
            stages.append([])
        stages[-1].append(layer(number, made, stride))
    return tuple(Stage(blocks=tuple(stage)) for stage in stages)


def reactnet_a() -> Architecture:
    """MobileNet's layout; every convolution behind the stem is binary."""
    return Architecture(
        input=(3, 224, 224),
        stem=StemConv3x3(channels=MOBILENET[0]),
        stages=mobile_stages(
            MOBILENET,
            lambda number, channels, stride: ReactMobile(channels=channels, stride=stride),
        ),
        head=Classifier(classes=1000, norm=False, relu=False),
    )


def reactnet_resnet18() -> Architecture:
    """Bi-Real Net 18 with learned thresholds and RPReLU."""
    return resnet_layout(
        (4, 4, 4, 4),
        lambda channels, stride: ReactResidual(channels=channels, stride=stride),
        activation="none",
    )


_NOTES: Final = (
    "The original scales each filter by the mean of its weights' magnitudes, which the batch norm "
    "behind it absorbs. It trains twice, first with binary activations only, each time by the "
    "outputs of a 32-bit ResNet-34 alone and with a learning rate that falls linearly."
)


def _recipe(epochs: int, batch_size: int, learning_rate: float) -> Recipe:
    return Recipe(
        optimizer="adamw",
        learning_rate=learning_rate,
        epochs=epochs,
        batch_size=batch_size,
        t_clip=1.0,
        augmentation="resized-crop-flip",
        estimator="approx_sign",
    )


enter(
    ZooEntry(
        name="reactnet-a",
        family="ReActNet",
        architecture=reactnet_a,
        recipe=_recipe(256, 256, 5e-4),
        published=Published(top1=69.4, ops_1e8=0.87, source=PAPER),
        notes=f"{_NOTES} The released weights reach 69.5.",
        convention="reactnet",
    )
)
enter(
    ZooEntry(
        name="reactnet-resnet18",
        family="ReActNet",
        architecture=reactnet_resnet18,
        recipe=_recipe(256, 512, 1e-3),
        published=Published(
            top1=65.5,
            ops_1e8=1.63,
            energy_mj=3.9,
            source=f"{PAPER}; operations: liuzechun/ReActNet, README.md; energy: Guo et al. 2021, "
            "BoolNet (arXiv:2106.06991), Fig. 5",
        ),
        notes=f"{_NOTES} The released weights reach 65.9.",
    )
)
