"""Networks of several binary bases: Group-Net, CBCN, BENN."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from bitfront.dashboard.network import layer_costs, network_view
from bitfront.evaluators.cost import count, estimate_energy
from bitfront.evaluators.hardware.profile import load_profile
from bitfront.spaces import Architecture, Builder, InfeasibleArchitecture, InvalidValue, Network
from bitfront.spaces.blocks import Circulant, GroupNet
from bitfront.spaces.ops import Input
from bitfront.spaces.plan import plan
from bitfront.spaces.quantizers import RotatedSign
from bitfront.spaces.torch_ops import quantized
from bitfront.spaces.zoo import get

# 32-bit convolutions of ResNet's layout: the stem 7x7, and a 1x1 where sizes change
STEM = 112 * 112 * 64 * 3 * 49
SHORTCUTS = 28 * 28 * 64 * 128 + 14 * 14 * 128 * 256 + 7 * 7 * 256 * 512
BINARY_18 = 10_985_472


def built(block, shape):
    b = Builder()
    x = b.add(Input(shape=shape), name="input")
    b.enter("block", block.kind)
    block.build(b, x)
    b.leave()
    network = Network(b.graph(), seed=1).eval()
    generator = torch.Generator().manual_seed(2)
    for row in network.graph.parameters():
        if "norm" in row.name or "gate" in row.name or "scale" in row.name:
            network.state_dict()[row.name].uniform_(0.1, 0.9, generator=generator)
    return network


def signs(x):
    return torch.where(x >= 0, 1.0, -1.0)


def normalised(part, x):
    return F.batch_norm(x, part.running_mean, part.running_var, part.weight, part.bias)


def padded(x):
    return F.pad(x, (1, 1, 1, 1), value=1.0)


# operations: 137.3e6 FLOPs and five times the BOPs of a binary ResNet; printed 2.68e8 and 4.13e8
@pytest.mark.parametrize(
    ("name", "binary", "bops", "ops_1e8"),
    [
        ("groupnet-resnet18", 5 * BINARY_18, 5 * 1_676_279_808, 2.68),
        ("groupnet-resnet34", 5 * 21_086_208, 5 * 3_525_967_872, 4.13),
    ],
)
def test_groupnet_costs_five_binary_resnets(name, binary, bops, ops_1e8):
    counts = count(get(name).architecture().lower())
    assert counts.params_binary == binary
    assert counts.flops == STEM + SHORTCUTS
    assert counts.bops == bops
    assert round(counts.ops / 1e8, 2) == ops_1e8


def test_groupnet_would_have_the_printed_size_with_one_norm_for_all_bases():
    for name, printed in (("groupnet-resnet18", 9.2), ("groupnet-resnet34", 15.3)):
        graph = get(name).architecture().lower()
        norms = [node for node in graph.nodes if node.op.kind == "batch_norm"]
        others = [node for node in norms if node.name[-2:] in ("_1", "_2", "_3", "_4")]
        # 2 values per channel at 32 bits
        surplus = sum(8 * node.type.shape[0] for node in others) / 2**20
        assert round(count(graph).size_mib - surplus, 1) == printed


def test_the_first_bases_read_one_map():
    network = built(GroupNet(channels=6, stride=2, bases=2), (4, 6, 6))
    block, x = network.block, torch.randn(2, 4, 6, 6)
    shortcut = F.conv2d(F.avg_pool2d(x, 2), block.shortcut_conv.weight)
    shortcut = normalised(block.shortcut_norm, shortcut)
    bases = []
    for k in (0, 1):
        parts = {p: getattr(block, f"{p}_{k}") for p in ("conv1", "norm1", "conv2", "norm2")}
        y = F.conv2d(padded(signs(x)), signs(parts["conv1"].weight), stride=2)
        y = normalised(parts["norm1"], F.relu(y)) + shortcut
        z = F.conv2d(padded(signs(y)), signs(parts["conv2"].weight))
        bases.append(normalised(parts["norm2"], F.relu(z)) + y)
    torch.testing.assert_close(network(x), (bases[0] + bases[1]) / 2)


def test_gates_blend_a_bases_own_map_with_the_mean():
    network = built(GroupNet(channels=4, bases=2, split=True, merge=False), (8, 5, 5))
    block, x = network.block, torch.randn(2, 8, 5, 5)
    mean = (x[:, :4] + x[:, 4:]) / 2
    bases = []
    for k in (0, 1):
        parts = {p: getattr(block, f"{p}_{k}") for p in ("conv1", "norm1", "conv2", "norm2")}
        share = getattr(block, f"gate_{k}").weight
        assert share.shape == (1,)
        gated = share * x[:, 4 * k : 4 * k + 4] + (1 - share) * mean
        y = F.conv2d(padded(signs(gated)), signs(parts["conv1"].weight))
        y = normalised(parts["norm1"], F.relu(y)) + gated
        z = F.conv2d(padded(signs(y)), signs(parts["conv2"].weight))
        bases.append(normalised(parts["norm2"], F.relu(z)) + y)
    torch.testing.assert_close(network(x), torch.cat(bases, 1))


def test_bases_must_divide_the_channels():
    with pytest.raises(InfeasibleArchitecture, match="3 bases must divide the channels.* 8"):
        built(GroupNet(channels=4, bases=3, split=True), (8, 5, 5))


@pytest.mark.parametrize("name", ["groupnet-resnet18", "circulant-resnet18", "abcnet-resnet18"])
def test_the_twin_has_one_convolution_for_all_bases(name):
    twin = count(get(name).architecture().twin().lower())
    resnet = count(get("resnet18-fp").architecture().lower())
    assert (twin.params, twin.flops, twin.bops) == (resnet.params, resnet.flops, 0)


# the steps of the ring by hand: 45 degrees clockwise each
@pytest.mark.parametrize(
    ("steps", "turned"),
    [
        (0, [[1, 2, 3], [8, 9, 4], [7, 6, 5]]),
        (1, [[8, 1, 2], [7, 9, 3], [6, 5, 4]]),
        (4, [[5, 6, 7], [4, 9, 8], [3, 2, 1]]),
    ],
)
def test_the_ring_turns_clockwise(steps, turned):
    w = torch.tensor([[1.0, 2, 3], [8, 9, 4], [7, 6, 5]])[None, None]
    assert RotatedSign(steps=steps).turned(w)[0, 0].tolist() == turned


def test_two_steps_are_a_right_angle():
    w = torch.randn(4, 3, 3, 3)
    for turns in range(4):
        expected = torch.rot90(w, -turns, (2, 3))
        assert torch.equal(RotatedSign(steps=2 * turns).turned(w), expected)
        assert torch.equal(RotatedSign(steps=2 * turns).q(w), signs(expected))


def test_only_turns_of_the_ring_are_accepted():
    with pytest.raises(InvalidValue, match="steps must be 0 to 7, but is 8"):
        RotatedSign(steps=8)


def test_a_circulant_layer_adds_the_turns_of_one_tensor():
    network = built(Circulant(channels=4), (4, 5, 5))
    block = network.block
    x = torch.randn(2, 4, 5, 5)
    weight = block.conv0.weight
    total = sum(
        F.conv2d(signs(x), signs(torch.rot90(weight, -r, (2, 3))), padding=1)
        * getattr(block, f"scale{r}").weight[:, None, None]
        for r in range(4)
    )
    torch.testing.assert_close(network(x), normalised(block.norm, total) + x)


def test_the_gradient_of_a_turned_filter_is_turned_back():
    w = torch.randn(2, 2, 3, 3, requires_grad=True)
    incoming = torch.randn(2, 2, 3, 3)
    (quantized(w, RotatedSign(steps=2), 1.0) * incoming).sum().backward()
    assert torch.equal(w.grad, torch.rot90(incoming, 1, (2, 3)))


def test_turns_are_stored_once():
    """137.3e6 + 4 * 26.2e6 operations, yet no weight more than Bi-Real Net has."""
    graph = get("circulant-resnet18").architecture().lower()
    counts, one = count(graph), count(get("birealnet18").architecture().lower())
    assert counts.bops == 4 * one.bops
    assert counts.flops == one.flops
    assert counts.params_binary == one.params_binary == BINARY_18
    # a factor per turn and filter
    assert counts.params - one.params == 4 * 4 * (64 + 128 + 256 + 512)
    assert {row.bases for row in graph.parameters()} == {1}


@pytest.fixture
def ensemble(small):
    return replace(small(get("ensemble-resnet18").architecture()), members=3)


def test_members_vote(ensemble):
    network = Network(ensemble.lower(), seed=1).eval()
    x = torch.randn(2, 3, 16, 16)
    values = network.trace(x)
    nodes = {node.name: node.index for node in network.graph.nodes}
    logits = [values[nodes[f"members.{m}.head.linear"]] for m in range(3)]
    torch.testing.assert_close(network(x), sum(logits) / 3)
    # each begins with weights of its own
    assert not torch.equal(logits[0], logits[1])
    alone = Network(replace(ensemble, members=1).lower()).state_dict()
    names = set(network.state_dict())
    assert names == {f"members.{m}.{name}" for m in range(3) for name in alone}


def test_six_members_cost_six_networks():
    whole = get("ensemble-resnet18").architecture()
    six, one = whole.lower(), replace(whole, members=1).lower()
    counts, single = count(six), count(one)
    for figure in ("params", "params_binary", "flops", "bops", "size_mib"):
        assert getattr(counts, figure) == pytest.approx(6 * getattr(single, figure))
    profile = load_profile("boolnet65")
    body = estimate_energy(plan(six), profile, scope="body")
    alone = estimate_energy(plan(one), profile, scope="body")
    assert body.total_mj == pytest.approx(6 * alone.total_mj)
    assert len(six.body()) == 6 * len(one.body())


def test_an_ensemble_is_data(ensemble):
    again = Architecture.from_json(ensemble.json())
    assert again == ensemble
    assert again.digest == ensemble.digest
    assert ensemble.twin().members == 3
    one = replace(ensemble, members=1)
    assert one.digest != ensemble.digest
    # documents of single networks stay as they were
    assert "members" not in one.json()


@pytest.mark.parametrize("members", [0, 33])
def test_an_ensemble_has_1_to_32_members(ensemble, members):
    with pytest.raises(InvalidValue, match=f"members must be 1 to 32, but is {members}"):
        replace(ensemble, members=members)


def test_members_are_drawn_one_below_the_other(ensemble):
    view = network_view(ensemble)
    titles = [row.title for row in view.rows]
    assert titles[:2] == ["Member 1, Stem", "Member 1, Stage 1"]
    assert titles[-1] == "Member 3, Head"
    _, layers = layer_costs(view, load_profile("boolnet65"))
    assert len({layer.label for layer in layers}) == len(view.plan.groups)


@pytest.mark.parametrize(
    ("name", "changes", "members"),
    [
        ("groupnet-resnet18", {"bases": 2}, 1),
        ("circulant-resnet18", {}, 1),
        ("ensemble-resnet18", {}, 2),
    ],
)
def test_it_trains_and_exports(name, changes, members, small, family_works):
    entry = get(name)
    architecture = small(entry.architecture(), **changes)
    family_works(replace(architecture, members=members), entry.recipe)
