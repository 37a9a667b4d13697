from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitfront.spaces import Domain, InvalidValue
from bitfront.spaces.quantizers import (
    DoReFa,
    DoReFaWeight,
    Half,
    Identity,
    MultiSign,
    Quantizer,
    ShiftedSign,
    Sign,
    Symmetric,
    activation_quantizer,
    quantizers,
    storage_quantizer,
    weight_quantizer,
)
from bitfront.spaces.torch_ops import quantized
from bitfront.spaces.value import decode, encode

T_CLIP = 1.3
THIRD = 1 / 3


class Golden(NamedTuple):
    """What a quantizer makes of a row of inputs; ``gradients`` are for an incoming 1."""

    quantizer: Quantizer
    bits: int
    inputs: list[float]
    outputs: Any
    gradients: list[float]


GOLDEN = [
    Golden(Identity(), 32, [-2.5, 0.0, 0.3], [-2.5, 0.0, 0.3], [1, 1, 1]),
    # 2049 needs 12 bits of significand, half precision has 11
    Golden(Half(), 16, [-0.5, 2049.0, 1e6], [-0.5, 2048.0, 65504.0], [1, 1, 1]),
    Golden(
        Sign(),
        1,
        [-1.4, -1.3, -0.2, -0.0, 0.0, 0.7, 1.3, 1.4],
        [-1, -1, -1, 1, 1, 1, 1, 1],
        [0, 1, 1, 1, 1, 1, 1, 0],
    ),
    Golden(Sign(clipped=False), 1, [-9.0, 0.0, 9.0], [-1, 1, 1], [1, 1, 1]),
    Golden(MultiSign(k=1), 1, [-2.0, -0.5, 0.0, 2.0], [[-1, -1, 1, 1]], [0, 1, 1, 0]),
    # shifts -2/3, -1/3, 1/3, 2/3; the gradient counts the slices with |x + s| <= 1.3
    Golden(
        MultiSign(k=4),
        1,
        [-2.0, -1.5, -0.5, 0.0, 0.5, 1.0],
        [
            [-1, -1, -1, -1, -1, 1],
            [-1, -1, -1, -1, 1, 1],
            [-1, -1, -1, 1, 1, 1],
            [-1, -1, 1, 1, 1, 1],
        ],
        [0, 2, 4, 4, 4, 2],
    ),
    # mean 1, standard deviation 2: the threshold is 1 - u * 2
    Golden(ShiftedSign(u=0.0), 1, [-1.0, 1.0, 3.0], [-1, 1, 1], [1, 1, 1]),
    Golden(ShiftedSign(u=-1.0), 1, [-1.0, 1.0, 3.0], [-1, -1, 1], [1, 1, 1]),
    Golden(ShiftedSign(u=1.0), 1, [-1.0, 1.0, 3.0], [1, 1, 1], [1, 1, 1]),
    Golden(DoReFa(width=1), 1, [-0.1, 0.4, 0.6, 1.1], [0, 0, 1, 1], [0, 1, 1, 0]),
    Golden(
        DoReFa(width=2),
        2,
        [-0.5, 0.0, 0.1, 0.4, 0.8, 1.0, 1.5],
        [0, 0, 0, THIRD, 2 * THIRD, 1, 1],
        [0, 1, 1, 1, 1, 1, 0],
    ),
    # atanh(1/2) and atanh(-1/4): tanh gives 1/2 and -1/4, so m = 1/2
    Golden(
        DoReFaWeight(width=2),
        2,
        [0.5493061443340549, -0.25541281188299536, 0.0],
        [1, -THIRD, THIRD],
        [1.5, 1.875, 2.0],
    ),
    Golden(
        Symmetric(width=4, limit=3.5),
        4,
        [-4.0, -3.5, -0.3, 0.2, 0.3, 1.2, 9.0],
        [-3.5, -3.5, -0.5, 0, 0.5, 1.0, 3.5],
        [0, 1, 1, 1, 1, 1, 0],
    ),
]


def run(quantizer: Quantizer, row: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs and gradients of a row that is read as a map of one channel."""
    x = torch.tensor(row).reshape(1, 1, 1, -1).requires_grad_()
    y = quantized(x, quantizer, T_CLIP)
    y.sum().backward()
    return y.detach(), x.grad


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: repr(row.quantizer))
def test_golden_row(row):
    outputs, gradients = run(row.quantizer, row.inputs)
    assert row.quantizer.bits == row.bits
    expected = torch.tensor(row.outputs, dtype=torch.float32).reshape(outputs.shape)
    torch.testing.assert_close(outputs, expected, atol=1e-6, rtol=0)
    expected = torch.tensor(row.gradients, dtype=torch.float32).reshape(gradients.shape)
    torch.testing.assert_close(gradients, expected, atol=1e-5, rtol=0)


def test_every_quantizer_has_a_golden_row():
    assert {row.quantizer.kind for row in GOLDEN} == set(quantizers)


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: repr(row.quantizer))
def test_json_round_trip(row):
    data = encode(row.quantizer)
    assert Quantizer.from_json(data, "q") == row.quantizer
    assert decode(type(row.quantizer), data, "q") == row.quantizer


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: repr(row.quantizer))
def test_the_result_is_the_same_with_and_without_gradients(row):
    x = torch.randn(2, 3, 4, 4)
    with_gradients = quantized(x.clone().requires_grad_(), row.quantizer, T_CLIP)
    assert torch.equal(with_gradients, quantized(x, row.quantizer, T_CLIP))


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: repr(row.quantizer))
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_stays(row, dtype):
    x = torch.randn(2, 3, 4, 4).to(dtype).requires_grad_()
    y = quantized(x, row.quantizer, T_CLIP)
    y.sum().backward()
    assert y.dtype == dtype
    assert x.grad.dtype == dtype


# subnormal numbers are left out: torch's x.tanh() and x * n may flush them to zero
values = st.lists(
    st.floats(-1e6, 1e6, width=32, allow_subnormal=False), min_size=2, max_size=40
).map(torch.tensor)
with_levels = [row.quantizer for row in GOLDEN if row.quantizer.levels() is not None]
signs = [q for q in with_levels if q.domain is Domain.BIPOLAR]
# quantising what is quantised changes nothing; not so where weights are rescaled or sliced
idempotent = [Identity(), Half(), Sign(), DoReFa(width=1), DoReFa(width=3), Symmetric(width=5)]


def as_map(x: torch.Tensor) -> torch.Tensor:
    return x.reshape(1, 1, 1, -1)


@pytest.mark.parametrize("quantizer", with_levels, ids=repr)
@given(x=values)
@settings(deadline=None, max_examples=60)
def test_only_levels_are_emitted(quantizer, x):
    levels = torch.tensor(quantizer.levels(), dtype=torch.float64)
    y = quantizer.q(as_map(x)).double().flatten()
    distance = (y[:, None] - levels).abs().min(dim=1).values
    assert distance.max() <= 1e-6 * levels.abs().max()


@pytest.mark.parametrize("quantizer", with_levels, ids=repr)
def test_levels_are_ascending_equally_spaced_and_fit_the_bits(quantizer):
    levels = torch.tensor(quantizer.levels(), dtype=torch.float64)
    steps = levels.diff()
    assert len(levels) <= 2**quantizer.bits
    assert (steps > 0).all()
    torch.testing.assert_close(steps, steps[:1].expand_as(steps))


@pytest.mark.parametrize("quantizer", with_levels, ids=repr)
def test_every_level_can_be_emitted(quantizer):
    # a spread that passes every threshold, with both ends inside
    x = torch.linspace(-5, 5, 20001)
    if isinstance(quantizer, DoReFaWeight):
        x = torch.atanh(torch.linspace(-0.999, 0.999, 20001))
    emitted = quantizer.q(as_map(x)).double().unique()
    assert len(emitted.mul(1e6).round().unique()) == len(quantizer.levels())


@pytest.mark.parametrize("quantizer", idempotent, ids=repr)
@given(x=values)
@settings(deadline=None, max_examples=60)
def test_idempotent(quantizer, x):
    once = quantizer.q(as_map(x))
    torch.testing.assert_close(quantizer.q(once), once, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("quantizer", [q for q in with_levels if q.for_activations], ids=repr)
@given(x=values)
@settings(deadline=None, max_examples=60)
def test_monotone(quantizer, x):
    ascending = x.sort().values
    y = quantizer.q(as_map(ascending)).reshape(quantizer.slices, -1)
    assert (y.diff(dim=1) >= 0).all()


@given(x=values)
@settings(deadline=None, max_examples=60)
def test_sign_is_plus_one_from_zero_on(x):
    assert torch.equal(Sign().q(x), torch.where(x >= 0, 1.0, -1.0))


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


@pytest.mark.parametrize(
    "make",
    [
        lambda: DoReFa(width=0),
        lambda: DoReFa(width=9),
        lambda: DoReFaWeight(width=1),
        lambda: Symmetric(width=1),
        lambda: Symmetric(width=4, limit=0.0),
        lambda: MultiSign(k=3),
        lambda: MultiSign(k=0),
        lambda: MultiSign(k=18),
        lambda: Quantizer.from_json({"kind": "sing"}, "q"),
        lambda: Quantizer.from_json({"kind": 1}, "q"),
        lambda: Quantizer.from_json("sign", "q"),
        lambda: Quantizer.from_json({"kind": "dorefa"}, "q"),
    ],
)
def test_wrong_values_are_refused(make):
    with pytest.raises(InvalidValue):
        make()


def test_an_unknown_kind_names_the_place_and_the_nearest():
    with pytest.raises(InvalidValue, match=r"conv\.weight: .*'sing'.*Did you mean 'sign'"):
        Quantizer.from_json({"kind": "sing"}, "conv.weight")


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 7, 8, 16, 32])
def test_the_quantizer_of_a_width_has_that_width(bits):
    assert activation_quantizer(bits).bits == bits
    assert activation_quantizer(bits).for_activations
    assert weight_quantizer(bits).bits == bits
    assert weight_quantizer(bits).for_weights
    if bits > 1:
        assert storage_quantizer(bits).bits == bits


def test_no_storage_quantizer_has_one_bit():
    with pytest.raises(InvalidValue):
        storage_quantizer(1)
