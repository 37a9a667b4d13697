"""What is folded away or laid out anew computes the same."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from bitfront.evaluators.packed import fold
from bitfront.evaluators.packed.cpu_layers import convolution, max_pool
from bitfront.evaluators.packed.words import edges_repeated, floats
from bitfront.kernels.geometry import Conv2dGeometry
from bitfront.kernels.packing import pack_bits
from bitfront.spaces.graph import Builder
from bitfront.spaces.network import Network
from bitfront.spaces.ops import (
    BatchNorm,
    Conv2d,
    Input,
    MaxPool,
    Quantize,
)
from bitfront.spaces.quantizers import SIGN


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_thresholds_are_where_torchs_batch_norm_changes_its_sign(data):
    finite = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=True)
    tame = st.floats(-8, 8, width=32)
    factor = st.one_of(tame, st.sampled_from([0.0, -0.0, 1e-38, -1e-38, 1e30, -1e30, 1e-45]))
    variance = st.one_of(
        st.floats(0, 8, width=32), st.sampled_from([0.0, 1e-45, 1e-40, 1e-12, 1e30])
    )
    rows = data.draw(st.lists(st.tuples(factor, tame, tame, variance), min_size=1, max_size=20))
    weight, bias, mean, var = torch.tensor(rows, dtype=torch.float32).T.contiguous()

    def norm(x: Tensor) -> Tensor:
        return F.batch_norm(x, mean, var, weight, bias, False, 0.0, 1e-5)

    b = Builder()
    x = b.add(Input(shape=(len(rows), 2, 2), bits=32), name="input")
    bits = b.add(Quantize(quantizer=SIGN), b.add(BatchNorm(), x, name="norm"), name="sign")
    b.add(Conv2d(out_channels=1, kernel_size=1, weight=SIGN), bits, name="conv")
    network = Network(b.graph()).eval()
    form = network.get_submodule("norm")
    for name, values in (("weight", weight), ("bias", bias)):
        getattr(form, name).data.copy_(values)
    form.running_mean.copy_(mean)
    form.running_var.copy_(var)
    found = fold.sign_crossings(network, network.graph.nodes[1:3], len(rows))
    values, flips = found.values[0], found.flips[0]
    at = values.clamp(-3e38, 3e38)
    drawn = torch.tensor(data.draw(st.lists(finite, min_size=len(rows), max_size=len(rows))))
    infinity = torch.tensor(torch.inf)
    candidates = [at, at.nextafter(infinity), at.nextafter(-infinity), drawn, torch.zeros_like(at)]
    pixels = torch.stack(candidates, dim=-1)
    x = pixels[None, :, None].contiguous(memory_format=torch.channels_last)
    expected = (norm(x) >= 0)[0, :, 0].T
    assert torch.equal((values <= pixels.T) != flips, expected)


@pytest.mark.parametrize("channels", [1, 31, 32, 33, 127, 1000])
def test_words_are_unpacked(channels):
    signs = torch.randint(0, 2, (2, 3, 4, channels), generator=generator(0)) * 2 - 1
    values = floats(pack_bits(signs > 0), channels)
    assert torch.equal(values, signs.float().permute(0, 3, 1, 2))
    assert values.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("padding", [1, 3])
def test_edges_are_repeated(padding):
    x = torch.randint(-(2**31), 2**31 - 1, (2, 3, 5, 4), generator=generator(0), dtype=torch.int32)
    padded = F.pad(x.double().permute(0, 3, 1, 2), (padding,) * 4, mode="replicate")
    mine = edges_repeated(tuple(x.shape), padding)(x)
    assert torch.equal(mine, padded.permute(0, 2, 3, 1).to(torch.int32))


@pytest.mark.parametrize("rectifies", [False, True])
@pytest.mark.parametrize(
    ("channels", "groups", "stride"), [(3, 1, 2), (8, 2, 1), (40, 1, 1), (40, 40, 2), (40, 2, 1)]
)
def test_convolutions_are_torchs(channels, groups, stride, rectifies):
    x = torch.randn(2, channels, 9, 8, generator=generator(1))
    x = x.contiguous(memory_format=torch.channels_last)
    weight = torch.randn(groups * 2, channels // groups, 3, 3, generator=generator(2))
    bias = torch.randn(groups * 2, generator=generator(3))
    batch, channels, rows, columns = x.shape
    outputs, share, *kernel = weight.shape
    conv = Conv2dGeometry.of(
        image=(batch, rows, columns, channels),
        weight=(outputs, *kernel, share),
        stride=stride,
        padding=1,
        groups=groups,
    )
    run = convolution(conv, weight, bias, rectifies=rectifies)
    exact = F.conv2d(x.double(), weight.double(), bias.double(), stride, 1, 1, groups)
    theirs = F.conv2d(x, weight, bias, stride, 1, 1, groups)
    bound = 4 * (theirs - exact).abs().max()
    assert (run(x) - (exact.relu() if rectifies else exact)).abs().max() <= bound
    assert run(x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, 1, 0), (2, 2, 0), (3, 2, 1)])
@pytest.mark.parametrize(("rows", "columns"), [(8, 6), (7, 6), (2, 2)])
def test_pools_by_maxima_are_pools(kernel, stride, padding, rows, columns):
    op = MaxPool(kernel_size=kernel, stride=stride, padding=padding)
    run = max_pool(op, rows, columns)
    if run is None:
        assert kernel == 3
        assert rows % 2 == 1
        return
    x = torch.randn(2, 5, rows, columns, generator=generator(1))
    x = x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(run(x), F.max_pool2d(x, kernel, stride, padding))
    assert max_pool(MaxPool(kernel_size=3, stride=1), rows, columns) is None
    assert max_pool(MaxPool(kernel_size=2, stride=2, ceil=True), rows, columns) is None
