"""Layers on integers as calls: signs and codes multiplied exactly, norms and shortcuts folded in.

What a layer reads is a map of floats (B, C, H, W), a row of them (B, K), or a map of words
(B, H, W, P). A linear layer is a convolution of single pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bitfront.evaluators.packed.codes import Bytes, Planes, repeated, step_of, weight_codes
from bitfront.evaluators.packed.fold import folded, thresholds
from bitfront.evaluators.packed.grouping import Group
from bitfront.evaluators.packed.layers import Run
from bitfront.evaluators.packed.memory import Memory
from bitfront.evaluators.packed.routes import Grid, read_grid, source_of, weight_format
from bitfront.evaluators.packed.words import edges_repeated, floats
from bitfront.kernels.cpu import Affine, Thresholds, pack, prepare_product, prepare_weight
from bitfront.kernels.cpu.int8 import prepare_int8
from bitfront.kernels.cpu.packer import pack_into
from bitfront.kernels.geometry import Conv2dGeometry, Fill
from bitfront.kernels.layout import BINARY, CodeFormat, word_count
from bitfront.kernels.native_library import NativeLibrary
from bitfront.kernels.packing import pack_codes
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.graph import Node
from bitfront.spaces.network import Network
from bitfront.spaces.ops import Linear, Quantize

# what a layer reads and where to write or add, to its finished sums [B, Y, X, N]
_Multiply = Callable[[Tensor, Tensor | None], Tensor]


class _Layer(NamedTuple):
    """A layer and what is folded into its step.

    Attributes:
        node: The convolution or linear layer.
        source: The node that its step reads it from.
        before: The quantizer and what is monotone before it; no flattening.
        pixels: Values of a channel that a flattening behind the quantizer puts into the row; 0
            without one.
        finish: Factors and offsets, ReLU, and whether the shortcut is added where it lies.
        adds: Whether a shortcut is added last.
        shortcut: Its node.
    """

    node: Node
    source: int
    before: tuple[Node, ...]
    pixels: int
    finish: Affine
    adds: bool
    shortcut: int


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
        layer = self._layer(group)
        memory, nodes = self._memory, self._nodes
        merges = layer.finish.merges
        # signs of signs are rare: they are packed from floats
        is_words = layer.source in memory.bits and not layer.before and group.kind != "int8"
        unpacks_source = layer.source in memory.bits and not is_words
        if is_words:
            multiply = self._of_words(layer)
        elif group.kind == "int8":
            multiply = self._of_bytes(layer)
        elif self._formats(layer.node)[0].format == BINARY:
            multiply = self._of_signs(layer)
        else:
            multiply = self._of_planes(layer)
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

    def _layer(self, group: Group) -> _Layer:
        network, nodes, memory = self._network, self._nodes, self._memory
        node = nodes[group.main]
        op: Any = node.op
        filters = node.type.torch_shape[0]
        before = [nodes[i] for i in group.nodes if i < group.main]
        after = [nodes[i] for i in group.nodes if i > group.main]
        adds = bool(after) and after[-1].op.kind == "add"
        if adds:
            after.pop()
        kinds = [node.op.kind for node in after]
        rectifies = "relu" in kinds
        split = kinds.index("relu") if rectifies else len(after)
        source = before[0].inputs[0] if before else node.inputs[0]
        # a map that is added to its own layer is read once
        shortcut = next((i for i in group.reads if i != source), source)
        pixels = 0
        if before and before[-1].op.kind == "flatten":
            pixels = prod(nodes[before.pop().inputs[0]].type.shape[1:])
        factor, offset = folded(network, after[:split], filters)
        form: Any = network.get_submodule(node.name)
        if form.bias is not None:
            offset = offset + factor * form.bias.detach().double()
        if group.kind != "binary":
            factor = factor * self._steps(node)
        finish = Affine(
            scale=factor.float(),
            shift=offset.float(),
            merges=adds and memory.overwriting.corrects(shortcut, group),
            rectifies=rectifies,
        )
        if after[split + 1 :]:
            factor, offset = folded(network, after[split + 1 :], filters)
            finish = replace(finish, scale_after=factor.float(), shift_after=offset.float())
        return _Layer(node, source, tuple(before), pixels, finish, adds, shortcut)

    def _steps(self, node: Node) -> Tensor:
        """What 1 of a filter's sums is worth, float64 [N]."""
        _, factors = weight_codes(self._network, node)
        quantizer: Any = source_of(self._nodes, node).op
        if not isinstance(quantizer, Quantize):
            return factors
        form: Any = self._network.get_submodule(source_of(self._nodes, node).name)
        return factors * step_of(quantizer.quantizer, form.quantizer_parameters()).double()

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

    def _product(self, layer: _Layer, *, wide: bool = False) -> Any:
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

    def _of_words(self, layer: _Layer) -> _Multiply:
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

    def _of_signs(self, layer: _Layer) -> _Multiply:
        """Of floats whose signs are packed straight into the border."""
        product = self._product(layer)
        signs = self._thresholds(layer.before)[0] if layer.before else None
        if not layer.pixels:
            return lambda x, into: product.of_floats(by_pixel(x), signs, into)
        rows = None if signs is None else repeated(signs, layer.pixels)
        return lambda x, into: product.of_floats(by_pixel(x.flatten(1)), rows, into)

    def _of_planes(self, layer: _Layer) -> _Multiply:
        """Of floats whose codes are packed plane by plane."""
        product = self._product(layer)
        grid, _ = self._formats(layer.node)
        planes = Planes(self._network, layer.before, grid, self._library, self._variant)
        if not layer.pixels:
            return lambda x, into: product(planes(by_pixel(x)), into)
        planes.repeat(layer.pixels)
        return lambda x, into: product(planes(by_pixel(x.flatten(1))), into)

    def _of_bytes(self, layer: _Layer) -> _Multiply:
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
