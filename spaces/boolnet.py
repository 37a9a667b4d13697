"""The space ``boolnet``: BoolNet-style networks, boolean maps from the stem to the last block."""

from __future__ import annotations

from typing import Final

from bitfront.spaces.architecture import Architecture, Stage
from bitfront.spaces.blocks import Boolean, Classifier, StemBoolNet
from bitfront.spaces.candidate import Candidate
from bitfront.spaces.choose import Choose
from bitfront.spaces.inverse import readers
from bitfront.spaces.questions import (
    CHANNELS,
    SMALL_CHANNELS,
    Answers,
    Counts,
    Size,
    ask_recipe,
    ask_size,
    ask_stages,
    expect,
    made,
    read_size,
    sized,
)
from bitfront.spaces.space import Task, spaces

SLICES: Final = (1, 2, 4, 8)
# a block has two convolutions
BLOCKS: Final = Counts(
    name="blocks",
    usual=((1, 2, 3), (1, 2, 3)),
    deep=((2, 3, 4), (3, 4, 5, 6), (4, 6, 8, 12), (2, 3, 4)),
)
SMALL_BLOCKS: Final = Counts(name="blocks", usual=((2, 3), (1, 2, 3)))


@spaces.register("boolnet")
def boolnet(choose: Choose, task: Task) -> Candidate:
    """Boolean blocks, slices, concatenation, local shifts, channels, t_clip and learning rate.

    Images of at least 64 pixels get BoolNet's stem, widths and depths; smaller ones a thumbnail
    stem and two or three narrow stages, or from 32 pixels on (``size``) four of full width. The
    first stage is as wide as the stem. ``enlarged`` keeps the size of the last of four stages.
    Every convolution between stem and head is binary, and so is every feature map.

    References:
        Guo et al. 2021, BoolNet (arXiv:2106.06991).
    """
    answering = choose
    choose, size = ask_size(choose, task.input)
    count = ask_stages(choose, size)
    slices = choose.ordered("slices", SLICES)
    concat = choose.option("concat", (False, True))
    local_shift = choose.option("local_shift", (False, True))
    blocks = _counts(size).ask(choose, count)
    widths = [
        choose.ordered(f"stage{s}.channels", (SMALL_CHANNELS if size.small else CHANNELS)[s])
        for s in range(count)
    ]
    enlarged = count == 4 and choose.option("enlarged", (False, True))
    last = count - 1
    stages = [
        Stage(
            blocks=boolean_blocks(
                channels,
                blocks[s],
                stride=1 if s == 0 else 2,
                slices=slices,
                concat=concat,
                last=s == last,
                enlarged=enlarged and s == last,
            )
        )
        for s, channels in enumerate(widths)
    ]
    return Candidate(
        architecture=Architecture(
            input=task.input,
            stem=made(
                StemBoolNet,
                channels=widths[0],
                slices=slices,
                local_shift=local_shift,
                thumbnail=size.thumbnail,
            ),
            stages=tuple(stages),
            head=made(Classifier, classes=task.classes, norm=False, relu=False),
        ),
        recipe=ask_recipe(answering, task, size),
    )


def boolean_blocks(
    channels: int,
    count: int,
    *,
    stride: int,
    slices: int,
    concat: bool,
    last: bool,
    enlarged: bool,
) -> tuple[Boolean, ...]:
    """The blocks of one stage.

    Args:
        channels: Filters.
        count: Blocks.
        stride: Of the first one.
        slices: k, the boolean maps that stand for one feature map.
        concat: Hand on each block's input beside its result.
        last: Whether the head follows.
        enlarged: Keep the size, and dilate all blocks but the first instead (BoolNet*).
    """
    return tuple(
        made(
            Boolean,
            channels=channels,
            stride=stride if i == 0 and not enlarged else 1,
            slices=slices,
            concat=concat,
            last=last and i == count - 1,
            projected=enlarged and i == 0,
            dilation=2 if enlarged and i > 0 else 1,
        )
        for i in range(count)
    )


def _counts(size: Size) -> Counts:
    return SMALL_BLOCKS if size.small else BLOCKS


@readers.register("boolnet")
def _read(architecture: Architecture) -> Answers:
    size = read_size(architecture)
    yield from sized(_read_full(architecture, size), size)


def _read_full(architecture: Architecture, size: Size) -> Answers:
    stem = expect(architecture.stem, StemBoolNet)
    stages = [expect(stage.blocks[0], Boolean) for stage in architecture.stages]
    yield "stages", len(stages)
    yield "slices", stem.slices
    yield "concat", stages[0].concat
    yield "local_shift", stem.local_shift
    yield "enlarged", stages[-1].projected
    yield from _counts(size).read([len(stage.blocks) for stage in architecture.stages])
    for s, block in enumerate(stages):
        yield f"stage{s}.channels", block.channels
