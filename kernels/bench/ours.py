"""Our kernels on the cases, checked against torch's floats before anybody times them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from bitfront.kernels import cpu
from bitfront.kernels.bench.cases import ConvCase, GemmCase
from bitfront.kernels.bench.peers import Contender
from bitfront.kernels.geometry import Conv2dGeometry
from bitfront.kernels.layout import BINARY
from bitfront.kernels.packing import unpack_bits


class InexactKernel(Exception):
    """A kernel gave other numbers than torch."""


def ours(case: ConvCase | GemmCase, variant: str, threads: int) -> Iterator[Contender]:
    """Kernel alone, with packing of float activations, and a layer whose maps stay packed.

    Results go to memory that is kept, as with every peer that can. A packed layer writes its bits
    into the padded map that the layer behind it reads.

    Raises:
        InexactKernel: If a result differs from torch's on the same signs.
    """
    generator = torch.Generator().manual_seed(1)
    if isinstance(case, ConvCase):
        size, channels = case.size, case.channels
        x = torch.randn(case.batch, size, size, channels, generator=generator)
        w = torch.randn(channels, 3, 3, channels, generator=generator)
        conv = Conv2dGeometry.of(
            image=(case.batch, size, size, channels), weight=(channels, 3, 3, channels), padding=1
        )
        expected = _conv_of_signs(x, w)
    else:
        x = torch.randn(1, 1, case.rows, case.depth, generator=generator)
        w = torch.randn(case.outputs, 1, 1, case.depth, generator=generator)
        conv = Conv2dGeometry.of(
            image=(1, 1, case.rows, case.depth), weight=(case.outputs, 1, 1, case.depth)
        )
        expected = (_signs(x[0]) @ _signs(w.flatten(1)).T)[None]
    weight = cpu.prepare_weight(cpu.pack(w))
    scale = torch.rand(conv.outputs, generator=generator) + 0.5
    affine = cpu.Affine(scale=scale, shift=torch.zeros(conv.outputs))
    threshold = cpu.Threshold(
        threshold=torch.zeros(conv.outputs, dtype=torch.int32),
        flip=torch.zeros(conv.outputs, dtype=torch.bool),
    )
    products = [
        cpu.prepare_product(
            conv, BINARY, weight, fill=-1, finish=finish, variant=variant, threads=threads
        )
        for finish in (affine, threshold, threshold)
    ]
    floats, bits, following = products
    if floats is None or bits is None or following is None:
        yield Contender("bitfront", "1-bit", None, "installed without the compiled kernels")
        return
    words = cpu.pack(x).words[None]
    out, chained = floats(words), bits(words)
    if isinstance(case, ConvCase):
        chained = _inside(following)[0]
    floats_in, bits_in = (_inside(product).copy_(words) for product in (floats, bits))
    _require_equal(case.name, floats.of_floats(x, None, out.fill_(0)), expected * scale)
    _require_equal(case.name, floats(floats_in, out.fill_(0)), expected * scale)
    signs = unpack_bits(bits(bits_in, chained.fill_(0)), conv.outputs).bool()
    _require_equal(case.name, signs, expected >= 0)
    yield Contender("bitfront kernel", "1-bit", lambda: floats(floats_in, out))
    yield Contender("bitfront with packing", "1-bit", lambda: floats.of_floats(x, None, out))
    yield Contender("bitfront packed chain", "1-bit", lambda: bits(bits_in, chained))


def _inside(product: cpu.Product) -> Tensor:
    """Where the maps of a product of this benchmark lie."""
    inside = product.inside
    if inside is None:
        raise ValueError("The product must keep its map, but makes it anew in each call.")
    return inside


def _signs(x: Tensor) -> Tensor:
    return (x >= 0).float() * 2 - 1


def _conv_of_signs(x: Tensor, w: Tensor) -> Tensor:
    padded = F.pad(_signs(x).permute(0, 3, 1, 2), (1, 1, 1, 1), value=-1.0)
    return F.conv2d(padded, _signs(w).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def _require_equal(name: str, result: Tensor, expected: Tensor) -> None:
    if not torch.equal(result, expected):
        raise InexactKernel(f"{name}: the kernel's result must equal torch's, but does not.")
