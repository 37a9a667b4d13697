"""Real-to-Binary and its Strong Baseline: published figures, and the baseline's block."""

from dataclasses import replace

import torch
from torch.nn import functional as F  # noqa: N812

from bitfront.evaluators.cost import count
from bitfront.spaces import Builder, Network
from bitfront.spaces.blocks import Gated
from bitfront.spaces.ops import Input
from bitfront.spaces.zoo import get


def test_larqs_parameters():
    """Larq prints 11 995 624, with 4 per channel of a batch norm instead of 2."""
    graph = get("real-to-binary").architecture().lower()
    norms = sum(node.type.shape[0] for node in graph.nodes if node.op.kind == "batch_norm")
    assert count(graph, "larq").params + 2 * norms == 11_995_624


def test_the_baseline_has_factors_in_place_of_gates():
    gated, outer = (
        get(name).architecture().lower() for name in ("real-to-binary", "strong-baseline")
    )
    counts = [count(graph, "hpi") for graph in (gated, outer)]
    # a gate has c/8 (c + filters) weights; the factors one per channel, row and column
    widths = [(64, 64)] * 4
    for given, made in ((64, 128), (128, 256), (256, 512)):
        widths += [(given, made), *[(made, made)] * 3]
    gates = sum(given // 8 * (given + made) for given, made in widths)
    factors = 4 * sum(c + 2 * n for c, n in ((64, 56), (128, 28), (256, 14), (512, 7)))
    assert counts[0].params - counts[1].params == gates - factors
    assert counts[0].flops - counts[1].flops == gates
    assert counts[0].bops == counts[1].bops


def test_the_baselines_block_is_the_papers():
    b = Builder()
    x = b.add(Input(shape=(6, 8, 4)), name="input")
    b.enter("block", "gated")
    Gated(channels=6, scaling="outer").build(b, x)
    b.leave()
    network = Network(b.graph(), seed=1).eval()
    generator = torch.Generator().manual_seed(2)
    for name, parameter in network.named_parameters():
        if not name.endswith("conv.weight"):
            parameter.data.uniform_(0.1, 0.9, generator=generator)
    block = network.block
    x = torch.randn(3, 6, 8, 4)
    norm, factors = block.norm, block.factors
    y = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)
    y = torch.where(y >= 0, 1.0, -1.0)
    y = F.conv2d(y, torch.where(block.conv.weight >= 0, 1.0, -1.0), padding=1)
    y = y * torch.einsum("c,h,w->chw", factors.channels, factors.rows, factors.columns)
    torch.testing.assert_close(network(x), F.prelu(y, block.prelu.weight) + x)


def test_the_family_trains_and_exports(family_works):
    entry = get("strong-baseline")
    whole = entry.architecture()
    stages = tuple(
        replace(stage, blocks=tuple(replace(b, channels=b.channels // 8) for b in stage.blocks[:2]))
        for stage in whole.stages[:3]
    )
    small = replace(whole, input=(3, 32, 32), stem=replace(whole.stem, channels=8), stages=stages)
    family_works(small, entry.recipe)
