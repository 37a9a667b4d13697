"""What is folded away or laid out anew computes the same."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from bitfront.evaluators.packed import fold
from bitfront.evaluators.packed.layers import joined, max_pool
from bitfront.evaluators.packed.words import edges_repeated
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
    (found,) = fold.thresholds(network, network.graph.nodes[1:3], len(rows))
    at = found.values.clamp(-3e38, 3e38)
    drawn = torch.tensor(data.draw(st.lists(finite, min_size=len(rows), max_size=len(rows))))
    infinity = torch.tensor(torch.inf)
    candidates = [at, at.nextafter(infinity), at.nextafter(-infinity), drawn, torch.zeros_like(at)]
    pixels = torch.stack(candidates, dim=-1)
    x = pixels[None, :, None].contiguous(memory_format=torch.channels_last)
    expected = (norm(x) >= 0)[0, :, 0].T
    flips = torch.tensor([int(found.flip_words[c // 32]) >> c % 32 & 1 for c in range(len(rows))])
    assert torch.equal((found.values <= pixels.T) != flips.bool(), expected)


@pytest.mark.parametrize("padding", [1, 3])
def test_edges_are_repeated(padding):
    x = torch.randint(-(2**31), 2**31 - 1, (2, 3, 5, 4), generator=generator(0), dtype=torch.int32)
    padded = F.pad(x.double().permute(0, 3, 1, 2), (padding,) * 4, mode="replicate")
    mine = edges_repeated(tuple(x.shape), padding)(x)
    assert torch.equal(mine, padded.permute(0, 2, 3, 1).to(torch.int32))


@pytest.mark.parametrize(("groups", "per"), [(8, 4), (32, 1), (6, 3), (2, 20)])
def test_groups_joined_compute_the_same(groups, per):
    x = torch.randn(2, groups * per, 5, 5, generator=generator(1))
    weight = torch.randn(groups * 2, per, 3, 3, generator=generator(2))
    fewer, count = joined(weight, groups)
    assert count == groups or fewer.shape[1] * count == groups * per
    expected = F.conv2d(x, weight, groups=groups)
    assert torch.allclose(F.conv2d(x, fewer, groups=count), expected, atol=1e-5)


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
