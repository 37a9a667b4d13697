"""The network as data: stem, stages of blocks, transitions, head."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, ClassVar, Final

from bitfront.spaces.blocks import Block
from bitfront.spaces.errors import InfeasibleArchitecture, InvalidValue
from bitfront.spaces.graph import MEMBER, Builder, Graph
from bitfront.spaces.ops import Input, Mean
from bitfront.spaces.value import MAX_BITS, Value, added, canonical, decode, digest_of, encode

VERSION: Final = 1
MAX_SIZE: Final = 4096
MAX_BLOCKS: Final = 1024
MAX_MEMBERS: Final = 32
MAX_NODES: Final = 50_000
VOTE: Final = Mean()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stage(Value):
    """Blocks at one resolution, and the transition that leads out of them.

    Attributes:
        blocks: At least one body block.
        transition: None where the next stage's first block changes the size itself.
    """

    blocks: tuple[Block, ...]
    transition: Block | None = None

    def check(self) -> None:
        """Blocks stand where they belong."""
        if not self.blocks:
            raise InvalidValue("A stage needs at least one block.")
        for block in self.blocks:
            _placed(block, "body")
        if self.transition is not None:
            _placed(self.transition, "transition")


def _unreadable(where: str, version: int) -> InvalidValue:
    newer = "; a newer bitfront wrote it" if version > VERSION else ""
    return InvalidValue(f"{where}: version must be {VERSION}, but is {version}{newer}.")


def _check_blocks(count: int) -> None:
    if count > MAX_BLOCKS:
        raise InvalidValue(f"A network has at most {MAX_BLOCKS} blocks, but this has {count}.")


def _told_blocks(stage: Any) -> int:
    """Blocks of a stage in JSON data that may be of any form."""
    blocks = stage.get("blocks") if isinstance(stage, dict) else None
    return len(blocks) if isinstance(blocks, list) else 0


def _placed(block: Block, place: str) -> None:
    if block.place != place:
        raise InvalidValue(f"A {block.kind!r} block is a {block.place}, not a {place}.")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Architecture(Value):
    """A network as data; equal content means equal digest.

    Attributes:
        input: Channels, rows and columns of an image.
        input_bits: Bits of a stored pixel value.
        stem: First block.
        stages: Body.
        head: Last block; it knows the number of classes.
        version: Of this format.
        members: Networks of this form, each with weights of its own, whose logits are averaged.
        digest: SHA-256 of the canonical JSON, computed at construction.
    """

    input: tuple[int, int, int]
    stem: Block
    stages: tuple[Stage, ...]
    head: Block
    input_bits: int = 8
    version: int = VERSION
    members: int = added(1)
    digest: str = field(init=False, repr=False, default="")

    # plain class attributes cannot stand beside slots of the same name
    READABLE: ClassVar[tuple[int, ...]] = (1,)

    def check(self) -> None:
        """Sizes are sane, blocks stand where they belong, the version is known."""
        if self.version not in self.READABLE:
            raise _unreadable("An architecture", self.version)
        if len(self.input) != 3 or not all(1 <= n <= MAX_SIZE for n in self.input):
            raise InvalidValue(
                f"input must be channels, rows and columns of 1 to {MAX_SIZE}, but is "
                f"{list(self.input)}."
            )
        if self.input_bits not in (1, 8, 16, 32):
            raise InvalidValue(f"input_bits must be 1, 8, 16 or 32, but is {self.input_bits}.")
        if not self.stages:
            raise InvalidValue("A network needs at least one stage.")
        _check_blocks(sum(len(stage.blocks) for stage in self.stages))
        if not 1 <= self.members <= MAX_MEMBERS:
            raise InvalidValue(f"members must be 1 to {MAX_MEMBERS}, but is {self.members}.")
        _placed(self.stem, "stem")
        _placed(self.head, "head")
        object.__setattr__(self, "digest", digest_of(_canonical(self)))

    @property
    def classes(self) -> int:
        """Number of classes that the head tells apart."""
        return int(getattr(self.head, "classes", 0))

    def json(self) -> dict[str, Any]:
        """Plain data; ``from_json`` reads it back to an equal architecture."""
        data = encode(self)
        if not isinstance(data, dict):
            raise TypeError("An architecture encodes to an object.")
        return data

    @classmethod
    def from_json(cls, data: Any, where: str = "architecture") -> Architecture:
        """Read an architecture from the data that ``json`` gave.

        Raises:
            InvalidValue: If the document is of a newer version, or breaks a rule.
        """
        if isinstance(data, dict):
            version = data.get("version", VERSION)
            # before all else: a newer form may have fields that are unknown here
            if isinstance(version, int) and VERSION < version < 2**MAX_BITS:
                raise _unreadable(where, version)
            # and before the blocks themselves, which take far longer to read
            stages = data.get("stages")
            if isinstance(stages, list):
                _check_blocks(sum(map(_told_blocks, stages)))
        try:
            return decode(cls, data, where)
        except RecursionError:
            raise InvalidValue(f"{where} is nested too deeply to be an architecture.") from None

    def twin(self) -> Architecture:
        """The same network at 32 bits: identity quantizers, 32-bit feature maps.

        Where a block's binary maps are several for one, the twin has that one: BoolNet's slices and
        logic become a residual network's map and additions, ABC-Net's bases one convolution.
        """
        return replace(
            self,
            stem=self.stem.full(),
            stages=tuple(
                replace(
                    stage,
                    blocks=tuple(block.full() for block in stage.blocks),
                    transition=None if stage.transition is None else stage.transition.full(),
                )
                for stage in self.stages
            ),
            head=self.head.full(),
        )

    def lower(self) -> Graph:
        """Lower to primitive ops over typed tensors.

        Raises:
            InfeasibleArchitecture: If a shape does not fit.
        """
        b = Builder()
        x = b.add(_input(self.input, self.input_bits), name="input")
        if self.members == 1:
            self._lower(b, x)
            return b.graph()
        logits = []
        for m in range(self.members):
            b.enter(f"members.{m}", MEMBER)
            logits.append(self._lower(b, x))
            b.leave()
        b.add(VOTE, *logits, name="vote")
        return b.graph()

    def _lower(self, b: Builder, x: int) -> int:
        """One network, stem to head, on the image ``x``."""
        b.enter("stem", self.stem.kind)
        x = self.stem.build(b, x)
        b.leave()
        for s, stage in enumerate(self.stages):
            b.enter(f"stages.{s}", "stage")
            for i, block in enumerate(stage.blocks):
                b.enter(f"blocks.{i}", block.kind)
                x = block.build(b, x)
                b.leave()
                if len(b.nodes) > MAX_NODES:
                    raise InfeasibleArchitecture(
                        f"A network has at most {MAX_NODES:,} operations, but this has more: "
                        f"{b.nodes[-1].name} is number {len(b.nodes):,}."
                    )
            if stage.transition is not None:
                b.enter("transition", stage.transition.kind)
                x = stage.transition.build(b, x)
                b.leave()
            b.leave()
        b.enter("head", self.head.kind)
        x = self.head.build(b, x)
        b.leave()
        return x


@cache
def _input(shape: tuple[int, int, int], bits: int) -> Input:
    return Input(shape=shape, bits=bits)


# A search builds thousands of architectures from few distinct blocks: their text is remembered.


@cache
def _block_text(block: Block | None) -> str:
    return "null" if block is None else canonical(encode(block))


def _canonical(architecture: Architecture) -> str:
    """The text of ``canonical(architecture.json())``, put together from remembered parts."""
    stages = ",".join(
        f'{{"blocks":[{",".join(map(_block_text, stage.blocks))}]'
        f',"transition":{_block_text(stage.transition)}}}'
        for stage in architecture.stages
    )
    shape = ",".join(map(str, architecture.input))
    members = "" if architecture.members == 1 else f',"members":{architecture.members}'
    return (
        f'{{"head":{_block_text(architecture.head)},"input":[{shape}]'
        f',"input_bits":{architecture.input_bits}{members},"stages":[{stages}]'
        f',"stem":{_block_text(architecture.stem)},"version":{architecture.version}}}'
    )


def _integer(text: str) -> int:
    # python refuses to read integers of more than 4300 digits, with advice for programmers
    if len(text) > 20:
        raise InvalidValue(f"A whole number has at most 20 digits, but {text[:10]}... has more.")
    return int(text)


def read_architecture(text: str, where: str = "architecture") -> Architecture:
    """Read an architecture from JSON text: the architecture itself, or a file that holds one.

    Args:
        text: JSON text; an object with a key ``architecture`` is what an export writes.
        where: Name of the document, for error texts.

    Raises:
        InvalidValue: If it is not JSON, or breaks a rule.
    """
    try:
        data = json.loads(text, parse_int=_integer)
    except InvalidValue as error:
        raise InvalidValue(f"{where}: {error}") from None
    except ValueError as error:
        raise InvalidValue(f"{where} must be JSON, but is not: {error}.") from None
    except RecursionError:
        raise InvalidValue(f"{where} is nested too deeply to be an architecture.") from None
    if isinstance(data, dict) and "architecture" in data:
        data = data["architecture"]
    return Architecture.from_json(data, where)
