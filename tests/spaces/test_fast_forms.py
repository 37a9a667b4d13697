"""What the torch forms compute in few passes equals what the plain formulas give.

The plain formulas stand here. Upstream gradients are whole numbers where equality is claimed:
their sums have no rounding, so the order of summation cannot hide an error.
"""

import math

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from bitfront.spaces import Builder, Domain, Network, Node, TensorType
from bitfront.spaces.graph import infer
from bitfront.spaces.ops import (
    Concat,
    Conv2d,
    Input,
    Interleave,
    Or,
    Quantize,
    Slice,
    SliceMean,
)
from bitfront.spaces.quantizers import (
    SIGN,
    SIGN_WEIGHT,
    Learned,
    MultiSign,
    ShiftedSign,
    Sign,
    quantizers,
)
from bitfront.spaces.quantizers.steps import signs, signs_above, within
from bitfront.spaces.torch_ops import forms, quantized

T_CLIP = 1.3
formats = pytest.mark.parametrize(
    "memory_format", [torch.contiguous_format, torch.channels_last], ids=["rows", "pixels"]
)
dtypes = pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16]
)
EDGES = [0.0, -0.0, 1e-45, -1e-45, 1.3, -1.3, 1.2999999, 1.3000001, math.inf, -math.inf, math.nan]


def draw(*shape, seed=0, memory_format=torch.contiguous_format):
    """Around the thresholds, some exactly on them."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator)
    x[torch.rand(shape, generator=generator) < 0.1] = 0.0
    return x.contiguous(memory_format=memory_format)


def whole(like, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-8, 9, like.shape, generator=generator).to(like)


def plain_signs(x):
    return (x >= 0).to(x.dtype) * 2 - 1


@dtypes
def test_signs_and_masks_at_every_edge(dtype):
    x = torch.cat([torch.tensor(EDGES), draw(1000)]).to(dtype)
    assert torch.equal(signs(x), plain_signs(x))
    assert torch.equal(signs_above(x, x.new_tensor(0.25)), plain_signs(x - 0.25))
    assert torch.equal(within(x, T_CLIP), (x.abs() <= T_CLIP).to(dtype))
    # as documented: NaN is -1 and lets no gradient through
    nan = x.new_tensor(math.nan)
    assert (signs(nan).item(), within(nan, T_CLIP).item()) == (-1, 0)


@pytest.mark.parametrize("x", [torch.zeros(3, 4)[:, ::2], torch.zeros(3, 1).expand(3, 4)])
def test_signs_leave_what_they_read_alone(x):
    before = x.clone()
    assert torch.equal(signs(x), torch.ones_like(before))
    assert torch.equal(within(x, T_CLIP), torch.ones_like(before))
    assert torch.equal(x, before)


@dtypes
@formats
@pytest.mark.parametrize("k", [1, 2, 4, 16])
def test_slices(k, memory_format, dtype):
    x = draw(2, 3, 5, 7, memory_format=memory_format).to(dtype).requires_grad_()
    quantizer = MultiSign(k=k)
    y = quantized(x, quantizer, T_CLIP)
    assert torch.equal(y, torch.cat([plain_signs(x + s) for s in quantizer.shifts()], dim=1))
    assert y.is_contiguous(memory_format=memory_format)
    grad = whole(y)
    (got,) = torch.autograd.grad(y, x, grad)
    masks = [((x + s).abs() <= T_CLIP).to(dtype) for s in quantizer.shifts()]
    parts = zip(masks, grad.chunk(k, dim=1), strict=True)
    assert torch.equal(got, sum(mask * part for mask, part in parts))
    assert got.is_contiguous(memory_format=memory_format)


def two_per_kind():
    for cls in quantizers.values():
        if not issubclass(cls, Learned):
            yield cls(width=2) if "width" in cls.__dataclass_fields__ else cls()
    yield Sign(clipped=False)
    yield ShiftedSign(u=0.5)


@pytest.mark.parametrize("quantizer", list(two_per_kind()), ids=repr)
def test_the_gradient_is_the_factor_times_what_comes_in(quantizer):
    x = draw(2, 3, 5, 7)
    shape = (2, 3 * quantizer.slices, 5, 7)
    grad = whole(x.new_empty(shape))
    expected = (grad * quantizer.dq(x, T_CLIP)).unflatten(1, (quantizer.slices, -1)).sum(1)
    assert torch.equal(quantizer.gradient(grad, x, T_CLIP), expected)


def form(op, *inputs):
    node = Node(
        index=len(inputs),
        name="node",
        op=op,
        inputs=tuple(range(len(inputs))),
        facts=infer(op, *inputs),
        latent=len(inputs),
    )
    return forms[op.kind](node, inputs, T_CLIP, torch.Generator())


def padded_network(channels, size, op):
    b = Builder()
    x = b.add(Input(shape=(channels, *size)), name="input")
    x = b.add(Quantize(quantizer=SIGN), x, name="signs")
    b.add(op, x, name="conv")
    return Network(b.graph(), t_clip=T_CLIP)


def plain_padded(network, op, x):
    """The map padded first, and the weights as they are."""
    weight = network.conv.weight.detach().clone().requires_grad_()
    x = x.detach().clone().requires_grad_()
    y = F.pad(quantized(x, SIGN, T_CLIP), (op.padding,) * 4, value=op.padding_value)
    codes = quantized(weight, SIGN_WEIGHT, T_CLIP)
    return F.conv2d(y, codes, None, op.stride, 0, op.dilation, op.groups), x, weight


CONVOLUTIONS = [
    # channels, filters, size, kernel, stride, padding, dilation, groups
    (1, 1, (1, 1), 3, 1, 1, 1, 1),
    (1, 2, (2, 3), 3, 1, 1, 1, 1),
    (31, 33, (5, 4), 3, 1, 1, 1, 1),
    (33, 31, (7, 7), 3, 2, 1, 1, 1),
    (8, 8, (9, 5), 3, 1, 2, 2, 1),
    (6, 9, (6, 6), 3, 1, 1, 1, 3),
    (5, 3, (8, 8), 5, 1, 2, 1, 1),
    (64, 64, (8, 8), 3, 1, 1, 1, 1),
    (3, 4, (4, 4), 1, 1, 1, 1, 1),
]


@formats
@pytest.mark.parametrize("value", [-1.0, 1.0])
@pytest.mark.parametrize("row", CONVOLUTIONS, ids=str)
def test_a_padded_convolution_of_signs(row, value, memory_format):
    channels, filters, size, kernel_size, stride, padding, dilation, groups = row
    op = Conv2d(
        out_channels=filters, kernel_size=kernel_size, stride=stride, padding=padding,
        padding_value=value, dilation=dilation, groups=groups, weight=SIGN_WEIGHT,
    )  # fmt: skip
    network = padded_network(channels, size, op).to(memory_format=memory_format)
    x = draw(3, channels, *size, memory_format=memory_format).requires_grad_()
    y = network(x)
    expected, same, weight = plain_padded(network, op, x)
    assert torch.equal(y, expected)
    grad = whole(y)
    y.backward(grad)
    expected.backward(grad)
    assert torch.equal(x.grad, same.grad)
    assert torch.equal(network.conv.weight.grad, weight.grad)


@formats
def test_gradients_of_a_padded_convolution_are_no_less_precise(memory_format):
    op = Conv2d(out_channels=48, kernel_size=3, padding=1, padding_value=-1.0, weight=SIGN_WEIGHT)
    network = padded_network(40, (9, 9), op).to(memory_format=memory_format)
    double = padded_network(40, (9, 9), op).double()
    double.load_state_dict(network.state_dict())
    x = draw(8, 40, 9, 9, memory_format=memory_format).requires_grad_()
    grad = draw(8, 48, 9, 9, seed=3, memory_format=memory_format)

    def gradients(y, *of):
        return [g.double() for g in torch.autograd.grad(y, of, grad.to(y.dtype))]

    exact = x.detach().double().requires_grad_()
    true = gradients(double(exact), exact, double.conv.weight)
    found = gradients(network(x), x, network.conv.weight)
    plain = gradients(*plain_padded(network, op, x))
    for reference, mine, theirs in zip(true, found, plain, strict=True):
        allowed = 2 * (theirs - reference).norm() + 1e-7 * reference.norm()
        assert (mine - reference).norm() <= allowed


ROUNDED = Conv2d(out_channels=4, kernel_size=3, padding=1, padding_value=-1.0, weight=SIGN_WEIGHT)


def alike_network():
    """All weights but one per filter are +1, so that their sum is large."""
    network = padded_network(300, (4, 4), ROUNDED)
    with torch.no_grad():
        network.conv.weight.abs_()[:, 0, 0, 0] = -1
    return network


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_width_floats_are_padded_first(dtype):
    # whole numbers above 256 or 2048 would be rounded twice
    network = alike_network().to(dtype)
    x = draw(2, 300, 4, 4).to(dtype)
    assert torch.equal(network(x), plain_padded(network, ROUNDED, x)[0])


def test_autocast_pads_first():
    network = alike_network()
    x = draw(2, 300, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        y, expected = network(x), plain_padded(network, ROUNDED, x)[0]
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, expected)


def test_what_is_exported_pads_first():
    network = padded_network(3, (4, 4), ROUNDED).eval()
    program = torch.export.export(network, (draw(1, 3, 4, 4),))
    called = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert "aten.pad.default" in called
    assert not any("sum" in name for name in called)


@formats
def test_or(memory_format):
    sliced = TensorType(shape=(3, 5, 7), domain=Domain.BIPOLAR, slices=2, stored_bits=1)
    merge = form(Or(), sliced, sliced)
    x, y = (
        plain_signs(draw(2, 6, 5, 7, seed=s, memory_format=memory_format)).requires_grad_()
        for s in (0, 1)
    )
    got, expected = merge(x, y), (x + y + 1).clamp(max=1)
    assert torch.equal(got, expected)
    grad = whole(got)
    for mine, theirs in zip(
        torch.autograd.grad(got, (x, y), grad),
        torch.autograd.grad(expected, (x, y), grad),
        strict=True,
    ):
        assert torch.equal(mine, theirs)
    with torch.no_grad():
        assert torch.equal(merge(x, y), expected)


SLICED = TensorType(shape=(6, 5, 7), slices=3)


def apart(x):
    return x.reshape(x.shape[0], 3, -1, *x.shape[2:])


def dealt(x):
    return apart(x).unflatten(2, (2, -1)).transpose(2, 3).reshape(x.shape)


VIEWS = {
    "concat": (Concat(), 2, lambda *xs: torch.cat([apart(x) for x in xs], dim=2).flatten(1, 2)),
    "slice": (Slice(start=1, end=5), 1, lambda x: apart(x)[:, :, 1:5].flatten(1, 2)),
    "interleave": (Interleave(groups=2), 1, dealt),
    "slice_mean": (SliceMean(), 1, lambda x: apart(x).mean(1)),
}


@formats
@pytest.mark.parametrize("name", VIEWS)
def test_ops_on_slices_keep_the_memory_format(name, memory_format):
    op, count, plain = VIEWS[name]
    view = form(op, *[SLICED] * count)
    xs = [
        draw(2, 18, 5, 7, seed=s, memory_format=memory_format).requires_grad_()
        for s in range(count)
    ]
    got, expected = view(*xs), plain(*xs)
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=0)
    assert got.is_contiguous(memory_format=memory_format)
    grad = 3 * whole(got)
    for mine, theirs in zip(
        torch.autograd.grad(got, xs, grad), torch.autograd.grad(expected, xs, grad), strict=True
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=0)


def test_slices_of_one_pixel():
    # such a map has both memory formats at once
    kind = TensorType(shape=(2, 1, 1), slices=2)
    x = torch.arange(4.0).reshape(1, 4, 1, 1)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        y = form(Interleave(groups=2), kind)(x.contiguous(memory_format=memory_format))
        assert y.flatten().tolist() == [0, 1, 2, 3]
