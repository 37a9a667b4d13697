"""Stems, transitions and heads of the space ``field``, asked for and read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from bitfront.spaces.blocks import (
    Block,
    Classifier,
    DenseTransition,
    QuickNetTransition,
    StemBoolNet,
    StemConv3x3,
    StemConv7x7,
    StemGrouped,
    StemQuickNet,
    StemThumbnail,
    Transition,
)
from bitfront.spaces.bodies import Body
from bitfront.spaces.choose import Choose
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.precision import FULL, Precision
from bitfront.spaces.questions import Answers, Size, channels_of, expect, made, unexpected


class Stem(NamedTuple):
    """A stem and what is fixed of it.

    Attributes:
        block: The block.
        fields: Its fixed fields.
        rectified: It hands on no negative values.
        stores: It has a width in which its result is stored.
        halvings: How often it halves the size.
    """

    block: type[Block]
    fields: Mapping[str, Any] = {}
    rectified: bool = False
    stores: bool = False
    halvings: int = 2


_NORMS: Final = {"input_norm": True, "final_norm": True}
STEMS: Final = {
    "conv7x7": Stem(StemConv7x7, rectified=True, stores=True),
    "conv7x7-prelu": Stem(StemConv7x7, {"activation": "prelu"}, stores=True),
    "conv7x7-plain": Stem(StemConv7x7, {"activation": "none"}, stores=True),
    "conv7x7-norms": Stem(StemConv7x7, _NORMS, stores=True),
    "grouped": Stem(StemGrouped, rectified=True, stores=True),
    "grouped-norms": Stem(StemGrouped, _NORMS, stores=True),
    "quicknet": Stem(StemQuickNet),
    "conv3x3": Stem(StemConv3x3, halvings=1),
}
SIGNED_STEMS: Final = tuple(name for name, stem in STEMS.items() if not stem.rectified)
THUMBNAIL_STEMS: Final = {
    "thumbnail": Stem(StemThumbnail, stores=True, halvings=0),
    "thumbnail-norm": Stem(StemThumbnail, {"input_norm": True}, stores=True, halvings=0),
    "conv3x3": Stem(StemConv3x3, {"stride": 1}, halvings=0),
}
BOOLEAN_STEMS: Final = {
    "shifted": Stem(StemBoolNet),
    "plain": Stem(StemBoolNet, {"local_shift": False}),
}
THUMBNAIL_BOOLEAN_STEMS: Final = {
    "shifted": Stem(StemBoolNet, {"thumbnail": True}, halvings=0),
    "plain": Stem(StemBoolNet, {"local_shift": False, "thumbnail": True}, halvings=0),
}


def ask_stem(choose: Choose, body: Body, size: Size) -> Stem:
    """A stem that the first stage can read."""
    if body.boolean:
        known = THUMBNAIL_BOOLEAN_STEMS if size.thumbnail else BOOLEAN_STEMS
        return known[choose.option("boolean_stem", tuple(known))]
    if size.thumbnail:
        return THUMBNAIL_STEMS[choose.option("stem", tuple(THUMBNAIL_STEMS))]
    if body.signed:
        return STEMS[choose.option("signed_stem", SIGNED_STEMS)]
    return STEMS[choose.option("stem", tuple(STEMS))]


def ask_stem_channels(choose: Choose, size: Size) -> int:
    """Channels of the stem."""
    if size.small:
        return choose.ordered("stem.channels", (16, 32))
    return choose.ordered("stem.channels", (32, 48, 64, 96, 128))


def built_stem(stem: Stem, channels: int, stored_bits: int, slices: int) -> Block:
    """The block.

    Args:
        stem: Which one.
        channels: Of it.
        stored_bits: Width in which a real map is stored.
        slices: Boolean maps that a boolean one hands on.
    """
    fields = dict(stem.fields)
    if stem.stores:
        fields["out_bits"] = stored_bits
    if stem.block is StemBoolNet:
        fields["slices"] = slices
    return made(stem.block, channels=channels, **fields)


def read_stem(block: Block, size: Size) -> Answers:
    """The answers that give this stem.

    Raises:
        InvalidValue: If there is no such stem.
    """
    boolean = THUMBNAIL_BOOLEAN_STEMS if size.thumbnail else BOOLEAN_STEMS
    for question, known in (
        ("stem", THUMBNAIL_STEMS if size.thumbnail else STEMS),
        ("boolean_stem", boolean),
    ):
        for name, stem in known.items():
            if _is(block, stem):
                yield question, name
                yield f"signed_{question}", name
                yield "stem.channels", channels_of(block)
                return
    raise InvalidValue(f"there is no stem like this {block.kind!r}.")


def _is(block: Block, stem: Stem) -> bool:
    if type(block) is not stem.block:
        return False
    given = {
        name: getattr(block, name)
        for name in ("channels", "out_bits", "slices")
        if hasattr(block, name)
    }
    return block == made(stem.block, **stem.fields, **given)


TRANSITIONS: Final[Mapping[str, type[Block]]] = {
    "transition": Transition,
    "dense": DenseTransition,
    "quicknet": QuickNetTransition,
}
STRIDE: Final = "stride"
GROUPS: Final = (1, 2, 4, 8)


def ask_entry(choose: Choose, name: str, before: Body, body: Body, dilated: bool) -> str:
    """How a stage is entered: by a stride of its first block, or by a transition.

    Args:
        choose: Answers.
        name: Of the stage.
        before: What stands in the stage before.
        body: What stands in it.
        dilated: It keeps the size.
    """
    if dilated:
        return "transition"
    if body.boolean:
        return STRIDE
    if body.strides and not (before.rectified and body.signed):
        return choose.option(f"{name}.entry", (STRIDE, *TRANSITIONS))
    return choose.option(f"{name}.transition", tuple(TRANSITIONS))


def built_transition(
    entry: str, channels: int, groups: int, stored_bits: int, dilated: bool
) -> Block | None:
    """The transition by which a stage is entered, if by any."""
    if entry == STRIDE:
        return None
    kind = TRANSITIONS[entry]
    if kind is not Transition:
        return made(kind, channels=channels)
    return made(
        Transition, channels=channels, groups=groups, pool=not dilated, out_bits=stored_bits
    )


def read_entry(name: str, transition: Block | None) -> Answers:
    """The answers that give this transition before a stage."""
    kinds = {kind: entry for entry, kind in TRANSITIONS.items()}
    if transition is not None and type(transition) not in kinds:
        raise unexpected(transition, *kinds)
    entry = STRIDE if transition is None else kinds[type(transition)]
    yield f"{name}.entry", entry
    yield f"{name}.transition", entry
    if isinstance(transition, Transition):
        yield "transition.groups", transition.groups


ACTIVATIONS: Final = ("none", "relu", "prelu")
# DoReFa weights: a learned step may collapse at the learning rates that small networks like
HEADS: Final = {8: Precision(weights=8, activations=32), 32: FULL}


def ask_head(choose: Choose, classes: int) -> Block:
    """The classifier, and the bits of its weights."""
    activation = choose.option("head.activation", ACTIVATIONS)
    return made(
        Classifier,
        classes=classes,
        norm=choose.option("head.norm", (False, True)),
        relu=activation == "relu",
        prelu=activation == "prelu",
        precision=HEADS[choose.ordered("head.bits", tuple(HEADS))],
    )


def read_head(block: Block) -> Answers:
    """The answers that give this head."""
    head = expect(block, Classifier)
    yield "head.activation", "relu" if head.relu else "prelu" if head.prelu else "none"
    yield "head.norm", head.norm
    yield "head.bits", head.precision.weights
