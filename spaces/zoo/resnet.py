"""ResNet at 32 bits, the reference that binary networks are measured against."""

from __future__ import annotations

from functools import partial
from typing import Final

from bitfront.spaces.architecture import Architecture, Stage
from bitfront.spaces.blocks import Classifier, ResNet, StemConv7x7
from bitfront.spaces.recipe import Recipe
from bitfront.spaces.zoo.entry import Published, ZooEntry, enter

PAPER: Final = "He et al. 2016, ResNet (arXiv:1512.03385)"

RECIPE: Final = Recipe(
    optimizer="sgd",
    learning_rate=0.1,
    weight_decay=1e-4,
    epochs=90,
    batch_size=256,
    augmentation="resized-crop-flip",
)


def resnet(counts: tuple[int, int, int, int]) -> Architecture:
    """A ResNet of basic blocks, so many per stage."""
    stages = []
    for s, (channels, count) in enumerate(zip((64, 128, 256, 512), counts, strict=True)):
        first = ResNet(channels=channels, stride=1 if s == 0 else 2)
        stages.append(Stage(blocks=(first, *[ResNet(channels=channels)] * (count - 1))))
    return Architecture(
        input=(3, 224, 224),
        stem=StemConv7x7(),
        stages=tuple(stages),
        head=Classifier(classes=1000, norm=False, relu=False),
    )


def _enter(
    name: str,
    counts: tuple[int, int, int, int],
    top1: float,
    top5: float | None,
    size_mb: float,
    ops_1e8: float,
) -> None:
    published = Published(
        top1=top1,
        size_mb=size_mb,
        size_unit="MB",
        ops_1e8=ops_1e8,
        source=f"{PAPER}, as quoted by Liu et al. 2018, Bi-Real Net (arXiv:1808.00278)",
    )
    if top5 is not None:
        published["top5"] = top5
    enter(
        ZooEntry(
            name=name,
            family="ResNet",
            architecture=partial(resnet, counts),
            recipe=RECIPE,
            published=published,
        )
    )


_enter("resnet18-fp", (2, 2, 2, 2), 69.3, 89.2, 46.8, 18.1)
_enter("resnet34-fp", (3, 4, 6, 3), 73.3, None, 87.2, 36.6)
