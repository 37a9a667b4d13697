"""Binary layers: floats equal the integers of packed bits, bit for bit."""

import pytest
import torch

from bitfront.evaluators.binary_layers import (
    BinaryLayer,
    InexactLayers,
    binary_layers,
    binary_nodes,
    check_binary_layers,
    quantized_weight,
    unequal_layers,
    weight_owners,
    weight_quantizer_of,
)
from bitfront.evaluators.training import Trainer, load_dataset
from bitfront.kernels import pack_nchw
from bitfront.spaces import (
    BINARY,
    Architecture,
    Builder,
    Candidate,
    InvalidValue,
    Network,
    Recipe,
    Stage,
)
from bitfront.spaces import blocks as b
from bitfront.spaces import ops as o
from bitfront.spaces import quantizers as q


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_trained_networks_binary_layers_are_exact_on_packed_bits(tmp_path):
    digits = load_dataset("digits", data_dir=tmp_path)
    stage = tuple(kind(growth=8, precision=BINARY) for kind in (b.Dense, b.Improvement, b.Dense))
    architecture = Architecture(
        input=(1, 8, 8),
        stem=b.StemThumbnail(channels=16),
        stages=(
            Stage(blocks=stage, transition=b.Transition(channels=24)),
            Stage(blocks=stage),
        ),
        head=b.Classifier(classes=10),
    )
    recipe = Recipe(epochs=1, batch_size=64)
    trainer = Trainer(
        Candidate(architecture=architecture, recipe=recipe), digits, seed=0, device="cpu"
    )
    trainer.run_epoch()
    x = torch.from_numpy(digits.normalized(digits.test.images[:32]))
    assert check_binary_layers(trainer.network, x) == 6
    # a latent weight that changes its sign behind the check's back is noticed
    layers = binary_layers(trainer.network)
    latent = trainer.network.get_parameter("stages.0.blocks.1.conv.weight")
    with torch.no_grad():
        latent[0, 0, 0, 0] *= -1
        values = trainer.network.eval().trace(x)
    assert unequal_layers(layers, values) == ("stages.0.blocks.1.conv",)


def network(op, quantizers=(q.SIGN,), shape=(6, 7, 5)):
    builder = Builder()
    x = builder.add(o.Input(shape=shape), name="input")
    for i, quantizer in enumerate(quantizers):
        x = builder.add(o.Quantize(quantizer=quantizer), x, name=f"q{i}")
    if isinstance(op, o.Linear):
        x = builder.add(o.Flatten(), x, name="flat")
    builder.add(op, x, name="op")
    return Network(builder.graph(), seed=0)


def conv(**changes):
    return o.Conv2d(**{"out_channels": 4, "kernel_size": 3, "weight": q.SIGN_WEIGHT, **changes})


@pytest.mark.parametrize(
    ("op", "quantizer"),
    [
        (conv(), q.SIGN),
        (conv(padding=1), q.SIGN),
        (conv(padding=1, padding_value=-1.0, stride=2), q.SIGN),
        (conv(padding=1, padding_value=1.0, groups=2), q.SIGN),
        (conv(padding=2, dilation=2, replicate=True), q.SIGN),
        (conv(padding=1, replicate=True), q.MultiSign(k=2)),
        (conv(across_slices=True), q.MultiSign(k=4)),
        (conv(weight=q.ShiftedSign(u=0.5)), q.SIGN),
        (o.Linear(out_features=3, weight=q.SIGN_WEIGHT, bias=False), q.SIGN),
    ],
)
def test_every_kind_of_binary_layer_is_exact(op, quantizer):
    net = network(op, (quantizer,))
    x = torch.randn(3, 6, 7, 5, generator=torch.Generator().manual_seed(0))
    x[0, 0] = 0.0
    assert check_binary_layers(net, x) == 1
    assert net.training


@pytest.mark.parametrize(
    "op",
    [
        conv(bias=True),
        conv(weight=q.IDENTITY),
        conv(weight=q.DoReFaWeight(width=2)),
        o.Linear(out_features=3, weight=q.SIGN_WEIGHT),
    ],
)
def test_other_layers_are_left_out(op):
    assert binary_nodes(network(op).graph) == ()
    assert binary_nodes(network(conv(), (q.DoReFa(width=2),)).graph) == ()


def test_bases_of_one_latent_tensor_have_their_own_signs():
    builder = Builder()
    x = builder.add(o.Input(shape=(2, 4, 4)), name="input")
    x = builder.add(o.Quantize(quantizer=q.SIGN), x, name="sign")
    first = builder.add(conv(weight=q.ShiftedSign(u=-1.0)), x, name="a")
    builder.add(conv(weight=q.ShiftedSign(u=1.0)), x, name="b", latent=first)
    builder.add(conv(weight=q.ShiftedSign(u=-1.0)), x, name="c", latent=first)
    net = Network(builder.graph(), seed=0)
    a, other, same = (quantized_weight(net, node) for node in net.graph.nodes[2:])
    assert torch.equal(a, same)
    assert not torch.equal(a, other)
    assert weight_owners(net.graph) == {2: 2, 3: 3, 4: 2}
    assert check_binary_layers(net, torch.randn(1, 2, 4, 4)) == 3


def test_a_network_whose_sums_are_not_integers_is_refused(monkeypatch):
    net = network(conv())
    form = net.get_submodule("op")
    forward = type(form).forward
    monkeypatch.setattr(
        type(form), "forward", lambda self, x, latent=None: forward(self, x, latent) + 1e-3
    )
    with pytest.raises(InexactLayers, match="1 of 1 do not: op"):
        check_binary_layers(net, torch.randn(1, 6, 7, 5))
    assert net.training


def test_inputs_that_are_no_signs_are_never_exact():
    """The kernel would read 0 as +1."""
    net = network(conv())
    (layer,) = binary_layers(net)
    zeros = torch.zeros(1, 6, 7, 5)
    with pytest.raises(InvalidValue, match="inputs of op must be -1 or"):
        layer.accumulators(zeros)
    sums = BinaryLayer(node=layer.node, weight=layer.weight).accumulators(zeros + 1)
    assert unequal_layers((layer,), {1: zeros, 2: sums}) == ("op",)
    assert unequal_layers((layer,), {1: zeros + 1, 2: sums}) == ()


def test_only_layers_have_weights():
    net = network(conv())
    with pytest.raises(InvalidValue, match="q0 must have weights, but is a quantize"):
        weight_quantizer_of(net.graph.nodes[1])
    assert torch.equal(
        binary_layers(net)[0].weight.words,
        pack_nchw(quantized_weight(net, net.graph.nodes[2])).words,
    )
