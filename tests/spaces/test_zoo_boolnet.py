"""BoolNet's blocks against plain torch, and BoolNet* against its paper."""

from dataclasses import replace

import torch
from torch.nn import functional as F  # noqa: N812

from bitfront.evaluators.cost import count
from bitfront.spaces import Builder, Network
from bitfront.spaces.blocks import Boolean
from bitfront.spaces.ops import Input, Quantize
from bitfront.spaces.quantizers import MultiSign
from bitfront.spaces.zoo import get

SLICES = 2
SHIFTS = (-0.5, 0.5)


def built(block, shape):
    b = Builder()
    x = b.add(Input(shape=shape), name="input")
    x = b.add(Quantize(quantizer=MultiSign(k=SLICES)), x, name="slices")
    b.enter("block", block.kind)
    block.build(b, x)
    b.leave()
    network = Network(b.graph(), seed=1).eval()
    generator = torch.Generator().manual_seed(2)
    for row in network.graph.parameters():
        if "norm" in row.name:
            network.state_dict()[row.name].uniform_(0.5, 1.5, generator=generator)
    return network


def signs(x):
    return torch.where(x >= 0, 1.0, -1.0)


def slices(x):
    """``(N, C, H, W)`` to ``(N, k, C, H, W)``."""
    return torch.stack([signs(x + shift) for shift in SHIFTS], 1)


def normalised(part, x):
    return F.batch_norm(x, part.running_mean, part.running_var, part.weight, part.bias)


def convolved(part, x, dilation):
    """Slice j feeds the j-th share of the filters; the edge is repeated."""
    x = F.pad(x.flatten(1, 2), (dilation,) * 4, mode="replicate")
    return F.conv2d(x, signs(part.weight), dilation=dilation, groups=SLICES)


def test_the_last_block_is_the_published_one():
    """Real values leave it: of the second convolution, and of the mean over the XNOR's slices."""
    network = built(Boolean(channels=6, slices=SLICES, dilation=2, last=True), (12, 5, 4))
    block = network.block
    given = torch.randn(3, 12, 5, 4)
    x = slices(given)[:, :, :6]
    xnor = slices(normalised(block.norm1, convolved(block.conv1, x, 2))) * x
    y = normalised(block.norm2, convolved(block.conv2, xnor, 2))
    y = y + normalised(block.mean_norm, xnor.mean(1))
    y = F.prelu(y, block.prelu.weight)
    torch.testing.assert_close(network(given), y, rtol=1e-5, atol=1e-5)


def test_a_projected_block_is_the_published_one():
    """Its shortcut is a 1x1 convolution of all slices though the size stays, and is handed on."""
    network = built(Boolean(channels=6, slices=SLICES, projected=True), (6, 5, 4))
    block = network.block
    given = torch.randn(3, 6, 5, 4)
    x = slices(given)
    shortcut = F.conv2d(x.flatten(1, 2), signs(block.shortcut_conv.weight))
    shortcut = slices(normalised(block.shortcut_norm, shortcut))
    xnor = slices(normalised(block.norm1, convolved(block.conv1, x, 1))) * shortcut
    y = slices(normalised(block.norm2, convolved(block.conv2, xnor, 1)))
    joined = torch.stack([torch.maximum(y, shortcut), shortcut], 3).flatten(2, 3)
    assert torch.equal(network(given), joined.flatten(1, 2))


def test_boolnet_star_keeps_the_size_of_its_last_stage():
    star, plain = (get(name).architecture() for name in ("boolnet-star-k4", "boolnet-k4"))
    graphs = [architecture.lower() for architecture in (star, plain)]
    sizes = [
        [
            node.type.shape
            for node in graph.nodes
            if node.name.startswith("stages.3") and node.op.kind == "batch_norm"
        ]
        for graph in graphs
    ]
    assert set(sizes[0]) == {(512, 14, 14)}
    assert set(sizes[1]) == {(512, 7, 7)}
    # dilation behind the first block, as in torchvision's ResNet
    assert [block.dilation for block in star.stages[3].blocks] == [1, 2]
    assert star.stages[:3] == plain.stages[:3]
    counts = [count(graph, "reactnet") for graph in graphs]
    assert counts[0].params == counts[1].params
    # four times the pixels of four 3x3 convolutions
    assert counts[0].bops - counts[1].bops == 4 * (14 * 14 - 7 * 7) * 512 * 512 * 9


def test_the_family_trains_and_exports(family_works):
    entry = get("boolnet-star-k4")
    whole = entry.architecture()
    stages = tuple(
        replace(stage, blocks=tuple(replace(b, channels=b.channels // 8) for b in stage.blocks))
        for stage in whole.stages[2:]
    )
    small = replace(whole, input=(3, 32, 32), stem=replace(whole.stem, channels=16), stages=stages)
    # a ramp that narrows within so few epochs would hide that the loss falls
    family_works(small, replace(entry.recipe, weight_estimator="sign"))
