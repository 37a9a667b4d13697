"""The space ``binary-densenet``: BinaryDenseNet-style networks of dense blocks."""

from __future__ import annotations

from typing import Final

from bitfront.spaces.architecture import Architecture, Stage
from bitfront.spaces.blocks import Classifier, Dense, DenseTransition
from bitfront.spaces.candidate import Candidate
from bitfront.spaces.choose import Choose
from bitfront.spaces.growing import (
    ask_growth,
    ask_stem,
    ask_transition,
    expect_stem,
    growing,
    read_growing,
    read_stem,
)
from bitfront.spaces.inverse import readers
from bitfront.spaces.questions import (
    SHORTCUT_BITS,
    Answers,
    Counts,
    Size,
    ask_precision,
    ask_recipe,
    ask_size,
    ask_stages,
    binary_stages,
    expect,
    made,
    read_size,
    sized,
)
from bitfront.spaces.space import Task, spaces

BLOCKS: Final = Counts(
    name="blocks",
    usual=((2, 3, 4, 5, 6, 7), (2, 3, 4, 5, 6, 7)),
    # BinaryDenseNet37 and 45
    deep=((4, 5, 6, 8), (6, 8, 10, 12), (8, 10, 12, 14, 16), (4, 5, 6, 8, 10)),
)
SMALL_BLOCKS: Final = Counts(name="blocks", usual=((3, 4, 5), (3, 4, 5)))
POOLS: Final = ("max", "average")


@spaces.register("binary-densenet")
def binary_densenet(choose: Choose, task: Task) -> Candidate:
    """Dense blocks, bits, shortcut bits, dilation, t_clip and learning rate.

    Images of at least 64 pixels get BinaryDenseNet's stems, widths and depths; smaller ones a
    thumbnail stem and two or three narrow stages, or from 32 pixels on (``size``) four of full
    width. The last ``dilated_stages`` of four stages keep the size of the one before and dilate
    their convolutions instead, by 2 and by 4. ``bits`` is that of the space ``melius``.

    References:
        Bethge et al. 2019, Back to Simplicity (arXiv:1906.08637).
    """
    answering = choose
    choose, size = ask_size(choose, task.input)
    count = ask_stages(choose, size)
    stem, channels = ask_stem(choose, size)
    shortcut_bits = choose.ordered("shortcut_bits", SHORTCUT_BITS)
    blocks = _counts(size).ask(choose, count)
    binary = binary_stages(choose, blocks)
    dilated = choose.ordered("dilated_stages", (0, 1, 2)) if count == 4 else 0
    dilations = [2 ** max(0, s + 1 + dilated - count) for s in range(count)]
    average = not size.small and not dilated and choose.option("pool", POOLS) == "average"
    first = made(stem, channels=channels, out_bits=shortcut_bits)
    stages = []
    for s, dilation in enumerate(dilations):
        growth, kernel_size = ask_growth(choose, f"stage{s}", size)
        precision = ask_precision(choose, s, binary)
        unit = growing("D", growth, kernel_size, precision, shortcut_bits, dilation)
        channels += growth * blocks[s]
        transition = None
        if s < count - 1:
            transition = ask_transition(
                choose,
                f"stage{s}",
                channels,
                size,
                shortcut_bits,
                pool=dilations[s + 1] == 1,
                average=average,
            )
            channels = transition.channels
        stages.append(Stage(blocks=unit * blocks[s], transition=transition))
    return Candidate(
        architecture=Architecture(
            input=task.input,
            stem=first,
            stages=tuple(stages),
            head=made(Classifier, classes=task.classes),
        ),
        recipe=ask_recipe(answering, task, size),
    )


def _counts(size: Size) -> Counts:
    return SMALL_BLOCKS if size.small else BLOCKS


@readers.register("binary-densenet")
def _read(architecture: Architecture) -> Answers:
    size = read_size(architecture)
    yield from sized(_read_full(architecture, size), size)


def _read_full(architecture: Architecture, size: Size) -> Answers:
    stem, stages = expect_stem(architecture.stem), architecture.stages
    yield "stages", len(stages)
    yield from read_stem(stem)
    yield from _counts(size).read([len(stage.blocks) for stage in stages])
    yield "dilated_stages", sum(expect(s.blocks[0], Dense).dilation > 1 for s in stages)
    yield "pool", POOLS[isinstance(stages[0].transition, DenseTransition)]
    yield from read_growing(stem.channels, stages, size)
