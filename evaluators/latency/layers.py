"""The layers of a network as packed inference runs them, each known by all that decides its time.

A layer is one step of `bitfront.evaluators.packed`: a binary convolution with the thresholds, norms
and the addition that are folded into it, a 32-bit convolution with its ReLU, a pool. Its text is
canonical JSON of

=========  ======================================================================================
kind       of the step
ops        its operations, in their own JSON
inputs     of each operation: ``"r0"`` is the first map that the step reads, ``"n0"`` its first op
reads      shape and slices of each map that is read, and how it lies: ``bits`` (words of signs),
           ``floats``, or ``part`` (channels inside a larger map)
writes     the same of the result
over       the maps that the step may write over, or add to where they lie
=========  ======================================================================================

Two steps of one text run the same code on maps of the same sizes, in whatever networks they stand.
Batch, threads, instruction set and versions are the setting of a table, not part of a layer. Two
things that also move times are left out, since they would make nearly every layer unique: the width
of the larger map around a part, and whether the rest of the network leaves room in the caches.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any, Final

from bitfront.evaluators.packed.grouping import Group, grouped, kept_as_bits, readers_of
from bitfront.evaluators.packed.overwriting import Overwriting
from bitfront.evaluators.packed.places import Place, places
from bitfront.spaces.graph import Graph, Node, Op, TensorType
from bitfront.spaces.value import canonical, encode

INPUT: Final = "input"


def layers_of(graph: Graph) -> tuple[str, ...]:
    """The layers of a network in the order of execution, the layout of the images first.

    A layer that a network has several times is there several times.

    Args:
        graph: Lowered.
    """
    nodes = graph.nodes
    bits = kept_as_bits(nodes, readers_of(nodes))
    groups = grouped(nodes, bits)
    placed = places(nodes, groups, bits)
    overwriting = Overwriting(groups, bits, placed)
    first = canonical({"kind": INPUT, "writes": _map(graph.input, "floats")})
    return first, *(_text(nodes, group, bits, placed, overwriting) for group in groups)


def _text(
    nodes: tuple[Node, ...],
    group: Group,
    bits: Collection[int],
    placed: Mapping[int, Place],
    overwriting: Overwriting,
) -> str:
    names = {i: f"r{n}" for n, i in enumerate(group.reads)}
    names |= {i: f"n{n}" for n, i in enumerate(group.nodes)}

    def lies(index: int) -> Any:
        how = "bits" if index in bits else "part" if index in placed else "floats"
        return _map(nodes[index].type, how)

    return canonical(
        {
            "kind": group.kind,
            "ops": [_op(nodes[i].op) for i in group.nodes],
            "inputs": [[names[j] for j in nodes[i].inputs] for i in group.nodes],
            "reads": [lies(i) for i in group.reads],
            "writes": lies(group.output),
            "over": [names[i] for i in group.reads if overwriting.corrects(i, group)],
        }
    )


def _map(kind: TensorType, how: str) -> Any:
    return {"shape": list(kind.shape), "slices": kind.slices, "lies": how}


@lru_cache(maxsize=4096)
def _op(op: Op) -> Any:
    return encode(op)
