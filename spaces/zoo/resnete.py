"""BinaryResNetE: a shortcut for every binary convolution (Bethge et al. 2019)."""

from __future__ import annotations

from functools import partial
from typing import Final

from bitfront.spaces.architecture import Architecture, Stage
from bitfront.spaces.blocks import BiReal, Block, Classifier, StemConv7x7, StemGrouped
from bitfront.spaces.recipe import Recipe
from bitfront.spaces.zoo.entry import Published, ZooEntry, enter

RESULTS: Final = (
    "Bethge et al. 2019, Back to Simplicity (arXiv:1906.08637); hpi-xnor/BMXNet-v2-wiki, "
    "CurrentBestResults"
)

RECIPE: Final = Recipe(batch_size=256, augmentation="resized-crop-flip")


def resnete(counts: tuple[int, int, int, int], stem: Block) -> Architecture:
    """A BinaryResNetE.

    Args:
        counts: Binary convolutions, each with a shortcut, per stage.
        stem: First block.
    """
    stages = []
    for s, (channels, count) in enumerate(zip((64, 128, 256, 512), counts, strict=True)):
        first = BiReal(channels=channels, stride=1 if s == 0 else 2, padding_value=-1.0)
        rest = BiReal(channels=channels, padding_value=-1.0)
        stages.append(Stage(blocks=(first, *[rest] * (count - 1))))
    return Architecture(
        input=(3, 224, 224),
        stem=stem,
        stages=tuple(stages),
        head=Classifier(classes=1000, norm=False),
    )


CONV7X7: Final = StemConv7x7(input_norm=True, final_norm=True)
GROUPED: Final = StemGrouped(input_norm=True, final_norm=True)


def _enter(
    name: str,
    counts: tuple[int, int, int, int],
    stem: Block,
    top1: float,
    top5: float,
    size_mb: float,
    ops_1e8: float,
) -> None:
    enter(
        ZooEntry(
            name=name,
            family="ResNetE",
            architecture=partial(resnete, counts, stem),
            recipe=RECIPE,
            published=Published(
                top1=top1,
                top5=top5,
                size_mb=size_mb,
                size_unit="MiB",
                ops_1e8=ops_1e8,
                source=RESULTS,
            ),
        )
    )


_enter("resnet-e18", (4, 4, 4, 4), CONV7X7, 60.0, 81.9, 4.0, 1.63)
_enter("resnet-e18-grouped", (4, 4, 4, 4), GROUPED, 60.6, 82.4, 3.98, 1.14)
_enter("resnet-e34", (6, 8, 12, 6), CONV7X7, 63.2, 84.7, 5.23, 1.92)
_enter("resnet-e34-grouped", (6, 8, 12, 6), GROUPED, 63.7, 84.9, 5.21, 1.43)
