"""The space ``melius``: MeliusNet-style networks of dense and improvement blocks."""

from __future__ import annotations

from typing import Final

from bitfront.spaces.architecture import Architecture, Stage
from bitfront.spaces.blocks import Classifier, Transition
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
    repeats,
)
from bitfront.spaces.inverse import readers
from bitfront.spaces.questions import (
    SHORTCUT_BITS,
    Answers,
    Counts,
    ask_precision,
    ask_recipe,
    ask_stages,
    binary_stages,
    expect,
    made,
    size_of,
)
from bitfront.spaces.space import Task, spaces

# a unit of a stage, repeated: D appends channels, I improves the last ones
PATTERNS: Final = ("DI", "DD", "DII")
# W improves the whole map
WHOLE: Final = ("DW", "DD", "DWW")
PARTS: Final = ("last", "all")
UNITS: Final = Counts(
    name="units",
    usual=((2, 3, 4, 5, 6), (2, 3, 4, 5, 6)),
    # MeliusNet29, 42, 59, B and C
    deep=((3, 4, 5, 6), (5, 6, 8, 12), (8, 10, 14, 24), (6, 8, 10, 12)),
)
SMALL_UNITS: Final = Counts(name="units", usual=((2, 3), (1, 2, 3)))
GROUPS: Final = (1, 2, 4, 8)


@spaces.register("melius")
def melius(choose: Choose, task: Task) -> Candidate:
    """Dense and improvement blocks, bits, shortcut bits, t_clip and learning rate.

    Images of at least 64 pixels get MeliusNet's stems, widths, depths and grouped transitions;
    ``improve`` is "all" for NaiveNet's improvement of the whole map. Smaller images get a thumbnail
    stem and two or three narrow stages. ``bits`` is "binary" for a 1-bit body; "mixed" asks for
    bits per stage, except where a stage is needed to reach six binary convolutions: the stages with
    most convolutions stay binary until there are that many.

    References:
        Bethge et al. 2020, MeliusNet (arXiv:2001.05936).
    """
    size = size_of(task.input)
    small = size.small
    count = ask_stages(choose, size)
    stem, channels = ask_stem(choose, size)
    shortcut_bits = choose.ordered("shortcut_bits", SHORTCUT_BITS)
    units = (SMALL_UNITS if small else UNITS).ask(choose, count)
    patterns = [choose.option(f"stage{s}.pattern", PATTERNS) for s in range(count)]
    # in a deep network, blocks that compute the whole map would be most of the cost
    if count == 4 and not UNITS.are_deep(units) and choose.option("improve", PARTS) == "all":
        patterns = [pattern.replace("I", "W") for pattern in patterns]
    binary = binary_stages(choose, [u * len(p) for u, p in zip(units, patterns, strict=True)])
    groups = 1 if small else choose.ordered("transition.groups", GROUPS)
    first = made(stem, channels=channels, out_bits=shortcut_bits)
    stages = []
    for s, pattern in enumerate(patterns):
        growth, kernel_size = ask_growth(choose, f"stage{s}", size)
        precision = ask_precision(choose, s, binary)
        unit = growing(pattern, growth, kernel_size, precision, shortcut_bits)
        channels += growth * units[s] * pattern.count("D")
        transition = None
        if s < count - 1:
            transition = ask_transition(
                choose, f"stage{s}", channels, size, shortcut_bits, groups=groups
            )
            channels = transition.channels
        stages.append(Stage(blocks=unit * units[s], transition=transition))
    return Candidate(
        architecture=Architecture(
            input=task.input,
            stem=first,
            stages=tuple(stages),
            head=made(Classifier, classes=task.classes),
        ),
        recipe=ask_recipe(choose, task, size),
    )


@readers.register("melius")
def _read(architecture: Architecture) -> Answers:
    size = size_of(architecture.input)
    small = size.small
    stem, stages = expect_stem(architecture.stem), architecture.stages
    yield "stages", len(stages)
    yield from read_stem(stem)
    units = [repeats(stage, (*PATTERNS, *WHOLE)) for stage in stages]
    yield from (SMALL_UNITS if small else UNITS).read([count for _, count in units])
    for s, (pattern, _) in enumerate(units):
        yield f"stage{s}.pattern", pattern.replace("W", "I")
    yield "improve", PARTS[any("W" in pattern for pattern, _ in units)]
    yield "transition.groups", expect(stages[0].transition, Transition).groups
    yield from read_growing(stem.channels, stages, size)
