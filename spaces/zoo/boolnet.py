"""BoolNet and its baseline: boolean feature maps in k slices (Guo et al. 2021)."""

from __future__ import annotations

from functools import partial
from typing import Final

from bitfront.spaces.architecture import Architecture, Stage
from bitfront.spaces.blocks import Boolean, Classifier, StemBoolNet
from bitfront.spaces.recipe import Recipe
from bitfront.spaces.zoo.entry import Mismatch, Published, ZooEntry, enter

PAPER: Final = "Guo et al. 2021, BoolNet (arXiv:2106.06991)"


def boolnet(slices: int, concat: bool, local_shift: bool, enlarged: bool = False) -> Architecture:
    """A BoolNet with ResNet-18's layout.

    Args:
        slices: k, the boolean maps that stand for one feature map.
        concat: Hand on each block's input beside its result.
        local_shift: Learn a local shift of the stem's signs.
        enlarged: BoolNet*: the last stage keeps its size; from its second block on, convolutions
            are dilated instead.
    """
    stages = []
    for s, channels in enumerate((64, 128, 256, 512)):
        kept = enlarged and s == 3
        first = Boolean(
            channels=channels,
            stride=1 if s == 0 or kept else 2,
            slices=slices,
            concat=concat,
            projected=kept,
        )
        second = Boolean(
            channels=channels,
            slices=slices,
            concat=concat,
            last=s == 3,
            dilation=2 if kept else 1,
        )
        stages.append(Stage(blocks=(first, second)))
    return Architecture(
        input=(3, 224, 224),
        stem=StemBoolNet(slices=slices, local_shift=local_shift),
        stages=tuple(stages),
        head=Classifier(classes=1000, norm=False, relu=False),
    )


_NORMS: Final = (
    "No counting script is published. Two operations per value of a batch norm, added to the "
    "convolutions and the classifier, come within 0.011 of the printed figure, but no source says "
    "so."
)


def _enter(
    name: str,
    slices: int,
    concat: bool,
    epochs: int,
    top1: float,
    ops_1e8: float,
    energy_mj: float,
    *,
    enlarged: bool = False,
    why: str = _NORMS,
) -> None:
    recipe = Recipe(
        epochs=epochs,
        batch_size=256,
        t_clip=1.0,
        augmentation="resized-crop-flip",
        weight_estimator="progressive",
    )
    enter(
        ZooEntry(
            name=name,
            family="BoolNet",
            architecture=partial(boolnet, slices, concat, concat, enlarged),
            recipe=recipe,
            published=Published(
                top1=top1, ops_1e8=ops_1e8, energy_mj=energy_mj, source=f"{PAPER}, Fig. 5"
            ),
            notes="The published energy leaves out the first convolution and the classifier. The "
            "original trains by distillation, and narrows the ramp of its weights' signs by 3.5 % "
            "every 1000 steps.",
            convention="reactnet",
            mismatches=(Mismatch("ops_1e8", why),),
        )
    )


_enter("boolnet-base-k1", 1, False, 120, 48.9, 1.51, 0.61)
_enter("boolnet-base-k4", 4, False, 120, 55.1, 1.54, 0.74)
_enter("boolnet-k4", 4, True, 80, 57.6, 1.64, 0.84)
_enter(
    "boolnet-star-k4",
    4,
    True,
    90,
    59.6,
    1.76,
    1.18,
    enlarged=True,
    why="No counting script is published. Convolutions and classifier give 1.81; the rule that "
    "comes close to the other BoolNets, two operations more per value of a batch norm, gives 1.88. "
    "No rule that gives all four printed figures was found.",
)
