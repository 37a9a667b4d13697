"""XNOR-Net's factors per pixel and XNOR-Net++'s outer product, against values by hand."""

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from bitfront.spaces import Builder, Network, TensorType
from bitfront.spaces.graph import Node
from bitfront.spaces.ops import AvgPool, ChannelMean, Conv2d, FilterScale, Input, Mul, OuterScale
from bitfront.spaces.quantizers import SIGN_WEIGHT, MagnitudeSign, TernaryScaled, XnorSign
from bitfront.spaces.torch_ops import forms

FLOAT = TensorType(shape=(6, 7, 5))
PIXELS = TensorType(shape=(1, 7, 5))


def form(op, *inputs):
    node = Node(index=1, op=op, inputs=(0,), name="node", facts=op.infer(*inputs), latent=1)
    return forms[op.kind](node, inputs, 1.3, torch.Generator().manual_seed(0))


def test_magnitudes_of_a_map_are_those_of_a_box_filter():
    """XNOR-Net's K: mean |x| over the channels, then over the window, zeros outside."""
    x = torch.tensor([[[1.0, -2.0], [3.0, 0.0]], [[-3.0, 2.0], [1.0, 4.0]]])[None]
    kind = TensorType(shape=(2, 2, 2))
    mean = form(ChannelMean(), kind)(x)
    assert mean.tolist() == [[[[2, 2], [2, 2]]]]
    pixels = TensorType(shape=(1, 2, 2))
    pool = AvgPool(kernel_size=3, stride=1, padding=1)
    # each window of 9 holds all 4 pixels
    box = form(pool, pixels)(mean * torch.tensor([[1.0, 2.0], [3.0, 3.0]]))
    torch.testing.assert_close(box, torch.full((1, 1, 2, 2), 18 / 9))
    scaled = form(Mul(), kind, pixels)(x, torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))
    assert scaled.tolist() == [[[[1, -4], [9, 0]], [[-3, 4], [3, 16]]]]


@pytest.mark.parametrize(("kernel_size", "stride"), [(3, 1), (3, 2), (5, 1)])
def test_the_box_filter_is_a_convolution_with_equal_taps(kernel_size, stride):
    x = torch.randn(3, 6, 7, 5)
    mean = form(ChannelMean(), FLOAT)(x)
    pool = AvgPool(kernel_size=kernel_size, stride=stride, padding=kernel_size // 2)
    taps = torch.full((1, 6, kernel_size, kernel_size), 1 / (6 * kernel_size**2))
    expected = F.conv2d(x.abs(), taps, stride=stride, padding=kernel_size // 2)
    torch.testing.assert_close(form(pool, PIXELS)(mean), expected)


def test_outer_factors_start_at_one_and_multiply():
    module = form(OuterScale(), FLOAT)
    x = torch.randn(3, 6, 7, 5)
    assert torch.equal(module(x), x)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.arange(1.0, 1 + p.numel()))
    assert module(torch.ones_like(x))[0, 2, 3, 4].item() == 3 * 4 * 5


@pytest.mark.parametrize("quantizer", [MagnitudeSign(), XnorSign(), TernaryScaled()], ids=repr)
def test_a_layer_on_codes_and_its_factors_are_the_scaled_layer(quantizer):
    """In values, and in the gradients of the latent weights."""
    b = Builder()
    x = b.add(Input(shape=(3, 5, 5)), name="input")
    conv = Conv2d(out_channels=4, kernel_size=3, weight=quantizer.codes)
    x = b.add(conv, x, name="conv")
    b.add(FilterScale(quantizer=quantizer), x, name="scale", latent=x)
    split = Network(b.graph(), seed=0)
    b = Builder()
    x = b.add(Input(shape=(3, 5, 5)), name="input")
    b.add(Conv2d(out_channels=4, kernel_size=3, weight=quantizer), x, name="conv")
    whole = Network(b.graph(), seed=0)
    assert split.state_dict().keys() == whole.state_dict().keys()
    x, out = torch.randn(2, 3, 5, 5), torch.randn(2, 4, 3, 3)
    for network in (split, whole):
        (network(x) * out).sum().backward()
    torch.testing.assert_close(split(x), whole(x))
    torch.testing.assert_close(split.conv.weight.grad, whole.conv.weight.grad)


def test_the_gradient_of_xnor_net_weights_is_the_derivative_of_their_factor():
    """With the signs held, q(w) = a(w) codes: the factor's part by finite differences."""
    quantizer = XnorSign()
    w = torch.randn(2, 3, 1, 1, dtype=torch.float64).requires_grad_()
    out = torch.randn(2, 3, 1, 1, dtype=torch.float64)
    (whole,) = torch.autograd.grad(
        (SIGN_WEIGHT.q(w.detach()) * quantizer.spread(quantizer.factors(w), w) * out).sum(), w
    )
    for i in range(w.numel()):
        step = torch.zeros(w.numel(), dtype=torch.float64)
        step[i] = 1e-6
        up, down = (
            (quantizer.q(w.detach() + s * step.reshape(w.shape)) * out).sum() for s in (1, -1)
        )
        assert whole.flatten()[i].item() == pytest.approx(((up - down) / 2e-6).item(), abs=1e-6)
