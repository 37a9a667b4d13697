"""Group-Net: each residual block decomposed into five binary branches (Zhuang et al. 2019)."""

from __future__ import annotations

from functools import partial
from itertools import count
from typing import Final

from bitfront.spaces.architecture import Architecture
from bitfront.spaces.blocks import GroupNet
from bitfront.spaces.recipe import Recipe
from bitfront.spaces.zoo.entry import Mismatch, Published, ZooEntry, enter
from bitfront.spaces.zoo.layout import BASIC_18, BASIC_34, resnet_layout

PAPER: Final = "Zhuang et al. 2019, Structured Binary Neural Networks (arXiv:1811.10413)"
SOURCE: Final = f"{PAPER}; size and operations: as later tables of the field quote them"


def groupnet(counts: tuple[int, int, int, int]) -> Architecture:
    """A Group-Net of five bases with so many blocks per stage.

    The first block reads the one map of the stem, the last hands one map to the head; between them
    each base has its own.
    """
    last = sum(counts) - 1
    numbers = count()

    def block(channels: int, stride: int) -> GroupNet:
        number = next(numbers)
        return GroupNet(channels=channels, stride=stride, split=number > 0, merge=number == last)

    return resnet_layout(counts, block, activation="none")


def _enter(
    name: str,
    counts: tuple[int, int, int, int],
    top1: float,
    size_mb: float,
    ops_1e8: float,
    why: str,
) -> None:
    enter(
        ZooEntry(
            name=name,
            family="Group-Net",
            architecture=partial(groupnet, counts),
            recipe=Recipe(
                optimizer="adamw",
                learning_rate=5e-4,
                epochs=40,
                batch_size=256,
                t_clip=1.0,
                augmentation="resized-crop-flip",
            ),
            published=Published(
                top1=top1, size_mb=size_mb, size_unit="MiB", ops_1e8=ops_1e8, source=SOURCE
            ),
            notes="The printed operations are those of 32-bit down-sampling, once per block: here "
            "it reads the mean of the bases. The released code down-samples with one bit, and with "
            "soft gates each base by itself; there one gate serves a block, here one a base. The "
            "bases are averaged: the authors write that learned factors may be replaced so. Their "
            "training starts from a network pre-trained with tanh for signs and lowers the "
            "learning rate in steps; this recipe is the second part.",
            mismatches=(Mismatch("size_mb", why),),
        )
    )


_enter(
    "groupnet-resnet18",
    BASIC_18,
    67.0,
    9.2,
    2.68,
    "Counted 9.35: each base has batch norms of its own. With one for all bases it would be 9.23.",
)
_enter(
    "groupnet-resnet34",
    BASIC_34,
    70.5,
    15.3,
    4.13,
    "Counted 15.51: each base has batch norms of its own. With one for all bases it would be "
    "15.28.",
)
