"""Real-to-Binary Net and its Strong Baseline (Martinez et al. 2020, arXiv:2003.11535)."""

from __future__ import annotations

from functools import partial
from typing import Final

from bitfront.spaces.architecture import Architecture
from bitfront.spaces.blocks import Gated
from bitfront.spaces.recipe import Recipe
from bitfront.spaces.zoo.entry import Mismatch, Published, ZooEntry, enter
from bitfront.spaces.zoo.layout import resnet_layout

PAPER: Final = "Martinez et al. 2020, Real-to-Binary (arXiv:2003.11535)"


def realtobinary(scaling: str = "gate") -> Architecture:
    """ResNet-18's layout, one gated binary convolution per shortcut.

    Args:
        scaling: "gate", or "outer" for the Strong Baseline's learned factors.
    """
    return resnet_layout(
        (4, 4, 4, 4),
        lambda channels, stride: Gated(channels=channels, stride=stride, scaling=scaling),
        activation="prelu",
    )


RECIPE: Final = Recipe(
    optimizer="adamw",
    learning_rate=1e-3,
    epochs=75,
    warmup_epochs=5,
    batch_size=256,
    t_clip=1.0,
    augmentation="resized-crop-flip",
)

_OPS: Final = Mismatch(
    "ops_1e8",
    "Its authors count by a tool of their own, which adds work outside the convolutions; the "
    "convolutions alone give 1.64.",
)

enter(
    ZooEntry(
        name="real-to-binary",
        family="Real-to-Binary",
        architecture=realtobinary,
        recipe=RECIPE,
        published=Published(
            top1=65.4,
            top5=86.2,
            size_mb=5.13,
            size_unit="MiB",
            ops_1e8=1.83,
            source=f"{PAPER}; size: Larq Zoo",
        ),
        notes="The original trains in four stages with teachers; this recipe is one of them.",
        mismatches=(_OPS,),
    )
)
enter(
    ZooEntry(
        name="strong-baseline",
        family="Real-to-Binary",
        architecture=partial(realtobinary, "outer"),
        recipe=RECIPE,
        published=Published(top1=60.9, ops_1e8=1.82, source=f"{PAPER}, Sec. 4.1"),
        notes="The factors per channel, row and column are XNOR-Net++'s (arXiv:1909.13863). The "
        "original trains in stages: first with binary activations only.",
        mismatches=(_OPS,),
    )
)
