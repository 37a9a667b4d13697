"""Batch norms that disappear: into the thresholds of a sign, or into factors and offsets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from bitfront.spaces.graph import Node
from bitfront.spaces.network import Network
from bitfront.spaces.torch_ops import NORM_EPS

_BITS: Final = 32
_SIGN_BIT: Final = 1 << (_BITS - 1)
_LARGEST: Final = torch.finfo(torch.float32).max


class Crossings(NamedTuple):
    """Where bits change, of S bits of each channel: bit s is ``(x >= values[s]) != flips[s]``.

    Attributes:
        values: float32 [S, C].
        flips: bool [S, C].
    """

    values: Tensor
    flips: Tensor

    def repeated(self, pixels: int) -> Crossings:
        """Those of a flattened map, each channel's values behind each other."""
        return Crossings(*(x.repeat_interleave(pixels, dim=1) for x in self))


def folded(network: Network, chain: Sequence[Node], channels: int) -> tuple[Tensor, Tensor]:
    """Factor and offset per channel of a chain of affine ops, each float64 [channels].

    Args:
        network: Holds the parameters.
        chain: Ops whose kinds are in `grouping.AFFINE`, in the order of execution.
        channels: Of the map, over all slices.
    """
    device = device_of(network)
    factor = torch.ones(channels, dtype=torch.float64, device=device)
    offset = torch.zeros(channels, dtype=torch.float64, device=device)
    for node in chain:
        form: Any = network.get_submodule(node.name)
        if node.op.kind == "batch_norm":
            own = (form.running_var.double() + NORM_EPS).rsqrt()
            if form.weight is not None:
                own = form.weight.detach().double() * own
            factor, offset = factor * own, (offset - form.running_mean.double()) * own
            if form.bias is not None:
                offset = offset + form.bias.detach().double()
        elif node.op.kind == "shift":
            offset = offset + form.bias.detach().double()
        else:
            own = _factors(network, node, channels).double()
            factor, offset = factor * own, offset * own
    return factor, offset


def affine_constants(
    network: Network, chain: Sequence[Node], channels: int, *, flat: bool
) -> tuple[Tensor, Tensor]:
    """Factor and offset of affine ops as floats, each (1, C, 1, 1), or (C,) for rows."""
    factor, offset = folded(network, chain, channels)
    shape = (channels,) if flat else (1, channels, 1, 1)
    return factor.float().reshape(shape), offset.float().reshape(shape)


def _factors(network: Network, node: Node, channels: int) -> Tensor:
    """Of a scale, or those that follow from a layer's latent weights."""
    form: Any = network.get_submodule(node.name)
    ones = torch.ones(1, channels, 1, 1, device=device_of(network))
    with torch.no_grad():
        if node.op.kind == "filter_scale":
            latent: Any = network.get_submodule(network.graph.nodes[node.latent].name)
            y: Tensor = form(ones, latent=latent.weight)
        else:
            y = form(ones)
    return y.flatten()


def device_of(network: Network) -> torch.device:
    """Where a network's parameters are."""
    return next((x.device for x in network.parameters()), torch.device("cpu"))


def sign_crossings(network: Network, chain: Sequence[Node], channels: int) -> Crossings:
    """Where the bits of a quantizer change, one row for each of its slices.

    Args:
        network: Holds the parameters.
        chain: A quantizer to -1 and +1, and a batch norm before it if there is one.
        channels: Of the map that the chain reads.
    """
    slices = chain[-1].type.slices

    def signs(x_KC: Tensor) -> Tensor:
        # image j holds what is asked for slice j
        of_slices = _values(network, chain, x_KC).reshape(slices, slices, channels)
        return of_slices.diagonal().T > 0

    with torch.no_grad():
        return crossings(signs, (slices, channels), device_of(network))


def code_crossings(
    network: Network, chain: Sequence[Node], channels: int, between: Tensor
) -> Crossings:
    """Where the values of a quantizer pass some bounds, one row for each.

    Args:
        network: Holds the parameters.
        chain: A quantizer to one map, and what is monotone before it.
        channels: Of the map that the chain reads.
        between: float64 [bounds], between the levels.
    """
    shape = (len(between), channels)

    def above(x_KC: Tensor) -> Tensor:
        return _values(network, chain, x_KC) > between.to(x_KC.device)[:, None]

    with torch.no_grad():
        return crossings(above, shape, device_of(network))


def _values(network: Network, chain: Sequence[Node], x_KC: Tensor) -> Tensor:
    """What a chain makes of K images of equal pixels, [K, channels of the result]."""
    flat = len(network.graph.nodes[chain[0].inputs[0]].type.shape) == 1
    x = x_KC
    if not flat:
        # a map of several pixels in the layout of the network's maps takes the same arithmetic
        x = x[:, :, None, None].expand(*x_KC.shape, 2, 2)
        x = x.contiguous(memory_format=torch.channels_last)
    for node in chain:
        form: Any = network.get_submodule(node.name)
        x = form(x)
    return x if flat else x[:, :, 0, 0]


def crossings(
    sign: Callable[[Tensor], Tensor],
    shape: tuple[int, ...],
    device: torch.device | None = None,
) -> Crossings:
    """Where signs change, exactly as torch's own arithmetic rounds.

    A batch norm is monotone in each channel, so its sign changes at most once. That place is found
    by bisection over the floats in their order, with torch's batch norm itself as the oracle.

    Args:
        sign: Floats of that shape to bools, each monotone.
        shape: Any.
        device: Where the floats are.

    Returns:
        ``values`` and ``flips``: the sign is ``(x >= values) != flips`` of every finite x.
    """
    at_low = sign(torch.full(shape, -_LARGEST, device=device))
    at_high = sign(torch.full(shape, _LARGEST, device=device))
    ends = _ordered(torch.tensor([-_LARGEST, _LARGEST], device=device))
    low, high = ends[0].expand(shape), ends[1].expand(shape)
    for _ in range(_BITS + 1):
        middle = (low + high) >> 1
        before = sign(_float_at(middle)) == at_low
        low = torch.where(before, middle, low)
        high = torch.where(before, high, middle)
    # a sign that never changes: every x is past minus infinity
    return Crossings(torch.where(at_low == at_high, -torch.inf, _float_at(high)), ~at_high)


def _ordered(x: Tensor) -> Tensor:
    """Floats as int64 in the same order; both zeros are 0."""
    bits = x.view(torch.int32).to(torch.int64)
    return torch.where(bits >= 0, bits, -(bits & (_SIGN_BIT - 1)))


def _float_at(order: Tensor) -> Tensor:
    """The float of a place in the order."""
    bits = torch.where(order >= 0, order, -order - _SIGN_BIT)
    return bits.to(torch.int32).view(torch.float32)
