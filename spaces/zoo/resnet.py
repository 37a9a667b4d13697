"""ResNet at 32 bits, the reference that binary networks are measured against."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Final

from bitfront.spaces.architecture import Architecture, Stage
from bitfront.spaces.blocks import Bottleneck, Classifier, ResNet, StemConv7x7
from bitfront.spaces.recipe import Recipe
from bitfront.spaces.zoo.entry import Mismatch, Published, ZooEntry, enter
from bitfront.spaces.zoo.layout import resnet_layout

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


def resnet152() -> Architecture:
    """The deepest ResNet of the paper: 50 bottlenecks."""
    return resnet_layout(
        (3, 8, 36, 3),
        lambda channels, stride: Bottleneck(channels=4 * channels, stride=stride),
    )


_enter("resnet18-fp", (2, 2, 2, 2), 69.3, 89.2, 46.8, 18.1)
_enter("resnet34-fp", (3, 4, 6, 3), 73.3, None, 87.2, 36.6)
enter(
    ZooEntry(
        name="resnet152-fp",
        family="ResNet",
        architecture=resnet152,
        recipe=replace(RECIPE, epochs=120),
        published=Published(
            top1=77.0,
            top5=93.3,
            size_mb=240,
            size_unit="MB",
            ops_1e8=113,
            source=f"{PAPER}, Table 1; accuracy: KaimingHe/deep-residual-networks, center crop; "
            "size: as quoted in talks on binary networks",
        ),
        notes="60,192,808 parameters. The stride is that of the first 1x1 convolution, as in the "
        "paper; torchvision's form with the stride in the 3x3 convolution has the same parameters "
        "and 115e8 operations. The original lowers the learning rate by ten whenever the error "
        "stalls.",
        convention="reactnet",
        mismatches=(
            Mismatch("size_mb", "Counted 240.8; the printed size has two significant digits."),
        ),
    )
)
