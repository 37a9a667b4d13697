"""Layers of codes: the network's own whole numbers, multiplied exactly."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from bitfront.evaluators.packed import PackedNetwork
from bitfront.evaluators.packed.codes import Bytes, numbers_of, step_of, weight_codes
from bitfront.evaluators.packed.cpu_planes import Planes
from bitfront.evaluators.packed.planes import staircase
from bitfront.evaluators.packed.routes import input_grid, weight_format
from bitfront.kernels import cpu
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
    Heaviside,
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
    Ternary(threshold=0.7, relative=True),
    Heaviside(),
    SIGN,
    RSign(),
]
# those whose levels are no whole numbers times a factor
OFF_GRID = {"identity", "half", "lq_net"}


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
    """The output is the exact sum times the filter's factor, and a bias, all rounded once each."""
    packed = PackedNetwork(network, batch=len(x))
    assert kinds(packed) == [kind]
    sums, factors = exact_sums(network, x.contiguous(memory_format=torch.channels_last))
    assert sums.abs().max() > 1
    expected = sums.float() * factors.float()[:, None, None]
    bias = network.get_submodule("conv").bias
    if bias is not None:
        expected = expected + bias[:, None, None]
    assert torch.equal(packed(x), expected)
    # again: nothing of the first call is left
    assert torch.equal(packed(x), expected)


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
        (Ternary(threshold=0.7, relative=True), Ternary()),
        (Ternary(threshold=0.7, relative=True), LsqWeight(width=6)),
        (Symmetric(width=3), Ternary(relative=True, threshold=0.7)),
        (Symmetric(width=8), LsqWeight(width=3)),
        (RSign(), LsqWeight(width=3)),
        (RSign(), LsqWeight(width=7)),
        (Heaviside(), SIGN_WEIGHT),
        (Heaviside(), DoReFaWeight(width=6)),
    ],
    ids=lambda quantizer: quantizer.kind,
)
def test_products_of_other_quantizers_are_exact(x, w, trained, images):
    network = trained(layer(x, w))
    few = x.bits * weight_format(w).bits <= 5 and x.bits <= 3
    check_exact(network, "bitserial" if few else "int8", images(network, 2))


@pytest.mark.parametrize("channels", [40, 64])
def test_slices_of_signs_with_ternary_weights_are_exact(channels, trained, images):
    b = Builder()
    x = b.add(Input(shape=(channels, 5, 4), bits=32), name="input")
    x = b.add(Quantize(quantizer=MultiSign(k=4)), x, name="quantize")
    b.add(Conv2d(out_channels=8, kernel_size=3, padding=1, weight=Ternary()), x, name="conv")
    network = trained(b.graph())
    packed, x = PackedNetwork(network), images(network, 1)
    # slices of whole words stay words
    assert kinds(packed) == ["pack" if channels == 64 else "quantize", "bitserial"]
    with torch.no_grad():
        assert torch.equal(packed(x), network(x))


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


def test_thresholds_of_each_image_take_in_no_norm(trained, check):
    x = Ternary(threshold=0.7, relative=True)
    network = trained(layer(x, SIGN_WEIGHT, norm=True))
    assert kinds(PackedNetwork(network)) == ["affine", "bitserial"]
    check(network, batch=3)


def test_signs_with_a_bias_are_a_layer(trained, images):
    network = trained(layer(SIGN, SIGN_WEIGHT, bias=True))
    network.get_parameter("conv.bias").data.normal_()
    check_exact(network, "bitserial", images(network, 1))


def residual(bits: int) -> Graph:
    """Two blocks; each has a map of codes that two layers read, in different ways."""
    b = Builder()
    x = b.add(Input(shape=(40, 6, 5), bits=32), name="input")
    x = b.add(Conv2d(out_channels=32, kernel_size=1), x, name="first")
    for i in range(2):
        y = b.add(Quantize(quantizer=DoReFa(width=bits)), x, name=f"quantize{i}a")
        conv = Conv2d(out_channels=32, kernel_size=3, padding=1, weight=DoReFaWeight(width=bits))
        y = b.add(BatchNorm(), b.add(conv, y, name=f"conv{i}a"), name=f"norm{i}a")
        y = b.add(Relu(), y, name=f"relu{i}")
        y = b.add(Quantize(quantizer=DoReFa(width=bits)), y, name=f"quantize{i}b")
        scaled = Conv2d(out_channels=32, kernel_size=3, padding=1, weight=SIGN_WEIGHT)
        left = b.add(scaled, y, name=f"conv{i}b")
        left = b.add(FilterScale(quantizer=XnorSign()), left, name=f"scale{i}", latent=left)
        wide = Conv2d(out_channels=32, kernel_size=1, weight=DoReFaWeight(width=8))
        right = b.add(BatchNorm(), b.add(wide, y, name=f"wide{i}"), name=f"norm{i}b")
        right = b.add(Relu(), right, name=f"relu{i}b")
        y = b.add(Add(), left, right, name=f"sum{i}")
        x = b.add(Add(), x, y, name=f"add{i}")
    return b.graph()


@pytest.mark.parametrize(
    ("bits", "expected"), [(2, ["bitserial", "bitserial", "int8"]), (4, ["int8"] * 3)]
)
def test_residual_blocks_of_codes(bits, expected, trained, check):
    network = trained(residual(bits))
    check(network, batch=2)
    found = [kind for kind in kinds(PackedNetwork(network)) if kind in ("bitserial", "int8")]
    assert sorted(found) == sorted(expected * 2)


@pytest.mark.parametrize("variant", cpu.variants())
def test_every_variant_on_two_threads(variant, trained, check):
    check(trained(residual(2)), batch=2, variant=variant, threads=2)


def test_codes_that_others_read_are_floats(trained, check):
    b = Builder()
    x = b.add(Input(shape=(40, 6, 5), bits=32), name="input")
    codes = b.add(Quantize(quantizer=DoReFa(width=2)), x, name="quantize")
    conv = Conv2d(out_channels=40, kernel_size=3, padding=1, weight=DoReFaWeight(width=2))
    b.add(Add(), b.add(conv, codes, name="conv"), codes, name="add")
    network = trained(b.graph())
    assert kinds(PackedNetwork(network)) == ["quantize", "conv", "add"]
    check(network)


@pytest.mark.parametrize(
    ("x", "w", "arguments"),
    [
        (DoReFa(width=2), Syq(), {}),
        (DoReFa(width=2), DoReFaWeight(width=2), {"padding_value": -1.0}),
    ],
    ids=["weights", "padding"],
)
def test_what_is_off_a_grid_runs_in_floats(x, w, arguments, trained, check):
    network = trained(layer(x, w, **arguments))
    assert kinds(PackedNetwork(network)) == ["quantize", "conv"]
    check(network)


@pytest.mark.parametrize("bits", [2, 8])
def test_a_nan_is_refused(bits, trained, images):
    network = trained(layer(DoReFa(width=bits), DoReFaWeight(width=bits)))
    x = images(network, 1)
    x[0, 3, 2, 1] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        PackedNetwork(network)(x)


def test_weights_that_are_no_numbers_are_refused(trained):
    network = trained(layer(DoReFa(width=2), LsqWeight(width=2)))
    network.get_parameter("conv.weight").data[0, 0, 0, 0] = torch.nan
    with pytest.raises(InvalidValue, match=r"conv .*whole numbers"):
        PackedNetwork(network)


def test_every_quantizer_of_maps_is_on_a_grid_or_known_not_to_be():
    of_maps = {kind for kind, cls in quantizers.items() if cls.for_activations}
    on_grid = {x.kind for x in INPUTS} | {"approx_sign", "swish_sign", "progressive_sign"}
    assert of_maps == on_grid | {"multi_sign"} | OFF_GRID


def boundaries(quantizer: Quantizer, form: torch.nn.Module, channels: int) -> Tensor:
    """Values around all thresholds that may be, and random ones: (2, C, 8, 8)."""
    params = form.quantizer_parameters()
    unit = step_of(quantizer, params)
    at = torch.arange(-300, 300) * 0.5 * unit
    near = torch.cat([at, at.nextafter(at + 1), at.nextafter(at - 1)])
    drawn = torch.randn(2 * channels * 64 - len(near), generator=torch.Generator().manual_seed(6))
    extremes = torch.tensor([0.0, -0.0, 3e38, -3e38, torch.inf, -torch.inf, 1e-45, -1e-45])
    drawn[: len(extremes)] = extremes
    x = torch.cat([near, drawn]).reshape(2, channels, 8, 8)
    return x.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
@pytest.mark.parametrize("quantizer", INPUTS, ids=repr)
def test_codes_are_those_of_the_network(quantizer, trained):
    channels = 36
    b = Builder()
    node = b.add(Input(shape=(channels, 8, 8), bits=32), name="input")
    b.add(Quantize(quantizer=quantizer), node, name="quantize")
    network = trained(b.graph())
    form = network.get_submodule("quantize")
    x = boundaries(quantizer, form, channels)
    grid = input_grid(quantizer)
    expected = (form(x) / step_of(quantizer, form.quantizer_parameters())).round()
    assert expected.min() == grid.low
    assert expected.max() == grid.high
    for variant in cpu.variants() if quantizer.bits <= 4 else ():
        pack = Planes(staircase(network, [network.graph.nodes[1]]), load(), variant)
        words = pack(x.permute(0, 2, 3, 1))
        planes = unpack_bits(words, channels)
        values = sum(v * p for v, p in zip(grid.format.plane_values, planes, strict=True))
        assert torch.equal((values + grid.format.offset).float(), expected.permute(0, 2, 3, 1))
        # the bits past the channels are 0
        assert not (words[..., -1] >> channels % 32).any()
    codes = torch.empty(x.shape, dtype=torch.uint8, memory_format=torch.channels_last)
    Bytes(numbers_of(network, network.graph.nodes[1]), grid.format)(x, codes)
    assert torch.equal(codes.float() + grid.format.low, expected)
