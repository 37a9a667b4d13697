"""GoogLeNet at 32 bits: inception modules (Szegedy et al. 2015, arXiv:1409.4842)."""

from __future__ import annotations

from typing import Final

from bitfront.spaces.architecture import Architecture, Stage
from bitfront.spaces.blocks import ConvLayer, Inception, MlpClassifier, PoolTransition, StemConv
from bitfront.spaces.recipe import Recipe
from bitfront.spaces.zoo.entry import Mismatch, Published, ZooEntry, enter

PAPER: Final = "Szegedy et al. 2015, Going deeper with convolutions (arXiv:1409.4842)"

MODULES: Final = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)
"""Filters of each stage's modules: 1x1, 3x3 reduced, 3x3, 5x5 reduced, 5x5, behind the pool."""


def googlenet(norm: str = "none") -> Architecture:
    """A GoogLeNet.

    Args:
        norm: "after" for a batch norm behind every convolution.
    """
    pool = PoolTransition(kernel_size=3, padding=1)
    layers = (
        ConvLayer(channels=64, kernel_size=1, norm=norm),
        ConvLayer(channels=192, norm=norm),
    )
    stages = [Stage(blocks=layers, transition=pool)]
    for s, modules in enumerate(MODULES):
        blocks = tuple(_module(filters, norm) for filters in modules)
        stages.append(Stage(blocks=blocks, transition=None if s == 2 else pool))
    return Architecture(
        input=(3, 224, 224),
        stem=StemConv(channels=64, kernel_size=7, stride=2, norm=norm, pool=3, pool_padding=1),
        stages=tuple(stages),
        head=MlpClassifier(classes=1000, hidden=(), dropout=0.4, pool=True),
    )


def _module(filters: tuple[int, ...], norm: str) -> Inception:
    one, three_reduce, three, five_reduce, five, pool = filters
    return Inception(
        one=one,
        three_reduce=three_reduce,
        three=three,
        five_reduce=five_reduce,
        five=five,
        pool=pool,
        norm=norm,
    )


enter(
    ZooEntry(
        name="googlenet-fp",
        family="GoogLeNet",
        architecture=googlenet,
        recipe=Recipe(
            optimizer="sgd",
            learning_rate=0.01,
            weight_decay=2e-4,
            epochs=60,
            batch_size=32,
            augmentation="resized-crop-flip",
        ),
        published=Published(
            top1=68.7,
            top5=88.9,
            ops_1e8=15.5,
            source=f"{PAPER}; accuracy and recipe: BVLC Caffe's bvlc_googlenet, center crop; "
            "operations: as quoted in talks on binary networks",
        ),
        notes="6,998,552 parameters, as Caffe's has them in use. Without local response norms and "
        "without the two classifiers that are added for training. Pools are padded by one pixel on "
        "every side, where Caffe's round the size up: the sizes are the same. Caffe lowers the "
        "learning rate with the square root of what remains of the training.",
        convention="reactnet",
        mismatches=(
            Mismatch(
                "ops_1e8",
                "Counted 15.83 with the classifier; the paper speaks of 1.5 billion. No count that "
                "gives 15.5 was found.",
            ),
        ),
    )
)
