"""Each op's declared facts against what torch computes."""

from dataclasses import fields
from typing import NamedTuple

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812
from torch.utils.flop_counter import FlopCounterMode

from bitfront.spaces import Domain, InfeasibleArchitecture, InvalidValue, Node, Op, Role, TensorType
from bitfront.spaces.graph import BUFFERS
from bitfront.spaces.graph import infer as remembered
from bitfront.spaces.ops import (
    Add,
    AvgPool,
    BatchNorm,
    Blend,
    Blur,
    ChannelMean,
    Concat,
    Conv2d,
    Dropout,
    FilterScale,
    Flatten,
    GlobalAvgPool,
    Input,
    Interleave,
    Linear,
    MaxPool,
    Mean,
    Mul,
    Or,
    OuterScale,
    Prelu,
    Quantize,
    Relu,
    Scale,
    Shift,
    Sigmoid,
    Slice,
    SliceMean,
    Xnor,
    accumulator_bits,
    ops,
)
from bitfront.spaces.quantizers import (
    SIGN,
    SIGN_WEIGHT,
    DoReFa,
    DoReFaWeight,
    Heaviside,
    LqNet,
    Lsq,
    MagnitudeSign,
    MultiSign,
    Pact,
    RSign,
    ShiftedSign,
    Symmetric,
    Syq,
    TernaryScaled,
    Ttq,
    XnorSign,
)
from bitfront.spaces.torch_ops import Form, forms

FLOAT = TensorType(shape=(6, 7, 5))
BIPOLAR = TensorType(shape=(6, 7, 5), domain=Domain.BIPOLAR, stored_bits=1)
INTEGER = TensorType(shape=(6, 7, 5), domain=Domain.ACCUMULATOR)
SLICED = TensorType(shape=(4, 6, 6), domain=Domain.BIPOLAR, slices=2, stored_bits=1)
CODES = TensorType(shape=(6, 7, 5), domain=Domain.CODE, stored_bits=2)
FLAT = TensorType(shape=(12,))
GATE = TensorType(shape=(6, 1, 1))
PIXELS = TensorType(shape=(1, 7, 5))


class Row(NamedTuple):
    op: Op
    inputs: tuple[TensorType, ...]


ROWS = [
    Row(Input(shape=(6, 7, 5)), (FLOAT,)),
    Row(Conv2d(out_channels=8, kernel_size=3), (FLOAT,)),
    Row(Conv2d(out_channels=8, kernel_size=3, padding=1, bias=True), (FLOAT,)),
    Row(Conv2d(out_channels=8, kernel_size=3, stride=2, padding=1, groups=2), (FLOAT,)),
    Row(Conv2d(out_channels=8, kernel_size=3, padding=2, dilation=2), (FLOAT,)),
    Row(Conv2d(out_channels=8, kernel_size=5, padding=2, weight=SIGN_WEIGHT), (BIPOLAR,)),
    Row(
        Conv2d(out_channels=8, kernel_size=3, padding=1, padding_value=-1.0, weight=SIGN_WEIGHT),
        (BIPOLAR,),
    ),
    Row(
        Conv2d(out_channels=8, kernel_size=3, padding=1, padding_value=1.0, weight=SIGN_WEIGHT),
        (BIPOLAR,),
    ),
    Row(
        Conv2d(out_channels=8, kernel_size=3, padding=1, replicate=True, weight=SIGN_WEIGHT),
        (SLICED,),
    ),
    Row(
        Conv2d(out_channels=8, kernel_size=1, across_slices=True, weight=ShiftedSign(u=0.5)),
        (SLICED,),
    ),
    Row(Conv2d(out_channels=8, kernel_size=3, padding=1, weight=DoReFaWeight(width=2)), (CODES,)),
    Row(Conv2d(out_channels=8, kernel_size=3, weight=Lsq()), (CODES,)),
    Row(Conv2d(out_channels=8, kernel_size=3, weight=LqNet(), groups=2), (CODES,)),
    Row(Conv2d(out_channels=8, kernel_size=3, weight=Ttq(), bias=True), (CODES,)),
    Row(Conv2d(out_channels=8, kernel_size=3, weight=Syq()), (SLICED,)),
    Row(Conv2d(out_channels=8, kernel_size=3, weight=XnorSign()), (BIPOLAR,)),
    Row(Linear(out_features=5, weight=Lsq()), (FLAT,)),
    Row(Linear(out_features=5, weight=Syq(width=1)), (FLAT,)),
    Row(Linear(out_features=5), (FLAT,)),
    Row(Linear(out_features=5, bias=False, weight=SIGN_WEIGHT), (FLAT,)),
    Row(
        Linear(out_features=5, bias=False, weight=SIGN_WEIGHT),
        (TensorType(shape=(12,), domain=Domain.BIPOLAR, slices=2, stored_bits=1),),
    ),
    Row(BatchNorm(), (FLOAT,)),
    Row(BatchNorm(scale=False), (INTEGER,)),
    Row(BatchNorm(scale=False, shift=False), (SLICED,)),
    Row(Quantize(quantizer=SIGN), (FLOAT,)),
    Row(Quantize(quantizer=MultiSign(k=4)), (FLOAT,)),
    Row(Quantize(quantizer=DoReFa(width=2)), (INTEGER,)),
    Row(Quantize(quantizer=Symmetric(width=4)), (FLOAT,)),
    Row(Quantize(quantizer=Heaviside()), (INTEGER,)),
    Row(Quantize(quantizer=RSign()), (FLOAT,)),
    Row(Quantize(quantizer=RSign()), (SLICED,)),
    Row(Quantize(quantizer=RSign()), (FLAT,)),
    Row(Quantize(quantizer=Pact()), (FLOAT,)),
    Row(Quantize(quantizer=Lsq()), (FLAT,)),
    Row(Quantize(quantizer=LqNet()), (FLOAT,)),
    Row(Relu(), (FLOAT,)),
    Row(Prelu(), (FLOAT,)),
    Row(Sigmoid(), (FLOAT,)),
    Row(Add(), (FLOAT, FLOAT)),
    Row(Add(), (INTEGER, BIPOLAR)),
    Row(Add(), (FLOAT, INTEGER)),
    Row(Mul(), (FLOAT, FLOAT)),
    Row(Mul(), (FLOAT, GATE)),
    Row(Mul(), (FLOAT, PIXELS)),
    Row(Blend(), (FLOAT, FLOAT)),
    Row(Blend(per_channel=False), (FLOAT, FLOAT)),
    Row(Mean(), (FLOAT, INTEGER, FLOAT)),
    Row(Mean(), (FLAT, FLAT)),
    Row(Blend(), (FLAT, FLAT)),
    Row(Xnor(), (SLICED, SLICED)),
    Row(Or(), (SLICED, SLICED)),
    Row(Scale(), (FLOAT,)),
    Row(Scale(per_channel=False), (FLOAT,)),
    Row(Scale(), (FLAT,)),
    Row(FilterScale(quantizer=MagnitudeSign()), (INTEGER,)),
    Row(FilterScale(quantizer=XnorSign()), (INTEGER,)),
    Row(FilterScale(quantizer=TernaryScaled()), (FLAT,)),
    Row(OuterScale(), (FLOAT,)),
    Row(OuterScale(), (SLICED,)),
    Row(ChannelMean(), (FLOAT,)),
    Row(ChannelMean(), (SLICED,)),
    Row(Shift(), (FLOAT,)),
    Row(Shift(initial=0.5), (FLAT,)),
    Row(Concat(), (FLOAT, FLOAT, FLOAT)),
    Row(Concat(), (FLOAT, BIPOLAR)),
    Row(Concat(), (SLICED, SLICED)),
    Row(Slice(start=1, end=4), (INTEGER,)),
    Row(Slice(start=1, end=4), (SLICED,)),
    Row(Interleave(groups=3), (FLOAT,)),
    Row(Interleave(groups=2), (SLICED,)),
    Row(SliceMean(), (SLICED,)),
    Row(MaxPool(kernel_size=2, stride=2), (INTEGER,)),
    Row(MaxPool(kernel_size=3, stride=2, padding=1), (BIPOLAR,)),
    Row(MaxPool(kernel_size=3, stride=2, padding=1, ceil=True), (SLICED,)),
    Row(AvgPool(kernel_size=2, stride=2), (FLOAT,)),
    Row(AvgPool(kernel_size=2, stride=2, ceil=True), (FLOAT,)),
    Row(GlobalAvgPool(), (FLOAT,)),
    Row(GlobalAvgPool(), (SLICED,)),
    Row(Blur(), (FLOAT,)),
    Row(Blur(stride=1), (SLICED,)),
    Row(Flatten(), (FLOAT,)),
    Row(Flatten(), (SLICED,)),
    Row(Dropout(), (FLOAT,)),
    Row(Dropout(probability=0.0), (FLAT,)),
]


def values(kind: TensorType, batch: int = 3) -> torch.Tensor:
    """Random values of a type's domain."""
    shape = (batch, *kind.torch_shape)
    if kind.domain is Domain.BIPOLAR:
        return torch.randint(0, 2, shape).float() * 2 - 1
    if kind.domain is Domain.ACCUMULATOR:
        return torch.randint(-50, 50, shape).float()
    if kind.domain is Domain.CODE:
        levels = 2**kind.stored_bits - 1
        return torch.randint(0, levels + 1, shape).float() / levels
    return torch.randn(shape)


def is_in_domain(x: torch.Tensor, domain: Domain) -> bool:
    if domain is Domain.BIPOLAR:
        return bool((x.abs() == 1).all())
    if domain is Domain.ACCUMULATOR:
        return torch.equal(x, x.round())
    return bool(x.isfinite().all())


def form(op: Op, *inputs: TensorType) -> Form:
    facts = op.infer(*inputs)
    node = Node(index=1, op=op, inputs=(0,), name="node", facts=facts, latent=1)
    return forms[op.kind](node, inputs, 1.3, torch.Generator().manual_seed(0))


def latent(row: Row) -> dict[str, torch.Tensor]:
    """The latent weights that factors per filter follow from."""
    if not isinstance(row.op, FilterScale):
        return {}
    return {"latent": torch.randn(row.inputs[0].torch_shape[0], 2, 3, 3)}


def test_every_op_has_a_row_and_a_torch_form():
    assert {row.op.kind for row in ROWS} == set(ops)
    assert set(forms) == set(ops)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: repr(row.op))
def test_declared_type_is_what_torch_gives(row):
    facts = row.op.infer(*row.inputs)
    y = form(row.op, *row.inputs)(*[values(kind) for kind in row.inputs], **latent(row))
    assert tuple(y.shape) == (3, *facts.out.torch_shape)
    assert is_in_domain(y, facts.out.domain)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: repr(row.op))
def test_declared_parameters_are_what_torch_holds(row):
    facts = row.op.infer(*row.inputs)
    module = form(row.op, *row.inputs)
    declared = {spec.name: spec.shape for spec in facts.params}
    assert {name: tuple(v.shape) for name, v in module.state_dict().items()} == declared
    learned = {spec.name for spec in facts.params if spec.role not in BUFFERS}
    assert {name for name, _ in module.named_parameters()} == learned


@pytest.mark.parametrize("row", ROWS, ids=lambda row: repr(row.op))
def test_declared_macs_are_what_torch_counts(row):
    module = form(row.op, *row.inputs).eval()
    with FlopCounterMode(display=False) as counter:
        module(*[values(kind, batch=1) for kind in row.inputs], **latent(row))
    assert counter.get_total_flops() == 2 * row.op.infer(*row.inputs).macs


@pytest.mark.parametrize("row", ROWS, ids=lambda row: repr(row.op))
def test_gradients_reach_inputs_and_parameters(row):
    module = form(row.op, *row.inputs)
    inputs = [values(kind).requires_grad_() for kind in row.inputs]
    (module(*inputs, **latent(row)) * torch.randn(())).sum().backward()
    for tensor in (*inputs, *module.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: repr(row.op))
def test_remembered_facts_are_the_facts(row):
    first, again = remembered(row.op, *row.inputs), remembered(row.op, *row.inputs)
    fresh = row.op.infer(*row.inputs)
    assert first is again
    for field in fields(fresh):
        assert getattr(first, field.name) == getattr(fresh, field.name)


@given(
    channels=st.integers(1, 4),
    filters=st.integers(1, 4),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    kernel_size=st.integers(1, 5),
    stride=st.integers(1, 3),
    padding=st.integers(0, 3),
    dilation=st.integers(1, 3),
    groups=st.integers(1, 3),
    slices=st.sampled_from([1, 2]),
)
@settings(deadline=None, max_examples=150)
def test_any_convolution(
    channels, filters, size, kernel_size, stride, padding, dilation, groups, slices
):
    op = Conv2d(
        out_channels=filters * groups * slices,
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        padding_value=-1.0,
        dilation=dilation,
        groups=groups,
        weight=SIGN_WEIGHT,
    )
    x = TensorType(
        shape=(channels * groups, *size), domain=Domain.BIPOLAR, slices=slices, stored_bits=1
    )
    module_input = values(x, batch=1)
    try:
        facts = op.infer(x)
    except InfeasibleArchitecture:
        with pytest.raises(RuntimeError):
            F.conv2d(
                F.pad(module_input, (padding,) * 4),
                torch.zeros(op.out_channels, channels, kernel_size, kernel_size),
                stride=stride,
                dilation=dilation,
                groups=groups * slices,
            )
        return
    with FlopCounterMode(display=False) as counter:
        y = form(op, x)(module_input)
    assert tuple(y.shape[1:]) == facts.out.torch_shape
    assert counter.get_total_flops() == 2 * facts.macs
    assert torch.equal(y, y.round())
    assert y.abs().max() <= facts.fan_in == channels * kernel_size**2
    # every sum fits the accumulator that is declared for it
    assert facts.fan_in < 2 ** (accumulator_bits(facts.fan_in, 1, 1) - 1)


@given(
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    kernel_size=st.integers(1, 4),
    stride=st.integers(1, 4),
    padding=st.integers(0, 3),
    ceil=st.booleans(),
    kind=st.sampled_from([MaxPool, AvgPool]),
)
@settings(deadline=None, max_examples=150)
def test_any_pool(size, kernel_size, stride, padding, ceil, kind):
    op = kind(kernel_size=kernel_size, stride=stride, padding=padding, ceil=ceil)
    x = TensorType(shape=(2, *size))
    try:
        facts = op.infer(x)
    except InfeasibleArchitecture:
        pool = F.max_pool2d if kind is MaxPool else F.avg_pool2d
        # rounding up, torch may accept a window that is larger than the padded map
        assume(not ceil)
        with pytest.raises(RuntimeError):
            pool(values(x), kernel_size, stride, padding, ceil_mode=ceil)
        return
    y = form(op, x)(values(x))
    assert tuple(y.shape[1:]) == facts.out.torch_shape


def test_slices_of_a_convolution_do_not_see_each_other():
    op = Conv2d(out_channels=6, kernel_size=1, weight=SIGN_WEIGHT)
    module = form(op, SLICED)
    x = values(SLICED)
    changed = x.clone()
    changed[:, 4:] *= -1
    before, after = module(x), module(changed)
    assert torch.equal(before[:, :3], after[:, :3])
    assert torch.equal(before[:, 3:], -after[:, 3:])


def test_a_sliced_convolution_has_the_work_of_an_unsliced_one():
    op = Conv2d(out_channels=6, kernel_size=3, weight=SIGN_WEIGHT)
    plain = TensorType(shape=(4, 6, 6), domain=Domain.BIPOLAR, stored_bits=1)
    assert op.infer(SLICED).macs == op.infer(plain).macs
    assert op.infer(SLICED).params == op.infer(plain).params
    across = Conv2d(out_channels=6, kernel_size=3, weight=SIGN_WEIGHT, across_slices=True)
    assert across.infer(SLICED).macs == 2 * op.infer(plain).macs


def test_padding_values_are_what_a_padded_input_gives():
    x = values(BIPOLAR)
    for value in (-1.0, 1.0):
        op = Conv2d(
            out_channels=4, kernel_size=3, padding=1, padding_value=value, weight=SIGN_WEIGHT
        )
        module = form(op, BIPOLAR)
        weight = torch.where(module.weight >= 0, 1.0, -1.0)
        expected = F.conv2d(F.pad(x, (1, 1, 1, 1), value=value), weight)
        assert torch.equal(module(x), expected)
    module = form(
        Conv2d(out_channels=4, kernel_size=3, padding=1, replicate=True, weight=SIGN_WEIGHT),
        BIPOLAR,
    )
    weight = torch.where(module.weight >= 0, 1.0, -1.0)
    rows = [0, *range(7), 6]
    columns = [0, *range(5), 4]
    assert torch.equal(module(x), F.conv2d(x[:, :, rows][:, :, :, columns], weight))


def test_logic():
    kind = TensorType(shape=(4, 1, 1), domain=Domain.BIPOLAR, stored_bits=1)
    x = torch.tensor([-1.0, -1.0, 1.0, 1.0]).reshape(1, 4, 1, 1)
    y = torch.tensor([-1.0, 1.0, -1.0, 1.0]).reshape(1, 4, 1, 1)
    assert form(Or(), kind, kind)(x, y).flatten().tolist() == [-1, 1, 1, 1]
    assert form(Xnor(), kind, kind)(x, y).flatten().tolist() == [1, -1, -1, 1]


def test_interleave_deals_runs_of_channels_in_turn():
    x = torch.arange(6.0).reshape(1, 6, 1, 1)
    kind = TensorType(shape=(6, 1, 1))
    assert form(Interleave(groups=2), kind)(x).flatten().tolist() == [0, 3, 1, 4, 2, 5]
    assert torch.equal(form(Interleave(groups=3), kind)(x), torch.channel_shuffle(x, 3))
    sliced = TensorType(shape=(4, 1, 1), slices=2)
    x = torch.arange(8.0).reshape(1, 8, 1, 1)
    expected = [0, 2, 1, 3, 4, 6, 5, 7]
    assert form(Interleave(groups=2), sliced)(x).flatten().tolist() == expected


def test_concat_and_slice_keep_slices_together():
    a = torch.arange(4.0).reshape(1, 4, 1, 1)
    b = 10 + torch.arange(2.0).reshape(1, 2, 1, 1)
    two, one = TensorType(shape=(2, 1, 1), slices=2), TensorType(shape=(1, 1, 1), slices=2)
    joined = form(Concat(), two, one)(a, b)
    assert joined.flatten().tolist() == [0, 1, 10, 2, 3, 11]
    three = Concat().infer(two, one).out
    assert three.shape == (3, 1, 1)
    cut = form(Slice(start=1, end=3), three)(joined)
    assert cut.flatten().tolist() == [1, 10, 3, 11]
    mean = form(SliceMean(), three)(joined)
    assert mean.flatten().tolist() == [1, 2, 10.5]


def test_a_blend_stays_between_its_inputs():
    module = form(Blend(), FLOAT, FLOAT)
    x, y = values(FLOAT), values(FLOAT)
    assert torch.equal(module(x, y), 0.5 * x + 0.5 * y)
    first, second = module(x, y), module(y, x)
    # as data, or autograd would refuse the graphs of these passes
    module.weight.data[0], module.weight.data[1] = 1.5, -0.5
    z = module(x, y)
    assert torch.equal(z[:, 0], x[:, 0])
    assert torch.equal(z[:, 1], y[:, 1])
    # training brings a share back to the border, where it can move again
    assert module.weight[:2].tolist() == [1.0, 0.0]
    (z * torch.randn(z.shape)).sum().backward()
    assert (module.weight.grad != 0).all()
    # graphs of earlier passes can still be differentiated
    (first + second).sum().backward()
    module.weight.data[0] = 1.5
    assert torch.equal(module.eval()(x, y)[:, 0], x[:, 0])
    assert module.weight[0] == 1.5


def test_dropout_keeps_the_mean_in_training_and_everything_afterwards():
    module = form(Dropout(probability=0.2), FLOAT)
    x = torch.ones(1, 6, 70, 50)
    y = module(x)
    assert set(y.unique().tolist()) == {0.0, 1.25}
    # 21,000 draws: the share of what is dropped lies within 4 standard deviations
    assert (y == 0).float().mean().item() == pytest.approx(0.2, abs=4 * (0.16 / 21_000) ** 0.5)
    assert torch.equal(module.eval()(x), x)
    assert form(Dropout(probability=0.0), FLOAT)(x).equal(x)


def test_dropout_repeats_with_torchs_global_stream():
    module = form(Dropout(), FLOAT)
    x = torch.ones(1, 6, 7, 5)
    torch.manual_seed(3)
    first, second = module(x), module(x)
    torch.manual_seed(3)
    assert torch.equal(module(x), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("probability", [-0.1, 1.0, 1.5])
def test_a_dropout_keeps_something(probability):
    with pytest.raises(InvalidValue, match="at least 0 and below 1"):
        Dropout(probability=probability)


def test_blur_keeps_a_constant_and_halves_the_size():
    module = form(Blur(), FLOAT)
    y = module(torch.ones(1, 6, 7, 5))
    assert tuple(y.shape) == (1, 6, 4, 3)
    assert torch.equal(y[:, :, 1:-1, 1:-1], torch.ones(1, 6, 2, 1))
    assert y[0, 0, 0, 0] == 9 / 16


def test_batch_norm_is_torchs():
    module = form(BatchNorm(), FLOAT)
    reference = torch.nn.BatchNorm2d(6)
    for _ in range(3):
        x = torch.randn(4, 6, 7, 5) * 2 + 1
        torch.testing.assert_close(module(x), reference(x))
    module.eval()
    reference.eval()
    torch.testing.assert_close(module(x), reference(x))
    torch.testing.assert_close(module.running_var, reference.running_var)


INFEASIBLE = [
    Row(Conv2d(out_channels=8, kernel_size=3), (FLAT,)),
    Row(Conv2d(out_channels=8, kernel_size=9), (FLOAT,)),
    Row(Conv2d(out_channels=8, kernel_size=1, groups=4), (FLOAT,)),
    Row(Conv2d(out_channels=9, kernel_size=1, groups=2), (FLOAT,)),
    Row(Linear(out_features=8), (FLOAT,)),
    Row(Add(), (FLOAT, SLICED)),
    Row(Add(), (FLOAT, GATE)),
    Row(Mul(), (GATE, FLOAT)),
    Row(Mul(), (PIXELS, FLOAT)),
    Row(Mul(), (TensorType(shape=(6, 7, 5), slices=2), TensorType(shape=(1, 7, 5), slices=2))),
    Row(Mul(), (FLOAT, TensorType(shape=(1, 7, 1)))),
    Row(OuterScale(), (FLAT,)),
    Row(ChannelMean(), (FLAT,)),
    Row(Blend(), (FLOAT, GATE)),
    Row(Mul(), (FLOAT, TensorType(shape=(3, 1, 1), slices=2))),
    Row(Xnor(), (BIPOLAR, FLOAT)),
    Row(Or(), (INTEGER, BIPOLAR)),
    Row(Concat(), (FLOAT, SLICED)),
    Row(Concat(), (FLOAT, TensorType(shape=(6, 7, 4)))),
    Row(Slice(start=2, end=7), (FLOAT,)),
    Row(Slice(start=2, end=2), (FLOAT,)),
    Row(Interleave(groups=4), (FLOAT,)),
    Row(Quantize(quantizer=MultiSign(k=2)), (SLICED,)),
    Row(Quantize(quantizer=ShiftedSign()), (FLOAT,)),
    Row(MaxPool(kernel_size=8, stride=1), (FLOAT,)),
    Row(MaxPool(kernel_size=2, stride=2, padding=2), (FLOAT,)),
    Row(AvgPool(kernel_size=2, stride=2), (FLAT,)),
    Row(GlobalAvgPool(), (FLAT,)),
    Row(Blur(), (FLAT,)),
    Row(Dropout(), (BIPOLAR,)),
    Row(Dropout(), (CODES,)),
]


@pytest.mark.parametrize("row", INFEASIBLE, ids=lambda row: repr(row))
def test_types_that_do_not_fit_are_refused(row):
    with pytest.raises(InfeasibleArchitecture):
        row.op.infer(*row.inputs)


def test_bits_of_operands():
    conv = Conv2d(out_channels=8, kernel_size=3, weight=DoReFaWeight(width=3))
    facts = conv.infer(CODES)
    assert (facts.w_bits, facts.a_bits) == (3, 2)
    assert facts.params[0].role is Role.WEIGHT
    assert facts.params[0].bits == 3
    half = TensorType(shape=(6, 7, 5), stored_bits=16)
    assert conv.infer(half).a_bits == 16
    pixels = Input(shape=(3, 8, 8)).infer().out
    assert pixels.stored_bits == 8
    assert conv.infer(pixels).a_bits == 32
