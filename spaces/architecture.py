"""The network as data: stem, stages of blocks, transitions, head."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, ClassVar, Final

from bitfront.spaces.blocks import Block
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.graph import Builder, Graph
from bitfront.spaces.ops import Input
from bitfront.spaces.value import Value, canonical, decode, digest_of, encode

VERSION: Final = 1
MAX_SIZE: Final = 4096
MAX_BLOCKS: Final = 1024


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
        digest: SHA-256 of the canonical JSON, computed at construction.
    """

    input: tuple[int, int, int]
    stem: Block
    stages: tuple[Stage, ...]
    head: Block
    input_bits: int = 8
    version: int = VERSION
    digest: str = field(init=False, repr=False, default="")

    # plain class attributes cannot stand beside slots of the same name
    READABLE: ClassVar[tuple[int, ...]] = (1,)

    def check(self) -> None:
        """Sizes are sane, blocks stand where they belong, the version is known."""
        if self.version not in self.READABLE:
            raise InvalidValue(
                f"An architecture's version must be at most {VERSION}, but is {self.version}; "
                "a newer bitfront wrote it."
            )
        if len(self.input) != 3 or not all(1 <= n <= MAX_SIZE for n in self.input):
            raise InvalidValue(
                f"input must be channels, rows and columns of 1 to {MAX_SIZE}, but is "
                f"{list(self.input)}."
            )
        if self.input_bits not in (1, 8, 16, 32):
            raise InvalidValue(f"input_bits must be 1, 8, 16 or 32, but is {self.input_bits}.")
        count = sum(len(stage.blocks) for stage in self.stages)
        if not 1 <= count <= MAX_BLOCKS:
            raise InvalidValue(f"A network has 1 to {MAX_BLOCKS} blocks, but this has {count}.")
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
            if isinstance(version, int) and version > VERSION:
                raise InvalidValue(
                    f"{where}.version must be at most {VERSION}, but is {version}; a newer "
                    "bitfront wrote it."
                )
        return decode(cls, data, where)

    def twin(self) -> Architecture:
        """The same graph at 32 bits: identity quantizers, 32-bit feature maps.

        Raises:
            InvalidValue: If a block is boolean by nature, so that nothing of it is left at 32 bits.
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
        b.enter("stem", self.stem.kind)
        x = self.stem.build(b, x)
        b.leave()
        for s, stage in enumerate(self.stages):
            b.enter(f"stages.{s}", "stage")
            for i, block in enumerate(stage.blocks):
                b.enter(f"blocks.{i}", block.kind)
                x = block.build(b, x)
                b.leave()
            if stage.transition is not None:
                b.enter("transition", stage.transition.kind)
                x = stage.transition.build(b, x)
                b.leave()
            b.leave()
        b.enter("head", self.head.kind)
        self.head.build(b, x)
        b.leave()
        return b.graph()


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
    return (
        f'{{"head":{_block_text(architecture.head)},"input":[{shape}]'
        f',"input_bits":{architecture.input_bits},"stages":[{stages}]'
        f',"stem":{_block_text(architecture.stem)},"version":{architecture.version}}}'
    )


def read_architecture(text: str, where: str = "architecture") -> Architecture:
    """Read an architecture from JSON text: the architecture itself, or a file that holds one.

    Args:
        text: JSON text; an object with a key ``architecture`` is what an export writes.
        where: Name of the document, for error texts.

    Raises:
        InvalidValue: If it is not JSON, or breaks a rule.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise InvalidValue(f"{where} must be JSON, but is not: {error}.") from None
    except RecursionError:
        raise InvalidValue(f"{where} is nested too deeply to be an architecture.") from None
    if isinstance(data, dict) and "architecture" in data:
        data = data["architecture"]
    return Architecture.from_json(data, where)
