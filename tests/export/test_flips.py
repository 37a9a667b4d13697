import pytest
import torch

from bitfront.export.flips import THRESHOLD, deviates, threshold_distance, trace_flips
from bitfront.spaces import Builder, Network
from bitfront.spaces import ops as o
from bitfront.spaces import quantizers as q
from bitfront.spaces.quantizers import quantizers

EVERY = [
    q.Half(),
    q.Sign(),
    q.MultiSign(k=1),
    q.MultiSign(k=4),
    q.DoReFa(width=1),
    q.DoReFa(width=4),
    q.Symmetric(width=4, limit=2.5),
    q.Symmetric(width=8),
    q.ApproxSign(),
    q.SwishSign(),
    q.ProgressiveSign(),
    q.Heaviside(),
    q.Ternary(),
    q.HalfWave(width=1),
    q.HalfWave(width=3),
    q.RSign(),
    q.Pact(width=2),
    q.Lsq(width=2),
    q.Lsq(width=4, signed=True),
    q.LqNet(width=3),
]


def test_every_activation_quantizer_has_known_thresholds():
    kinds = {quantizer.kind for quantizer in EVERY} | {"identity"}
    assert kinds == {name for name, cls in quantizers.items() if cls.for_activations}
    assert threshold_distance(q.IDENTITY, torch.zeros(1, 1, 1, 1)).item() == float("inf")


def one(quantizer):
    """A network of one quantizer, its parameters off their start."""
    builder = Builder()
    x = builder.add(o.Input(shape=(50, 4, 4)), name="input")
    builder.add(o.Quantize(quantizer=quantizer), x, name="op")
    network = Network(builder.graph()).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in network.state_dict().values():
            p.add_(torch.rand(p.shape, generator=generator) * 0.1)
    return network


@pytest.mark.parametrize("quantizer", EVERY, ids=str)
def test_the_level_changes_at_the_distance_and_not_before(quantizer):
    generator = torch.Generator().manual_seed(0)
    x = (torch.randn(1, 50, 4, 4, generator=generator, dtype=torch.float64) * 1.5).clamp(-3, 3)
    network = one(quantizer)
    params = [p.double() for p in network.quantizer_parameters(1)]
    distance = threshold_distance(quantizer, x, *params)

    def emitted(values):
        return quantizer.q(values, *params)

    level = emitted(x)
    assert distance.shape == level.shape
    scale = x.abs().clamp_min(1.0)
    # slice by slice, since one step moves all slices of a value
    for j, (d, old) in enumerate(
        zip(distance.split(50, dim=1), level.split(50, dim=1), strict=True)
    ):
        # torch converts to half precision by way of float32, so it is not asked too closely
        sure = d > 1e-5
        assert sure.sum() > 700
        changed = torch.zeros_like(sure)
        for direction in (-1, 1):
            near, beyond = (
                emitted(x + direction * factor * d * scale).split(50, dim=1)[j]
                for factor in (0.9, 1.1)
            )
            assert torch.equal(near[sure], old[sure])
            changed |= beyond != old
        assert changed[sure].all()


def test_deviation_is_absolute_for_small_maps_and_a_share_for_large_ones():
    mine = torch.tensor([[0.5, 0.1], [500.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    theirs = mine + torch.tensor([[2e-4, 0.0], [0.0, 1e-2], [float("nan"), 0.0], [0.0, 9e-5]])
    assert deviates(mine, theirs).tolist() == [True, False, True, False]


@pytest.fixture
def network():
    """norm, sign, conv, norm, sign, pool, linear."""
    builder = Builder()
    x = builder.add(o.Input(shape=(2, 4, 4)), name="input")
    for i in range(2):
        x = builder.add(o.BatchNorm(), x, name=f"norm{i}")
        x = builder.add(o.Quantize(quantizer=q.SIGN), x, name=f"sign{i}")
        op = o.Conv2d(out_channels=3, kernel_size=3, weight=q.SIGN_WEIGHT, padding=1)
        x = builder.add(op, x, name=f"conv{i}")
    x = builder.add(o.Flatten(), builder.add(o.GlobalAvgPool(), x, name="pool"), name="flat")
    builder.add(o.Linear(out_features=2), x, name="linear")
    return Network(builder.graph(), seed=0).eval()


def traced(network, x):
    with torch.inference_mode():
        return dict(enumerate(network.trace(x)))


def test_a_value_on_a_threshold_is_a_flip_and_the_rest_its_consequence(network):
    x = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    x[0, 1, 2, 2] = 4e-7
    mine = traced(network, x)
    x[0, 1, 2, 2] = -4e-7
    theirs = traced(network, x)
    flips, wrong = trace_flips(network, mine, theirs, 5)
    assert not wrong
    (flip,) = flips
    assert (flip.image, flip.node, flip.values) == (5, "sign0", 1)
    assert flip.distance == pytest.approx(4e-7, rel=1e-3)


def test_a_value_far_from_its_threshold_is_an_error(network):
    x = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    x[0, 1, 2, 2] = 3 * THRESHOLD
    mine = traced(network, x)
    theirs = {**mine, 2: mine[2].clone()}
    theirs[2][0, 1, 2, 2] = -1
    flips, wrong = trace_flips(network, mine, theirs, 0)
    assert not flips
    assert "1 values of sign0 differ, up to 3e-05 from a threshold" in wrong


def test_a_difference_without_a_flip_before_it_is_an_error(network):
    x = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    mine = traced(network, x)
    theirs = {**mine, 4: mine[4] + 0.5}
    flips, wrong = trace_flips(network, mine, theirs, 0)
    assert not flips
    assert wrong == "norm1 differs by 0.5 without a flip before it"


def test_an_error_beside_a_flip_is_still_an_error():
    """A branch that the flip does not reach is looked at on its own."""
    builder = Builder()
    x = builder.add(o.Input(shape=(1, 2, 2)), name="input")
    left = builder.add(o.Quantize(quantizer=q.SIGN), x, name="left")
    right = builder.add(o.Sigmoid(), x, name="right")
    builder.add(o.Add(), left, right, name="add")
    network = Network(builder.graph()).eval()
    x = torch.tensor([[[[1e-7, 1.0], [2.0, 3.0]]]])
    mine, theirs = traced(network, x), traced(network, x)
    theirs[1] = torch.tensor([[[[-1.0, 1.0], [1.0, 1.0]]]])
    assert trace_flips(network, mine, theirs, 0)[1] == ""
    theirs[2] = theirs[2] + 0.1
    flips, wrong = trace_flips(network, mine, theirs, 0)
    assert len(flips) == 1
    assert wrong.startswith("right differs by 0.1")


def test_nodes_that_were_not_traced_are_left_out(network):
    x = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    mine = traced(network, x)
    theirs = {index: mine[index] for index in (1, 2)}
    assert trace_flips(network, mine, theirs, 0) == ((), "")
