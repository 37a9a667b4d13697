"""XNOR-Net, XNOR-Net++, BNN and TBN against their sources, and their block against plain torch."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from bitfront.evaluators.cost import count
from bitfront.spaces import Builder, Domain, Network, Precision, Recipe
from bitfront.spaces.blocks import Xnor
from bitfront.spaces.ops import Input
from bitfront.spaces.zoo import get

BINARY_18 = 10_985_472
BINARY = Precision(weights=1, activations=1)


def built(block, shape):
    b = Builder()
    x = b.add(Input(shape=shape), name="input")
    b.enter("block", block.kind)
    block.build(b, x)
    b.leave()
    network = Network(b.graph(), seed=1).eval()
    generator = torch.Generator().manual_seed(2)
    for row in network.graph.parameters():
        if "norm" in row.name or "outer" in row.name:
            network.state_dict()[row.name].uniform_(0.1, 0.9, generator=generator)
    return network


def signs(x):
    return torch.where(x >= 0, 1.0, -1.0)


def normalised(part, x):
    return F.batch_norm(x, part.running_mean, part.running_var, part.weight, part.bias)


def test_xnornet_scales_by_weights_and_inputs():
    """``conv(x, w) ~ (sign x * sign w) K alpha`` (Rastegari et al. 2016, Eq. 11)."""
    network = built(Xnor(channels=6, stride=2), (4, 6, 6))
    block, x = network.block, torch.randn(2, 4, 6, 6)
    box = torch.full((1, 1, 3, 3), 1 / 9)
    y = x
    for i, stride in ((1, 2), (2, 1)):
        conv = block.get_submodule(f"conv{i}")
        y = normalised(block.get_submodule(f"norm{i}"), y)
        k = F.conv2d(y.abs().mean(1, keepdim=True), box, stride=stride, padding=1)
        alpha = conv.weight.abs().mean((1, 2, 3))[:, None, None]
        y = F.conv2d(signs(y), signs(conv.weight), stride=stride, padding=1) * k * alpha
        y = F.relu(y) if i == 1 else y
    shortcut = F.conv2d(x, block.shortcut_conv.weight, stride=2)
    y = F.relu(y + normalised(block.shortcut_norm, shortcut))
    torch.testing.assert_close(network(x), y)


def test_xnornet_plus_plus_learns_the_factors():
    """Factors per channel, row and column (Bulat and Tzimiropoulos 2019, Case 4)."""
    block = Xnor(channels=4, scaling="outer", precision=BINARY)
    network = built(block, (4, 5, 3))
    block, x = network.block, torch.randn(2, 4, 5, 3)
    y = x
    for i in (1, 2):
        outer = block.get_submodule(f"outer{i}")
        y = signs(normalised(block.get_submodule(f"norm{i}"), y))
        y = F.conv2d(y, signs(block.get_submodule(f"conv{i}").weight), padding=1)
        y = y * torch.einsum("c,h,w->chw", outer.channels, outer.rows, outer.columns)
        y = F.relu(y) if i == 1 else y
    torch.testing.assert_close(network(x), F.relu(y + x))


def test_a_plain_bnn_has_neither_factors_nor_relu():
    graph = get("bnn-resnet18").architecture().lower()
    body = [node for node in graph.nodes if node.index in graph.body()]
    assert {node.op.kind for node in body} == {"batch_norm", "quantize", "conv2d", "add"}


# 137.3e6 FLOPs of stem and 32-bit shortcuts, 1.676e9 BOPs: 1.63e8 where 1.59 and 1.57 are printed
@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("xnornet-resnet18", 11_689_640),
        # a factor per channel, row and column of 16 convolutions
        ("xnornet++-resnet18", 11_689_640 + 4 * (960 + 2 * (56 + 28 + 14 + 7))),
        ("bnn-resnet18", 11_689_640),
        ("tbn-resnet18", 11_689_640),
    ],
)
def test_counts(name, params):
    counts = count(get(name).architecture().lower())
    assert (counts.params, counts.params_binary) == (params, BINARY_18)
    assert counts.flops == 137_281_536
    assert counts.bops == 1_676_279_808
    assert round(counts.ops / 1e8, 2) == 1.63


def test_binary_shortcuts_would_not_have_the_printed_size():
    """32-bit 1x1 convolutions take 0.66 MiB; the network is printed with about 4 MB."""
    counts = count(get("xnornet-resnet18").architecture().lower())
    shortcuts = 64 * 128 + 128 * 256 + 256 * 512
    assert round(counts.size_mib, 1) == 4.0
    assert round(counts.size_mib - shortcuts * 31 / 8 / 2**20, 1) == 3.4


def test_tbn_has_binary_weights_and_ternary_inputs():
    graph = get("tbn-resnet34").architecture().lower()
    layers = [n for n in graph.nodes if n.op.kind == "conv2d" and n.facts.w_bits == 1]
    assert len(layers) == 32
    for node in layers:
        assert (node.facts.w_bits, node.facts.a_bits) == (1, 2)
        codes = graph.nodes[node.inputs[0]]
        assert codes.type.domain is Domain.CODE
        assert codes.op.quantizer.levels() == (-1.0, 0.0, 1.0)


def test_xnornet_alexnet_is_larqs():
    """62,396,768 parameters with 3 values per channel of a scale-free norm; 22.77 MiB with 2."""
    graph = get("xnornet-alexnet").architecture().lower()
    counts = count(graph, "larq")
    norms = sum(n.type.shape[0] for n in graph.nodes if n.op.kind == "batch_norm")
    assert counts.params + norms == 62_396_768
    assert counts.params_binary == 58_236_928
    assert round(counts.size_mib, 2) == 22.77
    shapes = [node.type.shape for node in graph.nodes if node.op.kind == "conv2d"]
    assert shapes == [
        (96, 55, 55),
        (256, 27, 27),
        (384, 13, 13),
        (384, 13, 13),
        (256, 13, 13),
        (4096, 1, 1),
        (4096, 1, 1),
    ]


def test_the_twin_is_a_plain_residual_network():
    twin = Xnor(channels=8).full()
    assert (twin.scaling, twin.precision.label) == ("none", "32/32")
    for name in ("xnornet-resnet18", "xnornet++-resnet18", "bnn-resnet18"):
        twin = count(get(name).architecture().twin().lower())
        assert (twin.params, twin.params_binary) == (11_689_640, 0)


@pytest.mark.parametrize(
    "name",
    [
        "xnornet-resnet18",
        pytest.param("xnornet++-resnet18", marks=pytest.mark.slow),
        "bnn-resnet18",
        "tbn-resnet18",
    ],
)
def test_it_trains_and_exports(name, small, family_works):
    entry = get(name)
    family_works(small(entry.architecture()), entry.recipe)


def test_xnornet_alexnet_trains_and_exports(family_works):
    whole = get("xnornet-alexnet").architecture()

    def fewer(block):
        # a map of 64x64 comes to the first fully connected layer with one pixel
        kernel_size = 1 if block.kernel_size == 6 else block.kernel_size
        return replace(block, channels=16, kernel_size=kernel_size)

    stages = tuple(replace(stage, blocks=tuple(map(fewer, stage.blocks))) for stage in whole.stages)
    stem = replace(whole.stem, channels=8)
    family_works(replace(whole, input=(3, 64, 64), stem=stem, stages=stages), Recipe(t_clip=1.0))
