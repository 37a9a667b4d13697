"""What must hold of every quantizer, whatever its values."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitfront.spaces.quantizers import (
    ApproxSign,
    DoReFa,
    DoReFaWeight,
    Half,
    HalfWave,
    Identity,
    LqNet,
    LqNetWeight,
    Lsq,
    LsqWeight,
    MultiSign,
    Pact,
    ProgressiveSign,
    RSign,
    Sign,
    SwishSign,
    Symmetric,
    Syq,
    Ternary,
    Ttq,
    quantizers,
)
from bitfront.spaces.quantizers.hwgq import STEPS as HWGQ_STEPS

# subnormal numbers are left out: torch's x.tanh() and x * n may flush them to zero
values = st.lists(
    st.floats(-1e6, 1e6, width=32, allow_subnormal=False), min_size=2, max_size=40
).map(torch.tensor)
# every kind has defaults, but for some widths
EVERY = [
    cls(width=2) if "width" in cls.__dataclass_fields__ else cls() for cls in quantizers.values()
]
with_levels = [q for q in EVERY if q.levels() is not None]
# quantising what is quantised changes nothing; not so where weights are rescaled or sliced
idempotent = [
    Identity(),
    Half(),
    Sign(),
    ApproxSign(),
    SwishSign(),
    ProgressiveSign(),
    Ternary(),
    HalfWave(width=1),
    HalfWave(width=3),
    RSign(),
    DoReFa(width=1),
    DoReFa(width=3),
    Symmetric(width=5),
    Pact(width=3),
    Lsq(width=3),
    Lsq(width=3, signed=True),
    LsqWeight(width=3),
    LqNet(width=3),
    LqNetWeight(width=2),
    Ttq(),
]


def as_map(x: torch.Tensor) -> torch.Tensor:
    return x.reshape(1, 1, 1, -1)


@pytest.mark.parametrize("quantizer", with_levels, ids=repr)
@given(x=values)
@settings(deadline=None, max_examples=60)
def test_only_levels_are_emitted(quantizer, x, emitted):
    levels = torch.tensor(quantizer.levels(), dtype=torch.float64)
    y = emitted(quantizer, as_map(x)).double().flatten()
    distance = (y[:, None] - levels).abs().min(dim=1).values
    assert distance.max() <= 1e-6 * levels.abs().max()


@pytest.mark.parametrize(
    "quantizer",
    [LsqWeight(width=3), LqNetWeight(), LqNetWeight(width=4), Ttq(), Syq(), Syq(width=1)],
    ids=repr,
)
@pytest.mark.parametrize("shape", [(5, 3, 3, 3), (7, 31, 1, 1), (4, 33)])
def test_only_the_table_of_learned_levels_is_emitted(quantizer, shape, started, emitted):
    x = torch.randn(shape)
    params = [p * torch.randn(p.shape) for p in started(quantizer, x)]
    table = quantizer.table(x, *params)
    assert table.shape[-1] <= 2**quantizer.bits
    assert (table.diff() >= 0).all()
    assert table.dim() in (1, x.dim() + 1)
    y = emitted(quantizer, x, *params)
    assert ((y[..., None] == table).any(-1)).all()


@pytest.mark.parametrize("quantizer", with_levels, ids=repr)
def test_levels_are_ascending_equally_spaced_and_fit_the_bits(quantizer):
    levels = torch.tensor(quantizer.levels(), dtype=torch.float64)
    steps = levels.diff()
    assert len(levels) <= 2**quantizer.bits
    assert (steps > 0).all()
    torch.testing.assert_close(steps, steps[:1].expand_as(steps))


@pytest.mark.parametrize("quantizer", with_levels, ids=repr)
def test_every_level_can_be_emitted(quantizer, emitted):
    # a spread that passes every threshold, with both ends inside
    x = torch.linspace(-5, 5, 20001)
    if isinstance(quantizer, DoReFaWeight):
        x = torch.atanh(torch.linspace(-0.999, 0.999, 20001))
    seen = emitted(quantizer, as_map(x)).double().unique()
    assert len(seen.mul(1e6).round().unique()) == len(quantizer.levels())


@pytest.mark.parametrize("quantizer", idempotent, ids=repr)
@given(x=values)
@settings(deadline=None, max_examples=60)
def test_idempotent(quantizer, x, started, emitted):
    params = started(quantizer, as_map(x))
    once = emitted(quantizer, as_map(x), *params)
    torch.testing.assert_close(emitted(quantizer, once, *params), once, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("quantizer", [q for q in EVERY if q.for_activations], ids=repr)
@given(x=values)
@settings(deadline=None, max_examples=60)
def test_monotone(quantizer, x, emitted):
    ascending = x.sort().values
    y = emitted(quantizer, as_map(ascending)).reshape(quantizer.slices, -1)
    assert (y.diff(dim=1) >= 0).all()


@pytest.mark.parametrize(
    "quantizer", [Sign(), ApproxSign(), SwishSign(), ProgressiveSign(), RSign()], ids=repr
)
@given(x=values)
@settings(deadline=None, max_examples=60)
def test_sign_is_plus_one_from_zero_on(quantizer, x, emitted):
    x = torch.cat([x, torch.tensor([0.0, -0.0])])
    assert torch.equal(emitted(quantizer, as_map(x)), as_map(torch.where(x >= 0, 1.0, -1.0)))


@pytest.mark.parametrize("width", range(2, 9))
def test_rounding_is_to_the_nearest_level(width):
    x = torch.rand(500, dtype=torch.float64)
    assert (DoReFa(width=width).q(x) - x).abs().max() <= 0.5 / (2**width - 1) + 1e-12
    x = x * 8 - 4
    step = 4.0 / (2 ** (width - 1) - 1)
    assert (Symmetric(width=width).q(x) - x).abs().max() <= step / 2 + 1e-12


@pytest.mark.parametrize("k", [2, 4, 8, 16])
def test_slices_are_a_thermometer(k):
    shifts = MultiSign(k=k).shifts()
    assert len(shifts) == k
    assert list(shifts) == sorted(shifts)
    assert [-s for s in reversed(shifts)] == pytest.approx(shifts)
    y = MultiSign(k=k).q(torch.linspace(-2, 2, 41).reshape(1, 1, 1, -1))
    # a slice with a larger shift is +1 wherever one with a smaller shift is
    assert (y.diff(dim=1) >= 0).all()


def test_slices_stand_one_after_the_other():
    x = torch.randn(2, 3, 4, 5)
    y = MultiSign(k=2).q(x)
    assert torch.equal(y[:, :3], Sign().q(x - 0.5))
    assert torch.equal(y[:, 3:], Sign().q(x + 0.5))


@pytest.mark.parametrize("width", HWGQ_STEPS)
def test_the_half_wave_step_has_the_least_error(width):
    """For the positive half of N(0, 1), as the paper's 0.538 at 2 bits."""
    x = torch.linspace(0, 9, 90_001, dtype=torch.float64)[1:]
    density = (-x.square() / 2).exp()

    def error(step: float) -> float:
        levels = (x / step - 0.5).ceil().clamp(1, 2**width - 1) * step
        return float(((levels - x).square() * density).mean())

    step = HWGQ_STEPS[width]
    assert torch.equal(
        HalfWave(width=width).q(x), (x / step - 0.5).ceil().clamp(1, 2**width - 1) * step
    )
    # the step is cut to three digits
    assert error(step) < min(error(step - 0.002), error(step + 0.002))
    assert error(step) < 1.0001 * min(error(step + i / 5000) for i in range(-10, 11))


def test_quantizers_of_weights_stand_for_their_weight_forms():
    assert Lsq(width=3).as_weight() == LsqWeight(width=3)
    assert LqNet(width=3).as_weight() == LqNetWeight(width=3)
    assert Ternary().as_weight() == Ternary(clipped=False)
    assert ProgressiveSign().as_weight() == ProgressiveSign(clipped=False)
    for quantizer in EVERY:
        if quantizer.for_weights:
            assert quantizer.as_weight().bits == quantizer.bits
            assert quantizer.as_weight().as_weight() == quantizer.as_weight()
