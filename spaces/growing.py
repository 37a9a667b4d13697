"""Stages of dense and improvement blocks: what their spaces share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from bitfront.spaces.architecture import Stage
from bitfront.spaces.blocks import (
    Block,
    Dense,
    DenseTransition,
    Improvement,
    StemConv7x7,
    StemGrouped,
    StemThumbnail,
    Transition,
)
from bitfront.spaces.choose import Choose
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.precision import Precision
from bitfront.spaces.questions import (
    Answers,
    Size,
    made,
    read_precisions,
    reduced,
    reduction_between,
    unexpected,
)

WIDTHS: Final = (32, 64, 96)
STEMS: Final = {"grouped": StemGrouped, "conv7x7": StemConv7x7}
REDUCTIONS: Final = (1.5, 1.75, 2.0, 2.25, 2.5, 2.75, 3.0, 3.25, 3.5, 4.0)
SMALL_REDUCTIONS: Final = (1.5, 2.0, 2.5, 3.0)


def ask_stem(choose: Choose, size: Size) -> tuple[type[Block], int]:
    """The kind of the stem, and its channels."""
    if size.small:
        return StemThumbnail, choose.ordered("stem.channels", (16, 32))
    if size.thumbnail:
        return StemThumbnail, choose.ordered("stem.channels", (*WIDTHS, 128))
    kind = STEMS[choose.option("stem", tuple(STEMS))]
    return kind, choose.ordered("stem.channels", WIDTHS)


def expect_stem(stem: Block) -> StemThumbnail | StemGrouped | StemConv7x7:
    """The stem, if it is one of those that ``ask_stem`` asks for."""
    if isinstance(stem, StemThumbnail | StemGrouped | StemConv7x7):
        return stem
    raise unexpected(stem, StemThumbnail, StemGrouped, StemConv7x7)


def read_stem(stem: Block) -> Answers:
    """The answers that give this stem."""
    known = expect_stem(stem)
    for name, kind in STEMS.items():
        if isinstance(stem, kind):
            yield "stem", name
    yield "stem.channels", known.channels
    yield "shortcut_bits", known.out_bits


def ask_growth(choose: Choose, stage: str, size: Size) -> tuple[int, int]:
    """Channels that a block of a stage computes, and its kernel size."""
    options = (8, 16, 24) if size.small else (*WIDTHS, 128) if size.thumbnail else WIDTHS
    return (
        choose.ordered(f"{stage}.growth", options),
        choose.ordered(f"{stage}.kernel_size", (1, 3) if size.small else (1, 3, 5)),
    )


def _expect_growing(block: Block) -> Dense | Improvement:
    if isinstance(block, Dense | Improvement):
        return block
    raise unexpected(block, Dense, Improvement)


def read_growth(name: str, stage: Stage) -> Answers:
    """The answers that give the blocks of a stage, the pattern and its length apart."""
    block = _expect_growing(stage.blocks[0])
    yield f"{name}.growth", block.growth
    yield f"{name}.kernel_size", block.kernel_size


@cache
def growing(
    pattern: str,
    growth: int,
    kernel_size: int,
    precision: Precision,
    shortcut_bits: int,
    dilation: int = 1,
) -> tuple[Block, ...]:
    """One block per letter: D appends channels, I improves the last ones, W the whole map."""
    given: dict[str, Any] = {
        "growth": growth,
        "kernel_size": kernel_size,
        "dilation": dilation,
        "precision": precision,
        "shortcut_bits": shortcut_bits,
    }
    return tuple(
        Dense(**given) if letter == "D" else Improvement(**given, whole=letter == "W")
        for letter in pattern
    )


def _letter(block: Block) -> str:
    known = _expect_growing(block)
    if isinstance(known, Improvement):
        return "W" if known.whole else "I"
    return "D"


def ask_reduction(choose: Choose, stage: str, channels: int, size: Size) -> int:
    """Channels behind the transition out of a stage that ends with so many."""
    reduction = choose.ordered(f"{stage}.reduction", SMALL_REDUCTIONS if size.small else REDUCTIONS)
    return reduced(channels, reduction, 8 if size.small else 32)


def read_reduction(stage: str, before: int, after: int, size: Size) -> Answers:
    """The answer that reduces ``before`` channels to ``after``."""
    options = SMALL_REDUCTIONS if size.small else REDUCTIONS
    yield f"{stage}.reduction", reduction_between(before, after, options, 8 if size.small else 32)


def ask_transition(
    choose: Choose,
    stage: str,
    channels: int,
    size: Size,
    shortcut_bits: int,
    *,
    groups: int = 1,
    pool: bool = True,
    average: bool = False,
) -> Transition | DenseTransition:
    """The transition out of a stage that ends with so many channels."""
    channels = ask_reduction(choose, stage, channels, size)
    if average:
        return made(DenseTransition, channels=channels)
    return made(Transition, channels=channels, groups=groups, pool=pool, out_bits=shortcut_bits)


def repeats(stage: Stage, patterns: Sequence[str]) -> tuple[str, int]:
    """The pattern that a stage repeats, and how often.

    Raises:
        InvalidValue: If it repeats none of the patterns.
    """
    letters = "".join(map(_letter, stage.blocks))
    for pattern in patterns:
        count, rest = divmod(len(letters), len(pattern))
        if not rest and pattern * count == letters:
            return pattern, count
    raise InvalidValue(f"a stage repeats one of {', '.join(patterns)}, but is {letters}.")


def read_growing(channels: int, stages: Sequence[Stage], size: Size) -> Answers:
    """The answers that give these blocks and transitions.

    Args:
        channels: Of the stem.
        stages: Of dense and improvement blocks.
        size: Of the network.
    """
    for s, stage in enumerate(stages):
        yield from read_growth(f"stage{s}", stage)
        channels += sum(block.growth for block in stage.blocks if isinstance(block, Dense))
        if stage.transition is not None:
            if not isinstance(stage.transition, Transition | DenseTransition):
                raise unexpected(stage.transition, Transition, DenseTransition)
            after = stage.transition.channels
            yield from read_reduction(f"stage{s}", channels, after, size)
            channels = after
    yield from read_precisions([_expect_growing(stage.blocks[0]).precision for stage in stages])
