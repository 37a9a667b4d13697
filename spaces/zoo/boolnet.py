"""BoolNet and its baseline: boolean feature maps in k slices (Guo et al. 2021)."""

from __future__ import annotations

from functools import partial
from typing import Final

from bitfront.spaces.architecture import Architecture, Stage
from bitfront.spaces.blocks import Boolean, Classifier, StemBoolNet
from bitfront.spaces.recipe import Recipe
from bitfront.spaces.zoo.entry import Published, ZooEntry, enter

PAPER: Final = "Guo et al. 2021, BoolNet (arXiv:2106.06991)"


def boolnet(slices: int, concat: bool, local_shift: bool) -> Architecture:
    """A BoolNet with ResNet-18's layout.

    Args:
        slices: k, the boolean maps that stand for one feature map.
        concat: Hand on each block's input beside its result.
        local_shift: Learn a local shift of the stem's signs.
    """
    stages = []
    for s, channels in enumerate((64, 128, 256, 512)):
        first = Boolean(channels=channels, stride=1 if s == 0 else 2, slices=slices, concat=concat)
        second = Boolean(channels=channels, slices=slices, concat=concat, last=s == 3)
        stages.append(Stage(blocks=(first, second)))
    return Architecture(
        input=(3, 224, 224),
        stem=StemBoolNet(slices=slices, local_shift=local_shift),
        stages=tuple(stages),
        head=Classifier(classes=1000, norm=False, relu=False),
    )


def _enter(
    name: str, slices: int, concat: bool, epochs: int, top1: float, ops_1e8: float, energy_mj: float
) -> None:
    recipe = Recipe(epochs=epochs, batch_size=256, t_clip=1.0, augmentation="resized-crop-flip")
    enter(
        ZooEntry(
            name=name,
            family="BoolNet",
            architecture=partial(boolnet, slices, concat, concat),
            recipe=recipe,
            published=Published(
                top1=top1, ops_1e8=ops_1e8, energy_mj=energy_mj, source=f"{PAPER}, Fig. 5"
            ),
            notes="The published operations seem to count two per value of a batch norm and the "
            "classifier; the published energy leaves out the first convolution and the "
            "classifier. The original trains by distillation with progressive weight signs.",
        )
    )


_enter("boolnet-base-k1", 1, False, 120, 48.9, 1.51, 0.61)
_enter("boolnet-base-k4", 4, False, 120, 55.1, 1.54, 0.74)
_enter("boolnet-k4", 4, True, 80, 57.6, 1.64, 0.84)
