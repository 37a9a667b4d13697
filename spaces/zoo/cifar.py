"""Networks for CIFAR-10: a stem that keeps 32x32 pixels, ten classes.

The runs of BMXNet 2's wiki give their command lines and logs. They train by Adam without weight
decay, and lower the learning rate by 0.3 at epochs 75, 100 and 125; here it falls along a cosine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from bitfront.spaces.architecture import Architecture, Stage
from bitfront.spaces.blocks import (
    BinaryBasic,
    Block,
    Classifier,
    Dense,
    DenseTransition,
    SlicedResidual,
    StemConv,
    StemThumbnail,
)
from bitfront.spaces.precision import BINARY, Precision, precision_of
from bitfront.spaces.quantizers import SIGN, MagnitudeSign
from bitfront.spaces.recipe import Recipe
from bitfront.spaces.zoo.entry import Published, ZooEntry, enter
from bitfront.spaces.zoo.layout import BASIC_18, CHANNELS, resnet_layout
from bitfront.spaces.zoo.resnet import resnet
from bitfront.spaces.zoo.resnete import resnete

CIFAR10: Final = "cifar10"
IMAGE: Final = (3, 32, 32)
RESULTS: Final = "hpi-xnor/BMXNet-v2-wiki, Binary-Network-Results"
EARLY: Final = "Bethge et al. 2018, Training Competitive Binary Neural Networks (arXiv:1812.01965)"

STEPS: Final = Recipe(
    optimizer="adamw",
    learning_rate=0.01,
    epochs=150,
    batch_size=128,
    t_clip=1.0,
    augmentation="crop-flip",
)
COSINE: Final = replace(STEPS, learning_rate=0.02, warmup_epochs=5, t_clip=1.3)
THUMBNAIL: Final = StemThumbnail(input_norm=True)
SCALED: Final = precision_of(weight=MagnitudeSign(), input=SIGN)


def sliced_resnete18(
    norm: str = "before", precision: Precision = BINARY, input_scale: bool = False
) -> Architecture:
    """ResNetE-18 with four slices: so many more convolutions, each on a quarter of the channels.

    Args:
        norm: "before" the convolution for E2, "after" it for E1.
        precision: Of the convolutions.
        input_scale: Multiply their sums by XNOR-Net's K.
    """
    stages = []
    for s, channels in enumerate(CHANNELS):
        whole = SlicedResidual(
            channels=channels,
            stride=1 if s == 0 else 2,
            norm=norm,
            precision=precision,
            input_scale=input_scale,
        )
        sliced = tuple(replace(whole, stride=1, slices=4, write_on=i) for i in range(4))
        # four convolutions per stage; one that changes the size is not sliced
        blocks = sliced * 4 if s == 0 else (whole, *sliced * 3)
        stages.append(Stage(blocks=blocks))
    return _network(stages, Classifier(classes=10, norm=norm == "before"))


def resnete34() -> Architecture:
    """ResNetE-34 in its published form, without slices."""
    return _network(resnete((6, 8, 12, 6), THUMBNAIL).stages, Classifier(classes=10, norm=False))


def binary_resnet18() -> Architecture:
    """ResNet-18 with two binary convolutions per shortcut."""
    layout = resnet_layout(
        BASIC_18, lambda channels, stride: BinaryBasic(channels=channels, stride=stride)
    )
    return _network(layout.stages, Classifier(classes=10, norm=False))


def resnet18() -> Architecture:
    """ResNet-18 at 32 bits; its stem has batch norm and ReLU."""
    head = Classifier(classes=10, norm=False, relu=False)
    return _network(resnet(BASIC_18).stages, head, StemConv(channels=64))


def densenet21() -> Architecture:
    """BinaryDenseNet with two dense blocks of 128 channels per stage; transitions halve them."""
    blocks = (Dense(growth=128),) * 2
    stages = [
        Stage(blocks=blocks, transition=DenseTransition(channels=channels))
        for channels in (192, 224, 256)
    ]
    stages.append(Stage(blocks=blocks))
    return _network(stages, Classifier(classes=10), StemThumbnail(channels=128))


def _network(stages: Sequence[Stage], head: Block, stem: Block = THUMBNAIL) -> Architecture:
    return Architecture(input=IMAGE, stem=stem, stages=tuple(stages), head=head)


_STEPS: Final = "The learning rate of the original falls in steps: x0.3 at epochs 75, 100 and 125."
_SLICES: Final = f"The log of the original run says slices=4, so this form has them. {_STEPS}"

enter(
    ZooEntry(
        name="resnet-e18-cifar10",
        family="ResNetE",
        architecture=sliced_resnete18,
        recipe=STEPS,
        published=Published(top1=87.6, top5=99.5, source=f"{RESULTS}; {EARLY}"),
        notes=f"Version E2, without scaling. The original's stem has a bias, which the batch norms "
        f"behind it absorb. {_SLICES}",
        dataset=CIFAR10,
    )
)
enter(
    ZooEntry(
        name="resnet-e18-scaled-cifar10",
        family="ResNetE",
        architecture=partial(sliced_resnete18, precision=SCALED, input_scale=True),
        recipe=STEPS,
        published=Published(top1=84.7, top5=99.2, source=f"{RESULTS}; {EARLY}"),
        notes="Version E2 with XNOR-Net's scaling: filters by the mean of their weights' "
        "magnitudes, sums by K. It is less accurate than the same network without. The original "
        f"holds K constant in the gradient, which this form does not. {_SLICES}",
        dataset=CIFAR10,
    )
)
enter(
    ZooEntry(
        name="resnet-e18-e1-cifar10",
        family="ResNetE",
        architecture=partial(sliced_resnete18, norm="after"),
        recipe=STEPS,
        published=Published(top1=86.1, top5=99.3, source=f"{RESULTS}; {EARLY}"),
        notes=f"Version E1, without scaling: the block of the ImageNet networks. {_SLICES}",
        dataset=CIFAR10,
    )
)
enter(
    ZooEntry(
        name="resnet-e34-cifar10",
        family="ResNetE",
        architecture=resnete34,
        recipe=STEPS,
        published=Published(top1=86.2, top5=99.3, source=f"{RESULTS}; {EARLY}"),
        notes=f"Version E1 without slices. {_STEPS}",
        dataset=CIFAR10,
    )
)
enter(
    ZooEntry(
        name="resnet18-v1-cifar10",
        family="ResNet",
        architecture=binary_resnet18,
        recipe=COSINE,
        published=Published(top1=87.9, top5=99.7, source=f"{RESULTS}; {EARLY}"),
        notes="The logged run has batch size 256 and a learning rate of 0.01 that falls in steps; "
        "this recipe is the wiki's later one (hyperparameters), said to reach about 90 %.",
        dataset=CIFAR10,
    )
)
enter(
    ZooEntry(
        name="binarydensenet21-cifar10",
        family="BinaryDenseNet",
        architecture=densenet21,
        recipe=STEPS,
        published=Published(top1=90.3, top5=99.7, source=f"{RESULTS}; {EARLY}"),
        notes="The number in the name is nominal: it does not count the layers. The 1x1 "
        "convolution of the original's transitions stands before the pool, with the same result. "
        f"{_STEPS}",
        dataset=CIFAR10,
    )
)
enter(
    ZooEntry(
        name="resnet18-fp-cifar10",
        family="ResNet",
        architecture=resnet18,
        recipe=Recipe(
            optimizer="sgd",
            learning_rate=0.1,
            weight_decay=5e-4,
            epochs=200,
            batch_size=128,
            augmentation="crop-flip",
        ),
        published=Published(
            top1=94.8,
            source="He et al. 2016, ResNet (arXiv:1512.03385); accuracy: the 32-bit baseline of "
            "several binary networks on CIFAR-10, as BEANet's Table III quotes it",
        ),
        notes="The sources of the accuracy give no recipe; this one is usual for the network.",
        dataset=CIFAR10,
    )
)
