"""BNext: gated binary convolutions in MobileNet's layout (Guo et al. 2022, arXiv:2211.12933)."""

from __future__ import annotations

from functools import partial
from typing import Final

from bitfront.spaces.architecture import Architecture
from bitfront.spaces.blocks import Block, BNext, Classifier, StemConv3x3
from bitfront.spaces.recipe import Recipe
from bitfront.spaces.zoo.entry import Mismatch, Published, ZooEntry, enter
from bitfront.spaces.zoo.reactnet import mobile_stages

PAPER: Final = "Guo et al. 2022, BNext (arXiv:2211.12933); hpi-xnor/BNext, README.md"

RECIPE: Final = Recipe(
    optimizer="adamw",
    learning_rate=1e-3,
    weight_decay=1e-3,
    epochs=512,
    batch_size=512,
    t_clip=1.5,
    augmentation="resized-crop-flip",
    weight_estimator="progressive",
)


def bnext(width: int, counts: tuple[int, int, int, int]) -> Architecture:
    """A BNext.

    Args:
        width: Channels of the stem; the blocks have 2, 4, 8, 16 and 32 times as many.
        counts: Blocks of 4, 8, 16 and 32 times the width, behind one of twice the width.
    """
    channels = [width, 2 * width]
    for factor, count in zip((4, 8, 16, 32), counts, strict=True):
        channels += [factor * width] * count

    def layer(number: int, channels: int, stride: int) -> Block:
        multiply = number % 2 == 0
        return BNext(channels=channels, stride=stride, multiply=multiply)

    return Architecture(
        input=(3, 224, 224),
        stem=StemConv3x3(channels=width),
        stages=mobile_stages(channels, layer),
        head=Classifier(classes=1000, norm=False, relu=False, prelu=True),
    )


_OPS: Final = Mismatch(
    "ops_1e8",
    "The README heads the column BOPs, but it is a total: the binary operations, counted and "
    "divided by 64, over the share of them that the README prints give all four figures. What is "
    "left for the rest is less than the 32-bit stem alone needs, so it seems to be the variant "
    "with 8-bit layers, at a discount that no source states.",
)
_SIZE: Final = Mismatch(
    "size_mb",
    "Counted 106.16. With the PReLU slopes that the published code declares and never applies, and "
    "without the shares of the blends, it would be the printed figure; the figures of the smaller "
    "networks fit either way.",
)


def _enter(
    name: str,
    width: int,
    counts: tuple[int, int, int, int],
    published: Published,
    notes: str = "",
    mismatches: tuple[Mismatch, ...] = (_OPS,),
) -> None:
    enter(
        ZooEntry(
            name=name,
            family="BNext",
            architecture=partial(bnext, width, counts),
            recipe=RECIPE,
            published=published,
            notes="The original learns from several teachers at once, and narrows the ramp of its "
            f"weights' signs by a tenth each epoch.{notes}",
            convention="reactnet",
            mismatches=mismatches,
        )
    )


# the paper's table, as others quote it
_SIZES: Final = f"{PAPER}; size: quoted in BEANet's table"
_ISSUE: Final = f"{PAPER}; size: quoted in hpi-xnor/BNext, issue 4"

_enter(
    "bnext-tiny",
    32,
    (2, 2, 6, 2),
    Published(top1=72.4, size_mb=13.3, size_unit="MiB", ops_1e8=0.77, source=_SIZES),
    " BEANet's table has 0.89e8 operations, which is what is counted here.",
)
_enter(
    "bnext-small",
    48,
    (2, 2, 6, 2),
    Published(top1=76.1, size_mb=26.7, size_unit="MiB", ops_1e8=1.72, source=_SIZES),
    " BEANet's table has 1.90e8 operations, which is what is counted here.",
)
_enter("bnext-middle", 48, (4, 4, 8, 4), Published(top1=78.3, ops_1e8=3.17, source=PAPER))
_enter(
    "bnext-large",
    64,
    (4, 4, 16, 4),
    Published(top1=80.6, size_mb=106.1, size_unit="MiB", ops_1e8=8.19, source=_ISSUE),
    " The published code calls this size super; its large has 48 channels in the stem.",
    (_OPS, _SIZE),
)
