"""ReActNet against its paper's figures, and its blocks against plain torch."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from bitfront.evaluators.cost import count
from bitfront.spaces import Architecture, Builder, InfeasibleArchitecture, Network
from bitfront.spaces.blocks import (
    BiReal,
    Classifier,
    ReactMobile,
    ReactResidual,
    StemConv3x3,
)
from bitfront.spaces.ops import Input
from bitfront.spaces.zoo import get
from bitfront.spaces.zoo.reactnet import mobile_stages


def built(block, shape):
    b = Builder()
    x = b.add(Input(shape=shape), name="input")
    b.enter("block", block.kind)
    block.build(b, x)
    b.leave()
    network = Network(b.graph(), seed=1).eval()
    generator = torch.Generator().manual_seed(2)
    for name, parameter in network.named_parameters():
        if not name.endswith("conv.weight"):
            parameter.data.uniform_(0.1, 0.9, generator=generator)
    return network


def signs(x):
    return torch.where(x >= 0, 1.0, -1.0)


def normalised(part, x):
    return F.batch_norm(x, part.running_mean, part.running_var, part.weight, part.bias)


def rprelu(block, name, x):
    # y = PReLU(x - g) + z, with -g stored
    first, slopes, last = (block.get_submodule(f"{name}_{part}") for part in ("in", "prelu", "out"))
    y = x + first.bias[:, None, None]
    y = torch.where(y > 0, y, y * slopes.weight[:, None, None])
    return y + last.bias[:, None, None]


def threshold(part):
    ((_, value),) = part.named_parameters()
    return value[:, None, None]


def test_counts_of_the_paper():
    """Table 2 of the paper: 4.82e9 BOPs, 0.12e8 FLOPs, 0.87e8 OPs."""
    counts = count(get("reactnet-a").architecture().lower(), "reactnet")
    assert counts.bops == 4_816_896_000
    assert counts.flops == 112 * 112 * 32 * 27 + 1024 * 1000
    assert round(counts.ops / 1e8, 2) == 0.87
    # all layers behind the stem are binary
    assert counts.params_binary == 28_253_184


def test_the_residual_form_costs_what_bireal_costs():
    ours = count(get("reactnet-resnet18").architecture().lower(), "hpi")
    bireal = count(get("birealnet18").architecture().lower(), "hpi")
    assert (ours.ops, ours.params_binary) == (bireal.ops, bireal.params_binary)
    # thresholds of the inputs, two shifts and a slope of the outputs, of 4 blocks per stage
    inputs = 64 * 4 + (64 + 128 * 3) + (128 + 256 * 3) + (256 + 512 * 3)
    assert ours.params - bireal.params == inputs + 3 * 4 * (64 + 128 + 256 + 512)


def test_the_residual_block_is_the_papers():
    network = built(ReactResidual(channels=6), (6, 5, 7))
    block = network.block
    x = torch.randn(3, 6, 5, 7)
    y = F.conv2d(signs(x - threshold(block.quantize)), signs(block.conv.weight), padding=1)
    y = rprelu(block, "act", normalised(block.norm, y) + x)
    torch.testing.assert_close(network(x), y)


def test_the_mobile_block_is_the_papers():
    network = built(ReactMobile(channels=12, stride=2), (6, 8, 4))
    block = network.block
    given = torch.randn(3, 6, 8, 4)
    y = signs(given - threshold(block.quantize1))
    y = F.conv2d(y, signs(block.conv1.weight), stride=2, padding=1)
    x = rprelu(block, "act1", normalised(block.norm1, y) + F.avg_pool2d(given, 2))
    y = signs(x - threshold(block.quantize2))
    halves = [
        normalised(norm, F.conv2d(y, signs(conv.weight))) + x
        for conv, norm in ((block.conv2a, block.norm2a), (block.conv2b, block.norm2b))
    ]
    torch.testing.assert_close(network(given), rprelu(block, "act2", torch.cat(halves, 1)))


def test_training_starts_at_bireal():
    """Thresholds and shifts start at 0, slopes at 0.25."""
    shape = (8, 6, 6)
    b = Builder()
    ReactResidual(channels=8).build(b, b.add(Input(shape=shape), name="input"))
    ours = Network(b.graph(), seed=1).eval()
    b = Builder()
    BiReal(channels=8).build(b, b.add(Input(shape=shape), name="input"))
    bireal = Network(b.graph(), seed=1).eval()
    x = torch.randn(2, *shape)
    torch.testing.assert_close(ours(x), F.leaky_relu(bireal(x), 0.25))


@pytest.mark.parametrize("channels", [4, 12, 24])
def test_the_mobile_block_keeps_or_doubles_the_channels(channels):
    with pytest.raises(InfeasibleArchitecture, match=rf"got 8 -> {channels}"):
        built(ReactMobile(channels=channels), (8, 6, 6))


@pytest.mark.parametrize("name", ["reactnet-a", "reactnet-resnet18"])
def test_the_twin_has_no_thresholds(name):
    graph = get(name).architecture().lower()
    twin = get(name).architecture().twin().lower()
    assert count(twin, "reactnet").bops == 0
    assert {node.op.kind for node in graph.nodes} - {node.op.kind for node in twin.nodes} == {
        "quantize"
    }
    macs = [sum(node.facts.macs for node in g.nodes) for g in (graph, twin)]
    assert macs[0] == macs[1]


def test_only_the_first_block_doubles_at_full_size():
    stages = get("reactnet-a").architecture().stages
    strides = [[block.stride for block in stage.blocks] for stage in stages]
    assert strides == [[1], [2, 1], [2, 1], [2, 1, 1, 1, 1, 1], [2, 1]]


def test_the_family_trains_and_exports(family_works):
    entry = get("reactnet-a")
    small = Architecture(
        input=(3, 32, 32),
        stem=StemConv3x3(channels=8),
        stages=mobile_stages(
            (8, 16, 32, 32, 64),
            lambda number, channels, stride: ReactMobile(channels=channels, stride=stride),
        ),
        head=Classifier(classes=10, norm=False, relu=False),
    )
    family_works(small, entry.recipe)


def test_the_residual_form_trains(family_works):
    entry = get("reactnet-resnet18")
    whole = entry.architecture()
    stages = tuple(
        replace(stage, blocks=tuple(replace(b, channels=b.channels // 8) for b in stage.blocks[:2]))
        for stage in whole.stages[:3]
    )
    small = replace(whole, input=(3, 32, 32), stem=replace(whole.stem, channels=8), stages=stages)
    family_works(small, entry.recipe)
