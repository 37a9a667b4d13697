"""Which layers run on integers, and how: on bits, on planes of bits, or on bytes.

=============  ==================================================================================
route          layers
=============  ==================================================================================
``binary``     signs with signs, no bias
``bitserial``  few bits: one product of bits for each pair of planes
``int8``       more bits: codes as bytes
``bases``      few bits of learned worth: each product of bits has its own factor
=============  ==================================================================================

The inputs and the weights of the first three are whole numbers times one factor (of weights: one
for each filter). The bounds are measured: with AVX-512 the products of bits of a layer take
longer than its product of bytes from ``w_bits * a_bits = 6`` on, and codes of a_bits are packed by
``2^a_bits - 1`` comparisons, which beyond three bits take longer than rounding to bytes.

Needs no torch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from bitfront.kernels.layout import BINARY, MAX_ELEMENTS, CodeFormat
from bitfront.spaces.graph import Domain, Node
from bitfront.spaces.ops import Conv2d, Linear, Quantize
from bitfront.spaces.quantizers import (
    DoReFa,
    DoReFaWeight,
    HalfWave,
    Heaviside,
    LqNet,
    LqNetWeight,
    Lsq,
    LsqWeight,
    Pact,
    Quantizer,
    Scaled,
    Symmetric,
    Ternary,
)

ROUTES: Final = frozenset({"binary", "bitserial", "int8", "bases"})
"""Kinds of groups around a layer that runs on integers."""

SIGNS: Final = frozenset(
    {"sign", "approx_sign", "swish_sign", "progressive_sign", "rsign", "multi_sign"}
)
"""Quantizers to -1 and +1 that are monotone in each channel."""

_MAX_PRODUCTS: Final = 5
_MAX_COMPARED_BITS: Final = 3


class Grid(NamedTuple):
    """Levels that are whole numbers times a factor.

    Attributes:
        format: Of the whole numbers.
        low: The lowest that is emitted.
        high: The highest.
    """

    format: CodeFormat
    low: int
    high: int


def input_grid(quantizer: Quantizer) -> Grid | None:
    """The whole numbers that a quantizer of maps emits, up to a factor; None if it has others."""
    if quantizer.kind in SIGNS:
        return _whole(BINARY)
    if isinstance(quantizer, DoReFa | Pact | HalfWave | Heaviside):
        return _whole(CodeFormat(bits=quantizer.bits, coding="unsigned"))
    if isinstance(quantizer, Lsq):
        signed = CodeFormat(bits=quantizer.bits, coding="signed")
        return _whole(signed if quantizer.signed else replace(signed, coding="unsigned"))
    if isinstance(quantizer, Symmetric | Ternary):
        high = 2 ** (quantizer.bits - 1) - 1
        return Grid(CodeFormat(bits=quantizer.bits, coding="signed"), -high, high)
    return None


def has_fixed_thresholds(quantizer: Quantizer) -> bool:
    """Whether a quantizer of maps compares all images with the same thresholds."""
    return not (isinstance(quantizer, Ternary) and quantizer.relative)


def weight_format(quantizer: Quantizer) -> CodeFormat | None:
    """Of the whole numbers that weights are, up to a factor; None if they are others."""
    if isinstance(quantizer, Scaled):
        quantizer = quantizer.codes
    if quantizer.domain is Domain.BIPOLAR:
        return BINARY
    if isinstance(quantizer, DoReFaWeight):
        return CodeFormat(bits=quantizer.bits, coding="symmetric")
    if isinstance(quantizer, LsqWeight | Ternary):
        return CodeFormat(bits=quantizer.bits, coding="signed")
    return None


def has_basis(quantizer: Quantizer) -> bool:
    """Whether the levels of maps are sums of a basis of any values."""
    return isinstance(quantizer, LqNet)


def weight_planes(quantizer: Quantizer) -> int:
    """How many planes of -1 and +1, each times a factor for each filter, weights are; or 0."""
    if isinstance(quantizer, LqNetWeight):
        return quantizer.bits
    return int(weight_format(quantizer) == BINARY)


def source_of(nodes: Sequence[Node], layer: Node) -> Node:
    """What a layer's inputs are emitted by: past the flattening before a linear layer."""
    source = nodes[layer.inputs[0]]
    if source.op.kind == "flatten" and isinstance(layer.op, Linear):
        emitter = nodes[source.inputs[0]]
        return emitter if isinstance(emitter.op, Quantize) else source
    return source


def read_grid(nodes: Sequence[Node], layer: Node) -> Grid | None:
    """The whole numbers that a layer reads, up to a factor; None if it reads others."""
    source = source_of(nodes, layer)
    if isinstance(source.op, Quantize):
        grid = input_grid(source.op.quantizer)
        if grid is not None:
            return grid
    return _whole(BINARY) if source.type.domain is Domain.BIPOLAR else None


def routes(nodes: Sequence[Node], readers: Mapping[int, Sequence[int]]) -> dict[int, str]:
    """The routes of those layers of a graph that have one.

    Codes are made where they are read. A map of codes that others read too is kept as floats, and
    the layers behind it run in floats.

    Args:
        nodes: Of a graph.
        readers: Per node, those that read it.
    """
    found = {node.index: route for node in nodes if (route := _route(nodes, node))}
    while True:
        # a layer that falls out may be one of those that shared its inputs
        kept = {i: route for i, route in found.items() if _has_codes(nodes, readers, i, found)}
        if len(kept) == len(found):
            return found
        found = kept


def feeds_only(
    nodes: Sequence[Node],
    readers: Mapping[int, Sequence[int]],
    index: int,
    layers: Collection[int],
) -> bool:
    """Whether some layers, and nobody else, read a map: at once or flattened."""
    behind = readers[index]
    return bool(behind) and all(
        i in layers
        or (nodes[i].op.kind == "flatten" and bool(readers[i]) and set(readers[i]) <= set(layers))
        for i in behind
    )


def _has_codes(
    nodes: Sequence[Node],
    readers: Mapping[int, Sequence[int]],
    index: int,
    layers: Collection[int],
) -> bool:
    source = source_of(nodes, nodes[index])
    # of a map of signs the codes are at hand, whoever reads it
    signs = source.type.domain is Domain.BIPOLAR
    return signs or feeds_only(nodes, readers, source.index, layers)


def _route(nodes: Sequence[Node], node: Node) -> str | None:
    """How a layer could run, if its inputs are there as codes."""
    op = node.op
    if not isinstance(op, Conv2d | Linear):
        return None
    source = source_of(nodes, node).op
    if isinstance(source, Quantize) and has_basis(source.quantizer):
        bits, planes = source.quantizer.bits, weight_planes(op.weight)
        plain = isinstance(op, Linear) or op.replicate or op.padding_value == 0.0
        return "bases" if plain and planes and _are_few(bits, planes) else None
    x, weight = read_grid(nodes, node), weight_format(op.weight)
    if x is None or weight is None:
        return None
    if isinstance(op, Conv2d) and op.padding and not op.replicate:
        # a step that is learned may make any other value no level
        values = (-1.0, 0.0, 1.0) if x.format == BINARY else (0.0,)
        if op.padding_value not in values:
            return None
    if node.type.domain is Domain.ACCUMULATOR:
        return "binary"
    largest = (x.format.high - x.format.low) * max(-weight.low, weight.high)
    if node.facts.fan_in * largest > MAX_ELEMENTS:
        return None
    return "bitserial" if _are_few(x.format.bits, weight.bits) else "int8"


def _are_few(x_bits: int, w_bits: int) -> bool:
    return x_bits * w_bits <= _MAX_PRODUCTS and x_bits <= _MAX_COMPARED_BITS


def _whole(format: CodeFormat) -> Grid:
    return Grid(format, format.low, format.high)
