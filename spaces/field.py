"""The space ``field``: the networks of all families, and what lies between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from bitfront.spaces.architecture import Architecture, Stage
from bitfront.spaces.bits import ask_precisions, read_precisions
from bitfront.spaces.blocks import Block, StemConv3x3
from bitfront.spaces.bodies import BODIES, REAL, Body, Site, body_of
from bitfront.spaces.candidate import Candidate
from bitfront.spaces.choose import Choose
from bitfront.spaces.graph import Domain
from bitfront.spaces.growing import ask_reduction, read_reduction
from bitfront.spaces.inverse import readers
from bitfront.spaces.precision import BINARY, Precision
from bitfront.spaces.quantizers import ESTIMATORS
from bitfront.spaces.questions import (
    CHANNELS,
    SHORTCUT_BITS,
    SMALL_CHANNELS,
    Answers,
    Counts,
    Size,
    ask_recipe,
    ask_size,
    ask_stages,
    channels_of,
    read_size,
    sized,
)
from bitfront.spaces.recipe import Recipe
from bitfront.spaces.space import Task, spaces
from bitfront.spaces.surroundings import (
    GROUPS,
    STRIDE,
    Stem,
    ask_entry,
    ask_head,
    ask_stem,
    ask_stem_channels,
    built_stem,
    built_transition,
    read_entry,
    read_head,
    read_stem,
)

# the stage before the others, behind a stem that halves the size only once
HALF: Final = "half"
HALF_BLOCKS: Final = (1, 2)
BLOCKS: Final = Counts(
    name="blocks",
    usual=((2, 3, 4, 5, 6), (2, 3, 4, 5, 6)),
    deep=((3, 4, 5, 6), (4, 5, 6, 8, 12), (8, 10, 12, 14, 16, 24), (4, 5, 6, 8, 10, 12)),
)
SMALL_BLOCKS: Final = Counts(name="blocks", usual=((3, 4), (3, 4)))


class _Draft(NamedTuple):
    """What is decided of a stage before it is built."""

    name: str
    body: Body
    length: int
    precision: Precision
    dilation: int
    entry: str


@spaces.register("field")
def field(choose: Choose, task: Task) -> Candidate:
    """Kinds of blocks, for the network or for each stage, their bits, quantizers and surroundings.

    ``kinds`` is "one" for a network of one kind of block, as the published ones are, or "several"
    to ask for the kind of each stage. What does not fit is not asked for: boolean maps keep to
    boolean stages, a block that takes signs of its input gets no input without negative values,
    and a block that cannot halve the size follows a transition. ``bits`` is "binary", "mixed" as
    in the space ``melius``, or "uniform" for one width of all weights and one of all inputs.
    Images of at least 64 pixels get the published stems, widths and depths; smaller ones keep their
    pixels behind the stem and have two or three narrow stages, or from 32 pixels on (``size``)
    four of full width.
    """
    answering = choose
    choose, size = ask_size(choose, task.input)
    names, bodies, stem = _ask_kinds(choose, size)
    own = {body.name: body.ask_own(choose) for body in dict.fromkeys(bodies)}
    counts = _ask_counts(choose, names, size)
    stored = any(body.stores for body in bodies)
    shortcut_bits = choose.ordered("shortcut_bits", SHORTCUT_BITS) if stored else 32
    units = [n * body.units(own[body.name]) for n, body in zip(counts, bodies, strict=True)]
    precisions = ask_precisions(choose, names, bodies, units)
    dilations = _ask_dilations(choose, bodies, size)
    entries = [STRIDE] + [
        ask_entry(choose, names[s], bodies[s - 1], bodies[s], dilations[s] > 1)
        for s in range(1, len(names))
    ]
    drafts = [
        _Draft(*parts)
        for parts in zip(names, bodies, counts, precisions, dilations, entries, strict=True)
    ]
    channels = ask_stem_channels(choose, size)
    return Candidate(
        architecture=Architecture(
            input=task.input,
            stem=built_stem(
                stem,
                channels,
                shortcut_bits if bodies[0].stores else 32,
                own[bodies[0].name].get("slices", 1),
            ),
            stages=_built(choose, drafts, own, channels, shortcut_bits, size),
            head=ask_head(choose, task.classes),
        ),
        recipe=_ask_training(answering, task, size, drafts),
    )


def _ask_training(choose: Choose, task: Task, size: Size, drafts: Sequence[_Draft]) -> Recipe:
    """The recipe, with the derivative of the signs where layers take signs of their inputs."""
    recipe = ask_recipe(choose, task, size)
    if all(
        draft.body.boolean or draft.precision.input.domain is not Domain.BIPOLAR for draft in drafts
    ):
        return recipe
    return replace(recipe, estimator=choose.option("estimator", tuple(ESTIMATORS)))


def _ask_kinds(choose: Choose, size: Size) -> tuple[list[str], list[Body], Stem]:
    """The stages' names, what stands in them, and the stem."""
    count = ask_stages(choose, size)
    names = [f"stage{s}" for s in range(count)]
    several = choose.option("kinds", ("one", "several")) == "several"
    if several:
        bodies = [BODIES[choose.option(f"{name}.kind", REAL)] for name in names]
    else:
        bodies = [BODIES[choose.option("kind", tuple(BODIES))]] * count
    stem = ask_stem(choose, bodies[0], size)
    if stem.halvings == 1:
        first = BODIES[choose.option(f"{HALF}.kind", REAL)] if several else bodies[0]
        return [HALF, *names], [first, *bodies], stem
    return names, bodies, stem


def _ask_counts(choose: Choose, names: Sequence[str], size: Size) -> list[int]:
    known = SMALL_BLOCKS if size.small else BLOCKS
    if names[0] != HALF:
        return known.ask(choose, len(names))
    return [choose.ordered(f"{HALF}.blocks", HALF_BLOCKS), *known.ask(choose, len(names) - 1)]


def _ask_dilations(choose: Choose, bodies: Sequence[Body], size: Size) -> list[int]:
    """Dilations; a dilated stage keeps the size of the one before."""
    dilated = 0
    if not size.small and len(bodies) >= 4 and all(body.dilates for body in bodies[-2:]):
        dilated = choose.ordered("dilated_stages", (0, 1, 2))
    return [2 ** max(0, s + 1 + dilated - len(bodies)) for s in range(len(bodies))]


def _built(
    choose: Choose,
    drafts: Sequence[_Draft],
    own: Mapping[str, Mapping[str, Any]],
    channels: int,
    shortcut_bits: int,
    size: Size,
) -> tuple[Stage, ...]:
    """The stages, with the channels that are asked for on the way."""
    groups = 1
    if not size.small and any(draft.entry == "transition" for draft in drafts):
        groups = choose.ordered("transition.groups", GROUPS)
    runs: list[tuple[Block, ...]] = []
    transitions: list[Block | None] = []
    number = 1
    for s, draft in enumerate(drafts):
        body, stride = draft.body, draft.entry == STRIDE
        channels = _ask_channels(choose, draft, channels, size, first=s == 0)
        if s > 0:
            bits = shortcut_bits if body.stores else 32
            dilated = draft.dilation > 1
            transitions.append(built_transition(draft.entry, channels, groups, bits, dilated))
        site = Site(
            name=draft.name,
            length=draft.length,
            channels=channels,
            stride=2 if stride and s > 0 else 1,
            dilation=draft.dilation,
            precision=draft.precision,
            shortcut_bits=shortcut_bits,
            number=number,
            opens=s == 0 or not stride or drafts[s - 1].body is not body,
            closes=s + 1 == len(drafts)
            or drafts[s + 1].entry != STRIDE
            or drafts[s + 1].body is not body,
            size=size,
        )
        runs.append(body.stage(choose, site, own[body.name]))
        channels = body.out(channels, runs[-1])
        number += len(runs[-1])
    return tuple(
        Stage(blocks=run, transition=transition)
        for run, transition in zip(runs, [*transitions, None], strict=True)
    )


def _ask_channels(choose: Choose, draft: _Draft, channels: int, size: Size, *, first: bool) -> int:
    """Channels behind the transition or the first block of a stage.

    Args:
        choose: Answers.
        draft: The stage.
        channels: Of what comes in.
        size: Of the network.
        first: It follows the stem, and is as wide, if it does not double the channels.
    """
    width = draft.body.width
    if width in ("double", "grow") and draft.entry != STRIDE:
        return ask_reduction(choose, draft.name, channels, size)
    if width == "double":
        return channels * choose.ordered(f"{draft.name}.doubling", (1, 2))
    if first:
        return channels
    level = int(draft.name.removeprefix("stage"))
    options = (SMALL_CHANNELS if size.small else CHANNELS)[level]
    return choose.ordered(f"{draft.name}.channels", options)


@readers.register("field")
def _read(architecture: Architecture) -> Answers:
    size = read_size(architecture)
    yield from sized(_read_sized(architecture, size), size)


def _read_sized(architecture: Architecture, size: Size) -> Answers:
    stages = architecture.stages
    bodies = [body_of(stage) for stage in stages]
    half = not size.thumbnail and isinstance(architecture.stem, StemConv3x3)
    names = [f"stage{s}" for s in range(len(stages) - half)]
    yield "stages", len(names)
    if half:
        names.insert(0, HALF)
    yield "kinds", "one" if len(set(bodies)) == 1 else "several"
    yield "kind", bodies[0].name
    for name, body in zip(names, bodies, strict=True):
        yield f"{name}.kind", body.name
    yield from read_stem(architecture.stem, size)
    for body in dict.fromkeys(bodies):
        yield from body.read_own([s for s, b in zip(stages, bodies, strict=True) if b is body])
    counts = [body.count(stage) for body, stage in zip(bodies, stages, strict=True)]
    yield f"{HALF}.blocks", counts[0]
    yield from (SMALL_BLOCKS if size.small else BLOCKS).read(counts[half:])
    for body, stage in zip(bodies, stages, strict=True):
        if body.stores:
            yield "shortcut_bits", int(getattr(stage.blocks[0], "shortcut_bits"))  # noqa: B009
    yield from read_precisions(
        names, bodies, [getattr(stage.blocks[-1], "precision", BINARY) for stage in stages]
    )
    yield "dilated_stages", sum(getattr(stage.blocks[0], "dilation", 1) > 1 for stage in stages)
    channels = channels_of(architecture.stem)
    for s, (name, body, stage) in enumerate(zip(names, bodies, stages, strict=True)):
        transition = stages[s - 1].transition if s > 0 else None
        if s > 0:
            yield from read_entry(name, transition)
        yield from body.read_stage(name, stage)
        if body.width in ("free", "same"):
            yield f"{name}.channels", body.out(channels, stage.blocks)
        elif transition is not None:
            after = channels_of(transition)
            yield from read_reduction(name, channels, after, size)
            channels = after
        elif body.width == "double":
            yield f"{name}.doubling", body.out(channels, stage.blocks) // channels
        channels = body.out(channels, stage.blocks)
    yield from read_head(architecture.head)
