"""Maps and weights as whole numbers: exactly those that the network's quantizers stand for.

Weights are divided by their factor and rounded. Maps of few bits are packed by comparisons, whose
thresholds are found with the network's own forms; maps of more bits take the forms' own arithmetic,
so their codes are equal bit for bit too.

Shape suffixes: B batch, H height, W width, C channels, P words of a row, N filters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from bitfront.evaluators.packed.fold import code_thresholds
from bitfront.evaluators.packed.routes import Grid, weight_format
from bitfront.kernels.cpu import Thresholds
from bitfront.kernels.cpu.packer import pack_into
from bitfront.kernels.layout import CodeFormat
from bitfront.kernels.native_library import NativeLibrary
from bitfront.kernels.packing import pack_bits, unpack_bits
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.graph import Node
from bitfront.spaces.network import Network
from bitfront.spaces.quantizers import (
    DoReFa,
    DoReFaWeight,
    HalfWave,
    Lsq,
    LsqWeight,
    Pact,
    Quantizer,
    Scaled,
    Symmetric,
)
from bitfront.spaces.quantizers.learned import MIN_STEP

# how far from a whole number, in steps, rounding in 32-bit floats may leave a level
_NEAR: Final = 1e-3
_TOP_BIT: Final = 128


def step_of(quantizer: Quantizer, params: Sequence[Tensor]) -> Tensor:
    """What one step of a quantizer's whole numbers is worth, float32 of one value.

    Args:
        quantizer: Of maps or weights, with levels on a grid.
        params: Of the quantizer.
    """
    if isinstance(quantizer, DoReFa | DoReFaWeight):
        return torch.tensor(1 / (2**quantizer.bits - 1))
    if isinstance(quantizer, Pact):
        return quantizer.scale(params[0].detach())[1].flatten()[0]
    if isinstance(quantizer, Lsq | LsqWeight):
        return params[0].detach().clamp_min(MIN_STEP).flatten()[0]
    if isinstance(quantizer, HalfWave):
        return torch.tensor(quantizer.step)
    if isinstance(quantizer, Symmetric):
        return torch.tensor(quantizer.limit / (2 ** (quantizer.bits - 1) - 1))
    return torch.ones(())


def weight_codes(network: Network, node: Node) -> tuple[Tensor, Tensor]:
    """A layer's weights as whole numbers, int64 of their shape, and each filter's factor, float64.

    Raises:
        InvalidValue: If a weight is not near a whole number of steps, such as NaN.
    """
    form: Any = network.get_submodule(node.name)
    owner: Any = network.get_submodule(network.graph.nodes[node.latent].name)
    op: Any = node.op
    quantizer = op.weight
    with torch.no_grad():
        latent = owner.weight
        if isinstance(quantizer, Scaled):
            factors = quantizer.factors(latent).double()
            values = quantizer.codes.q(latent).double()
        else:
            values = form.quantised(latent).double()
            step = step_of(quantizer, form.quantizer_parameters()).double()
            factors = step.expand(len(latent))
            values = values / step
    codes = values.round()
    format = weight_format(quantizer)
    if format is None or not bool(((values - codes).abs() <= _NEAR).all()):
        raise InvalidValue(
            f"The weights of {node.name} must be whole numbers of steps, but some are not."
        )
    return codes.to(torch.int64), factors


class Planes:
    """Packs floats into the bit planes of their codes.

    A code of k bits is found by its ``2^k - 1`` thresholds: each comparison is packed on its own,
    and a plane is the XOR of those where its bit changes.

    Args:
        network: Holds the parameters.
        chain: A quantizer to codes, and what is monotone before it.
        grid: Of the quantizer.
        library: The compiled kernels.
        variant: Of the kernels.
    """

    def __init__(
        self,
        network: Network,
        chain: Sequence[Node],
        grid: Grid,
        library: NativeLibrary,
        variant: str | None,
    ) -> None:
        nodes = network.graph.nodes
        self._channels = nodes[chain[0].inputs[0]].type.torch_shape[0]
        form: Any = network.get_submodule(chain[-1].name)
        factor = step_of(form.given(), form.quantizer_parameters())
        values = range(grid.low, grid.high + 1, grid.format.step)
        between = (torch.tensor(values[:-1]) + grid.format.step / 2) * factor
        self._thresholds = code_thresholds(network, chain, self._channels, between)
        codes = [grid.format.encode(value) for value in values]
        changed = [before ^ after for before, after in zip(codes, codes[1:], strict=False)]
        self._count = grid.format.bits
        self._changes = [[q for q in range(self._count) if bits >> q & 1] for bits in changed]
        # planes whose bit is 1 below the first threshold
        self._inverted = [q for q in range(self._count) if codes[0] >> q & 1]
        self._ones = _ones(self._channels)
        self._library, self._variant = library, variant

    def repeat(self, pixels: int) -> None:
        """Pack flattened maps from now on: each channel is so many values behind each other."""
        self._channels *= pixels
        self._ones = _ones(self._channels)
        self._thresholds = tuple(repeated(t, pixels) for t in self._thresholds)

    def __call__(self, x_BHWC: Tensor) -> Tensor:
        """int32 words [Q, B, H, W, P].

        Raises:
            ValueError: If a value is NaN.
        """
        shape = (*x_BHWC.shape[:-1], len(self._ones))
        words = torch.empty(self._count, *shape, dtype=torch.int32)
        spare = torch.empty(shape, dtype=torch.int32)
        begun: set[int] = set()
        for thresholds, planes in zip(self._thresholds, self._changes, strict=True):
            # a comparison that starts a plane is packed into it
            start = next((q for q in planes if q not in begun), None)
            packed = spare if start is None else words[start]
            pack_into(self._library, x_BHWC, packed, self._variant, thresholds)
            for q in planes:
                if q in begun:
                    words[q].bitwise_xor_(packed)
                elif q != start:
                    words[q].copy_(packed)
            begun.update(planes)
        for q in self._inverted:
            words[q].bitwise_xor_(self._ones)
        return words


def _ones(channels: int) -> Tensor:
    """int32 words [P] of a row of +1."""
    return pack_bits(torch.ones(channels, dtype=torch.bool))


def repeated(thresholds: Thresholds, pixels: int) -> Thresholds:
    """Those of a flattened map, each channel's values behind each other."""
    channels = len(thresholds.values)
    flips = unpack_bits(thresholds.flip_words, channels).bool()
    return Thresholds(
        values=thresholds.values.repeat_interleave(pixels),
        flip_words=pack_bits(flips.repeat_interleave(pixels)),
    )


class Bytes:
    """Writes the codes of floats as bytes, each less the lowest value of their format.

    Args:
        network: Holds the parameters.
        node: A quantizer to codes.
        format: Of the codes.
    """

    def __init__(self, network: Network, node: Node, format: CodeFormat) -> None:
        self._number = _numbers(network.get_submodule(node.name))
        self._low = format.low
        self._wide = format.high - format.low >= _TOP_BIT
        self._name = node.name

    def __call__(self, x: Tensor, out: Tensor) -> None:
        """Write the codes of a map.

        Args:
            x: float32, as the quantizer reads it.
            out: uint8 of its shape.

        Raises:
            ValueError: If a value is NaN.
        """
        numbers = self._number(x)
        # one NaN makes the sum NaN
        if bool(numbers.sum().isnan()):
            raise ValueError(f"What {self._name} reads must not have NaN, but has at least one.")
        if self._low:
            numbers.sub_(self._low)
        # floats become signed bytes many times faster than unsigned ones
        signed = out.view(torch.int8)
        if self._wide:
            signed.copy_(numbers.sub_(_TOP_BIT))
            out.bitwise_xor_(_TOP_BIT)
        else:
            signed.copy_(numbers)


def _numbers(form: Any) -> Callable[[Tensor], Tensor]:
    """What gives a map's whole numbers as new floats, by the operations of the quantizer."""
    quantizer, params = form.given(), form.quantizer_parameters()
    if isinstance(quantizer, DoReFa):
        top = 2**quantizer.bits - 1
        return lambda x: x.clamp(0.0, 1.0).mul_(top).round_()
    if isinstance(quantizer, Lsq):
        low, high, step = -quantizer.low, quantizer.high, params[0].detach().clamp_min(MIN_STEP)
        return lambda x: x.div(step).clamp_(low, high).round_()
    if isinstance(quantizer, Pact):
        limit, part = quantizer.scale(params[0].detach())

        def pact(x: Tensor) -> Tensor:
            above = x.clamp_min(0)
            return torch.minimum(above, limit, out=above).div_(part).round_()

        return pact
    # of others the levels themselves, which a division brings near whole numbers
    factor = step_of(quantizer, params)

    def from_levels(x: Tensor) -> Tensor:
        levels: Tensor = form(x)
        return levels.div(factor).round_()

    return from_levels
