"""Linear layers on signs and codes: one row per image."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from bitfront.evaluators.packed import PackedNetwork
from bitfront.evaluators.packed.codes import step_of, weight_codes
from bitfront.spaces import build
from bitfront.spaces.architecture import Architecture, Stage
from bitfront.spaces.blocks import BiReal, MlpClassifier, StemThumbnail
from bitfront.spaces.graph import Builder, Graph
from bitfront.spaces.network import Network
from bitfront.spaces.ops import (
    Add,
    BatchNorm,
    FilterScale,
    Flatten,
    GlobalAvgPool,
    Input,
    Linear,
    Quantize,
    Relu,
)
from bitfront.spaces.precision import Precision
from bitfront.spaces.quantizers import (
    SIGN,
    SIGN_WEIGHT,
    DoReFa,
    DoReFaWeight,
    Lsq,
    LsqWeight,
    MagnitudeSign,
    Quantizer,
    RSign,
)

CASES = [
    (SIGN, SIGN_WEIGHT, "binary"),
    (RSign(), SIGN_WEIGHT, "binary"),
    (DoReFa(width=2), SIGN_WEIGHT, "bitserial"),
    (Lsq(width=2, signed=True), LsqWeight(width=2), "bitserial"),
    (SIGN, DoReFaWeight(width=4), "bitserial"),
    (SIGN, LsqWeight(width=8), "int8"),
    (RSign(), DoReFaWeight(width=8), "int8"),
    (Lsq(width=4, signed=True), DoReFaWeight(width=4), "int8"),
    (DoReFa(width=8), DoReFaWeight(width=8), "int8"),
]
# where the map becomes a row: before the quantizer, or behind it
ORDERS = ("flatten first", "quantize first")


def layer(x: Quantizer, w: Quantizer, order: str, *, norm: bool, bias: bool = False) -> Graph:
    b = Builder()
    node = b.add(Input(shape=(33, 3, 5), bits=32), name="input")
    flat = order == "flatten first"
    if flat:
        node = b.add(Flatten(), node, name="flatten")
    if norm:
        node = b.add(BatchNorm(), node, name="before")
    node = b.add(Quantize(quantizer=x), node, name="quantize")
    if not flat:
        node = b.add(Flatten(), node, name="flatten")
    node = b.add(Linear(out_features=37, weight=w, bias=bias), node, name="linear")
    if norm:
        node = b.add(BatchNorm(), node, name="norm")
        b.add(BatchNorm(), b.add(Relu(), node, name="relu"), name="after")
    return b.graph()


def kinds(packed: PackedNetwork) -> list[str]:
    return [step.group.kind for step in packed._steps]


def exact(network: Network, x: Tensor) -> Tensor:
    """The layer's value from exact sums, each factor and bias rounded once."""
    node = next(node for node in network.graph.nodes if node.name == "linear")
    quantize = network.get_submodule("quantize")
    flat = x.flatten(1) if network.graph.nodes[1].name == "flatten" else x
    unit = step_of(quantize.given(), quantize.quantizer_parameters()).double()
    codes = (quantize(flat).double() / unit).round().flatten(1)
    weight, factors = weight_codes(network, node)
    y = F.linear(codes, weight.double()).float() * (factors * unit).float()
    bias = network.get_submodule("linear").bias
    return y if bias is None else y + bias


@torch.no_grad()
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("x", "w", "kind"), CASES)
def test_products_are_exact(x, w, kind, order, bias, trained_like, images):
    network = trained_like(Network(layer(x, w, order, norm=False, bias=bias)))
    if bias:
        network.get_parameter("linear.bias").data.normal_()
        kind = "bitserial" if kind == "binary" else kind
    packed = PackedNetwork(network, batch=3)
    assert kinds(packed) == (["flatten", kind] if order == "flatten first" else [kind])
    x = images(network, 3)
    assert torch.equal(packed(x), exact(network, x.contiguous(memory_format=torch.channels_last)))
    # again: nothing of the first call is left
    assert torch.equal(packed(x), exact(network, x.contiguous(memory_format=torch.channels_last)))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("x", "w", "kind"), CASES)
def test_norms_and_relu_are_folded(x, w, kind, order, trained_like, check):
    network = trained_like(Network(layer(x, w, order, norm=True)))
    found = kinds(PackedNetwork(network, batch=2))
    # a norm before goes into thresholds, but not into bytes
    expected = ["affine", kind] if kind == "int8" else [kind]
    assert found == (["flatten", *expected] if order == "flatten first" else expected)
    check(network, batch=2)


def test_thresholds_of_rows_are_where_torchs_batch_norm_changes_its_sign(trained_like):
    network = trained_like(Network(layer(SIGN, SIGN_WEIGHT, "flatten first", norm=True)))
    packed = PackedNetwork(network, batch=64)
    norm = network.get_submodule("before")
    # values at the thresholds: what the norm maps to about zero
    zero = norm.running_mean - norm.bias / norm.weight * (norm.running_var + 1e-5).sqrt()
    zero = zero.nan_to_num(0.0, 0.0, 0.0)
    steps = torch.arange(-32, 32)[:, None]
    x = (zero * (1 + steps * 2.0**-24)).reshape(64, 33, 3, 5)
    (step,) = [step for step in packed._steps if step.group.kind == "binary"]
    forms = [network.get_submodule(name) for name in ("linear", "norm", "relu", "after")]
    with torch.no_grad():
        expected = network.get_submodule("quantize")(norm(x.flatten(1)))
        assert (expected.mean(0).abs() < 1).float().mean() > 0.5
        for form in forms:
            expected = form(expected)
        mine = step.run(x.flatten(1))
    # one wrong sign moves a sum by 2, far more than rounding
    assert (mine - expected).abs().max() < 1e-3


def test_a_shortcut_around_a_linear_layer(trained_like, check):
    b = Builder()
    x = b.add(Input(shape=(40, 3, 3), bits=32), name="input")
    x = b.add(Flatten(), b.add(GlobalAvgPool(), x, name="pool"), name="flatten")
    for i, (a_bits, w_bits) in enumerate([(1, 1), (2, 2), (8, 8)]):
        quantizer = SIGN if a_bits == 1 else DoReFa(width=a_bits)
        weight = SIGN_WEIGHT if w_bits == 1 else DoReFaWeight(width=w_bits)
        y = b.add(Quantize(quantizer=quantizer), x, name=f"quantize{i}")
        y = b.add(Linear(out_features=40, weight=weight, bias=False), y, name=f"linear{i}")
        if w_bits == 1:
            y = b.add(FilterScale(quantizer=MagnitudeSign()), y, name=f"scale{i}", latent=y)
        y = b.add(BatchNorm(), y, name=f"norm{i}")
        x = b.add(Add(), y, x, name=f"add{i}")
    network = trained_like(Network(b.graph()))
    assert kinds(PackedNetwork(network))[-3:] == ["binary", "bitserial", "int8"]
    check(network, batch=2)


def test_signs_that_others_read_too_are_floats(trained_like, images):
    b = Builder()
    x = b.add(Input(shape=(40, 2, 2), bits=32), name="input")
    signs = b.add(Quantize(quantizer=SIGN), b.add(Flatten(), x, name="flatten"), name="sign")
    y = b.add(Linear(out_features=160, weight=SIGN_WEIGHT, bias=False), signs, name="linear")
    b.add(Add(), y, signs, name="add")
    network = trained_like(Network(b.graph()))
    packed, x = PackedNetwork(network), images(network, 1)
    assert kinds(packed) == ["flatten", "quantize", "binary"]
    with torch.no_grad():
        assert torch.equal(packed(x), network(x))


@pytest.mark.parametrize(
    ("weights", "activations", "kind", "norm"),
    [
        (1, 1, "binary", "before"),
        (2, 2, "bitserial", "before"),
        (2, 2, "bitserial", "after"),
        (8, 8, "int8", "before"),
        (8, 8, "int8", "none"),
    ],
)
def test_heads_with_hidden_layers(weights, activations, kind, norm, trained_like, check):
    precision = Precision(weights=weights, activations=activations)
    architecture = Architecture(
        input=(3, 12, 12),
        stem=StemThumbnail(channels=32),
        stages=(Stage(blocks=(BiReal(channels=32, stride=2),)),),
        head=MlpClassifier(classes=5, hidden=(48, 40), norm=norm, precision=precision),
    )
    network = trained_like(build(architecture))
    found = kinds(PackedNetwork(network))
    assert found.count(kind) == (3 if kind == "binary" else 2)
    assert found.count("linear") == 1
    check(network, batch=2)
