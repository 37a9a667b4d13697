"""The zoo's CIFAR-10 networks, and the blocks that they are made of."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from bitfront.evaluators.cost import count
from bitfront.spaces import Block, Builder, InfeasibleArchitecture, Network
from bitfront.spaces.blocks import BinaryBasic, PoolTransition, SlicedResidual
from bitfront.spaces.ops import Input
from bitfront.spaces.zoo import get, zoo
from bitfront.spaces.zoo.cifar import SCALED, sliced_resnete18

NAMES = sorted(name for name in zoo if name.endswith("-cifar10"))

# parameters with two per channel of a norm, those of few bits, top-1 as the tables of the wiki
# (hpi-xnor/BMXNet-v2-wiki, Binary-Network-Results) print it; ResNet-18 at 32 bits has the
# 11,173,962 parameters of the usual PyTorch form
GOLDEN = [
    ("resnet-e18-cifar10", 11_189_840, 10_985_472, 87.6),
    ("resnet-e18-scaled-cifar10", 11_189_840, 10_985_472, 84.7),
    ("resnet-e18-e1-cifar10", 11_173_840, 10_985_472, 86.1),
    ("resnet-e34-cifar10", 21_282_000, 21_086_208, 86.2),
    ("resnet18-v1-cifar10", 11_173_840, 11_157_504, 87.9),
    ("binarydensenet21-cifar10", 2_746_442, 2_433_024, 90.3),
    ("resnet18-fp-cifar10", 11_173_962, 0, 94.8),
    # one step per layer of weights and of inputs
    ("vgg-small-fp-cifar10", 4_660_106, 0, 93.34),
    ("vgg-small-lsq4-cifar10", 4_660_106 + 10, 4_571_136, 94.26),
    ("vgg-small-lsq3-cifar10", 4_660_106 + 10, 4_571_136, 93.89),
    ("vgg-small-lsq2-cifar10", 4_660_106 + 10, 4_571_136, 93.42),
]


@pytest.mark.parametrize(("name", "params", "coded", "top1"), GOLDEN)
def test_figures(name, params, coded, top1):
    entry = get(name)
    counts = count(entry.architecture().lower(), "hpi")
    assert (counts.params, counts.params_binary) == (params, coded)
    assert entry.published["top1"] == top1


def test_every_entry_has_figures():
    assert {row[0] for row in GOLDEN} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_entries_are_for_cifar10(name):
    entry = get(name)
    architecture = entry.architecture()
    assert entry.dataset == "cifar10"
    assert architecture.input == (3, 32, 32)
    assert architecture.classes == 10
    # the stem keeps the size, three stages halve it
    graph = architecture.lower()
    stem = graph.nodes[graph.region("stem").end - 1]
    last = graph.nodes[graph.region("head").start - 1]
    assert stem.type.shape[1:] == (32, 32)
    assert last.type.shape[1:] == (4, 4)
    assert architecture.twin().lower().output.shape == (10,)


def test_slices_change_neither_weights_nor_work():
    """Four times as many convolutions with a quarter of the filters each: only norms are added."""
    sliced = sliced_resnete18("after")
    whole = replace(
        sliced,
        stages=tuple(
            replace(
                stage,
                blocks=(
                    replace(stage.blocks[0], slices=1, write_on=0),
                    *[replace(stage.blocks[-1], slices=1, write_on=0)] * 3,
                ),
            )
            for stage in sliced.stages
        ),
    )
    few, many = (count(a.lower(), "hpi") for a in (whole, sliced))
    assert [len(stage.blocks) for stage in sliced.stages] == [16, 13, 13, 13]
    assert (few.params_binary, few.bops, few.flops) == (many.params_binary, many.bops, many.flops)
    # with a norm behind the convolution even they are the same: a quarter of the channels each
    assert few.params == many.params


def test_every_channel_is_written_on_in_turn():
    for stage in sliced_resnete18().stages:
        sliced = [block.write_on for block in stage.blocks if block.slices == 4]
        assert sliced == [0, 1, 2, 3] * (len(sliced) // 4)


# blocks against torch


def built(block: Block, shape: tuple[int, int, int]) -> Network:
    b = Builder()
    block.build(b, b.add(Input(shape=shape), name="input"))
    network = Network(b.graph(), seed=1).eval()
    with torch.no_grad():
        for row in network.graph.parameters():
            # statistics and shifts that are not what training starts with
            if not row.name.endswith("weight"):
                network.state_dict()[row.name].uniform_(0.5, 1.5)
    return network


def signs(x: Tensor) -> Tensor:
    return torch.where(x >= 0, 1.0, -1.0)


def binary(layer: torch.nn.Module, x: Tensor, stride: int = 1) -> Tensor:
    side = layer.weight.shape[-1] // 2
    padded = F.pad(signs(x), (side,) * 4, value=-1.0)
    return F.conv2d(padded, signs(layer.weight), stride=stride)


def normalised(norm: torch.nn.Module, x: Tensor) -> Tensor:
    return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)


@pytest.mark.parametrize("write_on", [0, 1, 3])
def test_a_slice_is_corrected_and_the_rest_kept(write_on):
    x = torch.randn(3, 8, 6, 5) + 1
    written = slice(2 * write_on, 2 * write_on + 2)
    n = built(SlicedResidual(channels=8, slices=4, write_on=write_on), (8, 6, 5))
    expected = x.clone()
    expected[:, written] += binary(n.conv, normalised(n.norm, x))
    torch.testing.assert_close(n(x), expected)
    n = built(SlicedResidual(channels=8, slices=4, write_on=write_on, norm="after"), (8, 6, 5))
    expected = x.clone()
    expected[:, written] += normalised(n.norm, binary(n.conv, x))
    torch.testing.assert_close(n(x), expected)


def test_where_sizes_change_the_shortcut_reads_what_the_convolution_reads():
    n = built(SlicedResidual(channels=12, stride=2), (8, 6, 4))
    x = torch.randn(3, 8, 6, 4) + 1
    normed = normalised(n.norm, x)
    shortcut = F.conv2d(F.avg_pool2d(normed, 2), n.shortcut_conv.weight)
    torch.testing.assert_close(n(x), shortcut + binary(n.conv, normed, stride=2))


def test_the_scaled_form_is_xnor_nets():
    """Sums times the mean magnitude of the filter and of what each sum reads."""
    n = built(SlicedResidual(channels=8, input_scale=True, precision=SCALED), (8, 6, 5))
    x = torch.randn(3, 8, 6, 5) + 1
    normed = normalised(n.norm, x)
    box = torch.full((1, 1, 3, 3), 1 / 9)
    factors = F.conv2d(normed.abs().mean(1, keepdim=True), box, padding=1)
    filters = n.conv.weight.abs().mean((1, 2, 3))[:, None, None]
    torch.testing.assert_close(n(x), x + binary(n.conv, normed) * filters * factors)


def test_a_twin_needs_no_scaling():
    scaled = SlicedResidual(channels=8, input_scale=True, precision=SCALED)
    assert scaled.full() == SlicedResidual(channels=8).full()


def test_slices_need_channels_to_write_on():
    with pytest.raises(InfeasibleArchitecture, match="Slices need 8 channels.*got 4"):
        built(SlicedResidual(channels=8, slices=2), (4, 6, 6))


def test_a_binary_basic_block():
    n = built(BinaryBasic(channels=12, stride=2), (8, 6, 4))
    x = torch.randn(3, 8, 6, 4)
    y = normalised(n.norm1, binary(n.conv1, x, stride=2))
    y = normalised(n.norm2, binary(n.conv2, y))
    shortcut = normalised(n.shortcut_norm, binary(n.shortcut_conv, x, stride=2))
    torch.testing.assert_close(n(x), y + shortcut)


# families


def narrow(name: str, factor: int, stages: int):
    """The first stages of a network with fewer channels."""
    whole = get(name).architecture()

    def less(block: Block) -> Block:
        if isinstance(block, PoolTransition):
            return block
        width = "growth" if hasattr(block, "growth") else "channels"
        return replace(block, **{width: getattr(block, width) // factor})

    return replace(
        whole,
        stem=less(whole.stem),
        stages=tuple(
            replace(
                stage,
                blocks=tuple(less(block) for block in stage.blocks[:3]),
                transition=stage.transition and less(stage.transition),
            )
            for stage in whole.stages[:stages]
        ),
    )


@pytest.mark.parametrize(
    "name",
    [
        "resnet-e18-scaled-cifar10",
        "resnet18-v1-cifar10",
        "binarydensenet21-cifar10",
        "vgg-small-lsq2-cifar10",
    ],
)
def test_the_family_trains_and_exports(name, family_works):
    # digits have 8x8 pixels of their own; log 10 = 2.30 is the loss of a guess
    architecture = replace(narrow(name, factor=8, stages=3), input=(3, 8, 8))
    assert family_works(architecture, get(name).recipe).evaluate("train").loss < 1.8
