"""BNext against its README's figures, and its block against plain torch."""

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from bitfront.evaluators.cost import count
from bitfront.spaces import Architecture, Builder, InfeasibleArchitecture, Network
from bitfront.spaces.blocks import BNext, Classifier, StemConv3x3
from bitfront.spaces.ops import Input
from bitfront.spaces.zoo import get
from bitfront.spaces.zoo.reactnet import mobile_stages

# README of hpi-xnor/BNext: total operations in 1e9, and the binary share of them in percent; the
# binary MACs / 64 in 1e9 that follow, from the published code's layers
README = [
    ("bnext-tiny", 0.077, 97.81, 0.07526),
    ("bnext-small", 0.172, 98.47, 0.16934),
    ("bnext-middle", 0.317, 99.02, 0.31385),
    ("bnext-large", 0.819, 99.49, 0.81486),
]


@pytest.mark.parametrize(("name", "total", "share", "binary"), README)
def test_binary_operations_are_the_readmes(name, total, share, binary):
    counts = count(get(name).architecture().lower(), "reactnet")
    assert round(counts.bops / 64e9, 5) == binary
    # the printed total is the binary part over its printed share
    assert round(counts.bops / 64e9 / (share / 100), 3) == total
    # which leaves less than the stem and the classifier need at 32 bits
    channels = get(name).architecture().stem.channels
    assert total * 1e9 * (1 - share / 100) < 112 * 112 * channels * 27


@pytest.mark.parametrize(("name", "ops"), [("bnext-tiny", 0.89), ("bnext-small", 1.90)])
def test_all_operations_are_those_that_others_quote(name, ops):
    assert round(count(get(name).architecture().lower(), "reactnet").ops / 1e8, 2) == ops


@pytest.mark.parametrize(
    ("name", "printed"), [("bnext-tiny", 13.3), ("bnext-small", 26.7), ("bnext-large", 106.1)]
)
def test_sizes_that_are_quoted_leave_out_shares_and_have_slopes_that_are_never_applied(
    name, printed
):
    architecture = get(name).architecture()
    slopes = channels = architecture.stem.channels
    for block in (block for stage in architecture.stages for block in stage.blocks):
        slopes += channels * (block.channels // channels) + channels * (not block.multiply)
        channels = block.channels
    graph = architecture.lower()
    shares = sum(node.type.shape[0] for node in graph.nodes if node.op.kind == "blend")
    size = count(graph, "reactnet").size_mib
    assert round(size + (slopes - shares) * 32 / (8 * 2**20), 1) == printed


@pytest.mark.parametrize("name", [row[0] for row in README])
def test_every_second_block_multiplies(name):
    blocks = [block for stage in get(name).architecture().stages for block in stage.blocks]
    assert [block.multiply for block in blocks] == [i % 2 == 1 for i in range(len(blocks))]


def built(block, shape):
    b = Builder()
    x = b.add(Input(shape=shape), name="input")
    b.enter("block", block.kind)
    block.build(b, x)
    b.leave()
    network = Network(b.graph(), seed=1).eval()
    generator = torch.Generator().manual_seed(2)
    for name, parameter in network.named_parameters():
        if ".conv" not in name:
            parameter.data.uniform_(0.1, 0.9, generator=generator)
    return network


def signs(x):
    return torch.where(x >= 0, 1.0, -1.0)


def channelwise(part):
    ((_, value),) = part.named_parameters()
    return value[:, None, None]


def prelu(part, x):
    return torch.where(x > 0, x, x * channelwise(part))


def normalised(part, x):
    return F.batch_norm(x, part.running_mean, part.running_var, part.weight, part.bias)


def layer(block, part, x, *, stride, multiply):
    """One layer, in the order of the published code."""

    def module(name):
        return block.get_submodule(name)

    def halved(y):
        return F.avg_pool2d(y, 2) if stride == 2 else y

    shortcut = halved(prelu(module(f"shortcut{part}_prelu"), x) if multiply else x)
    weight = signs(module(f"conv{part}").weight)
    y = signs(x - channelwise(module(f"quantize{part}")))
    y = F.conv2d(y, weight, stride=stride, padding=weight.shape[-1] // 2)
    y = prelu(module(f"prelu{part}"), normalised(module(f"norm{part}"), y))
    share = channelwise(module(f"blend{part}"))
    gate = (share * halved(x) + (1 - share) * y).mean((2, 3), keepdim=True)
    for name in ("squeeze", "excite"):
        linear = module(f"gate{part}_{name}")
        gate = F.conv2d(gate, linear.weight, linear.bias)
        gate = gate.relu() if name == "squeeze" else gate.sigmoid()
    y = y * gate * shortcut if multiply else y * gate
    return normalised(module(f"out_norm{part}"), y) + shortcut


@pytest.mark.parametrize("multiply", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_block_is_the_published_one(stride, multiply):
    network = built(BNext(channels=32, stride=stride, multiply=multiply), (16, 6, 4))
    x = torch.randn(3, 16, 6, 4)
    y = layer(network.block, "1", x, stride=stride, multiply=multiply)
    halves = [layer(network.block, part, y, stride=1, multiply=False) for part in ("2a", "2b")]
    torch.testing.assert_close(network(x), torch.cat(halves, 1), rtol=1e-5, atol=1e-5)


def test_the_twin_keeps_the_gates():
    architecture = get("bnext-tiny").architecture()
    graph, twin = architecture.lower(), architecture.twin().lower()
    assert count(twin, "reactnet").bops == 0
    kinds = [
        [node.op.kind for node in g.nodes if node.op.kind != "quantize"] for g in (graph, twin)
    ]
    assert kinds[0] == kinds[1]


def test_shares_start_in_the_middle():
    b = Builder()
    BNext(channels=8).build(b, b.add(Input(shape=(8, 4, 4)), name="input"))
    network = Network(b.graph())
    assert network.get_parameter("blend1.weight").tolist() == [0.5] * 8


@pytest.mark.parametrize("channels", [4, 12, 24])
def test_the_block_keeps_or_doubles_the_channels(channels):
    with pytest.raises(InfeasibleArchitecture, match=rf"got 8 -> {channels}"):
        built(BNext(channels=channels), (8, 6, 6))


def test_the_family_trains_and_exports(family_works):
    small = Architecture(
        input=(3, 32, 32),
        stem=StemConv3x3(channels=8),
        stages=mobile_stages(
            (8, 16, 32, 32),
            lambda number, channels, stride: BNext(
                channels=channels, stride=stride, multiply=number % 2 == 0
            ),
        ),
        head=Classifier(classes=10, norm=False, relu=False, prelu=True),
    )
    family_works(small, get("bnext-tiny").recipe)
