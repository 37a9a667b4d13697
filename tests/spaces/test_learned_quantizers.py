"""Quantizers with parameters in networks: what is declared, started, learned, kept and trained."""

import copy

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from bitfront.spaces import Architecture, Builder, InvalidValue, Network, Recipe, Role, Stage, build
from bitfront.spaces.blocks import BiReal, Classifier, StemThumbnail
from bitfront.spaces.errors import InfeasibleArchitecture
from bitfront.spaces.ops import Conv2d, Flatten, Input, Linear, Quantize
from bitfront.spaces.precision import precision_of
from bitfront.spaces.quantizers import (
    SIGN,
    SIGN_WEIGHT,
    DoReFa,
    DoReFaWeight,
    Half,
    HalfWave,
    Heaviside,
    Identity,
    LqNet,
    LqNetWeight,
    Lsq,
    LsqWeight,
    MultiSign,
    Pact,
    ProgressiveSign,
    RSign,
    SwishSign,
    Symmetric,
    Syq,
    Ternary,
    TernaryScaled,
    Ttq,
    XnorSign,
    quantizers,
)


def one(op, shape=(3, 6, 5), flat=False) -> Network:
    """A network of one op."""
    b = Builder()
    x = b.add(Input(shape=shape), name="input")
    if flat:
        x = b.add(Flatten(), x, name="flat")
    b.add(op, x, name="op")
    return Network(b.graph(), seed=0)


def images(count=8, shape=(3, 6, 5)) -> torch.Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(2))


ONE = [
    one(Quantize(quantizer=RSign())),
    one(Quantize(quantizer=Pact())),
    one(Quantize(quantizer=Lsq())),
    one(Quantize(quantizer=LqNet())),
    one(Conv2d(out_channels=4, kernel_size=3, weight=Lsq())),
    one(Conv2d(out_channels=4, kernel_size=3, weight=LqNet(), bias=True)),
    one(Conv2d(out_channels=4, kernel_size=3, weight=Ttq())),
    one(Conv2d(out_channels=4, kernel_size=3, weight=Syq())),
    one(Linear(out_features=4, weight=Syq(width=1)), flat=True),
    one(Linear(out_features=4, weight=LqNet(), bias=False), flat=True),
]


@pytest.mark.parametrize(
    ("op", "rows"),
    [
        (Quantize(quantizer=RSign()), {"threshold": ((3,), Role.BIAS)}),
        (Quantize(quantizer=Pact()), {"alpha": ((1,), Role.SCALE)}),
        (
            Quantize(quantizer=Lsq()),
            {"step": ((1,), Role.SCALE), "started": ((1,), Role.BUFFER)},
        ),
        (Quantize(quantizer=LqNet(width=3)), {"basis": ((1, 3), Role.LEVELS)}),
        (
            Conv2d(out_channels=4, kernel_size=3, weight=Lsq()),
            {"weight": ((4, 3, 3, 3), Role.WEIGHT), "weight_step": ((1,), Role.SCALE)},
        ),
        (
            Conv2d(out_channels=4, kernel_size=3, weight=LqNet()),
            {"weight": ((4, 3, 3, 3), Role.WEIGHT), "weight_basis": ((4, 2), Role.LEVELS)},
        ),
        (
            Conv2d(out_channels=4, kernel_size=3, weight=Ttq()),
            {
                "weight": ((4, 3, 3, 3), Role.WEIGHT),
                "weight_positive": ((1,), Role.SCALE),
                "weight_negative": ((1,), Role.SCALE),
            },
        ),
        (
            Conv2d(out_channels=4, kernel_size=3, weight=Syq(), bias=True),
            {
                "weight": ((4, 3, 3, 3), Role.WEIGHT),
                "weight_scale": ((3, 3), Role.SCALE),
                "bias": ((4,), Role.BIAS),
            },
        ),
    ],
    ids=repr,
)
def test_a_node_declares_its_quantizers_parameters(op, rows):
    network = one(op)
    table = {row.name: row for row in network.graph.parameters()}
    assert {name: (row.shape, row.role) for name, row in table.items()} == {
        f"op.{name}": row for name, row in rows.items()
    }
    assert all(row.bits == 32 for row in table.values() if row.role is not Role.WEIGHT)
    state = {name: tuple(v.shape) for name, v in network.state_dict().items()}
    assert state == {name: row.shape for name, row in table.items()}
    learned = {name for name, _ in network.named_parameters()}
    assert learned == {name for name, row in table.items() if not row.is_buffer}


def test_weights_get_the_form_for_weights_and_no_other():
    conv = Conv2d(out_channels=4, kernel_size=3, weight=Lsq(width=4))
    assert conv.weight == LsqWeight(width=4)
    assert conv == Conv2d(out_channels=4, kernel_size=3, weight=LsqWeight(width=4))
    assert Linear(out_features=4, weight=LqNet()).weight == LqNetWeight()
    for quantizer in (Pact(), RSign(), MultiSign(), DoReFa(width=2)):
        with pytest.raises(InvalidValue, match=f"{quantizer.kind!r} is not for weights"):
            Conv2d(out_channels=4, kernel_size=3, weight=quantizer)
        with pytest.raises(InvalidValue, match=f"{quantizer.kind!r} is not for weights"):
            Linear(out_features=4, weight=quantizer)
    for quantizer in (Ttq(), Syq(), LsqWeight(), LqNetWeight()):
        with pytest.raises(InfeasibleArchitecture, match="is for weights only"):
            one(Quantize(quantizer=quantizer))


# how they start


def test_lsq_weights_start_with_their_mean_magnitude():
    network = one(Conv2d(out_channels=4, kernel_size=3, weight=Lsq(width=3)))
    expected = 2 * network.op.weight.abs().mean() / 3**0.5
    torch.testing.assert_close(network.op.weight_step.item(), expected.item())


def test_lsq_maps_start_with_the_first_batch_and_only_with_it():
    network = one(Quantize(quantizer=Lsq(width=2)))
    first, second = images() * 3, images() * 50
    network.eval()
    network(second)
    assert network.op.step.item() == 1
    network.train()
    y = network(first)
    expected = 2 * first.abs().mean() / 3**0.5
    torch.testing.assert_close(network.op.step.item(), expected.item())
    assert y.max().item() == pytest.approx(3 * expected.item())
    network(second)
    torch.testing.assert_close(network.op.step.item(), expected.item())


def test_syq_starts_with_the_magnitude_of_each_position():
    network = one(Conv2d(out_channels=4, kernel_size=3, weight=Syq()))
    torch.testing.assert_close(network.op.weight_scale, network.op.weight.abs().mean((0, 1)))
    network = one(Linear(out_features=4, weight=Syq()), flat=True)
    torch.testing.assert_close(network.op.weight_scale[0], network.op.weight.abs().mean())


def test_lq_nets_start_with_equally_spaced_levels():
    """0.6745 is the upper quartile of N(0, 1)."""
    network = one(Quantize(quantizer=LqNet(width=2)))
    torch.testing.assert_close(network.op.basis * 3 / 1.349, torch.tensor([[1.0, 2.0]]))
    network = one(Conv2d(out_channels=4, kernel_size=3, weight=LqNet(width=2)))
    deviation = network.op.weight.flatten(1).square().mean(1).sqrt()
    expected = 0.6745 * deviation[:, None] * torch.tensor([0.5, 1.0])
    torch.testing.assert_close(network.op.weight_basis, expected)


# state


def test_the_basis_moves_to_the_least_squares_fit():
    """At 1 bit the fit is the mean of what lies nearer to the upper level: half of 2s, here."""
    network = one(Quantize(quantizer=LqNet(width=1)), shape=(1, 1, 2))
    x = torch.tensor([0.0, 2.0]).reshape(1, 1, 1, 2)
    v = network.op.basis.item()
    assert v == pytest.approx(1.349)
    for _ in range(5):
        network(x)
        v = 0.9 * v + 0.1 * 2
        assert network.op.basis.item() == pytest.approx(v, rel=1e-5)


def test_each_filter_is_fitted_alone():
    network = one(Conv2d(out_channels=2, kernel_size=1, weight=LqNet(width=1)), shape=(4, 1, 1))
    with torch.no_grad():
        network.op.weight.copy_(torch.tensor([[-1.0, 1, -1, 1], [-5, 5, 5, -5]])[..., None, None])
        network.op.weight_basis.copy_(torch.tensor([[2.0], [2.0]]))
    network(images(1, (4, 1, 1)))
    torch.testing.assert_close(network.op.weight_basis, torch.tensor([[1.9], [2.3]]))


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_fitting_lowers_the_error_of_a_skewed_map(width):
    x = images(1).abs().square() * 3 + 0.1
    network = one(Quantize(quantizer=LqNet(width=width)))
    network.eval()
    before = (network(x) - x).square().mean()
    network.train()
    for _ in range(500):
        network(x)
    network.eval()
    after = (network(x) - x).square().mean()
    assert after < 0.5 * before
    # the basis is the least squares fit to the nearest codes
    codes = torch.cartesian_prod(*[torch.arange(2.0)] * width).reshape(-1, width).double()
    v, flat = network.op.basis[0].double(), x.flatten().double()
    nearest = codes[(flat[:, None] - codes @ v).abs().argmin(1)]
    fit = torch.linalg.lstsq(nearest, flat[:, None]).solution[:, 0]
    torch.testing.assert_close(v, fit, rtol=1e-3, atol=1e-3)


def test_codes_that_do_not_occur_leave_the_fit_finite():
    network = one(Quantize(quantizer=LqNet(width=3)))
    for _ in range(20):
        network(torch.zeros(2, 3, 6, 5))
    assert network.op.basis.isfinite().all()
    network(images() * 1e4)
    assert network.op.basis.isfinite().all()


@pytest.mark.parametrize("network", ONE, ids=lambda n: repr(n.graph.nodes[-1].op))
def test_evaluation_changes_nothing(network):
    network = copy.deepcopy(network)
    x = images()
    network(x)
    network.eval()
    before = {name: v.clone() for name, v in network.state_dict().items()}
    with torch.no_grad():
        y = network(x * 7)
        assert torch.equal(network(x * 7), y)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("network", ONE, ids=lambda n: repr(n.graph.nodes[-1].op))
def test_copies_and_loaded_states_compute_the_same(network):
    network = copy.deepcopy(network)
    x = images()
    network(x)
    twin = copy.deepcopy(network)
    for p in twin.state_dict().values():
        p.mul_(0.5)
    network.eval()
    expected = network(x)
    twin.load_state_dict(network.state_dict())
    assert torch.equal(twin.eval()(x), expected)


@pytest.mark.parametrize("value", [0.0, -1.0])
@pytest.mark.parametrize(
    "op",
    [
        Quantize(quantizer=Pact()),
        Quantize(quantizer=Lsq()),
        Conv2d(out_channels=2, kernel_size=3, weight=Lsq()),
    ],
    ids=repr,
)
def test_a_step_that_training_moved_below_zero_stays_finite_and_learns(op, value):
    network = one(op)
    network(images())
    parameter = next(
        p for name, p in network.named_parameters() if name.endswith(("alpha", "step"))
    )
    with torch.no_grad():
        parameter.fill_(value)
    y = network(images())
    y.square().sum().backward()
    assert y.isfinite().all()
    assert parameter.grad.isfinite().all()


# counting


def test_learned_scales_are_32_bit_parameters():
    from bitfront.evaluators.cost import count

    def counted(weight, input):
        block = BiReal(channels=16, precision=precision_of(weight=weight, input=input))
        architecture = small(block)
        return count(architecture.lower(), "larq")

    binary = counted(SIGN_WEIGHT, SIGN)
    with_thresholds = counted(SIGN_WEIGHT, RSign())
    assert with_thresholds.params - binary.params == 16
    two_bits = counted(DoReFaWeight(width=2), DoReFa(width=2))
    for weight, extra in ((Ttq(), 2), (Syq(), 9), (LqNet(), 2 * 16), (Lsq(), 1)):
        ours = counted(weight, DoReFa(width=2))
        assert ours.params - two_bits.params == extra
        assert ours.params_binary == two_bits.params_binary
        bits = (ours.size_mib - two_bits.size_mib) * 8 * 2**20
        assert bits == pytest.approx(32 * extra)


# training


def small(*blocks) -> Architecture:
    return Architecture(
        input=(1, 8, 8),
        stem=StemThumbnail(channels=16),
        stages=(Stage(blocks=blocks),),
        head=Classifier(classes=10),
    )


@pytest.fixture(scope="module")
def batch():
    """64 real digits, normalised."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    x = torch.tensor(digits.images[:64], dtype=torch.float32)[:, None] / 16
    return (x - x.mean()) / x.std(), torch.tensor(digits.target[:64])


def widths(cls):
    return [{"width": 2}] if "width" in cls.__dataclass_fields__ else [{}]


# what only rounds or slices is no input of a convolution of its own
OTHER = (Identity, Half, MultiSign, Symmetric)
INPUTS = [
    cls(**w)
    for cls in quantizers.values()
    if cls.for_activations and cls not in OTHER
    for w in widths(cls)
]
WEIGHTS = [
    cls(**w)
    for cls in quantizers.values()
    if cls.for_weights and cls not in OTHER
    for w in widths(cls)
]


@pytest.mark.parametrize(
    ("weight", "input"),
    [(SIGN_WEIGHT, q) for q in INPUTS] + [(q, SIGN) for q in WEIGHTS],
    ids=repr,
)
def test_a_network_learns_with_every_quantizer(weight, input, batch):
    precision = precision_of(weight=weight, input=input)
    blocks = [BiReal(channels=16, precision=precision) for _ in range(2)]
    network = build(small(*blocks), seed=1)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    x, y = batch
    losses = []
    for _ in range(30):
        loss = F.cross_entropy(network(x), y)
        optimizer.zero_grad()
        loss.backward()
        for name, p in network.named_parameters():
            assert p.grad is not None, name
            assert p.grad.isfinite().all(), name
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.75 * losses[0]
    for name, p in network.named_parameters():
        assert not torch.equal(p, before[name]), name
    network.eval()
    with torch.no_grad():
        assert F.cross_entropy(network(x), y) < losses[0]


EVERY_PAIR = [
    (Lsq(), Lsq(signed=True)),
    (LqNet(), LqNet()),
    (Ttq(), Pact(width=2)),
    (Syq(), HalfWave()),
    (XnorSign(), RSign()),
    (TernaryScaled(), Ternary()),
    (Syq(width=1), Heaviside()),
    (ProgressiveSign(), SwishSign()),
]


def test_every_file_holds_what_was_learned(family_works):
    blocks = [BiReal(channels=16, precision=precision_of(weight=w, input=a)) for w, a in EVERY_PAIR]
    trainer = family_works(small(*blocks), Recipe(weight_estimator="progressive"))
    state = trainer.network.state_dict()
    for row in trainer.network.graph.parameters():
        assert tuple(state[row.name].shape) == row.shape
