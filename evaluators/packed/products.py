"""Layers on integers as calls: signs and codes multiplied exactly, norms and shortcuts folded in.

What a layer reads is a map of floats (B, C, H, W), a row of them (B, K), or a map of words
(B, H, W, P). A linear layer is a convolution of single pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from bitfront.evaluators.packed.codes import (
    bit_planes,
    numbers_of,
    plane_worths,
    weight_codes,
    weight_planes,
)
from bitfront.evaluators.packed.fold import Crossings, sign_crossings
from bitfront.evaluators.packed.grouping import Group
from bitfront.evaluators.packed.kernels import Kernels, Multiply, Run
from bitfront.evaluators.packed.memory import Memory
from bitfront.evaluators.packed.packed_layer import Layer, layer_of
from bitfront.evaluators.packed.parts import EXACT, Pair, Parts
from bitfront.evaluators.packed.planes import staircase
from bitfront.evaluators.packed.routes import Grid, read_grid, source_of, weight_format
from bitfront.kernels.cpu import pack
from bitfront.kernels.geometry import Conv2dGeometry, Fill
from bitfront.kernels.layout import BINARY, CodeFormat, word_count
from bitfront.kernels.packing import pack_codes
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.graph import Node
from bitfront.spaces.network import Network
from bitfront.spaces.ops import Linear


class Products:
    """Makes the calls of a network's layers on integers.

    Args:
        network: In evaluation mode.
        kernels: Of the device where it is.
        memory: Where its values lie.
    """

    def __init__(self, network: Network, kernels: Kernels, memory: Memory) -> None:
        self._network = network
        self._nodes = network.graph.nodes
        self._kernels = kernels
        self._memory = memory
        self._batch = memory.batch
        self._found: dict[tuple[int, ...], Crossings] = {}

    def run_of(self, group: Group) -> Run:
        """Codes, product, factors, shortcut: in one step."""
        layer = layer_of(self._network, self._memory, group)
        memory, nodes = self._memory, self._nodes
        merges = layer.finish.merges
        # signs of signs are rare: they are packed from floats
        is_words = layer.source in memory.bits and not layer.before and group.kind != "int8"
        unpacks_source = layer.source in memory.bits and not is_words
        if group.kind == "int8":
            multiply = self._of_numbers(layer)
        elif group.kind == "bases":
            multiply = self._of_bases(layer)
        elif group.kind == "bitserial":
            multiply = self._of_planes(layer, self._words_of(layer))
        else:
            multiply = self._of_words(layer) if is_words else self._of_signs(layer)
        place = memory.at(group.output)
        out = None if place is None else place.permute(0, 2, 3, 1)
        at, other = group.reads.index(layer.source), group.reads.index(layer.shortcut)
        unpacks = layer.shortcut in memory.bits
        adds = layer.adds and not merges
        channels, filters = nodes[layer.source].type.torch_shape[0], len(layer.finish.scale)
        is_flat = isinstance(layer.node.op, Linear)

        floats = self._kernels.floats

        def run(*xs: Tensor) -> Tensor:
            x = floats(xs[at], channels) if unpacks_source else xs[at]
            into = by_pixel(xs[other]) if merges and out is None else out
            y = multiply(x, into)
            result: Tensor = y[:, 0, 0] if is_flat else y.permute(0, 3, 1, 2)
            if adds:
                result.add_(floats(xs[other], filters) if unpacks else xs[other])
            return result

        return run

    def _formats(self, node: Node) -> tuple[Grid, CodeFormat]:
        """Of the whole numbers that a layer reads, and of those that are its weights."""
        op: Any = node.op
        grid, format = read_grid(self._nodes, node), weight_format(op.weight)
        if grid is None or format is None:
            raise InvalidValue(f"{node.name} must have inputs and weights on a grid.")
        return grid, format

    def _geometry(self, node: Node) -> Conv2dGeometry:
        op: Any = node.op
        x = self._nodes[node.inputs[0]].type
        if isinstance(op, Linear):
            (features,) = x.torch_shape
            return Conv2dGeometry.of(
                image=(self._batch, 1, 1, features), weight=(op.out_features, 1, 1, features)
            )
        channels, rows, columns = x.torch_shape
        groups = op.group_count(x)
        return Conv2dGeometry.of(
            image=(self._batch, rows, columns, channels),
            weight=(op.out_channels, op.kernel_size, op.kernel_size, channels // groups),
            stride=op.stride,
            padding=op.padding,
            dilation=op.dilation,
            groups=groups,
        )

    def _of_words(self, layer: Layer) -> Multiply:
        """Of a map that is kept as words."""
        product = self._whole(layer)
        return lambda x, into: product(x[None], into)

    def _whole(self, layer: Layer) -> Multiply:
        """Of words [Q, B, H, W, P], in one product."""
        conv = self._geometry(layer.node)
        return self._kernels.of_words(
            conv,
            self._formats(layer.node)[0].format,
            self._weight(layer.node, conv),
            finish=layer.finish,
            fill=_fill(layer.node.op, conv),
        )

    def _weight(self, node: Node, conv: Conv2dGeometry) -> Any:
        weight = by_pixel(weight_codes(self._network, node)[0])
        format = self._formats(node)[1]
        packed = pack(weight.float()) if format == BINARY else pack_codes(weight, format)
        return self._kernels.weight(packed, conv.groups)

    def _of_signs(self, layer: Layer) -> Multiply:
        """Of floats whose signs are packed first."""
        conv = self._geometry(layer.node)
        signs = self._crossings(layer.before) if layer.before else None
        if signs is not None and layer.pixels:
            signs = signs.repeated(layer.pixels)
        product = self._kernels.of_signs(
            conv,
            signs,
            self._weight(layer.node, conv),
            finish=layer.finish,
            fill=_fill(layer.node.op, conv),
        )
        return lambda x, into: product(by_pixel(x.flatten(1) if layer.pixels else x), into)

    def _of_planes(self, layer: Layer, words_of: Callable[[Tensor], Tensor]) -> Multiply:
        """Of codes that are bit planes, each pair of planes on its own where that is faster."""
        grid, format = self._formats(layer.node)
        most = max(-grid.low, grid.high) * max(-format.low, format.high)
        one = self._kernels.joins_planes or grid.format.bits == format.bits == 1
        if one or layer.node.facts.fan_in * most > EXACT:
            product = self._whole(layer)
            return lambda x, into: product(words_of(x), into)
        codes, _ = weight_codes(self._network, layer.node)
        weights = bit_planes(by_pixel(codes), format)
        filters = len(codes)
        pairs = [
            Pair(plane, weight, codes.new_full((filters,), x_worth * w_worth).double())
            for weight, w_worth in weights
            for plane, x_worth in enumerate(plane_worths(grid.format))
        ]
        signs = grid.format.coding == "symmetric"
        parts = self._parts(layer, pairs, signs=signs, exact=True)
        return lambda x, into: parts(words_of(x), into)

    def _parts(self, layer: Layer, pairs: Sequence[Pair], *, signs: bool, exact: bool) -> Parts:
        conv = self._geometry(layer.node)
        return Parts(
            self._kernels,
            conv,
            pairs,
            layer.finish,
            signs=signs,
            exact=exact,
            fill=_fill(layer.node.op, conv),
        )

    def _words_of(self, layer: Layer) -> Callable[[Tensor], Tensor]:
        """What gives the bit planes of what a layer reads."""
        if layer.source in self._memory.bits and not layer.before:
            return lambda x: x[None]
        if layer.before:
            return self._planes(layer)
        channels = self._nodes[layer.source].type.torch_shape[0]
        signs = self._kernels.signs(None, channels)

        def of_signs(x: Tensor) -> Tensor:
            x_BHWC = by_pixel(x)
            shape = (1, *x_BHWC.shape[:-1], word_count(channels))
            words = x.new_empty(shape, dtype=torch.int32)
            signs(x_BHWC, words[0])
            return words

        return of_signs

    def _planes(self, layer: Layer) -> Callable[[Tensor], Tensor]:
        """What packs a map's codes, flattened or not."""
        stairs = staircase(self._network, layer.before)
        if layer.pixels:
            stairs = stairs.repeated(layer.pixels)
        planes = self._kernels.planes(stairs)
        return lambda x: planes(by_pixel(x.flatten(1) if layer.pixels else x))

    def _of_bases(self, layer: Layer) -> Multiply:
        """Of floats whose codes are packed, each pair of planes with a factor of its own."""
        form: Any = self._network.get_submodule(source_of(self._nodes, layer.node).name)
        (basis,) = form.quantizer_parameters()
        pairs = [
            Pair(plane, pack(by_pixel(weight)), factors * worth)
            for weight, factors in weight_planes(self._network, layer.node)
            for plane, worth in enumerate(basis.detach().double().flatten())
        ]
        parts, planes = self._parts(layer, pairs, signs=False, exact=False), self._planes(layer)
        return lambda x, into: parts(planes(x), into)

    def _of_numbers(self, layer: Layer) -> Multiply:
        """Of floats whose codes have too many bits to be compared."""
        node = layer.node
        grid, format = self._formats(node)
        conv = self._geometry(node)
        return self._kernels.of_numbers(
            conv,
            grid.format,
            by_pixel(weight_codes(self._network, node)[0]),
            format,
            numbers_of(self._network, layer.before[-1]) if layer.before else None,
            finish=layer.finish,
            fill=_fill(node.op, conv),
        )

    def pack(self, group: Group) -> Run:
        """The words of signs that are read by others than layers too."""
        chain = [self._nodes[i] for i in group.nodes]
        channels, rows, columns = self._nodes[group.reads[0]].type.torch_shape
        count = word_count(channels)
        slices = [
            self._kernels.signs(Crossings(values[None], flips[None]), channels)
            for values, flips in zip(*self._crossings(chain), strict=True)
        ]
        shape = (self._batch, rows, columns, len(slices) * count)

        def run(x: Tensor) -> Tensor:
            words = x.new_empty(shape, dtype=torch.int32)
            x_BHWC = by_pixel(x)
            for j, signs in enumerate(slices):
                signs(x_BHWC, words[..., j * count : (j + 1) * count])
            return words

        return run

    def _crossings(self, chain: Sequence[Node]) -> Crossings:
        """Those of a sign; found once for all layers that read it."""
        key = tuple(node.index for node in chain)
        if key not in self._found:
            channels = self._nodes[chain[0].inputs[0]].type.torch_shape[0]
            self._found[key] = sign_crossings(self._network, chain, channels)
        return self._found[key]


def by_pixel(x: Tensor) -> Tensor:
    """A map (B, C, H, W) as [B, H, W, C], a row (B, K) as [B, 1, 1, K]; weights alike."""
    return x.permute(0, 2, 3, 1) if x.dim() == 4 else x[:, None, None]


def _fill(op: Any, conv: Conv2dGeometry) -> Fill:
    if not any(conv.padding):
        return 0
    return "replicate" if op.replicate else int(op.padding_value)
