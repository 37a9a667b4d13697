"""Where maps lie: a concatenation's parts are computed inside it, and corrected where they stand.

::

    buffer   | x0 ........ | y1 ... | y2 ... |      dense blocks write behind each other
    views    | x0 ........ |
             | concat(x0, y1) ..... |
                           | last - |               an improvement block adds to its last channels

Whether that is right is not argued but played through: the steps are run on labels, one for each
channel of the buffer, and every reader must find the labels of what it asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from bitfront.evaluators.packed.grouping import Group
from bitfront.evaluators.packed.routes import ROUTES
from bitfront.spaces.graph import Domain, Node
from bitfront.spaces.ops import Slice

_FLOATS = (Domain.FLOAT, Domain.ACCUMULATOR)
_Label = tuple[int, int]


class Place(NamedTuple):
    """Channels ``start <= c < end`` of the map that a concatenation stands for.

    Attributes:
        root: Its node.
        start: First channel.
        end: One past the last.
    """

    root: int
    start: int
    end: int


def places(
    nodes: Sequence[Node], groups: Sequence[Group], bits: Collection[int]
) -> dict[int, Place]:
    """Give float maps a place in the largest concatenation that they are part of.

    A concatenation gets no places, and its parts are copied, if a reader would find a part
    overwritten.

    Args:
        nodes: Of a graph.
        groups: Its steps, in the order of execution.
        bits: Nodes whose maps are kept as words.
    """
    stored = {group.output: group for group in groups}
    last_read = {i: group.output for group in groups for i in group.reads}
    placed: dict[int, Place] = {}
    for node in reversed(nodes):
        kind = node.type
        if node.op.kind != "concat" or node.index in placed or node.index in bits:
            continue
        if kind.slices > 1 or len(kind.shape) != 3 or kind.domain not in _FLOATS:
            continue
        tried: dict[int, Place] = {}
        _assign(nodes, stored, last_read, node.index, Place(node.index, 0, kind.shape[0]), tried)
        tried = {i: place for i, place in tried.items() if i not in placed}
        if node.index in tried and _right(nodes, groups, tried):
            placed |= tried
    return placed


def is_view(node: Node) -> bool:
    """Whether a node only names channels of other maps."""
    return node.op.kind in ("concat", "slice")


def _assign(
    nodes: Sequence[Node],
    stored: Mapping[int, Group],
    last_read: Mapping[int, int],
    index: int,
    place: Place,
    tried: dict[int, Place],
) -> None:
    node = nodes[index]
    root, start, end = place
    shape = nodes[root].type.shape
    if (
        index in tried
        or index not in stored
        or node.op.kind == "input"
        or start < 0
        or end > shape[0]
        or node.type.shape[1:] != shape[1:]
        or node.type.domain not in _FLOATS
        or node.type.slices > 1
    ):
        return
    tried[index] = place
    if node.op.kind == "concat":
        for i in node.inputs:
            channels = nodes[i].type.shape[0]
            _assign(nodes, stored, last_read, i, Place(root, start, start + channels), tried)
            start += channels
    elif isinstance(node.op, Slice):
        (source,) = node.inputs
        first = start - node.op.start
        there = Place(root, first, first + nodes[source].type.shape[0])
        _assign(nodes, stored, last_read, source, there, tried)
        if tried.get(source) != there:
            # a slice of a map that lies elsewhere is a copy
            del tried[index]
    elif node.op.kind == "add":
        for i in node.inputs:
            # the operand that nobody reads later is corrected where it stands
            if last_read.get(i, index) <= index and is_view(nodes[i]):
                _assign(nodes, stored, last_read, i, place, tried)
                break


def _right(nodes: Sequence[Node], groups: Sequence[Group], tried: Mapping[int, Place]) -> bool:
    """Whether every reader finds what it asked for, played through on labels."""
    room = max(place.end for place in tried.values())
    buffer: list[_Label] = [(-1, -1)] * room
    value: dict[int, list[_Label]] = {}

    def intact(i: int) -> bool:
        return i not in tried or buffer[tried[i].start : tried[i].end] == value[i]

    for group in groups:
        i = group.output
        node = nodes[i]
        own = tried.get(i)
        if own is None or not is_view(node):
            if not all(intact(j) for j in group.reads):
                return False
            if own is not None:
                if not all(_apart(nodes, group, own, tried.get(j), j) for j in group.reads):
                    return False
                value[i] = [(i, c) for c in range(own.end - own.start)]
                buffer[own.start : own.end] = value[i]
        elif isinstance(node.op, Slice):
            (source,) = node.inputs
            value[i] = value[source][node.op.start : node.op.end]
        else:
            start = own.start
            value[i] = []
            for j in node.inputs:
                end = start + nodes[j].type.shape[0]
                if j not in tried:
                    part = [(j, c) for c in range(end - start)]
                    buffer[start:end] = part
                elif tried[j].start == start:
                    part = value[j]
                else:
                    return False
                value[i] += part
                start = end
            if not intact(i):
                return False
    return True


def _apart(
    nodes: Sequence[Node], group: Group, own: Place, other: Place | None, index: int
) -> bool:
    """Whether writing to a place leaves alone what the same step still reads."""
    if other is None or other == own or other.end <= own.start or own.end <= other.start:
        return True
    # a layer of signs or codes has packed all of its input before it writes
    return group.kind in ROUTES and index not in nodes[group.output].inputs
