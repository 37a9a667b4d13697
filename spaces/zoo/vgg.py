"""VGG: 3x3 convolutions only (Simonyan and Zisserman 2015, arXiv:1409.1556).

VGG-19 for ImageNet, and the small one for CIFAR-10 that quantised networks are compared on.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from bitfront.spaces.architecture import Architecture, Stage
from bitfront.spaces.blocks import ConvLayer, MlpClassifier, PoolTransition, StemConv
from bitfront.spaces.precision import FULL, Precision, precision_of
from bitfront.spaces.quantizers import Lsq, LsqWeight
from bitfront.spaces.recipe import Recipe
from bitfront.spaces.zoo.entry import Mismatch, Published, ZooEntry, enter

PAPER: Final = "Simonyan and Zisserman 2015, Very Deep Convolutional Networks (arXiv:1409.1556)"

RECIPE: Final = Recipe(
    optimizer="sgd",
    learning_rate=0.01,
    weight_decay=5e-4,
    epochs=74,
    batch_size=256,
    augmentation="resized-crop-flip",
)


def vgg(counts: tuple[int, int, int, int, int]) -> Architecture:
    """A VGG with so many convolutions per stage; the first of all is the stem."""
    stages = []
    for s, (channels, count) in enumerate(zip((64, 128, 256, 512, 512), counts, strict=True)):
        layer = ConvLayer(channels=channels, norm="none")
        blocks = (layer,) * (count - 1 if s == 0 else count)
        stages.append(Stage(blocks=blocks, transition=PoolTransition()))
    return Architecture(
        input=(3, 224, 224),
        stem=StemConv(channels=64, norm="none"),
        stages=tuple(stages),
        head=MlpClassifier(classes=1000),
    )


def vgg_small(precision: Precision = FULL) -> Architecture:
    """Six convolutions with batch norms and one linear layer, for CIFAR-10.

    Args:
        precision: Of all convolutions but the first.
    """
    stages = []
    for s, channels in enumerate((128, 256, 512)):
        layer = ConvLayer(channels=channels, precision=precision)
        blocks = (layer,) if s == 0 else (layer, layer)
        stages.append(Stage(blocks=blocks, transition=PoolTransition()))
    return Architecture(
        input=(3, 32, 32),
        stem=StemConv(channels=128),
        stages=tuple(stages),
        head=MlpClassifier(classes=10, hidden=(), dropout=0.0),
    )


def vgg19() -> Architecture:
    """Configuration E: 16 convolutions and three linear layers."""
    return vgg((2, 2, 4, 4, 4))


enter(
    ZooEntry(
        name="vgg19-fp",
        family="VGG",
        architecture=vgg19,
        recipe=RECIPE,
        published=Published(
            top1=74.5,
            top5=92.0,
            size_mb=550,
            size_unit="MiB",
            ops_1e8=196,
            source=f"{PAPER}, Table 3; size and operations: as quoted in talks on binary networks",
        ),
        notes="143,667,240 parameters. The accuracy is of images with a shorter side of 384, "
        "trained at sizes of 256 to 512. The original starts from the weights of a shallower VGG "
        "and lowers the learning rate by ten whenever the validation error stalls. The features of "
        "the first hidden layer follow from the size of the image.",
        convention="reactnet",
        mismatches=(
            Mismatch("size_mb", "Counted 548.05; the printed size has two significant digits."),
        ),
    )
)


def _enter_small(name: str, precision: Precision, top1: float) -> None:
    enter(
        ZooEntry(
            name=name,
            family="VGG",
            architecture=partial(vgg_small, precision),
            recipe=Recipe(
                optimizer="sgd",
                learning_rate=0.1,
                weight_decay=5e-4,
                epochs=200,
                batch_size=128,
                augmentation="crop-flip",
            ),
            published=Published(
                top1=top1,
                source="hustzxd/LSQuantization, an implementation by others of Esser et al. 2020, "
                "LSQ (arXiv:1902.08153); layout: Zhang et al. 2018, LQ-Nets (arXiv:1807.10029)",
            ),
            notes="The first convolution and the classifier stay at 32 bits. The source gives no "
            "recipe; this one is usual for the data.",
            dataset="cifar10",
        )
    )


def _lsq(width: int) -> Precision:
    return precision_of(weight=LsqWeight(width=width), input=Lsq(width=width))


_enter_small("vgg-small-fp-cifar10", FULL, 93.34)
_enter_small("vgg-small-lsq4-cifar10", _lsq(4), 94.26)
_enter_small("vgg-small-lsq3-cifar10", _lsq(3), 93.89)
_enter_small("vgg-small-lsq2-cifar10", _lsq(2), 93.42)
