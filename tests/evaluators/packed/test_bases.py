"""Layers whose levels are sums of a basis: exact products of bits, each with its factor."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from bitfront.evaluators.packed import PackedNetwork
from bitfront.evaluators.packed.codes import weight_planes
from bitfront.evaluators.packed.cpu_planes import Planes
from bitfront.evaluators.packed.planes import levels_of, staircase
from bitfront.kernels.native_library import load
from bitfront.kernels.packing import unpack_bits
from bitfront.spaces.graph import Builder, Graph
from bitfront.spaces.network import Network
from bitfront.spaces.ops import Add, BatchNorm, Conv2d, Flatten, Input, Linear, Quantize, Relu
from bitfront.spaces.quantizers import (
    SIGN_WEIGHT,
    DoReFaWeight,
    LqNet,
    LqNetWeight,
    MagnitudeSign,
    Quantizer,
)

PAIRS = [
    (LqNet(width=1), LqNetWeight(width=1)),
    (LqNet(width=2), LqNetWeight(width=1)),
    (LqNet(width=2), LqNetWeight(width=2)),
    (LqNet(width=1), LqNetWeight(width=4)),
    (LqNet(width=3), SIGN_WEIGHT),
    (LqNet(width=2), MagnitudeSign()),
]


@pytest.fixture
def trained(trained_like) -> Callable[..., Network]:
    """A function that builds a network with bases of no regularity, negative ones among them."""

    def build(graph: Graph, seed: int = 8) -> Network:
        network = trained_like(Network(graph))
        g = torch.Generator().manual_seed(seed)
        for name, values in network.named_buffers():
            if name.endswith("basis"):
                values.normal_(0.3, 0.4, generator=g)
        return network

    return build


def layer(x: Quantizer, w: Quantizer, *, norm: bool = False, **arguments: object) -> Graph:
    arguments = {"out_channels": 24, "kernel_size": 3, "padding": 1, **arguments}
    b = Builder()
    node = b.add(Input(shape=(40, 7, 6), bits=32), name="input")
    if norm:
        node = b.add(BatchNorm(), node, name="before")
    node = b.add(Quantize(quantizer=x), node, name="quantize")
    node = b.add(Conv2d(weight=w, **arguments), node, name="conv")
    if norm:
        node = b.add(Relu(), b.add(BatchNorm(), node, name="norm"), name="relu")
        b.add(BatchNorm(), node, name="after")
    return b.graph()


def kinds(packed: PackedNetwork) -> list[str]:
    return [step.group.kind for step in packed._steps]


def exact(network: Network, x: Tensor) -> Tensor:
    """The layer in float64, from the levels that the network computes with."""
    conv, op = network.get_submodule("conv"), network.graph.nodes[-1].op
    codes = network.get_submodule("quantize")(x.contiguous(memory_format=torch.channels_last))
    mode = "replicate" if op.replicate else "constant"
    padded = F.pad(codes.double(), (op.padding,) * 4, mode)
    weight = conv.quantised(conv.weight).double()
    return F.conv2d(padded, weight, None, op.stride, 0, op.dilation, conv.groups)


@torch.no_grad()
@pytest.mark.parametrize(
    "arguments", [{}, {"stride": 2, "groups": 4}, {"replicate": True}], ids=repr
)
@pytest.mark.parametrize(("x", "w"), PAIRS)
def test_layers_are_those_of_the_network(x, w, arguments, trained, images):
    network = trained(layer(x, w, **arguments))
    packed, batch = PackedNetwork(network, batch=2), images(network, 2)
    assert kinds(packed) == ["bases"]
    expected = exact(network, batch)
    # a few factors and sums of them are rounded, no long sum is
    bound = 1e-6 * expected.abs().max()
    assert (packed(batch) - expected).abs().max() <= bound
    assert (packed(batch) - expected).abs().max() <= bound


@pytest.mark.parametrize(("x", "w"), PAIRS)
def test_norms_and_relu_are_folded(x, w, trained, check):
    network = trained(layer(x, w, norm=True))
    assert kinds(PackedNetwork(network)) == ["bases"]
    check(network, batch=2)


@torch.no_grad()
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_codes_are_those_of_the_network(width, seed, trained):
    b = Builder()
    node = b.add(Input(shape=(33, 8, 8), bits=32), name="input")
    b.add(Quantize(quantizer=LqNet(width=width)), node, name="quantize")
    network = trained(b.graph(), seed)
    form = network.get_submodule("quantize")
    if seed == 3:
        # levels that are one and the same
        form.basis.fill_(0.5)
    levels, _ = LqNet(width=width).ascending(form.basis)
    middle = (levels[0, 1:] + levels[0, :-1]) / 2
    x = torch.randn(2 * 33 * 64, generator=torch.Generator().manual_seed(seed))
    near = torch.cat([middle, middle.nextafter(middle + 1), middle.nextafter(middle - 1)])
    x[: len(near)] = near
    x = x.reshape(2, 33, 8, 8).contiguous(memory_format=torch.channels_last)
    words = Planes(staircase(network, [network.graph.nodes[1]]), load(), None)(
        x.permute(0, 2, 3, 1)
    )
    planes = unpack_bits(words, 33)
    number = sum(plane << q for q, plane in enumerate(planes))
    codes, _ = levels_of(LqNet(width=width), form.quantizer_parameters())
    value = torch.empty(2**width)
    value[codes] = levels[0]
    assert torch.equal(value[number.long()], form(x).permute(0, 2, 3, 1))


def test_weights_are_sums_of_planes(trained):
    network = trained(layer(LqNet(width=1), LqNetWeight(width=4)))
    form = network.get_submodule("conv")
    planes = weight_planes(network, network.graph.nodes[-1])
    assert all(bool((plane.abs() == 1).all()) for plane, _ in planes)
    total = sum(plane * factor[:, None, None, None] for plane, factor in planes)
    with torch.no_grad():
        assert torch.allclose(total, form.quantised(form.weight).double(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("rectifies", [False, True])
@pytest.mark.parametrize("last", ["layer", "shortcut"])
def test_shortcuts(rectifies, last, trained, check):
    b = Builder()
    x = b.add(Input(shape=(32, 6, 5), bits=32), name="input")
    x = b.add(Conv2d(out_channels=32, kernel_size=1), x, name="first")
    conv = Conv2d(out_channels=32, kernel_size=3, padding=1, weight=LqNetWeight(width=1))
    y = b.add(conv, b.add(Quantize(quantizer=LqNet()), x, name="quantize"), name="conv")
    y = b.add(BatchNorm(), y, name="norm")
    if rectifies:
        y = b.add(BatchNorm(), b.add(Relu(), y, name="relu"), name="after")
    x = b.add(Add(), y, x, name="add")
    if last == "shortcut":
        y = b.add(conv, b.add(Quantize(quantizer=LqNet()), x, name="quantize2"), name="conv2")
        b.add(Add(), x, y, name="add2")
    check(trained(b.graph()), batch=2)


@pytest.mark.parametrize("order", ["flatten first", "quantize first"])
def test_linear_layers(order, trained, check):
    b = Builder()
    node = b.add(Input(shape=(33, 3, 5), bits=32), name="input")
    if order == "flatten first":
        node = b.add(Flatten(), node, name="flatten")
    node = b.add(Quantize(quantizer=LqNet()), node, name="quantize")
    if order == "quantize first":
        node = b.add(Flatten(), node, name="flatten")
    b.add(Linear(out_features=7, weight=LqNetWeight(width=2)), node, name="linear")
    network = trained(b.graph())
    network.get_parameter("linear.bias").data.normal_()
    assert kinds(PackedNetwork(network))[-1] == "bases"
    check(network, batch=2)


@pytest.mark.parametrize(
    ("x", "w", "arguments"),
    [
        (LqNet(width=3), LqNetWeight(width=2), {}),
        (LqNet(width=4), LqNetWeight(width=1), {}),
        (LqNet(width=2), DoReFaWeight(width=2), {}),
        (LqNet(width=2), LqNetWeight(width=1), {"padding_value": 1.0}),
    ],
    ids=["products", "comparisons", "weights", "padding"],
)
def test_other_layers_run_in_floats(x, w, arguments, trained, check):
    network = trained(layer(x, w, **arguments))
    assert kinds(PackedNetwork(network)) == ["quantize", "conv"]
    check(network)
