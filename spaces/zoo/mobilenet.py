"""MobileNet v1 at 32 bits: depthwise separable convolutions (Howard et al. 2017)."""

from __future__ import annotations

from typing import Final

from bitfront.spaces.architecture import Architecture
from bitfront.spaces.blocks import Classifier, Separable, StemConv
from bitfront.spaces.recipe import Recipe
from bitfront.spaces.zoo.entry import Published, ZooEntry, enter
from bitfront.spaces.zoo.reactnet import MOBILENET, mobile_stages

PAPER: Final = "Howard et al. 2017, MobileNets (arXiv:1704.04861)"


def mobilenet() -> Architecture:
    """MobileNet v1 of full width."""
    return Architecture(
        input=(3, 224, 224),
        stem=StemConv(channels=MOBILENET[0], stride=2),
        stages=mobile_stages(
            MOBILENET, lambda number, channels, stride: Separable(channels=channels, stride=stride)
        ),
        head=Classifier(classes=1000, norm=False, relu=False),
    )


enter(
    ZooEntry(
        name="mobilenet-v1-fp",
        family="MobileNet",
        architecture=mobilenet,
        recipe=Recipe(
            optimizer="sgd",
            learning_rate=0.045,
            weight_decay=4e-5,
            epochs=100,
            batch_size=96,
            augmentation="resized-crop-flip",
        ),
        published=Published(
            top1=70.6, ops_1e8=5.69, params_1e6=4.2, source=f"{PAPER}, Tables 4 and 8"
        ),
        notes="4,231,976 parameters. The original trains by RMSprop on many machines at once "
        "and gives no learning rate; this one, weight decay and batch size are MobileNetV2's "
        "(arXiv:1801.04381).",
        convention="reactnet",
    )
)
