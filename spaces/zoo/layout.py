"""The layout that most published binary networks share: ResNet's four stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from bitfront.spaces.architecture import Architecture, Stage
from bitfront.spaces.blocks import Block, Classifier, StemConv7x7

CHANNELS: Final = (64, 128, 256, 512)
BASIC_18: Final = (2, 2, 2, 2)
"""Basic blocks per stage; a block per convolution has twice as many."""
BASIC_34: Final = (3, 4, 6, 3)

MakeBlock = Callable[[int, int], Block]
"""A block from its channels and its stride."""


def resnet_layout(
    counts: Sequence[int],
    block: MakeBlock,
    *,
    activation: str = "relu",
    norm: bool = False,
    relu: bool = False,
) -> Architecture:
    """Four stages of 64 to 512 channels behind a 7x7 stem, for ImageNet.

    Args:
        counts: Blocks per stage.
        block: Makes one.
        activation: Of the stem: "relu", "prelu" or "none".
        norm: Whether the head begins with a batch norm.
        relu: Whether the head goes on with a ReLU.
    """
    stages = []
    for s, (channels, count) in enumerate(zip(CHANNELS, counts, strict=True)):
        strides = [1 if s == 0 else 2, *[1] * (count - 1)]
        stages.append(Stage(blocks=tuple(block(channels, stride) for stride in strides)))
    return Architecture(
        input=(3, 224, 224),
        stem=StemConv7x7(activation=activation),
        stages=tuple(stages),
        head=Classifier(classes=1000, norm=norm, relu=relu),
    )
