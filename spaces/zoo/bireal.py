"""Bi-Real Net: ResNet with a 32-bit shortcut around every binary convolution."""

from __future__ import annotations

from functools import partial
from typing import Final

from bitfront.spaces.architecture import Architecture, Stage
from bitfront.spaces.blocks import BiReal, Classifier, StemConv7x7
from bitfront.spaces.recipe import Recipe
from bitfront.spaces.zoo.entry import Mismatch, Published, ZooEntry, enter

PAPER: Final = "Liu et al. 2018, Bi-Real Net (arXiv:1808.00278)"

RECIPE: Final = Recipe(
    optimizer="adamw",
    learning_rate=1e-3,
    epochs=256,
    batch_size=512,
    t_clip=1.0,
    label_smoothing=0.1,
    augmentation="resized-crop-flip",
    estimator="approx_sign",
)


def bireal(counts: tuple[int, int, int, int]) -> Architecture:
    """A Bi-Real Net with so many binary convolutions per stage."""
    stages = []
    for s, (channels, count) in enumerate(zip((64, 128, 256, 512), counts, strict=True)):
        first = BiReal(channels=channels, stride=1 if s == 0 else 2)
        stages.append(Stage(blocks=(first, *[BiReal(channels=channels)] * (count - 1))))
    return Architecture(
        input=(3, 224, 224),
        stem=StemConv7x7(activation="none"),
        stages=tuple(stages),
        head=Classifier(classes=1000, norm=False, relu=False),
    )


_NOTES = (
    "The original scales each filter by the mean of its weights' magnitudes, which the batch norm "
    "behind it absorbs, and lowers the learning rate linearly."
)

enter(
    ZooEntry(
        name="birealnet18",
        family="Bi-Real Net",
        architecture=partial(bireal, (4, 4, 4, 4)),
        recipe=RECIPE,
        published=Published(
            top1=56.4,
            top5=79.5,
            size_mb=4.0,
            size_unit="MiB",
            ops_1e8=1.63,
            energy_mj=3.9,
            source=f"{PAPER}; size: Larq Zoo; operations: Liu et al. 2020, ReActNet "
            "(arXiv:2003.03488); energy: Guo et al. 2021, BoolNet (arXiv:2106.06991), Fig. 5",
        ),
        notes=_NOTES,
    )
)
enter(
    ZooEntry(
        name="birealnet34",
        family="Bi-Real Net",
        architecture=partial(bireal, (6, 8, 12, 6)),
        recipe=RECIPE,
        published=Published(
            top1=62.2, top5=83.9, size_mb=5.1, size_unit="MiB", ops_1e8=1.93, source=PAPER
        ),
        notes=f"{_NOTES} The printed 1.93 counts the classifier; the 1.63 of birealnet18 does not.",
        convention="reactnet",
        mismatches=(
            Mismatch(
                "size_mb",
                "Its parameters take 5.23 MiB, which is also what is printed for ResNetE-34, of "
                "nearly the same parameters; no count that gives 5.1 was found.",
            ),
        ),
    )
)
