"""What is the GPU's own in packed inference; run by `test_on_gpu` in Triton's interpreter."""

from __future__ import annotations

import os

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from bitfront.evaluators.packed import PackedNetwork
from bitfront.evaluators.packed.gpu_kernels import GpuKernels
from bitfront.kernels.gpu import prepare, tensor_core_product
from bitfront.kernels.gpu.emulation import emulate
from bitfront.spaces import build
from bitfront.spaces.architecture import Architecture, Stage
from bitfront.spaces.blocks import (
    Boolean,
    Classifier,
    Dense,
    Improvement,
    QuickNet,
    StemBoolNet,
    StemThumbnail,
)
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.graph import Builder
from bitfront.spaces.network import Network
from bitfront.spaces.ops import BatchNorm, Conv2d, Input, Quantize
from bitfront.spaces.quantizers import SIGN, DoReFa, DoReFaWeight, LqNet, Ternary

DEVICE = torch.device("cpu" if os.environ["TRITON_INTERPRET"] == "1" else "cuda")


def melius() -> Architecture:
    """Channels behind each other: parts of a map are written, read and corrected in place."""
    blocks = (Dense(growth=24), Improvement(growth=24), Dense(growth=24))
    return Architecture(
        input=(3, 6, 6),
        stem=StemThumbnail(channels=40),
        stages=(Stage(blocks=blocks),),
        head=Classifier(classes=4),
    )


def boolnet() -> Architecture:
    """Maps of signs in slices, logic between them, interleaved channels."""
    first = Boolean(channels=64, slices=2)
    return Architecture(
        input=(3, 32, 32),
        stem=StemBoolNet(slices=2),
        stages=(Stage(blocks=(first, Boolean(channels=64, slices=2, last=True))),),
        head=Classifier(classes=4, norm=False, relu=False),
    )


def quicknet() -> Architecture:
    """A ReLU between the factors of a layer, and its border filled with +1."""
    return Architecture(
        input=(3, 7, 7),
        stem=StemThumbnail(channels=33),
        stages=(Stage(blocks=(QuickNet(channels=33), QuickNet(channels=33))),),
        head=Classifier(classes=4),
    )


@pytest.mark.parametrize("architecture", [melius, boolnet, quicknet])
def test_every_step_of_networks_equals_its_torch_forms(architecture, check, trained_like):
    check(trained_like(build(architecture())), batch=2)


@pytest.mark.parametrize("architecture", [melius, boolnet, quicknet])
def test_maps_of_half_the_size(architecture, check, trained_like):
    check(trained_like(build(architecture())), batch=2, maps=torch.bfloat16)


@pytest.mark.parametrize(
    ("quantizer", "weight"),
    [(DoReFa(width=2), SIGN), (DoReFa(width=8), DoReFaWeight(width=4)), (LqNet(width=2), SIGN)],
    ids=["planes", "numbers", "bases"],
)
def test_codes_of_maps_of_half_the_size(quantizer, weight, check, trained_like):
    check(trained_like(layer(quantizer, weight)), batch=2, maps=torch.bfloat16)


def test_maps_are_of_a_dtype_that_kernels_write():
    with pytest.raises(ValueError, match=r"torch\.float32 or torch\.bfloat16"):
        GpuKernels(DEVICE, torch.float16)


@pytest.fixture
def on_tensor_cores(monkeypatch) -> list[str]:
    """Products go to the 1-bit tensor cores, where numpy runs the kernels' own source.

    Returns:
        The kernels that ran.
    """
    ran: list[str] = []

    def launch(kernel, count, arguments, warps) -> None:
        ran.append(kernel.fn.__name__)
        emulate(kernel, count, arguments)

    monkeypatch.setattr(tensor_core_product, "launch", launch)
    monkeypatch.setattr(prepare, "capability_of", lambda device: 90)
    return ran


@pytest.mark.skipif(DEVICE.type == "cuda", reason="the device has its own tensor cores, or none")
@pytest.mark.parametrize("architecture", [melius, quicknet])
def test_networks_on_emulated_tensor_cores(architecture, check, on_tensor_cores, trained_like):
    # two images are enough rows for the route
    check(trained_like(build(architecture())), batch=2)
    assert "conv_kernel" in on_tensor_cores


def layer(quantizer, weight, shape=(40, 5, 5)) -> Network:
    """A norm, a quantizer and a layer."""
    b = Builder()
    x = b.add(Input(shape=shape, bits=32), name="input")
    codes = b.add(Quantize(quantizer=quantizer), b.add(BatchNorm(), x, name="norm"), name="codes")
    b.add(Conv2d(out_channels=8, kernel_size=3, padding=1, weight=weight), codes, name="conv")
    return Network(b.graph())


@pytest.mark.parametrize(
    ("quantizer", "weight"),
    [
        (SIGN, SIGN),
        (DoReFa(width=2), SIGN),
        (DoReFa(width=8), DoReFaWeight(width=4)),
        (Ternary(relative=True), SIGN),
    ],
    ids=["signs", "planes", "numbers", "thresholds of each image"],
)
def test_a_nan_is_told_once(quantizer, weight, trained_like):
    network = trained_like(layer(quantizer, weight)).to(DEVICE)
    packed = PackedNetwork(network, batch=2, kernels=GpuKernels(DEVICE))
    x = torch.randn(2, 40, 5, 5, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    right = packed(x)
    wrong = x.clone()
    wrong[1, 3, 2, 1] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        packed(wrong)
    assert torch.equal(packed(x), right)
    # which does not look
    assert packed.launch(wrong).shape == right.shape
    assert torch.equal(packed(x), right)


def test_an_infinity_has_a_sign(trained_like):
    network = trained_like(layer(SIGN, SIGN)).to(DEVICE)
    packed = PackedNetwork(network, kernels=GpuKernels(DEVICE))
    x = torch.randn(1, 40, 5, 5, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    largest = torch.finfo(torch.float32).max
    x[0, :, 0, 0], x[0, :, 0, 1] = torch.inf, -torch.inf
    assert torch.equal(packed(x), packed(x.clamp(-largest, largest)))


def test_constants_are_where_the_network_is(trained_like):
    network = trained_like(layer(SIGN, SIGN)).to(DEVICE)
    packed = PackedNetwork(network, kernels=GpuKernels(DEVICE))
    assert packed.device.type == DEVICE.type
    assert packed.kernels_name.startswith("Triton")
    with pytest.raises(InvalidValue, match="threads=2"):
        PackedNetwork(network, threads=2, kernels=GpuKernels(DEVICE))


def test_steps_are_timed(trained_like):
    network = trained_like(layer(SIGN, SIGN)).to(DEVICE)
    packed = PackedNetwork(network, kernels=GpuKernels(DEVICE))
    x = torch.zeros(1, 40, 5, 5, device=DEVICE)
    seconds = packed.step_seconds(x)
    rows = packed.profile(x, repeats=2)
    assert len(seconds) == len(rows) + 1
    assert [row.kind for row in rows] == ["binary"]
    assert all(s >= 0 for s in seconds)
    assert rows[0].ms > 0


@pytest.mark.skipif(DEVICE.type != "cuda", reason="a CUDA graph needs a CUDA device")
def test_a_graph_gives_what_its_launches_give(trained_like):
    network = trained_like(build(melius())).to(DEVICE)
    x = torch.randn(2, 3, 6, 6, device=DEVICE)
    graphed, launched = (PackedNetwork(network, batch=2, graph=graph)(x) for graph in (True, False))
    assert torch.equal(graphed, launched)
    assert F.softmax(graphed, dim=1).isfinite().all()
