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
    Bytes,
    bit_planes,
    plane_worths,
    weight_codes,
    weight_planes,
)
from bitfront.evaluators.packed.fold import thresholds
from bitfront.evaluators.packed.grouping import Group
from bitfront.evaluators.packed.layers import Run
from bitfront.evaluators.packed.memory import Memory
from bitfront.evaluators.packed.packed_layer import Layer, layer_of
from bitfront.evaluators.packed.parts import EXACT, Pair, Parts
from bitfront.evaluators.packed.planes import Planes, repeated
from bitfront.evaluators.packed.routes import Grid, read_grid, source_of, weight_format
from bitfront.evaluators.packed.words import edges_repeated, floats
from bitfront.kernels.cpu import Thresholds, pack, prepare_product, prepare_weight
from bitfront.kernels.cpu.int8 import prepare_int8
from bitfront.kernels.cpu.packer import pack_into
from bitfront.kernels.geometry import Conv2dGeometry, Fill
from bitfront.kernels.layout import BINARY, CodeFormat, word_count
from bitfront.kernels.native_library import NativeLibrary
from bitfront.kernels.packing import pack_codes
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.graph import Node
from bitfront.spaces.network import Network
from bitfront.spaces.ops import Linear

# what a layer reads and where to write or add, to its finished sums [B, Y, X, N]
_Multiply = Callable[[Tensor, Tensor | None], Tensor]


class Products:
    """Makes the calls of a network's layers on integers.

    Args:
        network: In evaluation mode.
        library: The compiled kernels.
        memory: Where its values lie.
        threads: Threads that share one product.
        variant: Instruction set of the kernels; None takes the fastest.
    """

    def __init__(
        self,
        network: Network,
        library: NativeLibrary,
        memory: Memory,
        *,
        threads: int,
        variant: str | None,
    ) -> None:
        self._network = network
        self._nodes = network.graph.nodes
        self._library = library
        self._memory = memory
        self._batch = memory.batch
        self._threads = threads
        self._variant = variant
        self._found: dict[tuple[int, ...], tuple[Thresholds, ...]] = {}

    def run_of(self, group: Group) -> Run:
        """Codes, product, factors, shortcut: in one step."""
        layer = layer_of(self._network, self._memory, group)
        memory, nodes = self._memory, self._nodes
        merges = layer.finish.merges
        # signs of signs are rare: they are packed from floats
        is_words = layer.source in memory.bits and not layer.before and group.kind != "int8"
        unpacks_source = layer.source in memory.bits and not is_words
        if group.kind == "int8":
            multiply = self._of_bytes(layer)
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

    def _geometry(self, node: Node, wide: bool = False) -> Conv2dGeometry:
        """Of a layer; ``wide``: of maps that are padded already."""
        op: Any = node.op
        x = self._nodes[node.inputs[0]].type
        if isinstance(op, Linear):
            (features,) = x.torch_shape
            return Conv2dGeometry.of(
                image=(self._batch, 1, 1, features), weight=(op.out_features, 1, 1, features)
            )
        channels, rows, columns = x.torch_shape
        grown = 2 * op.padding if wide else 0
        groups = op.group_count(x)
        return Conv2dGeometry.of(
            image=(self._batch, rows + grown, columns + grown, channels),
            weight=(op.out_channels, op.kernel_size, op.kernel_size, channels // groups),
            stride=op.stride,
            padding=0 if wide else op.padding,
            dilation=op.dilation,
            groups=groups,
        )

    def _product(self, layer: Layer, *, wide: bool = False) -> Any:
        """The product of bits of a layer; ``wide``: of maps that are padded already."""
        node = layer.node
        weight = by_pixel(weight_codes(self._network, node)[0])
        grid, format = self._formats(node)
        packed = pack(weight.float()) if format == BINARY else pack_codes(weight, format)
        conv = self._geometry(node, wide)
        return prepare_product(
            conv,
            grid.format,
            prepare_weight(packed, conv.groups),
            fill=_fill(node.op) if any(conv.padding) else 0,
            finish=layer.finish,
            variant=self._variant,
            threads=self._threads,
        )

    def _of_words(self, layer: Layer) -> _Multiply:
        """Of a map that is kept as words."""
        op: Any = layer.node.op
        if not (op.replicate and op.padding):
            product = self._product(layer)
            return lambda x, into: product(x[None], into)
        product = self._product(layer, wide=True)
        channels, rows, columns = self._nodes[layer.source].type.torch_shape
        shape = (self._batch, rows, columns, word_count(channels))
        widened = edges_repeated(shape, op.padding)
        return lambda x, into: product(widened(x)[None], into)

    def _of_signs(self, layer: Layer) -> _Multiply:
        """Of floats whose signs are packed straight into the border."""
        product = self._product(layer)
        signs = self._thresholds(layer.before)[0] if layer.before else None
        if not layer.pixels:
            return lambda x, into: product.of_floats(by_pixel(x), signs, into)
        rows = None if signs is None else repeated(signs, layer.pixels)
        return lambda x, into: product.of_floats(by_pixel(x.flatten(1)), rows, into)

    def _of_planes(self, layer: Layer, words_of: Callable[[Tensor], Tensor]) -> _Multiply:
        """Of codes that are bit planes, each pair of planes on its own."""
        grid, format = self._formats(layer.node)
        most = max(-grid.low, grid.high) * max(-format.low, format.high)
        one = grid.format.bits == format.bits == 1
        if one or layer.node.facts.fan_in * most > EXACT:
            product = self._product(layer)
            return lambda x, into: product(words_of(x), into)
        codes, _ = weight_codes(self._network, layer.node)
        weights = bit_planes(by_pixel(codes), format)
        filters = len(codes)
        pairs = [
            Pair(plane, weight, torch.full((filters,), x_worth * w_worth, dtype=torch.float64))
            for weight, w_worth in weights
            for plane, x_worth in enumerate(plane_worths(grid.format))
        ]
        signs = grid.format.coding == "symmetric"
        parts = self._parts(layer, pairs, signs=signs, exact=True)
        return lambda x, into: parts(words_of(x), into)

    def _parts(self, layer: Layer, pairs: Sequence[Pair], *, signs: bool, exact: bool) -> Parts:
        conv = self._geometry(layer.node)
        return Parts(
            conv,
            pairs,
            layer.finish,
            signs=signs,
            exact=exact,
            fill=_fill(layer.node.op) if any(conv.padding) else 0,
            variant=self._variant,
            threads=self._threads,
        )

    def _words_of(self, layer: Layer) -> Callable[[Tensor], Tensor]:
        """What gives the bit planes of what a layer reads."""
        if layer.source in self._memory.bits and not layer.before:
            return lambda x: x[None]
        if layer.before:
            return self._planes(layer)
        library, variant = self._library, self._variant

        def of_signs(x: Tensor) -> Tensor:
            x_BHWC = by_pixel(x)
            shape = (1, *x_BHWC.shape[:-1], word_count(x_BHWC.shape[-1]))
            words = torch.empty(shape, dtype=torch.int32)
            pack_into(library, x_BHWC, words[0], variant)
            return words

        return of_signs

    def _planes(self, layer: Layer) -> Callable[[Tensor], Tensor]:
        """What packs a map's codes, flattened or not."""
        planes = Planes(self._network, layer.before, self._library, self._variant)
        if not layer.pixels:
            return lambda x: planes(by_pixel(x))
        planes.repeat(layer.pixels)
        return lambda x: planes(by_pixel(x.flatten(1)))

    def _of_bases(self, layer: Layer) -> _Multiply:
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

    def _of_bytes(self, layer: Layer) -> _Multiply:
        """Of floats whose codes are written as bytes."""
        node = layer.node
        format = self._formats(node)[0].format
        conv = self._geometry(node)
        product = prepare_int8(
            conv,
            format,
            by_pixel(weight_codes(self._network, node)[0]),
            layer.finish,
            fill=_fill(node.op) if any(conv.padding) else 0,
        )
        is_flat = isinstance(node.op, Linear)
        codes = product.map[:, 0, 0] if is_flat else product.map.permute(0, 3, 1, 2)
        if not layer.before:

            def of_signs(x: Tensor, into: Tensor | None) -> Tensor:
                codes.copy_(x - format.low)
                return product(into)

            return of_signs
        write = Bytes(self._network, layer.before[-1], format)

        def run(x: Tensor, into: Tensor | None) -> Tensor:
            if layer.pixels:
                map_BCHW = torch.empty_like(x, dtype=torch.uint8)
                write(x, map_BCHW)
                codes.copy_(map_BCHW.flatten(1))
            else:
                write(x, codes)
            return product(into)

        return run

    def pack(self, group: Group) -> Run:
        """The words of signs that are read by others than layers too."""
        chain = [self._nodes[i] for i in group.nodes]
        channels, rows, columns = self._nodes[group.reads[0]].type.torch_shape
        signs = self._thresholds(chain)
        count = word_count(channels)
        shape = (self._batch, rows, columns, len(signs) * count)
        library, variant = self._library, self._variant

        def run(x: Tensor) -> Tensor:
            words = torch.empty(shape, dtype=torch.int32)
            x_BHWC = by_pixel(x)
            for j, sign in enumerate(signs):
                out = words[..., j * count : (j + 1) * count]
                pack_into(library, x_BHWC, out, variant, sign)
            return words

        return run

    def _thresholds(self, chain: Sequence[Node]) -> tuple[Thresholds, ...]:
        """Those of a sign; found once for all layers that read it."""
        key = tuple(node.index for node in chain)
        if key not in self._found:
            channels = self._nodes[chain[0].inputs[0]].type.torch_shape[0]
            self._found[key] = thresholds(self._network, chain, channels)
        return self._found[key]


def by_pixel(x: Tensor) -> Tensor:
    """A map (B, C, H, W) as [B, H, W, C], a row (B, K) as [B, 1, 1, K]; weights alike."""
    return x.permute(0, 2, 3, 1) if x.dim() == 4 else x[:, None, None]


def _fill(op: Any) -> Fill:
    return "replicate" if op.replicate else int(op.padding_value)
