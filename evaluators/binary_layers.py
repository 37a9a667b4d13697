"""Binary layers on packed bits: the exact integers that a network's float arithmetic must equal.

A layer is binary where its input and its weights are signs and no bias is added. Its outputs are
integers, sums of products of -1 and +1. ``BinaryLayer`` holds its weights one bit each and computes
those integers with ``bitfront.kernels``; a network, and every exported file, computes them in
floats. Floats hold integers exactly up to 2^24, so both must be equal bit for bit.

=========  ==================================================================================
name       meaning
=========  ==================================================================================
B          images
C, N       channels of all slices together; filters
H, W       rows and columns of the input; Y, X of the output
P          words of a row of bits
=========  ==================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bitfront.kernels import Fill, PackedBits, pack, pack_nchw, xnor_conv2d, xnor_gemm
from bitfront.spaces.errors import BitfrontError, InvalidValue
from bitfront.spaces.graph import Domain, Graph, Node
from bitfront.spaces.network import Network
from bitfront.spaces.ops import Conv2d, FilterScale, Linear
from bitfront.spaces.quantizers import Learned, Quantizer


class InexactLayers(BitfrontError):
    """Float arithmetic gave other values than the integers of packed bits."""


def binary_nodes(graph: Graph) -> tuple[Node, ...]:
    """The convolutions and linear layers whose input and weights are signs, without bias."""
    return tuple(
        node for node in graph.nodes if node.op.main and node.type.domain is Domain.ACCUMULATOR
    )


def weight_quantizer_of(node: Node) -> Quantizer:
    """The quantizer of a layer's weights.

    Raises:
        InvalidValue: If the node is no convolution or linear layer.
    """
    if not isinstance(node.op, Conv2d | Linear):
        raise InvalidValue(f"{node.name} must have weights, but is a {node.op.kind}.")
    return node.op.weight


def weight_owners(graph: Graph) -> dict[int, int]:
    """By layer, the first layer that computes with the same weights: often itself.

    Layers have the same weights if they share a latent tensor and quantise it alike.
    """
    owners: dict[int, int] = {}
    first: dict[tuple[int, Quantizer], int] = {}
    for node in graph.nodes:
        if isinstance(node.op, Conv2d | Linear):
            # a learned quantizer has parameters of its own in every layer
            shared = not isinstance(node.op.weight, Learned)
            owner = first.setdefault((node.latent, node.op.weight), node.index)
            owners[node.index] = owner if shared else node.index
    return owners


def quantized_weight(network: Network, node: Node) -> Tensor:
    """The weights that a convolution or linear layer computes with, float32.

    A node that shares another node's latent tensor derives its own weights from it.

    Raises:
        InvalidValue: If the node has no weights.
    """
    latent = network.graph.nodes[node.latent]
    weight = network.get_parameter(f"{latent.name}.weight").detach()
    quantizer = weight_quantizer_of(node)
    if isinstance(quantizer, Learned):
        return quantizer.q(weight, *network.quantizer_parameters(node.index))
    return quantizer.q(weight)


def filter_factors(network: Network, node: Node) -> Tensor:
    """The factors, one per filter, that a ``FilterScale`` node multiplies with, float32.

    Raises:
        InvalidValue: If the node is another.
    """
    op = node.op
    if not isinstance(op, FilterScale):
        raise InvalidValue(f"{node.name} must scale filters, but is a {op.kind}.")
    latent = network.graph.nodes[node.latent]
    return op.quantizer.factors(network.get_parameter(f"{latent.name}.weight").detach())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BinaryLayer:
    """One binary layer with packed weights.

    Attributes:
        node: Its convolution or linear layer.
        weight: Packed signs, [N, kh, kw, P] or [N, P].
        groups: Of a convolution, slices included; 1 of a linear layer.
    """

    node: Node
    weight: PackedBits
    groups: int = 1

    def accumulators(self, x: Tensor) -> Tensor:
        """The layer's integers.

        Args:
            x: Signs of any signed dtype, (B, C, H, W) or (B, C).

        Returns:
            int32, (B, N, Y, X) or (B, N).

        Raises:
            InvalidValue: If ``x`` holds other values than -1 and +1.
        """
        if not _are_signs(x):
            raise InvalidValue(
                f"The inputs of {self.node.name} must be -1 or +1, but some are not."
            )
        op = self.node.op
        if not isinstance(op, Conv2d):
            return xnor_gemm(pack(x).words, self.weight.words, x.shape[1])
        # a padding of signs is a bit like any other; the kernel corrects for zeros
        fill: Fill = "replicate" if op.replicate else int(op.padding_value)
        acc_BYXN = xnor_conv2d(
            pack_nchw(x),
            self.weight,
            stride=op.stride,
            padding=op.padding,
            dilation=op.dilation,
            groups=self.groups,
            fill=fill,
        )
        return acc_BYXN.permute(0, 3, 1, 2)


def _are_signs(x: Tensor) -> bool:
    return bool((x.abs() == 1).all())


def binary_layers(network: Network) -> tuple[BinaryLayer, ...]:
    """Pack the weights of every binary layer, in the order of the graph."""
    layers = []
    for node in binary_nodes(network.graph):
        weight = quantized_weight(network, node)
        if isinstance(node.op, Conv2d):
            groups = node.op.group_count(network.graph.nodes[node.inputs[0]].type)
            layer = BinaryLayer(node=node, weight=pack_nchw(weight), groups=groups)
        else:
            layer = BinaryLayer(node=node, weight=pack(weight))
        layers.append(layer)
    return tuple(layers)


def unequal_layers(
    layers: Sequence[BinaryLayer], values: Mapping[int, Tensor] | Sequence[Tensor]
) -> tuple[str, ...]:
    """Names of the layers whose values are not exactly the integers that packed bits give.

    Args:
        layers: What to check.
        values: By node index, the value of each layer and of the node that it reads: what
            ``Network.trace`` returns, or what an exported model computes.
    """
    return tuple(
        layer.node.name
        for layer in layers
        if not _is_exact(layer, values[layer.node.inputs[0]], values[layer.node.index])
    )


def _is_exact(layer: BinaryLayer, x: Tensor, value: Tensor) -> bool:
    # float64 holds every int32 and every float32
    return _are_signs(x) and torch.equal(value.double(), layer.accumulators(x).double())


def check_binary_layers(network: Network, x: Tensor) -> int:
    """Check on a batch that a network's binary layers are exact when it is evaluated.

    Args:
        network: Its state and mode stay.
        x: Normalised images, (B, C, H, W).

    Returns:
        The number of binary layers.

    Raises:
        InexactLayers: If a layer's floats differ from the integers that packed bits give.
    """
    layers = binary_layers(network)
    training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            wrong = unequal_layers(layers, network.trace(x))
    finally:
        network.train(training)
    if wrong:
        raise InexactLayers(
            f"Binary layers must equal their packed form bit for bit, but {len(wrong)} of "
            f"{len(layers)} do not: {', '.join(wrong[:5])}."
        )
    return len(layers)
