"""Every binary network has a 32-bit twin: the yardstick of its training step, size and energy."""

from math import prod
from typing import NamedTuple

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from bitfront.spaces import FULL, Block, Builder, Graph, InvalidValue, Network, Precision
from bitfront.spaces.blocks import Boolean, MultiBase, StemBoolNet, blocks
from bitfront.spaces.ops import Input, Relu
from bitfront.spaces.value import encode
from bitfront.spaces.zoo import get, zoo

# per value they compute with several maps or weights, where a twin computes with one
SEVERAL = {
    "abcnet-resnet18",
    "boolnet-base-k4",
    "boolnet-k4",
    "boolnet-star-k4",
    "circulant-resnet18",
    "groupnet-resnet18",
    "groupnet-resnet34",
}
# what stands for signs, their products and their means
BOOLEAN_OPS = {"quantize", "xnor", "or", "slice_mean"}


class Twin(NamedTuple):
    """The 32-bit form of a block; a batch norm has two parameters per channel."""

    block: Block
    input: tuple[int, int, int]
    output: tuple[int, ...]
    params: int
    macs: int


TWINS = [
    Twin(
        StemBoolNet(channels=8, slices=4),
        (3, 32, 32),
        (8, 8, 8),
        (8 * 147 + 16) + 16 + (16 + 8 * 9 + 16),
        256 * 8 * 147 + 64 * 8 * 9,
    ),
    # the same convolutions, whatever the number of slices
    Twin(
        Boolean(channels=8, slices=2, concat=False),
        (8, 4, 4),
        (8, 4, 4),
        2 * (8 * 8 * 9 + 16),
        2 * 16 * 8 * 8 * 9,
    ),
    Twin(
        Boolean(channels=8, slices=4),
        (16, 4, 4),
        (16, 4, 4),
        2 * (8 * 8 * 9 + 16),
        2 * 16 * 8 * 8 * 9,
    ),
    # the shortcut's 1x1 convolution reads one map of 16 channels, not two slices of 16
    Twin(
        Boolean(channels=16, stride=2, slices=2),
        (16, 4, 4),
        (32, 2, 2),
        2 * (16 * 16 * 9 + 32) + (16 * 16 + 32),
        2 * 4 * 16 * 16 * 9 + 16 * 16 * 16,
    ),
    # the PReLU has a slope per channel; the norm of the mean is there, the mean is not
    Twin(
        Boolean(channels=8, slices=2, last=True),
        (16, 4, 4),
        (8, 4, 4),
        2 * (8 * 8 * 9 + 16) + 16 + 8,
        2 * 16 * 8 * 8 * 9,
    ),
    # one convolution for 2 * 3 bases, without their shifts and scales
    Twin(
        MultiBase(channels=8, weight_bases=2, activation_bases=3),
        (8, 8, 8),
        (8, 8, 8),
        8 * 8 * 9 + 16,
        64 * 8 * 8 * 9,
    ),
    Twin(
        MultiBase(channels=16, stride=2),
        (8, 8, 8),
        (16, 4, 4),
        (16 * 8 * 9 + 32) + (16 * 8 + 32),
        16 * (16 * 8 * 9 + 16 * 8),
    ),
]
twins = pytest.mark.parametrize("row", TWINS, ids=[repr(row.block) for row in TWINS])


def lowered(block: Block, shape: tuple[int, int, int]) -> Graph:
    b = Builder()
    x = b.add(Input(shape=shape), name="input")
    b.enter("block", block.kind)
    block.build(b, x)
    b.leave()
    return b.graph()


@twins
def test_golden_twin(row):
    twin = row.block.full()
    graph = lowered(twin, row.input)
    assert graph.output.torch_shape == row.output
    learned = [p for p in graph.parameters() if not p.is_buffer]
    assert sum(prod(p.shape) for p in learned) == row.params
    assert sum(node.facts.macs for node in graph.nodes) == row.macs
    assert not BOOLEAN_OPS & {node.op.kind for node in graph.nodes}
    assert twin.full() == twin
    assert Block.from_json(encode(twin), "block") == twin


@twins
def test_a_twin_learns(row):
    network = Network(lowered(row.block.full(), row.input))
    y = network(torch.randn(2, *row.input))
    y.square().sum().backward()
    assert tuple(y.shape) == (2, *row.output)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


@twins
def test_a_block_that_is_no_twin_keeps_its_text(row):
    assert "precision" not in encode(row.block)
    assert encode(row.block.full())["precision"] == encode(FULL)


@pytest.mark.parametrize("kind", ["stem_boolnet", "boolean", "multi_base"])
def test_there_are_two_precisions_only(kind):
    given = {} if kind == "stem_boolnet" else {"channels": 8}
    with pytest.raises(InvalidValue, match=r"1/1 or 32/32.* is 2/2"):
        blocks[kind](**given, precision=Precision(weights=2, activations=2))


def test_the_twin_of_a_boolean_block_by_hand():
    block = Boolean(channels=4, slices=2, concat=False).full()
    network = Network(lowered(block, (4, 6, 6))).eval()
    parts = network.block
    x = torch.randn(2, 4, 6, 6)

    def normed(norm, x):
        return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)

    y = F.relu(normed(parts.norm1, F.conv2d(x, parts.conv1.weight, padding=1))) + x
    y = F.relu(normed(parts.norm2, F.conv2d(y, parts.conv2.weight, padding=1))) + x
    torch.testing.assert_close(network(x), y)


@pytest.mark.parametrize("name", list(zoo))
def test_twins_of_the_zoo(name):
    architecture = get(name).architecture()
    graph, twin = architecture.lower(), architecture.twin().lower()
    assert not BOOLEAN_OPS & {node.op.kind for node in twin.nodes}
    assert all(node.facts.w_bits == node.facts.a_bits == 32 for node in twin.nodes)
    assert twin.output == graph.output
    macs, full = (sum(node.facts.macs for node in g.nodes) for g in (graph, twin))
    assert (full < macs) if name in SEVERAL else (full == macs)


def test_a_twin_of_boolnet_is_residual():
    nodes = get("boolnet-k4").architecture().twin().lower().nodes
    kinds = [node.op.kind for node in nodes]
    assert kinds.count("add") == 17
    assert sum(isinstance(node.op, Relu) for node in nodes) == 19
    # XNOR and OR are additions; concatenation and interleaving stay
    assert kinds.count("concat") == kinds.count("interleave") == 7
    assert not [node for node in nodes if node.op.kind == "conv2d" and node.op.replicate]
