"""Real-to-Binary Net: gated binary convolutions (Martinez et al. 2020, arXiv:2003.11535)."""

from __future__ import annotations

from typing import Final

from bitfront.spaces.architecture import Architecture, Stage
from bitfront.spaces.blocks import Classifier, Gated, StemConv7x7
from bitfront.spaces.recipe import Recipe
from bitfront.spaces.zoo.entry import Published, ZooEntry, enter

PAPER: Final = "Martinez et al. 2020, Real-to-Binary (arXiv:2003.11535)"


def realtobinary() -> Architecture:
    """ResNet-18's layout, one gated binary convolution per shortcut."""
    stages = []
    for s, channels in enumerate((64, 128, 256, 512)):
        first = Gated(channels=channels, stride=1 if s == 0 else 2)
        stages.append(Stage(blocks=(first, *[Gated(channels=channels)] * 3)))
    return Architecture(
        input=(3, 224, 224),
        stem=StemConv7x7(activation="prelu"),
        stages=tuple(stages),
        head=Classifier(classes=1000, norm=False, relu=False),
    )


enter(
    ZooEntry(
        name="real-to-binary",
        family="Real-to-Binary",
        architecture=realtobinary,
        recipe=Recipe(
            optimizer="adamw",
            learning_rate=1e-3,
            epochs=75,
            warmup_epochs=5,
            batch_size=256,
            t_clip=1.0,
            augmentation="resized-crop-flip",
        ),
        published=Published(
            top1=65.4,
            top5=86.2,
            size_mb=5.13,
            size_unit="MiB",
            ops_1e8=1.83,
            source=f"{PAPER}; size: Larq Zoo",
        ),
        notes="The published operations add non-convolution work; a count of convolutions alone "
        "gives 1.64. The original trains in four stages with teachers; this recipe is one of them.",
    )
)
