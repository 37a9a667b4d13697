"""What can stand in a stage of the space ``field``: one declaration per kind of block.

A declaration says which fields are asked for, how the block's width follows from what comes in, and
what it needs of its neighbours; ``field`` asks only what fits. A new block joins by one more entry
of ``BODIES``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final, NamedTuple

from bitfront.spaces.architecture import Stage
from bitfront.spaces.blocks import (
    BinaryBasic,
    BiReal,
    Block,
    BNext,
    Boolean,
    Circulant,
    Dense,
    Gated,
    GroupNet,
    Improvement,
    MultiBase,
    QuickNet,
    ReactMobile,
    ReactResidual,
    ResNet,
    SlicedResidual,
    Xnor,
)
from bitfront.spaces.boolnet import boolean_blocks
from bitfront.spaces.choose import Choose, Decision
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.growing import ask_growth, growing, read_growth, repeats
from bitfront.spaces.precision import Precision
from bitfront.spaces.questions import Answers, Size, ask, channels_of, expect, made
from bitfront.spaces.resnet_e import NORMS, SLICES, sliced_blocks, sliced_count

Options = tuple[Decision, ...]


class Site(NamedTuple):
    """Where a stage stands.

    Attributes:
        name: Prefix of its questions.
        length: Blocks, or units of a pattern.
        channels: Channels that it hands on; one that grows starts with so many.
        stride: Of the first block.
        dilation: Of the convolutions.
        precision: Bits and quantizers.
        shortcut_bits: Bits in which its feature maps are stored.
        number: Of its first block in the network, from 1.
        opens: No stage of its kind stands directly before it.
        closes: No stage of its kind stands directly behind it.
        size: Of the network.
    """

    name: str
    length: int
    channels: int
    stride: int
    dilation: int
    precision: Precision
    shortcut_bits: int
    number: int
    opens: bool
    closes: bool
    size: Size


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Body:
    """Stages of one kind of block.

    Attributes:
        name: Answer to the question for a kind.
        block: The block.
        asks: Fields that are asked for, once for a network, with their options.
        fixed: Fields that are the same in all its networks.
        width: "free": the first block makes any number of channels; "same": it needs as many as it
            hands on; "double": it keeps or doubles them; "grow": every block adds some.
        strides: Its first block may halve the size; else a transition must do it.
        bits: "any"; "codes": inputs of 2 bits or more; "own": binary, with quantizers of its own.
        signed: Its signs are taken of the map as it comes in, which must not be rectified then.
        rectified: It hands on no negative values.
        convolutions: Quantised convolutions of a block.
    """

    name: str
    block: type[Block]
    asks: Mapping[str, Options] = field(default_factory=dict)
    fixed: Mapping[str, Decision] = field(default_factory=dict)
    width: str = "free"
    strides: bool = True
    bits: str = "any"
    signed: bool = False
    rectified: bool = False
    convolutions: int = 1

    @property
    def kinds(self) -> tuple[type[Block], ...]:
        """The blocks that its stages consist of."""
        return (self.block,)

    @property
    def stores(self) -> bool:
        """Whether it has feature maps of few bits."""
        return any(f.name == "shortcut_bits" for f in fields(self.block))

    @property
    def dilates(self) -> bool:
        """Whether it may keep the size and be dilated instead."""
        return self.width == "grow"

    @property
    def boolean(self) -> bool:
        """Whether its maps are boolean."""
        return self.block is Boolean

    def units(self, own: Mapping[str, Decision]) -> int:
        """Quantised convolutions of one unit."""
        return self.convolutions

    def ask_own(self, choose: Choose) -> dict[str, Any]:
        """What is asked once for all its stages."""
        return {
            name: ask(choose, f"{self.name}.{name}", options) for name, options in self.asks.items()
        }

    def stage(self, choose: Choose, site: Site, own: Mapping[str, Any]) -> tuple[Block, ...]:
        """The blocks of one stage."""
        given = {**self.fixed, **own, "channels": site.channels}
        if self.bits != "own":
            given["precision"] = site.precision
        if self.stores:
            given["shortcut_bits"] = site.shortcut_bits
        return tuple(
            made(
                self.block,
                **{**given, **self.varied(site, i, own)},
                **({"stride": site.stride if i == 0 else 1} if self.strides else {}),
            )
            for i in range(site.length)
        )

    def varied(self, site: Site, i: int, own: Mapping[str, Any]) -> dict[str, Any]:
        """Fields of the i-th block of a stage that differ from block to block."""
        return {}

    def matches(self, stage: Stage) -> bool:
        """Whether a stage consists of such blocks."""
        return all(
            type(block) in self.kinds
            and all(getattr(block, name) == value for name, value in self.fixed.items())
            for block in stage.blocks
        )

    def read_own(self, stages: Sequence[Stage]) -> Answers:
        """The answers to ``ask_own`` that give these stages."""
        # the last block of a long stage shows most: a first one may differ
        block = max(stages, key=lambda stage: len(stage.blocks)).blocks[-1]
        for name in self.asks:
            yield f"{self.name}.{name}", getattr(block, name)

    def read_stage(self, name: str, stage: Stage) -> Answers:
        """The answers that ``stage`` asks for by itself."""
        yield from ()

    def count(self, stage: Stage) -> int:
        """Units of a stage."""
        return len(stage.blocks)

    def out(self, given: int, blocks: Sequence[Block]) -> int:
        """Channels that a stage of these blocks hands on."""
        return channels_of(blocks[-1])


class _Growing(Body):
    """Dense and improvement blocks, in a pattern."""

    __slots__ = ()

    @property
    def kinds(self) -> tuple[type[Block], ...]:
        return (Dense, Improvement)

    def units(self, own: Mapping[str, Any]) -> int:
        return len(own["pattern"])

    def stage(self, choose: Choose, site: Site, own: Mapping[str, Any]) -> tuple[Block, ...]:
        growth, kernel_size = ask_growth(choose, site.name, site.size)
        unit = growing(
            own["pattern"],
            growth,
            kernel_size,
            site.precision,
            site.shortcut_bits,
            site.dilation,
        )
        return unit * site.length

    def read_own(self, stages: Sequence[Stage]) -> Answers:
        yield f"{self.name}.pattern", self._repeats(stages[0])[0]

    def _repeats(self, stage: Stage) -> tuple[str, int]:
        return repeats(stage, [str(pattern) for pattern in self.asks["pattern"]])

    def read_stage(self, name: str, stage: Stage) -> Answers:
        yield from read_growth(name, stage)

    def count(self, stage: Stage) -> int:
        return self._repeats(stage)[1]

    def out(self, given: int, blocks: Sequence[Block]) -> int:
        return given + sum(block.growth for block in blocks if isinstance(block, Dense))


class _Boolean(Body):
    """Boolean blocks; real values leave the last one of a network."""

    __slots__ = ()

    def stage(self, choose: Choose, site: Site, own: Mapping[str, Any]) -> tuple[Block, ...]:
        return boolean_blocks(
            site.channels,
            site.length,
            stride=site.stride,
            slices=own["slices"],
            concat=own["concat"],
            last=site.closes,
            enlarged=own["enlarged"] and site.closes,
        )

    def read_own(self, stages: Sequence[Stage]) -> Answers:
        block = expect(stages[0].blocks[0], Boolean)
        yield f"{self.name}.slices", block.slices
        yield f"{self.name}.concat", block.concat
        yield f"{self.name}.enlarged", expect(stages[-1].blocks[0], Boolean).projected


class _BNext(Body):
    """Every other block of a network multiplies."""

    __slots__ = ()

    def varied(self, site: Site, i: int, own: Mapping[str, Any]) -> dict[str, Any]:
        return {"multiply": (site.number + i) % 2 == 0}


class _GroupNet(Body):
    """One map enters and leaves a run of such stages; inside it, each base has its own."""

    __slots__ = ()

    def varied(self, site: Site, i: int, own: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "split": not (site.opens and i == 0),
            "merge": site.closes and i == site.length - 1,
        }


class _Sliced(Body):
    """Blocks that write on one slice of the channels after the other."""

    __slots__ = ()

    def stage(self, choose: Choose, site: Site, own: Mapping[str, Any]) -> tuple[Block, ...]:
        return sliced_blocks(
            site.channels, site.length, site.stride, precision=site.precision, **own
        )

    def count(self, stage: Stage) -> int:
        return sliced_count(stage.blocks)


_BODIES: Final[Iterable[Body]] = (
    _Growing(
        name="dense",
        block=Dense,
        asks={"pattern": ("D", "DI", "DII", "DW")},
        width="grow",
        strides=False,
    ),
    Body(name="bireal", block=BiReal, asks={"padding_value": (-1.0, 0.0, 1.0)}, signed=True),
    Body(name="gated", block=Gated, asks={"reduction": (4, 8, 16)}, fixed={"scaling": "gate"}),
    Body(name="factored", block=Gated, fixed={"scaling": "outer"}),
    Body(
        name="xnor",
        block=Xnor,
        asks={"scaling": ("input", "outer", "none")},
        fixed={"relu": True},
        rectified=True,
        convolutions=2,
    ),
    Body(name="bnn", block=Xnor, fixed={"relu": False, "scaling": "none"}, convolutions=2),
    Body(name="react_residual", block=ReactResidual, signed=True),
    Body(name="react_mobile", block=ReactMobile, width="double", signed=True, convolutions=2),
    _BNext(
        name="bnext",
        block=BNext,
        asks={"reduction": (4, 8, 16)},
        width="double",
        signed=True,
        convolutions=2,
    ),
    Body(name="quicknet", block=QuickNet, width="same", strides=False, signed=True),
    Body(
        name="multi_base",
        block=MultiBase,
        asks={"weight_bases": (1, 2, 3, 5), "activation_bases": (1, 2, 3, 5)},
        bits="own",
    ),
    Body(name="circulant", block=Circulant, asks={"rotations": (2, 4, 8)}, bits="own", signed=True),
    _GroupNet(
        name="group_net", block=GroupNet, asks={"bases": (2, 3, 5)}, signed=True, convolutions=2
    ),
    _Sliced(
        name="sliced_residual",
        block=SlicedResidual,
        asks={
            "slices": SLICES,
            "norm": NORMS,
            "input_scale": (False, True),
        },
        signed=True,
    ),
    Body(name="binary_basic", block=BinaryBasic, signed=True, convolutions=2),
    Body(name="resnet", block=ResNet, bits="codes", rectified=True, convolutions=2),
    _Boolean(
        name="boolean",
        block=Boolean,
        asks={"slices": (1, 2, 4, 8), "concat": (False, True), "enlarged": (False, True)},
        bits="own",
        convolutions=2,
    ),
)
BODIES: Final = {body.name: body for body in _BODIES}
# a boolean map cannot enter a real block, nor a real map a boolean one
REAL: Final = tuple(name for name, body in BODIES.items() if not body.boolean)


def body_of(stage: Stage) -> Body:
    """The declaration that a stage follows.

    Raises:
        InvalidValue: If it follows none.
    """
    for body in BODIES.values():
        if body.matches(stage):
            return body
    kinds = ", ".join(sorted({block.kind for block in stage.blocks}))
    raise InvalidValue(f"no stage consists of {kinds} as this one does.")
