"""The space ``resnet-e``: BinaryResNetE-style networks, one shortcut per binary convolution."""

from __future__ import annotations

from typing import Any, Final

from bitfront.spaces.architecture import Architecture, Stage
from bitfront.spaces.blocks import (
    BiReal,
    Block,
    Classifier,
    SlicedResidual,
    StemConv7x7,
    StemGrouped,
    StemThumbnail,
)
from bitfront.spaces.candidate import Candidate
from bitfront.spaces.choose import Choose
from bitfront.spaces.inverse import readers
from bitfront.spaces.precision import BINARY, Precision, precision_of
from bitfront.spaces.quantizers import SIGN, MagnitudeSign
from bitfront.spaces.questions import (
    CHANNELS,
    SHORTCUT_BITS,
    SMALL_CHANNELS,
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
    read_precisions,
    read_size,
    sized,
    unexpected,
)
from bitfront.spaces.space import Task, spaces

STEMS: Final = {"grouped": StemGrouped, "conv7x7": StemConv7x7}
# convolutions of a network without slices
BLOCKS: Final = Counts(
    name="blocks",
    usual=((2, 3, 4, 5, 6), (2, 3, 4, 5, 6)),
    # ResNetE34
    deep=((4, 6, 8), (6, 8, 10), (8, 10, 12, 16), (4, 6, 8)),
)
SMALL_BLOCKS: Final = Counts(name="blocks", usual=((3, 4), (3, 4)))
SLICES: Final = (1, 2, 4)
NORMS: Final = ("after", "before")
SCALED: Final = precision_of(weight=MagnitudeSign(), input=SIGN)


@spaces.register("resnet-e")
def resnet_e(choose: Choose, task: Task) -> Candidate:
    """Residual blocks, channels, bits, shortcut bits, slices, t_clip and learning rate.

    Images of at least 64 pixels get ResNetE's stems, widths and depths; smaller ones a thumbnail
    stem and two or three narrow stages, or from 32 pixels on (``size``) four of full width. The
    first stage is as wide as the stem. ``form`` is "plain", the form E1 with ``shortcut_bits``, or
    "sliced": so many times more convolutions, each on one of the slices of the channels, with the
    ``norm`` after (E1) or before them (E2), and binary ones ``scaled`` like XNOR-Net's or not.
    ``bits`` is that of the space ``melius``.

    References:
        Bethge et al. 2019, Back to Simplicity (arXiv:1906.08637).
    """
    answering = choose
    choose, size = ask_size(choose, task.input)
    count = ask_stages(choose, size)
    stem = StemThumbnail if size.thumbnail else STEMS[choose.option("stem", tuple(STEMS))]
    sliced = choose.option("form", ("plain", "sliced")) == "sliced"
    shortcut_bits = 32 if sliced else choose.ordered("shortcut_bits", SHORTCUT_BITS)
    blocks = _counts(size).ask(choose, count)
    binary = binary_stages(choose, blocks)
    form = _ask_slices(choose, all_binary=len(binary) == count) if sliced else {}
    widths = [
        choose.ordered(f"stage{s}.channels", (SMALL_CHANNELS if size.small else CHANNELS)[s])
        for s in range(count)
    ]
    stages = []
    for s, channels in enumerate(widths):
        precision = ask_precision(choose, s, binary)
        stride = 1 if s == 0 else 2
        run: tuple[Block, ...]
        if sliced:
            run = sliced_blocks(channels, blocks[s], stride, **{"precision": precision, **form})
        else:
            run = _plain(channels, blocks[s], stride, precision, shortcut_bits)
        stages.append(Stage(blocks=run))
    return Candidate(
        architecture=Architecture(
            input=task.input,
            stem=_stem(stem, widths[0], shortcut_bits, size),
            stages=tuple(stages),
            head=made(Classifier, classes=task.classes, norm=form.get("norm") == "before"),
        ),
        recipe=ask_recipe(answering, task, size),
    )


def _counts(size: Size) -> Counts:
    return SMALL_BLOCKS if size.small else BLOCKS


def _stem(kind: type[Block], channels: int, out_bits: int, size: Size) -> Block:
    norms = {"input_norm": True} if size.thumbnail else {"input_norm": True, "final_norm": True}
    return made(kind, channels=channels, out_bits=out_bits, **norms)


def _ask_slices(choose: Choose, all_binary: bool) -> dict[str, Any]:
    """Fields of the sliced blocks."""
    form: dict[str, Any] = {
        "slices": choose.ordered("slices", SLICES),
        "norm": choose.option("norm", NORMS),
    }
    if all_binary and choose.option("scaled", (False, True)):
        form |= {"input_scale": True, "precision": SCALED}
    return form


def _plain(
    channels: int, count: int, stride: int, precision: Precision, shortcut_bits: int
) -> tuple[Block, ...]:
    fields = {
        "channels": channels,
        "precision": precision,
        "shortcut_bits": shortcut_bits,
        "padding_value": -1.0,
    }
    return (made(BiReal, stride=stride, **fields), *[made(BiReal, **fields)] * (count - 1))


def sliced_blocks(
    channels: int, count: int, stride: int, *, slices: int, **fields: Any
) -> tuple[SlicedResidual, ...]:
    """The blocks of a stage, in turn on each slice.

    Args:
        channels: Of the feature map.
        count: Convolutions of a stage without slices; each stands for one on every slice, but for
            one with a stride, which writes on all channels.
        stride: Of the first.
        slices: Parts of the channels.
        **fields: Other fields of a block.
    """
    whole = 1 if stride > 1 else 0
    first = [made(SlicedResidual, channels=channels, stride=stride, **fields)] * whole
    turn = [
        made(SlicedResidual, channels=channels, slices=slices, write_on=i, **fields)
        for i in range(slices)
    ]
    return (*first, *turn * (count - whole))


def sliced_count(blocks: tuple[Block, ...]) -> int:
    """The ``count`` that gives these blocks."""
    known = [expect(block, SlicedResidual) for block in blocks]
    whole = 1 if known[0].stride > 1 else 0
    return whole + (len(known) - whole) // known[-1].slices


@readers.register("resnet-e")
def _read(architecture: Architecture) -> Answers:
    size = read_size(architecture)
    yield from sized(_read_full(architecture, size), size)


def _expect_residual(block: Block) -> BiReal | SlicedResidual:
    if isinstance(block, BiReal | SlicedResidual):
        return block
    raise unexpected(block, BiReal, SlicedResidual)


def _read_full(architecture: Architecture, size: Size) -> Answers:
    runs = [stage.blocks for stage in architecture.stages]
    blocks = [_expect_residual(run[-1]) for run in runs]
    yield "stages", len(runs)
    for name, kind in STEMS.items():
        if isinstance(architecture.stem, kind):
            yield "stem", name
    first = blocks[0]
    if isinstance(first, BiReal):
        yield "form", "plain"
        yield "shortcut_bits", first.shortcut_bits
        yield from _counts(size).read([len(run) for run in runs])
    else:
        yield "form", "sliced"
        yield "slices", first.slices
        yield "norm", first.norm
        yield "scaled", first.input_scale
        yield from _counts(size).read([sliced_count(run) for run in runs])
    for s, block in enumerate(blocks):
        yield f"stage{s}.channels", block.channels
    yield from read_precisions(
        [BINARY if block.precision == SCALED else block.precision for block in blocks]
    )
