"""MeliusNet: dense and improvement blocks in turn (Bethge et al. 2020, arXiv:2001.05936).

NaiveNet, which its authors released beside it, corrects all channels instead of the newest ones.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from bitfront.spaces.architecture import Architecture, Stage
from bitfront.spaces.blocks import (
    Block,
    Classifier,
    Dense,
    Improvement,
    StemConv7x7,
    StemGrouped,
    Transition,
)
from bitfront.spaces.recipe import Recipe
from bitfront.spaces.zoo.entry import Published, ZooEntry, enter

PAPER: Final = "Bethge et al. 2020, MeliusNet (arXiv:2001.05936)"
RESULTS: Final = f"{PAPER}; hpi-xnor/BMXNet-v2-wiki, CurrentBestResults"

RECIPE: Final = Recipe(batch_size=256, augmentation="resized-crop-flip")


def meliusnet(
    units: tuple[int, int, int, int],
    transitions: tuple[int, int, int],
    groups: int = 1,
    stem: Block | None = None,
    whole: bool = False,
) -> Architecture:
    """A MeliusNet.

    Args:
        units: Pairs of a dense and an improvement block per stage.
        transitions: Channels behind each transition.
        groups: Groups of the transitions' convolutions.
        stem: The grouped stem if None.
        whole: Improvement blocks correct all channels (NaiveNet).
    """
    pair = (Dense(), Improvement(whole=whole))
    between = [Transition(channels=channels, groups=groups) for channels in transitions]
    return Architecture(
        input=(3, 224, 224),
        stem=stem or StemGrouped(),
        stages=tuple(
            Stage(blocks=pair * count, transition=transition)
            for count, transition in zip(units, [*between, None], strict=True)
        ),
        head=Classifier(classes=1000),
    )


def _enter(
    name: str,
    units: tuple[int, int, int, int],
    transitions: tuple[int, int, int],
    published: Published,
    *,
    groups: int = 1,
    stem: Block | None = None,
    whole: bool = False,
    recipe: Recipe = RECIPE,
    notes: str = "",
) -> None:
    enter(
        ZooEntry(
            name=name,
            family="MeliusNet",
            architecture=partial(meliusnet, units, transitions, groups, stem, whole),
            recipe=recipe,
            published=published,
            notes=notes,
        )
    )


def _figures(top1: float, top5: float, size_mb: float, ops_1e8: float) -> Published:
    return Published(
        top1=top1, top5=top5, size_mb=size_mb, size_unit="MiB", ops_1e8=ops_1e8, source=RESULTS
    )


_CODE: Final = Published(source=f"{PAPER}; hpi-xnor/BMXNet-v2-examples")
_NAME = "The number in the name is nominal: it does not count the layers."

_enter("meliusnet22", (4, 5, 4, 4), (160, 224, 256), _figures(63.6, 84.7, 3.88, 2.08), notes=_NAME)
_enter(
    "meliusnet22-conv7x7",
    (4, 5, 4, 4),
    (160, 224, 256),
    _figures(62.9, 84.3, 3.89, 2.58),
    stem=StemConv7x7(),
)
_enter(
    "meliusnet23",
    (2, 4, 6, 6),
    (128, 192, 288),
    _CODE,
    groups=8,
    notes="In the released code only: no figure of it is published.",
)
_enter("meliusnet29", (4, 6, 8, 6), (128, 192, 256), _figures(65.8, 86.2, 5.07, 2.14))
_enter(
    "meliusnet29-conv7x7",
    (4, 6, 8, 6),
    (128, 192, 256),
    _figures(64.9, 85.7, 5.08, 2.64),
    stem=StemConv7x7(),
)
_enter("meliusnet42", (5, 8, 14, 10), (160, 256, 416), _figures(69.2, 88.3, 10.1, 3.25))
_enter(
    "meliusnet59",
    (6, 12, 24, 12),
    (192, 320, 544),
    _figures(70.7, 89.2, 17.39, 5.32),
    recipe=Recipe(epochs=150, batch_size=96, augmentation="resized-crop-flip"),
    notes="Printed at epoch 130 of 150; the log peaks at 71.06, and later papers quote 71.0. The "
    "sources disagree on the optimizer: Adam in the text, RAdam in the log.",
)
_enter("meliusnet-a", (4, 5, 5, 6), (160, 256, 288), _figures(63.4, 84.2, 4.05, 1.63), groups=4)
_enter("meliusnet-b", (4, 6, 8, 6), (160, 224, 320), _figures(65.7, 85.9, 5.0, 1.96), groups=2)
_enter("meliusnet-c", (3, 5, 10, 6), (128, 192, 288), _figures(64.1, 85.0, 4.46, 1.5), groups=4)
_enter(
    "naivenet17",
    (3, 3, 3, 3),
    (128, 160, 192),
    _CODE,
    whole=True,
    notes="In the released code only: no figure of it is published. The stem is MeliusNet's, which "
    "the code leaves open; with it, the network costs as many operations as MeliusNet22.",
)
