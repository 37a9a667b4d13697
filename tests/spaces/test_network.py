import copy
import pickle
import weakref

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from bitfront.spaces import (
    Architecture,
    Builder,
    InvalidValue,
    Network,
    RandomChoose,
    Stage,
    Task,
    build,
    spaces,
)
from bitfront.spaces.blocks import (
    BiReal,
    Boolean,
    Classifier,
    Dense,
    Gated,
    Improvement,
    MultiBase,
    QuickNet,
    QuickNetTransition,
    StemBoolNet,
    StemThumbnail,
    Transition,
)
from bitfront.spaces.ops import Add, Conv2d, Input, Quantize, Relu
from bitfront.spaces.precision import precision_of
from bitfront.spaces.quantizers import SIGN, SIGN_WEIGHT, LqNet, Lsq, Pact, RSign, Syq, Ttq

MELIUS = Architecture(
    input=(1, 8, 8),
    stem=StemThumbnail(channels=8),
    stages=(
        Stage(blocks=(Dense(growth=8), Improvement(growth=8)), transition=Transition(channels=8)),
        Stage(blocks=(Dense(growth=8), Improvement(growth=8))),
    ),
    head=Classifier(classes=10),
)


def body(*blocks, stem=None):
    return Architecture(
        input=(3, 32, 32),
        stem=stem or StemThumbnail(channels=8),
        stages=(Stage(blocks=blocks),),
        head=Classifier(classes=10),
    )


MIXED = {
    "melius": MELIUS,
    "stored": body(Dense(growth=8, shortcut_bits=4), Improvement(growth=8, shortcut_bits=16)),
    "bireal": body(BiReal(channels=8, padding_value=-1.0), BiReal(channels=16, stride=2)),
    "gated": body(Gated(channels=8), Gated(channels=16, stride=2)),
    "learned": body(
        BiReal(channels=8, precision=precision_of(weight=Lsq(), input=Lsq())),
        BiReal(channels=8, precision=precision_of(weight=LqNet(), input=LqNet())),
        BiReal(channels=8, precision=precision_of(weight=Ttq(), input=Pact(initial_alpha=1.0))),
        BiReal(channels=8, precision=precision_of(weight=Syq(), input=RSign())),
    ),
    "multi_base": body(MultiBase(channels=8, weight_bases=2, activation_bases=2)),
    "boolean": body(
        Boolean(channels=8), Boolean(channels=16, stride=2), Boolean(channels=16, last=True),
        stem=StemBoolNet(channels=8),
    ),
    "quicknet": Architecture(
        input=(3, 32, 32),
        stem=StemThumbnail(channels=8),
        stages=(
            Stage(blocks=(QuickNet(channels=8),), transition=QuickNetTransition(channels=16)),
            Stage(blocks=(QuickNet(channels=16),)),
        ),
        head=Classifier(classes=10, norm=False),
    ),
}  # fmt: skip
every_kind = pytest.mark.parametrize("architecture", MIXED.values(), ids=MIXED.keys())


def images(network: Network, count: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, *network.graph.input.shape, generator=generator)


@every_kind
def test_forward_is_the_last_value_of_the_trace(architecture):
    network = build(architecture).eval()
    x = images(network)
    values = network.trace(x)
    assert len(values) == len(network.graph.nodes)
    assert torch.equal(values[0], x)
    assert torch.equal(network(x), values[-1])


@every_kind
def test_state_has_the_graphs_names_and_shapes(architecture):
    network = build(architecture)
    state = [(name, tuple(v.shape)) for name, v in network.state_dict().items()]
    table = network.graph.parameters()
    assert sorted(state) == sorted((row.name, row.shape) for row in table)
    learned = {name for name, _ in network.named_parameters()}
    assert learned == {row.name for row in table if not row.is_buffer}


@every_kind
def test_every_parameter_learns(architecture):
    network = build(architecture)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(network(images(network)), torch.arange(4)).backward()
        optimizer.step()
    for name, parameter in network.named_parameters():
        assert not torch.equal(parameter, before[name]), name


@every_kind
def test_copies_are_independent(architecture):
    network = build(architecture).eval()
    x = images(network)
    expected = network(x)
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert torch.equal(other(x), expected)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.zero_()
        assert not torch.equal(other(x), expected)
        assert torch.equal(network(x), expected)


@every_kind
def test_state_moves_to_another_network(architecture):
    first, second = build(architecture, seed=0), build(architecture, seed=1)
    first(images(first))
    first.eval()
    second.eval()
    assert not torch.equal(first(images(first)), second(images(first)))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(images(first)), second(images(first)))


def test_a_seed_gives_one_network_and_leaves_the_global_state_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, second, other = (build(MELIUS, seed=seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.rand(3), expected)
    for name, value in first.items():
        assert torch.equal(value, second[name])
    assert not torch.equal(first["stem.conv.weight"], other["stem.conv.weight"])


def test_initial_weights_keep_the_variance():
    network = build(body(Dense(growth=256), stem=StemThumbnail(channels=64)))
    weight = network.get_parameter("stages.0.blocks.0.conv.weight")
    assert weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    assert abs(weight.mean().item()) < 0.001


def test_intermediate_values_are_freed_after_their_last_use():
    b = Builder()
    x = b.add(Input(shape=(1, 4, 4)), name="input")
    y = first = b.add(Relu(), x, name="relu0")
    for i in range(1, 5):
        y = b.add(Relu(), y, name=f"relu{i}")
    b.add(Add(), y, first, name="add")
    network = Network(b.graph())
    results: dict[str, weakref.ref[torch.Tensor]] = {}
    alive: dict[str, set[str]] = {}

    def note(name):
        def hook(module, inputs, output):
            alive[name] = {other for other, ref in results.items() if ref() is not None}
            results[name] = weakref.ref(output)

        return hook

    for name, module in network.named_children():
        module.register_forward_hook(note(name))
    with torch.no_grad():
        network(torch.randn(1, 1, 4, 4))
    assert alive["relu4"] == {"relu0", "relu3"}
    assert alive["add"] == {"relu0", "relu4"}


def plain(network: Network, x: torch.Tensor) -> torch.Tensor:
    """``MELIUS`` written down by hand."""
    state = network.state_dict()

    def norm(name, x):
        names = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *[state[f"{name}.{part}"] for part in names])

    def signs(x):
        return torch.where(x >= 0, 1.0, -1.0)

    def binary(name, x):
        x = F.pad(signs(norm(f"{name}.norm", x)), (1, 1, 1, 1), value=-1.0)
        return F.conv2d(x, signs(state[f"{name}.conv.weight"]))

    x = F.conv2d(x, state["stem.conv.weight"], padding=1)
    for s in range(2):
        x = torch.cat([x, binary(f"stages.{s}.blocks.0", x)], dim=1)
        y = binary(f"stages.{s}.blocks.1", x)
        x = torch.cat([x[:, :8], x[:, 8:] + y], dim=1)
        if s == 0:
            x = F.relu(F.max_pool2d(norm("stages.0.transition.norm", x), 2))
            x = F.conv2d(x, state["stages.0.transition.conv.weight"])
    x = F.relu(norm("head.norm", x)).mean((2, 3))
    return F.linear(x, state["head.linear.weight"], state["head.linear.bias"])


def test_a_network_is_what_one_would_write_by_hand():
    network = build(MELIUS)
    for _ in range(3):
        network(images(network, 8))
    network.eval()
    x = images(network)
    torch.testing.assert_close(network(x), plain(network, x), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("channels", [1, 31, 33, 64, 127])
@pytest.mark.parametrize("batch", [1, 3, 16, 64])
def test_sums_of_signs_are_exact_integers(channels, batch):
    b = Builder()
    x = b.add(Input(shape=(channels, 7, 5)), name="input")
    x = b.add(Quantize(quantizer=SIGN), x, name="signs")
    op = Conv2d(out_channels=32, kernel_size=3, padding=1, padding_value=-1.0, weight=SIGN_WEIGHT)
    b.add(op, x, name="conv")
    network = Network(b.graph())
    x = images(network, batch)
    y = network(x)
    padded = F.pad(torch.where(x >= 0, 1, -1), (1, 1, 1, 1), value=-1)
    weight = torch.where(network.conv.weight >= 0, 1, -1)
    columns = F.unfold(padded.double(), 3)
    expected = (weight.double().reshape(32, -1) @ columns).reshape(y.shape)
    assert torch.equal(y.double(), expected)


def test_t_clip_cuts_the_gradient():
    b = Builder()
    x = b.add(Input(shape=(1, 1, 4)), name="input")
    b.add(Quantize(quantizer=SIGN), x, name="signs")
    graph = b.graph()
    x = torch.tensor([0.5, -1.1, 1.25, -1.5]).reshape(1, 1, 1, 4).requires_grad_()
    for t_clip, expected in [(1.0, [1, 0, 0, 0]), (1.2, [1, 1, 0, 0]), (1.3, [1, 1, 1, 0])]:
        (gradient,) = torch.autograd.grad(Network(graph, t_clip=t_clip)(x).sum(), x)
        assert gradient.flatten().tolist() == expected


def test_weights_learn_however_large_they_are():
    network = build(body(Dense(growth=8)))
    weight = network.get_parameter("stages.0.blocks.0.conv.weight")
    with torch.no_grad():
        weight.mul_(1000)
    network(images(network)).square().sum().backward()
    assert (weight.grad != 0).float().mean() > 0.9


def test_a_shared_weight_collects_the_gradients_of_its_readers():
    b = Builder()
    x = b.add(Input(shape=(2, 5, 5)), name="input")
    op = Conv2d(out_channels=3, kernel_size=3)
    first = b.add(op, x, name="first")
    second = b.add(op, x, name="second", latent=first)
    b.add(Add(), first, second, name="add")
    network = Network(b.graph())
    assert set(network.state_dict()) == {"first.weight"}
    x = images(network)
    network(x).sum().backward()
    weight = network.first.weight
    (single,) = torch.autograd.grad(F.conv2d(x, weight).sum(), weight)
    torch.testing.assert_close(weight.grad, 2 * single)


def test_a_node_cannot_take_the_name_of_a_region():
    b = Builder()
    x = b.add(Input(shape=(1, 4, 4)), name="input")
    b.enter("block", "block")
    x = b.add(Relu(), x, name="relu")
    b.leave()
    b.add(Relu(), x, name="block")
    with pytest.raises(InvalidValue, match="'block': a region has that name"):
        Network(b.graph())


def test_training_and_evaluation_differ_in_the_norms_only():
    network = build(MELIUS)
    x = images(network)
    mean = network.get_buffer("head.norm.running_mean").clone()
    network.eval()
    network(x)
    assert torch.equal(network.get_buffer("head.norm.running_mean"), mean)
    network.train()
    network(x)
    assert not torch.equal(network.get_buffer("head.norm.running_mean"), mean)


@every_kind
def test_torch_exports_it_for_any_batch(architecture):
    network = build(architecture).eval()
    x = images(network)
    program = torch.export.export(
        network, (x,), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=1024)},)
    )
    with torch.no_grad():
        for count in (1, 3):
            torch.testing.assert_close(program.module()(x[:count]), network(x[:count]))
    assert set(program.state_dict) == set(network.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["melius", "boolean", "multi_base", "learned"])
def test_torch_compiles_it_in_one_graph(name):
    network = build(MIXED[name])
    compiled = torch.compile(copy.deepcopy(network), fullgraph=True, backend="aot_eager")
    x = images(network)
    expected, got = network(x), compiled(x)
    torch.testing.assert_close(got, expected)
    expected.square().sum().backward()
    got.square().sum().backward()
    gradients = dict(compiled.named_parameters())
    for key, parameter in network.named_parameters():
        torch.testing.assert_close(gradients[f"_orig_mod.{key}"].grad, parameter.grad)


def test_double_precision():
    candidate = spaces["melius"](RandomChoose(0), Task(input=(1, 8, 8), classes=10))
    network = build(candidate.architecture).double()
    y = network(torch.randn(2, 1, 8, 8, dtype=torch.float64))
    assert y.dtype == torch.float64


def test_a_network_prints_its_ops():
    text = repr(build(MELIUS))
    assert "quantizer=Sign(clipped=True)" in text
    assert "weight=Sign(clipped=False)" in text
    assert "shape=(1, 8, 8)" in text
