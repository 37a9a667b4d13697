"""Packed inference: every step equals the torch forms of its nodes, and the logits follow."""

from __future__ import annotations

import pytest
import torch

from bitfront.kernels import cpu
from bitfront.spaces import zoo
from bitfront.spaces.graph import Builder
from bitfront.spaces.network import Network
from bitfront.spaces.ops import (
    Add,
    BatchNorm,
    Conv2d,
    Input,
    Quantize,
)
from bitfront.spaces.quantizers import SIGN, MultiSign

# one network of each family that has binary layers, and some without
FAMILIES = (
    "alexnet-grouped-fp",
    "binarydensenet28-grouped",
    "binarydensenet37-dilated",
    "birealnet18",
    "reactnet-resnet18",
    "bnn-resnet18",
    "boolnet-k4",
    "boolnet-base-k1",
    "resnet-e18",
    "resnet18-v1-cifar10",
    "tbn-resnet18",
    "meliusnet22",
    "naivenet17",
    "mobilenet-v1-fp",
    "quicknet-small",
    "real-to-binary",
    "xnornet++-resnet18",
)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_step_equals_its_torch_forms(name, check, small):
    check(small(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in zoo.zoo if name not in FAMILIES])
def test_every_network_of_the_zoo_runs(name, check, small):
    check(small(name), batch=2)


@pytest.mark.parametrize("name", ["meliusnet22", "resnet-e18"])
def test_several_images(name, check, small):
    check(small(name), batch=3)


@pytest.mark.parametrize("variant", [*cpu.variants(), None])
@pytest.mark.parametrize("threads", [1, 2])
def test_every_variant_and_several_threads(variant, threads, check, one_block):
    check(one_block(), batch=2, variant=variant, threads=threads)


@pytest.mark.parametrize("fill", [-1.0, 0.0, 1.0, "replicate"])
@pytest.mark.parametrize(("groups", "dilation", "stride"), [(1, 1, 1), (2, 2, 1), (4, 1, 2)])
def test_binary_convolutions_of_every_geometry(
    fill, groups, dilation, stride, images, pack, trained_like
):
    b = Builder()
    x = b.add(Input(shape=(8, 9, 7), bits=32), name="input")
    bits = b.add(Quantize(quantizer=SIGN), b.add(BatchNorm(), x, name="norm"), name="sign")
    conv = Conv2d(
        out_channels=12,
        kernel_size=3,
        padding=dilation,
        padding_value=0.0 if fill == "replicate" else fill,
        replicate=fill == "replicate",
        groups=groups,
        dilation=dilation,
        stride=stride,
        weight=SIGN,
    )
    b.add(conv, bits, name="conv")
    network = trained_like(Network(b.graph()))
    packed = pack(network)
    assert [step.group.kind for step in packed._steps] == ["binary"]
    x = images(network, 1)
    with torch.no_grad():
        assert torch.equal(packed(x), network(x))


def test_signs_of_signs(images, pack, run_and_check, trained_like):
    b = Builder()
    x = b.add(Input(shape=(40, 6, 5), bits=32), name="input")
    once = b.add(Quantize(quantizer=SIGN), x, name="once")
    twice = b.add(Quantize(quantizer=SIGN), b.add(BatchNorm(), once, name="norm"), name="twice")
    sliced = b.add(Quantize(quantizer=MultiSign(k=2)), once, name="sliced")
    conv = Conv2d(out_channels=8, kernel_size=3, padding=1, weight=SIGN)
    sums = [b.add(conv, node, name=f"conv{node}") for node in (once, twice, sliced)]
    b.add(Add(), sums[2], b.add(Add(), sums[0], sums[1], name="add"), name="sum")
    network = trained_like(Network(b.graph()))
    packed = pack(network)
    x = images(network, 1)
    with torch.no_grad():
        run_and_check(packed, x)
        assert torch.equal(packed(x), network(x))
