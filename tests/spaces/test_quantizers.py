from typing import Any, NamedTuple

import pytest
import torch

from bitfront.spaces import InvalidValue
from bitfront.spaces.quantizers import (
    ApproxSign,
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
    MagnitudeSign,
    MultiSign,
    Pact,
    ProgressiveSign,
    Quantizer,
    RotatedSign,
    RSign,
    Scaled,
    ShiftedSign,
    Sign,
    SwishSign,
    Symmetric,
    Syq,
    Ternary,
    TernaryScaled,
    Ttq,
    XnorSign,
    activation_quantizer,
    quantizers,
    storage_quantizer,
    weight_quantizer,
)
from bitfront.spaces.value import decode, encode

T_CLIP = 1.3
THIRD = 1 / 3


class Golden(NamedTuple):
    """What a quantizer makes of a row of inputs; ``gradients`` are for an incoming 1.

    ``params`` are its parameters and ``of_params`` their gradients; None for state.
    """

    quantizer: Quantizer
    bits: int
    inputs: list[float]
    outputs: Any
    gradients: list[float]
    params: tuple[Any, ...] = ()
    of_params: tuple[Any, ...] = ()


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
    # without a 3x3 kernel there is nothing to turn
    Golden(RotatedSign(steps=2), 1, [-9.0, 0.0, 9.0], [-1, 1, 1], [1, 1, 1]),
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
    Golden(
        ApproxSign(),
        1,
        [-1.5, -1.0, -0.5, -0.0, 0.0, 0.25, 1.0],
        [-1, -1, -1, 1, 1, 1, 1],
        [0, 0, 1, 2, 2, 1.5, 0],
    ),
    # by the formula with cosh and tanh, in float64
    Golden(
        SwishSign(),
        1,
        [-100.0, -2.0, -0.7, -0.2, -0.0, 0.2, 1.0, 1e30],
        [-1, -1, -1, -1, 1, 1, 1, 1],
        [0, -0.0036313, -0.3684138, 3.0236612, 5, 3.0236612, -0.1949923, 0],
    ),
    Golden(
        ProgressiveSign(),
        1,
        [-1.4, -0.5, -0.0, 0.0, 0.7],
        [-1, -1, 1, 1, 1],
        [0, 1, 1, 1, 1],
    ),
    # a ramp of width 1/2
    Golden(
        ProgressiveSign(),
        1,
        [-1.4, -0.5, -0.25, 0.0, 0.125, 0.7],
        [-1, -1, -0.5, 0, 0.25, 1],
        [0, 1, 1, 1, 1, 1],
        (0.5,),
        (None,),
    ),
    # so narrow that it is a sign
    Golden(
        ProgressiveSign(clipped=False),
        1,
        [-9.0, -1e-8, 0.0, 9.0],
        [-1, -1, 1, 1],
        [1, 1, 1, 1],
        (9e-8,),
        (None,),
    ),
    Golden(
        Heaviside(),
        1,
        [-1.4, -1.3, -0.2, -0.0, 0.0, 0.7, 1.4],
        [0, 0, 0, 1, 1, 1, 1],
        [0, 1, 1, 1, 1, 1, 0],
    ),
    Golden(
        Ternary(),
        2,
        [-1.4, -0.06, -0.05, 0.0, 0.05, 0.06, 2.0],
        [-1, -1, 0, 0, 0, 1, 1],
        [0, 1, 1, 1, 1, 1, 0],
    ),
    # mean magnitude 1, threshold 0.7
    Golden(
        Ternary(threshold=0.7, relative=True, clipped=False),
        2,
        [-2.0, 0.6, 0.8, -0.6],
        [-1, 0, 1, 0],
        [1, 1, 1, 1],
    ),
    # mean magnitude 5/4
    Golden(
        MagnitudeSign(),
        1,
        [-1.0, 3.0, 0.5, 0.5],
        [-1.25, 1.25, 1.25, 1.25],
        [1.25, 1.25, 1.25, 1.25],
    ),
    # the factor's part is sign(w) * 2/4: two more of the four signs are +1
    Golden(
        XnorSign(),
        1,
        [-1.0, 3.0, 0.5, 0.5],
        [-1.25, 1.25, 1.25, 1.25],
        [0.75, 1.75, 1.75, 1.75],
    ),
    # mean magnitude 1.2, threshold 0.84; 1 and 3 are kept
    Golden(TernaryScaled(), 2, [-1.0, 3.0, 0.2, 0.6], [-2, 2, 0, 0], [2, 2, 2, 2]),
    # thresholds 0, 0.807 and 1.345
    Golden(
        HalfWave(),
        2,
        [-1.0, 0.0, 0.1, 0.8, 0.82, 1.3, 1.4, 1.61, 1.7],
        [0, 0, 0.538, 0.538, 1.076, 1.076, 1.614, 1.614, 1.614],
        [0, 0, 1, 1, 1, 1, 1, 1, 0],
    ),
    Golden(
        RSign(),
        1,
        [-1.0, -0.75, 0.25, 0.5, 1.5, 2.0],
        [-1, -1, -1, 1, 1, 1],
        [0, 1, 1, 1, 1, 0],
        ([0.5],),
        ([-4],),
    ),
    Golden(
        RSign(estimator="approx_sign"),
        1,
        [-1.0, 0.25, 0.5, 1.25],
        [-1, -1, 1, 1],
        [0, 1.5, 2, 0.5],
        ([0.5],),
        ([-4],),
    ),
    # alpha 3: steps of 1
    Golden(
        Pact(width=2),
        2,
        [-1.0, 0.0, 0.4, 0.6, 1.7, 3.0, 4.0],
        [0, 0, 0, 1, 2, 3, 3],
        [0, 1, 1, 1, 1, 0, 0],
        ([3.0],),
        ([2],),
    ),
    # x / s is -2, 0.6, 1.8, 8: of s come 0 + 0.4 + 0.2 + 3, times 1 / sqrt(4 * 3)
    Golden(
        Lsq(width=2),
        2,
        [-1.0, 0.3, 0.9, 4.0],
        [0, 0.5, 1, 1.5],
        [0, 1, 1, 0],
        ([0.5], [1.0]),
        ([3.6 / 12**0.5], None),
    ),
    # x / s is -6, -0.6, 0.4, 18: of s come -4 - 0.4 - 0.4 + 3, times 1 / sqrt(4 * 3)
    Golden(
        Lsq(width=3, signed=True),
        3,
        [-3.0, -0.3, 0.2, 9.0],
        [-2, -0.5, 0, 1.5],
        [0, 1, 1, 0],
        ([0.5], [1.0]),
        ([-1.8 / 12**0.5], None),
    ),
    # the same weights at 2 bits: -2 - 0.4 - 0.4 + 1, times 1 / sqrt(4 * 1)
    Golden(
        LsqWeight(width=2),
        2,
        [-3.0, -0.3, 0.2, 9.0],
        [-1, -0.5, 0, 0.5],
        [0, 1, 1, 0],
        ([0.5],),
        ([-0.9],),
    ),
    # levels 0, 0.5, 1.5 and 2
    Golden(
        LqNet(width=2),
        2,
        [-1.0, 0.0, 0.2, 0.3, 1.2, 1.9, 2.0, 5.0],
        [0, 0, 0, 0.5, 1.5, 2, 2, 2],
        [0, 1, 1, 1, 1, 1, 1, 0],
        ([[1.5, 0.5]],),
        (None,),
    ),
    # levels -2, -1, 1 and 2; the middle goes down
    Golden(
        LqNetWeight(width=2),
        2,
        [-9.0, -1.6, -1.4, 0.0, 0.1, 1.6],
        [-2, -2, -1, -1, 1, 2],
        [1, 1, 1, 1, 1, 1],
        ([[0.5, 1.5]],),
        (None,),
    ),
    # threshold 0.1: two weights above, one between, three below
    Golden(
        Ttq(),
        2,
        [2.0, 0.11, -0.1, -0.11, -1.0, -0.5],
        [3, 3, 0, -4, -4, -4],
        [3, 3, 1, 4, 4, 4],
        ([3.0], [4.0]),
        ([2], [-3]),
    ),
    # threshold 0.1; one position of the kernel for each weight
    Golden(
        Syq(),
        2,
        [2.0, -0.05, -1.0],
        [3, 0, -5],
        [3, 1, 5],
        ([[3.0, 4.0, 5.0]],),
        ([[1, 0, -1]],),
    ),
    Golden(
        Syq(width=1),
        1,
        [2.0, -0.05, -0.0],
        [3, -4, 5],
        [3, 4, 5],
        ([[3.0, 4.0, 5.0]],),
        ([[1, -1, 1]],),
    ),
]
EVERY = [row.quantizer for row in GOLDEN]


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: repr(row.quantizer))
def test_golden_row(row, emitted):
    x = torch.tensor(row.inputs).reshape(1, 1, 1, -1).requires_grad_()
    params = [torch.tensor(p).requires_grad_() for p in row.params]
    outputs = emitted(row.quantizer, x, *params)
    outputs.sum().backward()
    assert row.quantizer.bits == row.bits
    expected = torch.tensor(row.outputs, dtype=torch.float32).reshape(outputs.shape)
    torch.testing.assert_close(outputs, expected, atol=1e-6, rtol=0)
    expected = torch.tensor(row.gradients, dtype=torch.float32).reshape(x.shape)
    torch.testing.assert_close(x.grad, expected, atol=1e-5, rtol=0)
    for p, gradient in zip(params, row.of_params, strict=True):
        if gradient is None:
            assert p.grad is None
        else:
            expected = torch.tensor(gradient, dtype=torch.float32)
            torch.testing.assert_close(p.grad, expected, atol=1e-5, rtol=0)


def test_every_quantizer_has_a_golden_row():
    assert {row.quantizer.kind for row in GOLDEN} == set(quantizers)


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: repr(row.quantizer))
def test_json_round_trip(row):
    data = encode(row.quantizer)
    assert Quantizer.from_json(data, "q") == row.quantizer
    assert decode(type(row.quantizer), data, "q") == row.quantizer


@pytest.mark.parametrize("quantizer", EVERY, ids=repr)
def test_the_result_is_the_same_with_and_without_gradients(quantizer, started, emitted):
    x = torch.randn(2, 3, 4, 4)
    params = started(quantizer, x)
    with_gradients = emitted(quantizer, x.clone().requires_grad_(), *params)
    assert torch.equal(with_gradients, emitted(quantizer, x, *params))


@pytest.mark.parametrize("quantizer", EVERY, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_stays(quantizer, dtype, emitted):
    x = torch.randn(2, 3, 4, 4).to(dtype).requires_grad_()
    y = emitted(quantizer, x)
    y.sum().backward()
    assert y.dtype == dtype
    assert x.grad.dtype == dtype


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (3, 5, 1, 7), (2, 33, 3, 3), (4, 31)])
@pytest.mark.parametrize("quantizer", EVERY, ids=repr)
def test_odd_shapes(quantizer, shape, emitted):
    x = torch.randn(shape).requires_grad_()
    y = emitted(quantizer, x)
    y.sum().backward()
    assert y.shape == (shape[0], shape[1] * quantizer.slices, *shape[2:])
    assert x.grad.shape == x.shape
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("quantizer", EVERY, ids=repr)
def test_values_and_gradients_are_finite_where_inputs_are_huge(quantizer, started, emitted):
    x = torch.tensor([-3e38, -1e30, -1e4, -90.0, -0.0, 0.0, 90.0, 1e4, 1e30]).reshape(1, 1, 3, 3)
    x.requires_grad_()
    # a mean of such magnitudes is infinite in any arithmetic of this range
    params = [p.nan_to_num(posinf=1.0) for p in started(quantizer, x.detach())]
    for p in params:
        p.requires_grad_()
    y = emitted(quantizer, x, *params)
    y.sum().backward()
    if not isinstance(quantizer, Scaled | Identity):
        assert y.isfinite().all()
    for tensor in (x, *params):
        if tensor.grad is not None and not isinstance(quantizer, Scaled):
            assert tensor.grad.isfinite().all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: DoReFa(width=0),
        lambda: DoReFa(width=9),
        lambda: DoReFaWeight(width=1),
        lambda: Symmetric(width=1),
        lambda: Symmetric(width=4, limit=0.0),
        lambda: SwishSign(beta=0.0),
        lambda: ProgressiveSign(alpha=1.0),
        lambda: ProgressiveSign(beta=0.0),
        lambda: ProgressiveSign(decay=1.0),
        lambda: Ternary(threshold=0.0),
        lambda: HalfWave(width=5),
        lambda: RSign(estimator="sing"),
        lambda: Pact(width=9),
        lambda: Pact(initial_alpha=0.0),
        lambda: Lsq(width=0),
        lambda: Lsq(width=1, signed=True),
        lambda: Lsq(width=1).as_weight(),
        lambda: LsqWeight(width=1),
        lambda: LqNet(width=5),
        lambda: LqNetWeight(width=0),
        lambda: Ttq(threshold=1.0),
        lambda: Syq(width=3),
        lambda: Syq(threshold=0.0),
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
