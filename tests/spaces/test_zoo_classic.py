"""The 32-bit classics: AlexNet, VGG, GoogLeNet, ResNet-152, MobileNet."""

from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from bitfront.evaluators.cost import count, estimate_energy
from bitfront.evaluators.hardware.profile import load_profile
from bitfront.evaluators.training import DataSet, Trainer
from bitfront.spaces import (
    BINARY,
    Architecture,
    Block,
    Builder,
    Candidate,
    Graph,
    InfeasibleArchitecture,
    Network,
    Precision,
    Recipe,
    Stage,
)
from bitfront.spaces.blocks import (
    Bottleneck,
    ConvLayer,
    DenseTransition,
    Inception,
    MlpClassifier,
    Separable,
    StemConv,
)
from bitfront.spaces.ops import Input, MaxPool, Relu
from bitfront.spaces.plan import plan
from bitfront.spaces.precision import precision_of
from bitfront.spaces.quantizers import SIGN, DoReFa, MagnitudeSign
from bitfront.spaces.zoo import get
from bitfront.spaces.zoo.alexnet import alexnet
from bitfront.spaces.zoo.googlenet import googlenet
from bitfront.spaces.zoo.resnet import resnet152

TWO_BITS = Precision(weights=2, activations=2)
NAMES = (
    "alexnet-fp",
    "alexnet-grouped-fp",
    "vgg19-fp",
    "googlenet-fp",
    "resnet152-fp",
    "mobilenet-v1-fp",
)

# parameters: of AlexNet, the sum over its layers as published, in one piece and in two towers; of
# VGG-19 and ResNet-152, torchvision's; of GoogLeNet, Caffe's without the classifiers for training;
# of MobileNet, Keras' less the running statistics. Operations in 1e9, one per multiply-accumulate,
# classifier included: He et al. 2016 print 11.3, Howard et al. 2017 0.569, torchvision 19.63
GOLDEN = [
    ("alexnet-fp", 62_378_344, 1.135),
    ("alexnet-grouped-fp", 60_965_224, 0.724),
    ("vgg19-fp", 143_667_240, 19.632),
    ("googlenet-fp", 6_998_552, 1.583),
    ("resnet152-fp", 60_192_808, 11.282),
    ("mobilenet-v1-fp", 4_231_976, 0.569),
]


@pytest.mark.parametrize(("name", "params", "ops"), GOLDEN)
def test_counts_are_those_of_the_literature(name, params, ops):
    graph = get(name).architecture().lower()
    counts = count(graph, "reactnet")
    assert counts.params == params
    assert counts.params_binary == 0
    assert round(counts.ops / 1e9, 3) == ops
    assert graph.output.shape == (1000,)


def test_other_forms_have_the_counts_of_the_literature():
    # torchvision: the stride in the 3x3 convolution, 11.51e9
    late = [
        replace(stage, blocks=tuple(replace(block, late_stride=True) for block in stage.blocks))
        for stage in resnet152().stages
    ]
    counts = count(replace(resnet152(), stages=tuple(late)).lower(), "reactnet")
    assert (counts.params, round(counts.ops / 1e9, 2)) == (60_192_808, 11.51)
    # a norm in place of each bias: one value per filter more
    filters = [n.op.out_channels for n in googlenet().lower().nodes if n.op.kind == "conv2d"]
    normed = count(googlenet("after").lower(), "reactnet")
    assert normed.params == 6_998_552 + sum(filters)


@pytest.mark.parametrize("name", NAMES)
def test_the_twin_of_a_32_bit_network_is_itself(name):
    architecture = get(name).architecture()
    assert architecture.twin() == architecture


@pytest.mark.parametrize(
    ("name", "size"), [(name, 64 if name.startswith("alexnet") else 32) for name in NAMES]
)
def test_the_smallest_image_goes_through(name, size):
    architecture = get(name).architecture()
    assert replace(architecture, input=(3, size, size)).lower().output.shape == (1000,)


def test_alexnet_needs_64_pixels():
    with pytest.raises(InfeasibleArchitecture, match=r"stages\.1\.transition\.pool"):
        replace(alexnet(), input=(3, 32, 32)).lower()


# blocks against torch


def built(block: Block, shape: tuple[int, int, int]) -> Network:
    b = Builder()
    block.build(b, b.add(Input(shape=shape), name="input"))
    network = Network(b.graph(), seed=1).eval()
    with torch.no_grad():
        for row in network.graph.parameters():
            # statistics and biases that are not what training starts with
            if not row.name.endswith("weight"):
                network.state_dict()[row.name].uniform_(0.5, 1.5)
    return network


def conv(layer: torch.nn.Module, x: Tensor, **options: int) -> Tensor:
    options.setdefault("padding", layer.weight.shape[-1] // 2)
    return F.conv2d(x, layer.weight, layer.bias, **options)


def normalised(norm: torch.nn.Module, x: Tensor) -> Tensor:
    return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)


def test_an_inception_module_is_four_branches_side_by_side():
    n = built(Inception(one=2, three_reduce=3, three=4, five_reduce=5, five=6, pool=7), (8, 9, 7))
    x = torch.randn(3, 8, 9, 7)
    branches = (
        conv(n.one, x),
        conv(n.three, F.relu(conv(n.three_reduce, x))),
        conv(n.five, F.relu(conv(n.five_reduce, x))),
        conv(n.pool, F.max_pool2d(x, 3, 1, 1)),
    )
    torch.testing.assert_close(n(x), F.relu(torch.cat(branches, 1)))


@pytest.mark.parametrize("late", [False, True])
def test_a_bottleneck_is_torchvisions(late):
    n = built(Bottleneck(channels=16, stride=2, late_stride=late), (8, 8, 6))
    x = torch.randn(3, 8, 8, 6)
    y = F.relu(normalised(n.norm1, conv(n.conv1, x, stride=1 if late else 2)))
    y = F.relu(normalised(n.norm2, conv(n.conv2, y, stride=2 if late else 1)))
    y = normalised(n.norm3, conv(n.conv3, y))
    shortcut = normalised(n.shortcut_norm, conv(n.shortcut_conv, x, stride=2))
    torch.testing.assert_close(n(x), F.relu(y + shortcut))


def test_a_separable_block_is_mobilenets():
    n = built(Separable(channels=12, stride=2), (8, 8, 6))
    x = torch.randn(3, 8, 8, 6)
    y = F.relu(normalised(n.depthwise_norm, conv(n.depthwise, x, stride=2, groups=8)))
    y = F.relu(normalised(n.pointwise_norm, conv(n.pointwise, y)))
    torch.testing.assert_close(n(x), y)


def test_a_dense_transition_may_pool_first():
    n = built(DenseTransition(channels=5), (8, 8, 6))
    x = torch.randn(3, 8, 8, 6)
    densenets = F.avg_pool2d(conv(n.conv, F.relu(normalised(n.norm, x))), 2)
    torch.testing.assert_close(n(x), densenets)


def test_dropout_stands_behind_each_hidden_layer():
    graph = lowered(MlpClassifier(classes=10, hidden=(8, 6), dropout=0.3), (4, 3, 3))
    kinds = [node.op.kind for node in graph.nodes]
    assert kinds == [
        "input", "flatten",
        "linear", "relu", "dropout",
        "linear", "relu", "dropout",
        "linear",
    ]  # fmt: skip
    assert {n.op.probability for n in graph.nodes if n.op.kind == "dropout"} == {0.3}
    plain = lowered(MlpClassifier(classes=10, hidden=(8,), dropout=0.0), (4, 3, 3))
    assert "dropout" not in {node.op.kind for node in plain.nodes}


def test_dropout_costs_nothing():
    noisy = get("alexnet-fp").architecture()
    quiet = replace(noisy, head=replace(noisy.head, dropout=0.0))
    graphs = [architecture.lower() for architecture in (noisy, quiet)]
    profile = load_profile("horowitz45")
    energies = [estimate_energy(plan(graph), profile) for graph in graphs]
    assert energies[0].total_mj == energies[1].total_mj
    assert plan(graphs[0]).peak_bits == plan(graphs[1]).peak_bits
    assert len(plan(graphs[0]).groups) == len(plan(graphs[1]).groups)
    assert count(graphs[0], "full") == count(graphs[1], "full")


def lowered(block: Block, shape: tuple[int, int, int], rectified: bool = False) -> Graph:
    b = Builder()
    x = b.add(Input(shape=shape), name="input")
    if rectified:
        x = b.add(MaxPool(kernel_size=2, stride=2), b.add(Relu(), x, name="relu"), name="pool")
    block.build(b, x)
    return b.graph()


# fewer bits


@pytest.mark.parametrize(
    ("precision", "bits"),
    [
        (BINARY, (1, 1)),
        (TWO_BITS, (2, 2)),
        (Precision(weights=1, activations=32), (1, 32)),
        (precision_of(weight=MagnitudeSign(), input=DoReFa(width=4)), (1, 4)),
    ],
)
def test_a_layer_computes_at_any_precision(precision, bits):
    layer = ConvLayer(channels=4, norm="before", precision=precision)
    graph = lowered(layer, (8, 6, 6), rectified=True)
    (node,) = [n for n in graph.nodes if n.op.kind == "conv2d"]
    assert (node.facts.w_bits, node.facts.a_bits) == bits
    assert layer.full() == ConvLayer(channels=4, norm="before")
    head = MlpClassifier(classes=10, hidden=(8,), norm="before", precision=precision)
    hidden, logits = [n for n in lowered(head, (4, 3, 3)).nodes if n.op.kind == "linear"]
    assert (hidden.facts.w_bits, hidden.facts.a_bits) == bits
    assert (logits.facts.w_bits, logits.facts.a_bits) == (32, 32)


@pytest.mark.parametrize("norm", ["after", "before", "none"])
def test_the_sums_of_signs_stay_integers(norm):
    layer = ConvLayer(channels=4, norm=norm, activation="none", precision=BINARY)
    graph = lowered(layer, (8, 6, 6))
    (node,) = [n for n in graph.nodes if n.op.kind == "conv2d"]
    assert node.type.domain == "accumulator"


SIGNED = precision_of(weight=MagnitudeSign(), input=SIGN)


@pytest.mark.parametrize(
    "block",
    [
        ConvLayer(channels=4, precision=SIGNED),
        ConvLayer(channels=4, norm="none", precision=BINARY),
        Separable(channels=4, precision=BINARY),
        Bottleneck(channels=4, precision=BINARY),
        Inception(one=1, three_reduce=1, three=1, five_reduce=1, five=1, pool=1, precision=BINARY),
        MlpClassifier(classes=10, hidden=(8,), precision=BINARY),
    ],
    ids=lambda block: block.kind,
)
def test_signs_behind_a_relu_are_refused(block):
    with pytest.raises(InfeasibleArchitecture, match="One-bit inputs behind a ReLU are all"):
        lowered(block, (8, 6, 6), rectified=True)


def test_signs_inside_a_block_are_refused_too():
    """The second layer of each block stands behind a ReLU, whatever comes before the first."""
    for block in (
        Separable(channels=4, precision=BINARY),
        Bottleneck(channels=4, precision=BINARY),
        MlpClassifier(classes=10, hidden=(8, 8), precision=BINARY),
    ):
        with pytest.raises(InfeasibleArchitecture, match="all \\+1"):
            lowered(block, (8, 6, 6))
    # a PReLU lets both signs through
    lowered(Separable(channels=4, activation="prelu", precision=BINARY), (8, 6, 6))


# dropout in training


def weights_after(data: DataSet, epochs: int, seed: int = 1, interrupted: Path | None = None):
    """Parameters of a small network with dropout; the run may be saved and loaded half way."""
    architecture = Architecture(
        input=data.input,
        stem=StemConv(channels=4),
        stages=(Stage(blocks=(ConvLayer(channels=4),)),),
        head=MlpClassifier(classes=10, hidden=(16,), dropout=0.3),
    )
    recipe = Recipe(optimizer="adamw", epochs=epochs, batch_size=32)
    candidate = Candidate(architecture=architecture, recipe=recipe)
    trainer = Trainer(candidate, data, seed=seed, device="cpu")
    while trainer.epoch < epochs:
        trainer.run_epoch()
        if interrupted and trainer.epoch == epochs // 2:
            trainer.save(interrupted)
            # what others draw meanwhile does not matter
            torch.rand(7)
            trainer = Trainer(candidate, data, seed=seed, device="cpu")
            trainer.load(interrupted)
    return torch.cat([p.detach().flatten() for p in trainer.network.parameters()])


def test_a_run_with_dropout_repeats_and_leaves_the_global_stream_alone(digits):
    data = digits(1, 8)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = weights_after(data, 2)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(weights_after(data, 2), first)
    assert not torch.equal(weights_after(data, 2, seed=2), first)


def test_an_interrupted_run_drops_what_it_would_have_dropped(digits, tmp_path):
    data = digits(1, 8)
    whole = weights_after(data, 2)
    assert torch.equal(weights_after(data, 2, interrupted=tmp_path / "checkpoint"), whole)


# families

WIDTHS = ("channels", "one", "three_reduce", "three", "five_reduce", "five", "pool")


def narrow(block: Block, factor: int) -> Block:
    changes = {
        f.name: max(4, getattr(block, f.name) // factor)
        for f in fields(block)
        if f.name in WIDTHS and not (f.name == "pool" and block.kind != "inception")
    }
    if isinstance(block, MlpClassifier):
        # 128 images are too few for half of so few features
        changes["hidden"] = tuple(features // (factor * 8) for features in block.hidden)
        changes["dropout"] = 0.1
    return replace(block, **changes)


def small(name: str, size: int, factor: int, stages: int, blocks: int) -> Architecture:
    """A narrow, short network of a family."""
    whole = get(name).architecture()
    return replace(
        whole,
        input=(3, size, size),
        stem=narrow(whole.stem, factor),
        stages=tuple(
            replace(stage, blocks=tuple(narrow(block, factor) for block in stage.blocks[:blocks]))
            for stage in whole.stages[:stages]
        ),
        head=narrow(whole.head, factor),
    )


FAMILIES = {
    "alexnet-grouped-fp": small("alexnet-grouped-fp", 64, 8, 2, 3),
    "vgg19-fp": small("vgg19-fp", 32, 8, 4, 1),
    "googlenet-fp": small("googlenet-fp", 32, 4, 3, 2),
    "resnet152-fp": small("resnet152-fp", 32, 16, 4, 2),
    "mobilenet-v1-fp": small("mobilenet-v1-fp", 32, 4, 4, 2),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_family_trains_and_exports(name, family_works):
    # without norms, larger steps leave dead ReLUs behind
    recipe = get(name).recipe
    trainer = family_works(FAMILIES[name], recipe, epochs=12, learning_rate=3e-3)
    # log 10 = 2.30 is the loss of a guess
    assert trainer.evaluate("train").loss < 1.8
