"""The networks of MeliusNet's code that no paper prints: NaiveNet17 and MeliusNet23."""

from dataclasses import replace

import pytest
import torch

from bitfront.evaluators.cost import count
from bitfront.spaces import Builder, Network
from bitfront.spaces.blocks import Improvement
from bitfront.spaces.ops import Input
from bitfront.spaces.zoo import get


# binary_models/naivenet.py and meliusnet.py of hpi-xnor/BMXNet-v2-examples
@pytest.mark.parametrize(
    ("name", "transitions", "last"),
    [
        ("naivenet17", [(256, 128, 1), (320, 160, 1), (352, 192, 1)], 384),
        ("meliusnet23", [(192, 128, 8), (384, 192, 8), (576, 288, 8)], 672),
    ],
)
def test_channels_are_those_of_the_code(name, transitions, last):
    graph = get(name).architecture().lower()
    found = [
        (graph.nodes[node.inputs[0]].type.shape[0], node.type.shape[0], node.op.groups)
        for node in graph.nodes
        if node.name.endswith("transition.conv")
    ]
    assert found == transitions
    assert graph.nodes[-1].facts.macs == 1000 * last
    shuffles = [node for node in graph.nodes if node.op.kind == "interleave"]
    assert len(shuffles) == sum(groups > 1 for _, _, groups in transitions)


def test_naivenet_improves_all_channels():
    graph = get("naivenet17").architecture().lower()
    # three pairs per stage: 64 new filters each, then one filter per channel
    assert count(graph, "hpi").params_binary == sum(
        9 * (channels * 64 + (channels + 64) ** 2)
        for first in (64, 128, 160, 192)
        for channels in range(first, first + 192, 64)
    )
    # as many operations as MeliusNet22, to the digits that its paper prints
    assert round(count(graph, "hpi").ops / 1e8, 2) == 2.08


def test_a_whole_improvement_is_added_to_every_channel():
    b = Builder()
    x = b.add(Input(shape=(6, 5, 5)), name="input")
    b.enter("block", "improvement")
    Improvement(growth=64, whole=True).build(b, x)
    b.leave()
    network = Network(b.graph()).eval()
    x = torch.randn(2, 6, 5, 5)
    signs = torch.nn.functional.pad(torch.where(x >= 0, 1.0, -1.0), (1, 1, 1, 1), value=-1.0)
    weight = torch.where(network.block.conv.weight >= 0, 1.0, -1.0)
    assert torch.equal(network(x), x + torch.nn.functional.conv2d(signs, weight))


def test_the_family_trains_and_exports(family_works):
    entry = get("naivenet17")
    whole = entry.architecture()
    stages = tuple(
        replace(
            stage,
            blocks=tuple(replace(block, growth=8) for block in stage.blocks[:2]),
            transition=stage.transition and replace(stage.transition, channels=16),
        )
        for stage in whole.stages[2:]
    )
    small = replace(whole, input=(3, 32, 32), stem=replace(whole.stem, channels=16), stages=stages)
    family_works(small, entry.recipe)
