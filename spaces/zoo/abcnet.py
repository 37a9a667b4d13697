"""ABC-Net: several binary bases per convolution (Lin et al. 2017, arXiv:1711.11294)."""

from __future__ import annotations

from typing import Final

from bitfront.spaces.architecture import Architecture, Stage
from bitfront.spaces.blocks import Classifier, MultiBase, StemConv7x7
from bitfront.spaces.recipe import Recipe
from bitfront.spaces.zoo.entry import Mismatch, Published, ZooEntry, enter

PAPER: Final = "Lin et al. 2017, ABC-Net (arXiv:1711.11294)"


def abcnet() -> Architecture:
    """ResNet-18's layout with five weight and five activation bases."""
    stages = []
    for s, channels in enumerate((64, 128, 256, 512)):
        first = MultiBase(channels=channels, stride=1 if s == 0 else 2)
        stages.append(Stage(blocks=(first, *[MultiBase(channels=channels)] * 3)))
    return Architecture(
        input=(3, 224, 224),
        stem=StemConv7x7(),
        stages=tuple(stages),
        head=Classifier(classes=1000, norm=False),
    )


enter(
    ZooEntry(
        name="abcnet-resnet18",
        family="ABC-Net",
        architecture=abcnet,
        recipe=Recipe(
            optimizer="sgd",
            learning_rate=0.01,
            epochs=120,
            batch_size=256,
            t_clip=1.0,
            augmentation="resized-crop-flip",
        ),
        published=Published(top1=65.0, size_mb=8.7, size_unit="MiB", ops_1e8=7.8, source=PAPER),
        notes="The printed size holds every weight base; the latent weights that they derive from "
        "are needed for training only. The paper finds the factors of the weight bases by linear "
        "regression; here each pair of a weight and an activation base has a learned factor, and "
        "the shifts of an activation base are learned per channel.",
        mismatches=(Mismatch("size_mb", "Counted 8.755; the printed size is rounded down."),),
    )
)
