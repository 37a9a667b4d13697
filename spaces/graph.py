"""The lowered network: primitive ops in topological order over typed tensors.

=========  ==================================================================================
name       meaning
=========  ==================================================================================
C, H, W    channels of one slice, rows, columns of a feature map (no batch dimension)
slices     boolean maps that stand for one feature map (BoolNet's k); torch sees ``slices*C``
           channels, slice after slice
=========  ==================================================================================

Bits, stated once: ``sign(0) = +1``, and a stored bit is 1 where the value is +1.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import chain
from math import prod
from typing import ClassVar, Final, NamedTuple

from bitfront.spaces.errors import InfeasibleArchitecture, InvalidValue
from bitfront.spaces.value import Value

SIGN_OF_ZERO: Final = 1
BIT_ORDER: Final = "little"
MEMBER: Final = "member"
"""Kind of the region that holds one network of an ensemble."""


class Domain(StrEnum):
    """The set that a tensor's values lie in."""

    FLOAT = "float"
    ACCUMULATOR = "accumulator"  # integers: sums of products of codes
    BIPOLAR = "bipolar"  # {-1, +1}
    BOOLEAN = "boolean"  # {0, 1}
    CODE = "code"  # at most 2^bits levels


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TensorType(Value):
    """Type of one tensor of a graph.

    Attributes:
        shape: ``(C, H, W)`` of a feature map, or ``(features,)``; no batch dimension.
        domain: Which values occur.
        slices: Number of boolean maps; 1 everywhere but in boolean-flow networks.
        stored_bits: Bits in memory of one value of one slice.
        elements: Number of values, over all slices.
        size_bits: Bits that the tensor takes in memory.
    """

    shape: tuple[int, ...]
    domain: Domain = Domain.FLOAT
    slices: int = 1
    stored_bits: int = 32
    elements: int = field(init=False, repr=False, default=0)
    size_bits: int = field(init=False, repr=False, default=0)

    def __post_init__(self) -> None:
        # a search infers thousands of new types a second: one pass for sizes and hash
        shape, domain, slices, bits = self.shape, self.domain, self.slices, self.stored_bits
        elements = prod(shape) * slices
        put = object.__setattr__
        put(self, "elements", elements)
        put(self, "size_bits", elements * bits)
        put(self, "_hash", hash((shape, domain.value, slices, bits)))

    @property
    def torch_shape(self) -> tuple[int, ...]:
        """The shape that torch sees, without the batch dimension."""
        return (self.shape[0] * self.slices, *self.shape[1:])

    @property
    def value_bits(self) -> int:
        """Bits of one value as an operand of a multiplication."""
        if self.domain in (Domain.BIPOLAR, Domain.BOOLEAN):
            return 1
        if self.domain is Domain.CODE:
            return self.stored_bits
        return 16 if self.stored_bits == 16 else 32


class Role(StrEnum):
    """What a parameter is for."""

    WEIGHT = "weight"  # of a convolution or a linear layer; quantised where bits < 32
    BIAS = "bias"
    NORM = "norm"  # learned scale or shift of a batch norm
    STATISTIC = "statistic"  # running mean or variance: a buffer
    SCALE = "scale"  # learned factor outside a norm
    SLOPE = "slope"  # PReLU
    LEVELS = "levels"  # what quantised values stand for, fitted to the data: a buffer
    BUFFER = "buffer"  # fixed values, such as a blur's kernel, and training's notes


BUFFERS: Final = frozenset({Role.STATISTIC, Role.LEVELS, Role.BUFFER})


class ParameterSpec(NamedTuple):
    """A parameter or buffer that one application of an op declares."""

    name: str
    shape: tuple[int, ...]
    role: Role
    bits: int = 32

    @property
    def count(self) -> int:  # type: ignore[override]
        """Number of values."""
        return prod(self.shape)


class Parameter(NamedTuple):
    """A row of a graph's parameter table.

    ``bases`` counts the quantised tensors that are derived from this one latent tensor and stored.
    """

    name: str
    shape: tuple[int, ...]
    role: Role
    bits: int
    bases: int

    @property
    def is_buffer(self) -> bool:
        """Whether training leaves it alone."""
        return self.role in BUFFERS


class Work(NamedTuple):
    """Element-wise work: ``count`` evaluations of ``function`` on values of ``bits`` bits."""

    function: str
    bits: int
    count: int  # type: ignore[assignment]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Facts:
    """What one application of an op declares, given the types of its inputs.

    ``infer`` remembers them, so one object stands for one op on inputs of given types, and
    consumers can file what they derive from it under the object itself.

    Attributes:
        out: Type of the result.
        params: Parameters and buffers, by local name.
        macs: Multiply-accumulates of one inference of one sample.
        fan_in: Products that are summed into one output value.
        w_bits: Bits of a weight operand.
        a_bits: Bits of an input operand.
        work: Element-wise evaluations.
    """

    out: TensorType
    params: tuple[ParameterSpec, ...] = ()
    macs: int = 0
    fan_in: int = 0
    w_bits: int = 32
    a_bits: int = 32
    work: tuple[Work, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Op(Value):
    """A primitive operation: its attributes, and what it declares of itself.

    Class attributes:
        fusable: It works element by element or by small windows, so it can join the group of
            the op before or after it.
        view: It only renames storage (an offset or a permutation).
        transparent: A view of one tensor that may also stand inside a group.
        main: It is the multiply-accumulate work that a group is built around.
    """

    fusable: ClassVar[bool] = False
    view: ClassVar[bool] = False
    transparent: ClassVar[bool] = False
    main: ClassVar[bool] = False

    def infer(self, *inputs: TensorType) -> Facts:
        """Return the facts for inputs of these types.

        Raises:
            InfeasibleArchitecture: If the types do not fit the op.
        """
        raise NotImplementedError


class Node(NamedTuple):
    """One op applied to earlier nodes. A plain tuple: a search builds 200,000 a second."""

    index: int  # type: ignore[assignment]
    op: Op
    inputs: tuple[int, ...]
    name: str
    facts: Facts
    latent: int

    @property
    def type(self) -> TensorType:
        """Type of the node's result."""
        return self.facts.out


class Region(NamedTuple):
    """A named run of nodes, ``start <= index < end``: a stem, a stage, a block."""

    name: str
    kind: str
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A lowered network.

    Attributes:
        nodes: In topological order; node 0 is the input, the last one the logits.
        regions: Stem, stages, blocks, transitions and head, outer before inner.
        shared: Nodes whose weights derive from another node's latent tensor.
    """

    nodes: tuple[Node, ...]
    regions: tuple[Region, ...]
    shared: tuple[int, ...] = ()

    @property
    def input(self) -> TensorType:
        """Type of one input sample."""
        return self.nodes[0].type

    @property
    def output(self) -> TensorType:
        """Type of the logits of one sample."""
        return self.nodes[-1].type

    def region(self, name: str) -> Region:
        """Return the region of that name.

        Raises:
            InvalidValue: If there is none.
        """
        for region in self.regions:
            if region.name == name:
                return region
        raise InvalidValue(f"The graph has no region {name!r}.")

    def body(self) -> Collection[int]:
        """Indices of the nodes between the stem and the head, of every member of an ensemble."""
        members = [f"{region.name}." for region in self.regions if region.kind == MEMBER]
        spans = [
            range(self.region(f"{member}stem").end, self.region(f"{member}head").start)
            for member in members or [""]
        ]
        return spans[0] if len(spans) == 1 else frozenset(chain(*spans))

    def parameters(self) -> tuple[Parameter, ...]:
        """The table of parameters and buffers, named as in torch's ``state_dict``.

        Raises:
            InvalidValue: If a block gave two nodes one name.
        """
        seen: set[str] = set()
        for node in self.nodes:
            if node.name in seen:
                raise InvalidValue(f"A node's name must be unique, but {node.name!r} is not.")
            seen.add(node.name)
        bases: dict[int, set[object]] = {}
        for node in self.nodes:
            if node.facts.macs and node.facts.params:
                weight = getattr(node.op, "weight", None)
                code = None if weight is None else weight.stored
                bases.setdefault(node.latent, set()).add(code)
        rows = []
        for node in self.nodes:
            for spec in node.facts.params:
                shared = spec.role is Role.WEIGHT
                if shared and node.latent != node.index:
                    continue
                rows.append(
                    Parameter(
                        name=f"{node.name}.{spec.name}",
                        shape=spec.shape,
                        role=spec.role,
                        bits=spec.bits,
                        bases=len(bases[node.index]) if shared else 1,
                    )
                )
        return tuple(rows)


# skips NamedTuple's keyword handling in the hottest line of the search
_tuple: Final = tuple.__new__
_FACTS: dict[tuple[object, ...], Facts] = {}
_TYPES: dict[TensorType, TensorType] = {}
_FACTS_LIMIT: Final = 500_000


def infer(op: Op, *inputs: TensorType) -> Facts:
    """Return ``op.infer(*inputs)``, remembered: many networks share their op applications."""
    key = (op, *inputs)
    facts = _FACTS.get(key)
    if facts is None:
        if len(_FACTS) >= _FACTS_LIMIT:
            _FACTS.clear()
            _TYPES.clear()
        facts = op.infer(*inputs)
        # one object per type, so that the next look-up compares by identity
        out = _TYPES.setdefault(facts.out, facts.out)
        if out is not facts.out:
            facts = replace(facts, out=out)
        _FACTS[key] = facts
    return facts


_NOWHERE: Final = Region("", "", 0, 0)


class Builder:
    """Collects the nodes of one graph; blocks call its methods and hand on node indices."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._regions: list[Region] = []
        self._open: list[tuple[int, str, str, str, int]] = []
        self._shared: list[int] = []
        self._prefix = ""

    def add(self, op: Op, *inputs: int, name: str, latent: int | None = None) -> int:
        """Append ``op`` applied to earlier nodes.

        Args:
            op: The operation.
            *inputs: Indices of the nodes it reads.
            name: Its name inside the current region.
            latent: Node whose weight tensor it shares; its own if None.

        Returns:
            The new node's index.

        Raises:
            InfeasibleArchitecture: If the input types do not fit the op.
        """
        nodes = self.nodes
        if len(inputs) == 1:
            facts = _FACTS.get((op, nodes[inputs[0]][4].out))
        else:
            facts = _FACTS.get((op, *[nodes[i][4].out for i in inputs]))
        if facts is None:
            try:
                facts = infer(op, *[nodes[i][4].out for i in inputs])
            except InfeasibleArchitecture as error:
                raise InfeasibleArchitecture(f"{self._prefix}{name}: {error}") from None
        index = len(nodes)
        if latent is None:
            latent = index
        else:
            self._shared.append(index)
        nodes.append(_tuple(Node, (index, op, inputs, self._prefix + name, facts, latent)))
        return index

    def type(self, node: int) -> TensorType:
        """Type of a node's result."""
        return self.nodes[node][4].out

    def channels(self, node: int) -> int:
        """Channels of one slice of a node's result."""
        return self.nodes[node][4].out.shape[0]

    def enter(self, name: str, kind: str) -> None:
        """Name the nodes that are added until the matching ``leave``; regions nest."""
        name = self._prefix + name
        self._open.append((len(self._regions), self._prefix, name, kind, len(self.nodes)))
        self._prefix = name + "."
        # holds the place: outer regions stand before inner ones
        self._regions.append(_NOWHERE)

    def leave(self) -> None:
        """End the innermost region."""
        slot, self._prefix, name, kind, start = self._open.pop()
        self._regions[slot] = Region(name, kind, start, len(self.nodes))

    def graph(self) -> Graph:
        """The finished graph."""
        return Graph(
            nodes=tuple(self.nodes), regions=tuple(self._regions), shared=tuple(self._shared)
        )
