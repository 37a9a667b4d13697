"""QuickNet: binary residual blocks with cheap transitions (Bannink et al. 2020)."""

from __future__ import annotations

from functools import partial
from typing import Final

from bitfront.spaces.architecture import Architecture, Stage
from bitfront.spaces.blocks import Classifier, QuickNet, QuickNetTransition, StemQuickNet
from bitfront.spaces.recipe import Recipe
from bitfront.spaces.zoo.entry import Published, ZooEntry, enter

PAPER: Final = "Bannink et al. 2020, Larq Compute Engine (arXiv:2011.09398); Larq Zoo"


def quicknet(counts: tuple[int, int, int, int], filters: tuple[int, int, int, int]) -> Architecture:
    """A QuickNet with so many blocks and filters per stage."""
    between = [QuickNetTransition(channels=channels) for channels in filters[1:]]
    return Architecture(
        input=(3, 224, 224),
        stem=StemQuickNet(channels=filters[0]),
        stages=tuple(
            Stage(blocks=(QuickNet(channels=channels),) * count, transition=transition)
            for count, channels, transition in zip(counts, filters, [*between, None], strict=True)
        ),
        head=Classifier(classes=1000, norm=False),
    )


def _enter(
    name: str,
    counts: tuple[int, int, int, int],
    filters: tuple[int, int, int, int],
    top1: float,
    top5: float,
    size_mb: float,
) -> None:
    enter(
        ZooEntry(
            name=name,
            family="QuickNet",
            architecture=partial(quicknet, counts, filters),
            recipe=Recipe(
                optimizer="adamw",
                learning_rate=0.01,
                warmup_epochs=5,
                epochs=600,
                batch_size=2048,
                t_clip=1.25,
                augmentation="resized-crop-flip",
            ),
            published=Published(
                top1=top1, top5=top5, size_mb=size_mb, size_unit="MiB", source=PAPER
            ),
            notes="The original trains binary weights by Adam and the others by SGD. The printed "
            "size counts the fixed kernels of the blurs.",
            convention="larq",
        )
    )


_enter("quicknet-small", (4, 4, 4, 4), (32, 64, 256, 512), 59.4, 81.8, 4.0)
_enter("quicknet", (4, 4, 4, 4), (64, 128, 256, 512), 63.3, 84.6, 4.17)
_enter("quicknet-large", (6, 8, 12, 6), (64, 128, 256, 512), 66.9, 87.0, 5.4)
