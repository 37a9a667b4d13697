"""BinaryDenseNet: dense blocks only (Bethge et al. 2019, arXiv:1906.08637)."""

from __future__ import annotations

from functools import partial
from typing import Final

from bitfront.spaces.architecture import Architecture, Stage
from bitfront.spaces.blocks import (
    Block,
    Classifier,
    Dense,
    StemConv7x7,
    StemGrouped,
    Transition,
)
from bitfront.spaces.recipe import Recipe
from bitfront.spaces.zoo.entry import Published, ZooEntry, enter

PAPER: Final = "Bethge et al. 2019, Back to Simplicity (arXiv:1906.08637)"
RESULTS: Final = f"{PAPER}; hpi-xnor/BMXNet-v2-wiki, CurrentBestResults"

RECIPE: Final = Recipe(batch_size=256, augmentation="resized-crop-flip")


def binarydensenet(
    counts: tuple[int, int, int, int],
    transitions: tuple[int, int, int],
    stem: Block,
    dilations: tuple[int, int, int, int] = (1, 1, 1, 1),
) -> Architecture:
    """A BinaryDenseNet.

    Args:
        counts: Dense blocks per stage.
        transitions: Channels behind each transition.
        stem: First block.
        dilations: Of each stage's convolutions; a dilated stage keeps the size of the one before.
    """
    between = [
        Transition(channels=channels, pool=dilation == 1)
        for channels, dilation in zip(transitions, dilations[1:], strict=True)
    ]
    return Architecture(
        input=(3, 224, 224),
        stem=stem,
        stages=tuple(
            Stage(blocks=(Dense(dilation=dilation),) * count, transition=transition)
            for count, dilation, transition in zip(counts, dilations, [*between, None], strict=True)
        ),
        head=Classifier(classes=1000),
    )


def _enter(
    name: str,
    counts: tuple[int, int, int, int],
    transitions: tuple[int, int, int],
    published: Published,
    *,
    stem: Block | None = None,
    dilations: tuple[int, int, int, int] = (1, 1, 1, 1),
    notes: str = "",
) -> None:
    architecture = partial(binarydensenet, counts, transitions, stem or StemConv7x7(), dilations)
    enter(
        ZooEntry(
            name=name,
            family="BinaryDenseNet",
            architecture=architecture,
            recipe=RECIPE,
            published=published,
            notes=notes,
        )
    )


def _figures(top1: float, top5: float, size_mb: float, ops_1e8: float) -> Published:
    return Published(
        top1=top1, top5=top5, size_mb=size_mb, size_unit="MiB", ops_1e8=ops_1e8, source=RESULTS
    )


_enter("binarydensenet28", (6, 6, 6, 5), (160, 192, 256), _figures(61.7, 83.3, 4.04, 2.58))
_enter(
    "binarydensenet28-grouped",
    (6, 6, 6, 5),
    (160, 192, 256),
    _figures(62.6, 84.0, 4.03, 2.09),
    stem=StemGrouped(),
)
_enter("binarydensenet37", (6, 8, 12, 6), (128, 192, 256), _figures(63.3, 84.4, 5.13, 2.7))
_enter(
    "binarydensenet37-grouped",
    (6, 8, 12, 6),
    (128, 192, 256),
    _figures(64.2, 85.1, 5.12, 2.2),
    stem=StemGrouped(),
)
_enter(
    "binarydensenet37-dilated",
    (6, 8, 12, 6),
    (128, 192, 256),
    Published(top1=63.7, top5=84.7, size_mb=5.13, size_unit="MiB", source=PAPER),
    dilations=(1, 1, 2, 4),
    notes="Stages 3 and 4 keep 28x28. No published operation count was found. Larq's training "
    "reaches 64.34.",
)
_enter(
    "binarydensenet45",
    (6, 12, 14, 8),
    (160, 288, 288),
    Published(top1=63.7, top5=84.8, size_mb=7.35, size_unit="MiB", source=PAPER),
    notes="Larq's training reaches 64.59; the paper prints 7.4 MB, Larq 7.35.",
)
