"""AlexNet at 32 bits (Krizhevsky et al. 2012): in one piece, and in its two towers."""

from __future__ import annotations

from functools import partial
from typing import Final

from bitfront.spaces.architecture import Architecture, Stage
from bitfront.spaces.blocks import ConvLayer, MlpClassifier, PoolTransition, StemConv
from bitfront.spaces.recipe import Recipe
from bitfront.spaces.zoo.entry import Mismatch, Published, ZooEntry, enter

PAPER: Final = "Krizhevsky et al. 2012, ImageNet Classification with Deep CNNs (NeurIPS)"

RECIPE: Final = Recipe(
    optimizer="sgd",
    learning_rate=0.01,
    weight_decay=5e-4,
    epochs=90,
    batch_size=128,
    augmentation="resized-crop-flip",
)


def alexnet(groups: int = 1) -> Architecture:
    """An AlexNet; the padding of the stem gives 55x55 from 224x224.

    Args:
        groups: 2 for the towers that met in the third convolution only, one per GPU.
    """

    def layer(channels: int, kernel_size: int = 3, groups: int = 1) -> ConvLayer:
        return ConvLayer(channels=channels, kernel_size=kernel_size, groups=groups, norm="none")

    pool = PoolTransition(kernel_size=3)
    return Architecture(
        input=(3, 224, 224),
        stem=StemConv(channels=96, kernel_size=11, stride=4, padding=2, norm="none", pool=3),
        stages=(
            Stage(blocks=(layer(256, 5, groups),), transition=pool),
            Stage(
                blocks=(layer(384), layer(384, groups=groups), layer(256, groups=groups)),
                transition=pool,
            ),
        ),
        head=MlpClassifier(classes=1000),
    )


_NOTES: Final = (
    "Without local response norms. The original lowers the learning rate by ten whenever the "
    "validation error stalls, and also varies the colours of the images. The smallest image is "
    "64x64; the features of the first hidden layer follow from the size."
)

enter(
    ZooEntry(
        name="alexnet-fp",
        family="AlexNet",
        architecture=alexnet,
        recipe=RECIPE,
        published=Published(
            top1=56.6,
            top5=80.2,
            size_mb=249,
            size_unit="MB",
            source=f"{PAPER}; accuracy: Rastegari et al. 2016, XNOR-Net (arXiv:1603.05279); size: "
            "Bethge et al. 2019, Back to Simplicity (arXiv:1906.08637)",
        ),
        notes="The layers in one piece, 62,378,344 parameters, which is what binary networks are "
        "compared with. XNOR-Net's training code adds a batch norm to every layer, 19,136 "
        f"parameters more, so its accuracy is that of a slightly other network. {_NOTES}",
        convention="reactnet",
        mismatches=(Mismatch("size_mb", "Counted 249.51; the printed size is rounded down."),),
    )
)
enter(
    ZooEntry(
        name="alexnet-grouped-fp",
        family="AlexNet",
        architecture=partial(alexnet, groups=2),
        recipe=RECIPE,
        published=Published(
            top1=57.1,
            top5=80.2,
            size_mb=240,
            size_unit="MB",
            ops_1e8=7.2,
            source=f"{PAPER}; accuracy: BVLC Caffe's bvlc_alexnet, center crop; size and "
            "operations: as quoted in talks on binary networks",
        ),
        notes="The original's two towers as groups, 60,965,224 parameters. Its 724e6 "
        "multiply-accumulates with the classifier tell that the widely quoted 720 MFLOPs are of "
        f"this form; the layers in one piece have 1135e6. {_NOTES}",
        convention="reactnet",
        mismatches=(
            Mismatch("size_mb", "Counted 243.9; the printed size has two significant digits."),
        ),
    )
)
