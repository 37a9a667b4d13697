"""Questions that several spaces ask, and the answers that an architecture gives to them.

What is asked in one direction is read in the other: ``ask`` turns answers into parts of an
architecture, ``read`` gives the answers that lead to such parts (see ``inverse``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, NamedTuple, TypeVar

from bitfront.spaces.architecture import Architecture
from bitfront.spaces.blocks import Block
from bitfront.spaces.choose import Choose, Decision, Within
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.precision import BINARY, Precision
from bitfront.spaces.recipe import Recipe
from bitfront.spaces.space import Task

B = TypeVar("B", bound=Block)
Answers = Iterator[tuple[str, Decision]]

LARGE: Final = 64
MIDDLE: Final = 32
FULL_SIZE: Final = "full."
MIN_BINARY: Final = 6
SHORTCUT_BITS: Final = (4, 8, 16, 32)
STAGE_BITS: Final = (1, 2, 4)
# of residual stages; the ranges of neighbours overlap, so a network may also stay narrow
CHANNELS: Final = ((32, 64, 96), (64, 128, 192), (128, 256, 384), (256, 512, 768))
SMALL_CHANNELS: Final = ((16, 24, 32), (24, 32, 48), (32, 48, 64))


class Size(NamedTuple):
    """How large a network is for its images.

    Attributes:
        small: It has two or three narrow stages; else up to four, as published networks have.
        thumbnail: The images have fewer than 64 rows or columns; the stem keeps them.
    """

    small: bool
    thumbnail: bool


def size_of(image: tuple[int, int, int]) -> Size:
    """Small networks for images of fewer than 64 rows or columns, full ones from there on."""
    small = min(image[1:]) < LARGE
    return Size(small, small)


def ask_size(choose: Choose, image: tuple[int, int, int]) -> tuple[Choose, Size]:
    """The size of the network, and who answers all questions about it.

    It follows from the image, but for 32 to 63 rows or columns (CIFAR), where both may pay. The
    questions of a full network then have names of their own, for their options differ.
    """
    size = size_of(image)
    if MIDDLE <= min(image[1:]) < LARGE and choose.option("size", ("small", "full")) == "full":
        return Within(choose, FULL_SIZE), Size(small=False, thumbnail=True)
    return choose, size


def ask_stages(choose: Choose, size: Size) -> int:
    """How many stages; a full network for small images has four."""
    if size.small:
        return choose.ordered("stages", (2, 3))
    return 4 if size.thumbnail else choose.ordered("stages", (3, 4))


def read_size(architecture: Architecture) -> Size:
    """The size of the network."""
    size = size_of(architecture.input)
    return Size(size.small and len(architecture.stages) < 4, size.thumbnail)


def sized(answers: Answers, size: Size) -> Answers:
    """The answers under the names that ``ask_size`` gives to their questions."""
    full = size.thumbnail and not size.small
    yield "size", "full" if full else "small"
    for name, answer in answers:
        yield (FULL_SIZE if full else "") + name, answer


@cache
def _made(cls: type[Block], **fields: Any) -> Block:
    return cls(**fields)


def made(cls: type[B], **fields: Any) -> B:
    """``cls(**fields)``, remembered: a search builds millions of networks from few blocks."""
    return _made(cls, **fields)  # type: ignore[arg-type, return-value]


def channels_of(block: Block) -> int:
    """Channels of a block that names them."""
    return int(getattr(block, "channels"))  # noqa: B009


def ask(choose: Choose, name: str, options: tuple[Decision, ...]) -> Decision:
    """Ask for one of the options, as ordered ones if they are numbers."""
    if any(isinstance(option, bool | str) for option in options):
        return choose.option(name, options)  # type: ignore[type-var]
    return choose.ordered(name, options)  # type: ignore[type-var]


def unexpected(block: Block | None, *kinds: type[Block]) -> InvalidValue:
    """Says what kinds of block a space has where an architecture has another."""
    known = ", ".join(repr(kind.kind) for kind in kinds)
    given = "nothing" if block is None else repr(block.kind)
    return InvalidValue(f"where the space has {known}, there is {given}.")


def expect(block: Block | None, kind: type[B]) -> B:
    """The block, if it is of the kind that a space has at its place.

    Raises:
        InvalidValue: If it is not.
    """
    if isinstance(block, kind):
        return block
    raise unexpected(block, kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many units the stages have: usually few, in a deep network of four stages more.

    Attributes:
        name: What is counted.
        usual: Options for the first stage, and for each other.
        deep: Options for each of four stages; none where every network is shallow.
    """

    name: str
    usual: tuple[tuple[int, ...], tuple[int, ...]]
    deep: tuple[tuple[int, ...], ...] = ()

    def _usual(self, s: int) -> tuple[int, ...]:
        return self.usual[min(s, 1)]

    def ask(self, choose: Choose, stages: int) -> list[int]:
        """Units of each stage."""
        if stages == len(self.deep) and choose.option("depth", ("usual", "deep")) == "deep":
            return [
                choose.ordered(f"stage{s}.deep_{self.name}", options)
                for s, options in enumerate(self.deep)
            ]
        return [choose.ordered(f"stage{s}.{self.name}", self._usual(s)) for s in range(stages)]

    def are_deep(self, counts: Sequence[int]) -> bool:
        """Whether a network of so many units is a deep one."""
        usual = all(count in self._usual(s) for s, count in enumerate(counts))
        return not usual and len(counts) == len(self.deep)

    def read(self, counts: Sequence[int]) -> Answers:
        """The answers that give so many units."""
        deep = self.are_deep(counts)
        yield "depth", "deep" if deep else "usual"
        for s, count in enumerate(counts):
            yield f"stage{s}.{'deep_' if deep else ''}{self.name}", count


def reduced(channels: int, reduction: float, step: int) -> int:
    """Channels behind a transition: divided, and rounded to a multiple of ``step``."""
    return max(step, round(channels / reduction / step) * step)


def reduction_between(before: int, after: int, options: Sequence[float], step: int) -> float:
    """The first of the options that reduces ``before`` to ``after`` channels.

    Raises:
        InvalidValue: If none does.
    """
    for option in options:
        if reduced(before, option, step) == after:
            return option
    widths = sorted({reduced(before, option, step) for option in options})
    raise InvalidValue(
        f"{before} channels are reduced to one of {', '.join(map(str, widths))}, not to {after}."
    )


def binary_stages(choose: Choose, convolutions: Sequence[int]) -> set[int]:
    """The stages whose convolutions are binary without being asked for their bits.

    All of them where ``bits`` is "binary"; else the fewest stages, largest first, that hold six
    binary convolutions together.

    Args:
        choose: Answers.
        convolutions: Of each stage.
    """
    if choose.option("bits", ("binary", "mixed")) == "binary":
        return set(range(len(convolutions)))
    return anchors_of(convolutions)


def anchors_of(convolutions: Sequence[int]) -> set[int]:
    """The fewest stages, largest first, that hold six convolutions together."""
    anchors: set[int] = set()
    total = 0
    for s in sorted(range(len(convolutions)), key=lambda s: -convolutions[s]):
        if total >= MIN_BINARY:
            break
        anchors.add(s)
        total += convolutions[s]
    return anchors


@cache
def _precision(weights: int, activations: int) -> Precision:
    return Precision(weights=weights, activations=activations)


def ask_precision(choose: Choose, s: int, binary: set[int]) -> Precision:
    """Bits of the convolutions of stage ``s``."""
    if s in binary:
        return BINARY
    return _precision(
        choose.ordered(f"stage{s}.weight_bits", STAGE_BITS),
        choose.ordered(f"stage{s}.activation_bits", STAGE_BITS),
    )


def read_precisions(precisions: Sequence[Precision]) -> Answers:
    """The answers that give the stages these bits."""
    yield "bits", "binary" if all(p == BINARY for p in precisions) else "mixed"
    for s, precision in enumerate(precisions):
        yield f"stage{s}.weight_bits", precision.weights
        yield f"stage{s}.activation_bits", precision.activations


def ask_recipe(choose: Choose, task: Task, size: Size) -> Recipe:
    """Learning rate and ``t_clip``; the rest follows from the task and the size of the network."""
    few = size.thumbnail
    return Recipe(
        # RAdam's rectification holds back the first few hundred steps, which is all there are here
        optimizer="adamw" if few else "radam",
        learning_rate=choose.number(
            "learning_rate", 5e-3 if few else 5e-4, 4e-2 if few else 1e-2, log=True
        ),
        t_clip=choose.number("t_clip", 0.8, 2.0),
        epochs=task.epochs,
        batch_size=32 if size.small else 128 if few else 256,
        augmentation=_augmentation(task),
    )


def _augmentation(task: Task) -> str:
    """Crops and mirrors; tiny images are shifted by a pixel, if there are epochs to profit from it.

    On 8x8 digits, 12 epochs without shifts reach about two points more than with them.
    """
    if min(task.input[1:]) >= LARGE:
        return "resized-crop-flip"
    if max(task.input[1:]) > 16:
        return "crop-flip"
    return "shift" if task.epochs >= 40 else "none"
