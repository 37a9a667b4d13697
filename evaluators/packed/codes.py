"""Maps and weights as whole numbers: exactly those that the network's quantizers stand for.

Weights are divided by their factor and rounded. Maps take the arithmetic of the network's own
forms, so that their codes are equal bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from bitfront.evaluators.packed.routes import weight_format
from bitfront.kernels.layout import CodeFormat, PackedBits, PackedCodes
from bitfront.kernels.packing import pack, pack_codes
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.graph import Node
from bitfront.spaces.network import Network
from bitfront.spaces.quantizers import (
    DoReFa,
    DoReFaWeight,
    HalfWave,
    LqNetWeight,
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
            factors = step.to(latent.device).expand(len(latent))
            values = values / step
    codes = values.round()
    format = weight_format(quantizer)
    if format is None or not bool(((values - codes).abs() <= _NEAR).all()):
        raise InvalidValue(
            f"The weights of {node.name} must be whole numbers of steps, but some are not."
        )
    return codes.to(torch.int64), factors


def weight_planes(network: Network, node: Node) -> list[tuple[Tensor, Tensor]]:
    """A layer's weights as sums of planes: -1 and +1, and each filter's factor, float64 [N]."""
    op: Any = node.op
    if not isinstance(op.weight, LqNetWeight):
        codes, factors = weight_codes(network, node)
        return [(codes.float(), factors)]
    form: Any = network.get_submodule(node.name)
    owner: Any = network.get_submodule(network.graph.nodes[node.latent].name)
    (basis,) = form.quantizer_parameters()
    latent = owner.weight.detach()
    levels, numbers = op.weight.ascending(basis.detach())
    places = op.weight.numbers(op.weight.groups(latent), levels)
    codes = numbers.gather(1, places).reshape(latent.shape)
    return [
        ((codes >> plane & 1).float() * 2 - 1, basis[:, plane].detach().double())
        for plane in range(op.weight.bits)
    ]


def bit_planes(codes: Tensor, format: CodeFormat) -> list[tuple[PackedBits | PackedCodes, int]]:
    """Whole numbers as packed planes of -1 and +1 (symmetric) or of 0 and 1, and their worths."""
    bits = [format.encode(codes) >> plane & 1 for plane in range(format.bits)]
    planes = zip(bits, plane_worths(format), strict=True)
    if format.coding == "symmetric":
        return [(pack(plane.float() - 0.5), worth) for plane, worth in planes]
    one = CodeFormat(bits=1, coding="unsigned")
    return [(pack_codes(plane, one), worth) for plane, worth in planes]


def plane_worths(format: CodeFormat) -> tuple[int, ...]:
    """What a plane's -1 and +1 (symmetric) or its 1 (else) add to a whole number."""
    if format.coding == "symmetric":
        return tuple(1 << plane for plane in range(format.bits))
    return format.plane_values


class Numbers(NamedTuple):
    """The whole numbers of a quantizer's codes.

    Attributes:
        name: Of its node.
        of: What gives those of a map as new floats, by the operations of the quantizer.
    """

    name: str
    of: Callable[[Tensor], Tensor]


def numbers_of(network: Network, node: Node) -> Numbers:
    """Those of a quantizer to codes."""
    return Numbers(node.name, _numbers(network.get_submodule(node.name)))


class Bytes:
    """Writes the codes of floats as bytes, each less the lowest value of their format.

    Args:
        numbers: Of the quantizer.
        format: Of the codes.
    """

    def __init__(self, numbers: Numbers, format: CodeFormat) -> None:
        self._numbers = numbers
        self._low = format.low
        self._wide = format.high - format.low >= _TOP_BIT

    def __call__(self, x: Tensor, out: Tensor) -> None:
        """Write the codes of a map.

        Args:
            x: float32, as the quantizer reads it.
            out: uint8 of its shape.

        Raises:
            ValueError: If a value is NaN.
        """
        numbers = self._numbers.of(x)
        # one NaN makes the sum NaN
        if bool(numbers.sum().isnan()):
            name = self._numbers.name
            raise ValueError(f"What {name} reads must not have NaN, but has at least one.")
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
    quantizer, params = form.given(), form.quantizer_parameters()
    if isinstance(quantizer, DoReFa):
        top = 2**quantizer.bits - 1
        return lambda x: x.clamp(0.0, 1.0).mul_(top).round_()
    if isinstance(quantizer, Lsq):
        low, high, step = -quantizer.low, quantizer.high, params[0].detach().clamp_min(MIN_STEP)
        return lambda x: x.div(step).clamp_(low, high).round_()
    if isinstance(quantizer, Pact):
        limit, share = quantizer.scale(params[0].detach())

        def pact(x: Tensor) -> Tensor:
            above = x.clamp_min(0)
            return torch.minimum(above, limit, out=above).div_(share).round_()

        return pact
    if isinstance(quantizer, HalfWave):
        part, top = quantizer.step, quantizer.top

        def half_wave(x: Tensor) -> Tensor:
            number = x.div(part).sub_(0.5).ceil_().clamp_(1, top)
            # comparisons that give floats are many times faster than masks
            return number.mul_(torch.gt(x, 0.0, out=torch.empty_like(x)))

        return half_wave
    if isinstance(quantizer, Symmetric):
        end, top = quantizer.limit, 2 ** (quantizer.bits - 1) - 1
        return lambda x: x.div(end).clamp_(-1.0, 1.0).mul_(top).round_()
    # of others the levels themselves, which a division brings near whole numbers
    factor = step_of(quantizer, params)

    def from_levels(x: Tensor) -> Tensor:
        levels: Tensor = form(x)
        return levels.div(factor).round_()

    return from_levels
