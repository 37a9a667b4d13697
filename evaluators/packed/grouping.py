"""Which nodes of a graph run as one step, and which maps are kept as bits.

::

    norm -- sign -- conv -- filter scale -- norm -- add        a binary layer
    quantize -- conv -- norm -- relu                           a layer of codes
    norm -- sign                                               packing, where others read the bits
    conv -- norm -- relu                                       a 32-bit convolution
    norm -- relu                                               factor and offset

What stands before a layer of signs or codes is computed again by each that reads it: comparing
floats with thresholds while they are packed is cheaper than keeping the bits.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

from bitfront.evaluators.packed.routes import (
    SIGNS,
    feeds_only,
    has_basis,
    has_fixed_thresholds,
    input_grid,
    routes,
)
from bitfront.kernels.layout import WORD_BITS
from bitfront.spaces.graph import Domain, Node
from bitfront.spaces.ops import Conv2d, Interleave, Quantize, Slice
from bitfront.spaces.quantizers import IDENTITY

AFFINE: Final = frozenset({"batch_norm", "scale", "shift", "filter_scale"})
"""Kinds of ops that are ``y = factor x + offset`` per channel at inference."""

_MONOTONE: Final = frozenset({"batch_norm", "scale", "shift", "relu"})
_BITWISE: Final = frozenset({"binary", "bitserial", "bases"})
_LOGIC: Final = frozenset({"xnor", "or"})
_WORDWISE: Final = _LOGIC | {"concat", "slice", "interleave"}


class Group(NamedTuple):
    """Nodes that run as one step.

    Attributes:
        kind: "binary", "bitserial", "int8", "bases" (see `routes`), "conv", "affine", "pack", or
            the op's kind of a single node.
        nodes: Their indices, ascending.
        main: The layer, or the first node.
        reads: Nodes outside whose values it reads.
        output: The node whose value it gives.
    """

    kind: str
    nodes: tuple[int, ...]
    main: int
    reads: tuple[int, ...]
    output: int


def readers_of(nodes: Sequence[Node]) -> dict[int, list[int]]:
    """Per node, those that read it."""
    readers: dict[int, list[int]] = {node.index: [] for node in nodes}
    for node in nodes:
        for i in dict.fromkeys(node.inputs):
            readers[i].append(node.index)
    return readers


def kept_as_bits(nodes: Sequence[Node], readers: Mapping[int, Sequence[int]]) -> set[int]:
    """Maps of -1 and +1 that are kept as words: those that can be, and that such work reads."""
    layers = routes(nodes, readers)
    able: set[int] = set()
    for node in nodes:
        if _may_be_bits(nodes, node, able):
            able.add(node.index)
    kept: set[int] = set()
    for node in reversed(nodes):
        if node.index in able and any(
            layers.get(r) in _BITWISE or (r in kept and nodes[r].op.kind in _WORDWISE)
            for r in readers[node.index]
        ):
            kept.add(node.index)
    return kept


def _may_be_bits(nodes: Sequence[Node], node: Node, able: Collection[int]) -> bool:
    op, out = node.op, node.type
    if out.domain is not Domain.BIPOLAR or len(out.shape) != 3:
        return False
    whole = out.shape[0] % WORD_BITS == 0
    if isinstance(op, Quantize):
        source = nodes[node.inputs[0]].type
        return op.quantizer.kind in SIGNS and source.slices == 1 and (out.slices == 1 or whole)
    if not whole or op.kind not in _WORDWISE or not all(i in able for i in node.inputs):
        return False
    if isinstance(op, Slice):
        return op.start % WORD_BITS == 0
    if isinstance(op, Interleave):
        return op.groups == 2 and out.shape[0] % (2 * WORD_BITS) == 0
    return op.kind in _LOGIC or all(nodes[i].type.shape[0] % WORD_BITS == 0 for i in node.inputs)


def _is_emitter(nodes: Sequence[Node], node: Node) -> bool:
    """Whether a node quantises one map to one of signs or codes, each value by itself."""
    op = node.op
    if not isinstance(op, Quantize) or node.type.slices > 1:
        return False
    known = has_basis(op.quantizer) or input_grid(op.quantizer) is not None
    return known and nodes[node.inputs[0]].type.slices == 1


def _is_fixed(node: Node) -> bool:
    return isinstance(node.op, Quantize) and has_fixed_thresholds(node.op.quantizer)


def grouped(nodes: Sequence[Node], bits: Collection[int]) -> list[Group]:
    """Steps in the order of execution, that of their last nodes; none that nobody reads.

    Args:
        nodes: Of a graph.
        bits: Nodes whose maps are kept as words.
    """
    readers = readers_of(nodes)
    layers = routes(nodes, readers)
    # codes that only layers read are made by these
    inner = {
        node.index
        for node in nodes
        if _is_emitter(nodes, node) and feeds_only(nodes, readers, node.index, layers)
    }
    flat = {r for i in inner for r in readers[i] if r not in layers}
    packs = {i for i in bits if nodes[i].op.kind == "quantize"} - inner
    # by comparisons, which take in all that is monotone before
    compared = packs | {
        i
        for i in inner
        if _is_fixed(nodes[i])
        and all(
            layers[j] in _BITWISE for r in readers[i] for j in (readers[r] if r in flat else [r])
        )
    }
    inner |= flat
    for node in reversed(nodes):
        behind = readers[node.index]
        if node.op.kind in _MONOTONE and behind and all(r in compared for r in behind):
            inner.add(node.index)
            compared.add(node.index)
    groups: list[Group] = []
    taken = set(inner)
    for node in nodes:
        if node.index in taken or not node.inputs:
            continue
        kind, members = _members(nodes, readers, node, layers, inner, packs, taken, bits)
        taken.update(members)
        inside = set(members)
        reads = dict.fromkeys(i for m in members for i in nodes[m].inputs if i not in inside)
        groups.append(Group(kind, tuple(members), node.index, tuple(reads), members[-1]))
    needed = {len(nodes) - 1}
    live: list[Group] = []
    for group in sorted(groups, key=lambda group: -group.output):
        if group.output in needed:
            live.append(group)
            needed.update(group.reads)
    return live[::-1]


def _members(
    nodes: Sequence[Node],
    readers: Mapping[int, Sequence[int]],
    node: Node,
    layers: Mapping[int, str],
    inner: Collection[int],
    packs: Collection[int],
    taken: Collection[int],
    bits: Collection[int],
) -> tuple[str, list[int]]:
    def tail(start: int, *kinds: Collection[str]) -> list[int]:
        """Nodes behind ``start`` without another reader: runs of some kinds, one after another."""
        found: list[int] = []
        last = start
        for allowed in kinds:
            single = allowed is not AFFINE
            while len(readers[last]) == 1:
                nxt = nodes[readers[last][0]]
                # an addition of a map to itself reads it twice
                twice = nxt.inputs.count(last) > 1
                if nxt.op.kind not in allowed or nxt.index in taken or twice:
                    break
                if nxt.op.kind == "add" and nxt.type.slices > 1:
                    break
                found.append(nxt.index)
                last = nxt.index
                if single:
                    break
        return found

    index = node.index
    if index in layers:
        return layers[index], [
            *_before(nodes, node, inner),
            index,
            *tail(index, AFFINE, {"relu"}, AFFINE, {"add"}),
        ]
    if isinstance(node.op, Conv2d):
        # factors that are multiplied into weights of few levels would round their exact sums
        folds = (AFFINE,) if node.op.weight == IDENTITY else ()
        return "conv", [index, *tail(index, *folds, {"relu"})]
    if index in packs:
        return "pack", [*_before(nodes, node, inner), index]
    if node.op.kind == "concat" and index in bits and _halves(nodes, node):
        behind = tail(index, {"interleave"})
        # an interleave of another kind is no work on words
        behind = [i for i in behind if i in bits]
        return ("interleave" if behind else "concat"), [index, *behind]
    if node.op.kind in AFFINE:
        return "affine", [index, *tail(index, AFFINE, {"relu"})]
    return node.op.kind, [index]


def _halves(nodes: Sequence[Node], node: Node) -> bool:
    """Whether a node joins two maps of equal size."""
    sizes = [nodes[i].type.shape[0] for i in node.inputs]
    return len(set(node.inputs)) == len(sizes) == 2 and sizes[0] == sizes[1]


def _before(nodes: Sequence[Node], node: Node, inner: Collection[int]) -> list[int]:
    """The quantizer and the norm in front of a layer, or the norm before a sign."""
    found: list[int] = []
    i = node.inputs[0]
    while i in inner:
        found.insert(0, i)
        i = nodes[i].inputs[0]
    return found
