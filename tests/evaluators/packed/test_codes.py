"""Layers of codes: the network's own whole numbers, multiplied exactly."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from bitfront.evaluators.packed import PackedNetwork
from bitfront.evaluators.packed.codes import Bytes, Planes, step_of, weight_codes
from bitfront.evaluators.packed.routes import input_grid, weight_format
from bitfront.kernels.native_library import load
from bitfront.kernels.packing import unpack_bits
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.graph import Builder, Graph
from bitfront.spaces.network import Network
from bitfront.spaces.ops import Add, BatchNorm, Conv2d, FilterScale, Input, Quantize, Relu
from bitfront.spaces.quantizers import (
    SIGN,
    SIGN_WEIGHT,
    DoReFa,
    DoReFaWeight,
    HalfWave,
    Lsq,
    LsqWeight,
    MagnitudeSign,
    MultiSign,
    Pact,
    Quantizer,
    RSign,
    Symmetric,
    Syq,
    Ternary,
    TernaryScaled,
    XnorSign,
    quantizers,
)

INPUTS = [
    DoReFa(width=1),
    DoReFa(width=2),
    DoReFa(width=5),
    DoReFa(width=8),
    HalfWave(width=1),
    HalfWave(width=3),
    HalfWave(width=4),
    Lsq(width=1),
    Lsq(width=3),
    Lsq(width=8),
    Lsq(width=2, signed=True),
    Lsq(width=8, signed=True),
    Pact(width=2),
    Pact(width=8),
    Symmetric(width=2),
    Symmetric(width=3, limit=0.7),
    Symmetric(width=8),
    Ternary(threshold=0.4),
    SIGN,
    RSign(),
]
# those whose levels are no grid, or one that each image has for itself
OFF_GRID = {"identity", "half", "heaviside", "lq_net", "rotated_sign"}


def layer(x: Quantizer, w: Quantizer, *, norm: bool = False, **arguments: object) -> Graph:
    """A quantizer and a convolution, with a norm before and behind them or without."""
    arguments = {"out_channels": 24, "kernel_size": 3, "padding": 1, **arguments}
    b = Builder()
    node = b.add(Input(shape=(40, 7, 6), bits=32), name="input")
    if norm:
        node = b.add(BatchNorm(), node, name="before")
    node = b.add(Quantize(quantizer=x), node, name="quantize")
    node = b.add(Conv2d(weight=w, **arguments), node, name="conv")
    if norm:
        node = b.add(BatchNorm(), node, name="norm")
        b.add(Relu(), node, name="relu")
    return b.graph()


@pytest.fixture
def trained(trained_like) -> Callable[[Graph], Network]:
    """A function that builds a network whose steps and limits are no round numbers."""

    def build(graph: Graph) -> Network:
        network = trained_like(Network(graph))
        g = torch.Generator().manual_seed(4)
        for name, values in network.named_parameters():
            if name.endswith((".step", ".alpha")):
                values.data.uniform_(0.2, 0.9, generator=g)
        return network

    return build


def kinds(packed: PackedNetwork) -> list[str]:
    return [step.group.kind for step in packed._steps]


def exact_sums(network: Network, x: Tensor) -> tuple[Tensor, Tensor]:
    """The layer's sums of whole numbers in float64, and what 1 of each filter's sums is worth."""
    nodes = {node.name: node for node in network.graph.nodes}
    quantize, conv = network.get_submodule("quantize"), network.get_submodule("conv")
    given = quantize.given()
    unit = step_of(given, quantize.quantizer_parameters()).double()
    codes = (quantize(x).double() / unit).round()
    op = nodes["conv"].op
    weight, factors = weight_codes(network, nodes["conv"])
    pad = "replicate" if op.replicate else "constant"
    value = None if op.replicate else op.padding_value
    padded = F.pad(codes, (op.padding,) * 4, pad, value)
    sums = F.conv2d(padded, weight.double(), None, op.stride, 0, op.dilation, conv.groups)
    return sums, factors * unit


@torch.no_grad()
def check_exact(network: Network, kind: str, x: Tensor) -> None:
    """The output is the exact sum times the filter's factor, rounded as two floats are."""
    packed = PackedNetwork(network, batch=len(x))
    assert kinds(packed) == [kind]
    sums, factors = exact_sums(network, x.contiguous(memory_format=torch.channels_last))
    assert sums.abs().max() > 1
    assert torch.equal(packed(x), sums.float() * factors.float()[:, None, None])
    # again: nothing of the first call is left
    assert torch.equal(packed(x), sums.float() * factors.float()[:, None, None])


PAIRS = [
    (1, 1, "bitserial"),
    (1, 2, "bitserial"),
    (1, 3, "bitserial"),
    (1, 4, "int8"),
    (1, 8, "int8"),
    (2, 1, "bitserial"),
    (2, 2, "bitserial"),
    (2, 3, "int8"),
    (3, 1, "bitserial"),
    (3, 5, "int8"),
    (4, 4, "int8"),
    (5, 1, "bitserial"),
    (6, 1, "int8"),
    (7, 7, "int8"),
    (8, 1, "int8"),
    (8, 2, "int8"),
    (8, 8, "int8"),
]


@pytest.mark.parametrize("coding", ["dorefa", "lsq", "signed"])
@pytest.mark.parametrize(("w_bits", "a_bits", "kind"), PAIRS)
def test_products_of_every_pair_of_bits_are_exact(w_bits, a_bits, kind, coding, trained, images):
    x = {
        "dorefa": DoReFa(width=a_bits),
        "lsq": Lsq(width=a_bits),
        "signed": SIGN if a_bits == 1 else Lsq(width=a_bits, signed=True),
    }[coding]
    w = LsqWeight(width=w_bits) if w_bits > 1 and coding != "dorefa" else SIGN_WEIGHT
    if w_bits > 1 and coding == "dorefa":
        w = DoReFaWeight(width=w_bits)
    if x == SIGN and w == SIGN_WEIGHT:
        kind = "binary"
    network = trained(layer(x, w))
    check_exact(network, kind, images(network, 2))


@pytest.mark.parametrize(
    ("x", "w"),
    [
        (HalfWave(width=2), XnorSign()),
        (HalfWave(width=4), MagnitudeSign()),
        (Pact(width=2), TernaryScaled()),
        (Pact(width=7), TernaryScaled()),
        (Ternary(threshold=0.4), Ternary()),
        (Symmetric(width=3), Ternary(relative=True, threshold=0.7)),
        (Symmetric(width=8), LsqWeight(width=3)),
        (RSign(), LsqWeight(width=3)),
        (RSign(), LsqWeight(width=7)),
        (MultiSign(k=4), Ternary()),
    ],
    ids=lambda quantizer: quantizer.kind,
)
def test_products_of_other_quantizers_are_exact(x, w, trained, images):
    network = trained(layer(x, w))
    few = x.bits * weight_format(w).bits <= 5 and x.bits <= 3
    if isinstance(x, MultiSign):
        packed = PackedNetwork(network)
        assert kinds(packed) == ["pack", "bitserial"]
        with torch.no_grad():
            assert torch.equal(packed(images(network, 1)), network(images(network, 1)))
        return
    check_exact(network, "bitserial" if few else "int8", images(network, 2))


GEOMETRIES = [
    {"stride": 2},
    {"dilation": 2, "padding": 2},
    {"groups": 4},
    {"groups": 8, "replicate": True},
    {"replicate": True, "stride": 2},
    {"kernel_size": 1, "padding": 0},
    {"kernel_size": 5, "padding": 1},
]


@pytest.mark.parametrize("bits", [2, 8])
@pytest.mark.parametrize("arguments", GEOMETRIES, ids=repr)
def test_every_geometry_is_exact(arguments, bits, trained, images):
    network = trained(layer(DoReFa(width=bits), DoReFaWeight(width=bits), **arguments))
    check_exact(network, "bitserial" if bits == 2 else "int8", images(network, 1))


@pytest.mark.parametrize("padding_value", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("bits", [3, 8])
def test_signs_with_wide_weights_are_padded(padding_value, bits, trained, images):
    network = trained(layer(SIGN, LsqWeight(width=bits), padding_value=padding_value))
    check_exact(network, "bitserial" if bits == 3 else "int8", images(network, 1))


@pytest.mark.parametrize("bits", [2, 8])
@pytest.mark.parametrize("bias", [False, True])
def test_norms_bias_and_relu_are_folded(bits, bias, trained, check):
    network = trained(layer(DoReFa(width=bits), DoReFaWeight(width=bits), norm=True, bias=bias))
    if bias:
        network.get_parameter("conv.bias").data.normal_()
    packed = PackedNetwork(network)
    # a norm before goes into the thresholds of few bits
    assert kinds(packed) == (["bitserial"] if bits == 2 else ["affine", "int8"])
    check(network, batch=2)


def test_signs_with_a_bias_are_a_layer(trained, images):
    network = trained(layer(SIGN, SIGN_WEIGHT, bias=True))
    network.get_parameter("conv.bias").data.normal_()
    packed, x = PackedNetwork(network), images(network, 1)
    assert kinds(packed) == ["bitserial"]
    with torch.no_grad():
        assert torch.equal(packed(x), network(x))


@pytest.mark.parametrize("bits", [2, 4])
def test_residual_blocks_of_codes(bits, trained, check):
    b = Builder()
    x = b.add(Input(shape=(40, 6, 5), bits=32), name="input")
    x = b.add(Conv2d(out_channels=32, kernel_size=1), x, name="first")
    for name in ("a", "b"):
        y = b.add(Quantize(quantizer=DoReFa(width=bits)), x, name=f"q{name}")
        conv = Conv2d(out_channels=32, kernel_size=3, padding=1, weight=DoReFaWeight(width=bits))
        y = b.add(BatchNorm(), b.add(conv, y, name=f"conv{name}"), name=f"norm{name}")
        y = b.add(Quantize(quantizer=DoReFa(width=bits)), b.add(Relu(), y), name=f"r{name}")
        # one map of codes that two layers read, in different ways
        wide = Conv2d(out_channels=32, kernel_size=1, weight=DoReFaWeight(width=8))
        both = b.add(conv, y, name=f"second{name}"), b.add(wide, y, name=f"wide{name}")
        factor = FilterScale(quantizer=MagnitudeSign())
        left = b.add(factor, both[0], shares=both[0])
        x = b.add(Add(), x, b.add(Add(), left, both[1]))
    network = trained(b.graph())
    check(network, batch=2)
    assert {"int8"} <= set(kinds(PackedNetwork(network)))
