"""Compiled packing and dealing out of bits: equality on every variant that this CPU runs."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bitfront.kernels import cpu, pack, pack_nchw
from bitfront.kernels.packing import unpack_bits

CHANNELS = [1, 31, 32, 33, 63, 64, 127, 1000]
VARIANTS = [*cpu.variants(), None]


@pytest.fixture(autouse=True)
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh memory holds rubbish, so a value that a kernel forgets to write is seen."""
    empty = torch.empty

    def rubbish(*args: object, **kwargs: object) -> Tensor:
        fresh = empty(*args, **kwargs)
        if fresh.dtype == torch.int32:
            fresh.fill_(0x0BADF00D)
        elif fresh.dtype == torch.float32:
            fresh.fill_(float("nan"))
        return fresh

    monkeypatch.setattr(torch, "empty", rubbish)


@pytest.fixture(params=VARIANTS, ids=str)
def variant(request: pytest.FixtureRequest) -> str | None:
    return request.param


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize(
    "layout",
    [
        lambda x: x,
        lambda x: x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1),
        lambda x: x.repeat(1, 2, 1, 1)[:, ::2],
        lambda x: x.expand(2, *x.shape[1:]) if x.shape[0] == 1 else x,
    ],
    ids=["contiguous", "nchw", "every other row", "expanded"],
)
def test_pack_equals_the_reference(
    layout: Callable[[Tensor], Tensor], channels: int, variant: str | None
) -> None:
    x = torch.randn(2, 3, 4, channels, generator=generator())
    x[0, 0, 0] = 0.0
    x[0, 0, 1] = -0.0
    x[1, 0, 0, 0] = float("inf")
    x[1, 0, 1, 0] = float("-inf")
    x = layout(x)
    packed, expected = cpu.pack(x, variant=variant), pack(x)
    assert torch.equal(packed.words, expected.words)
    assert torch.equal(packed.popcount, expected.popcount)


@pytest.mark.parametrize("channels", [1, 33, 64])
def test_pack_nchw_equals_the_reference(channels: int) -> None:
    x = torch.randn(2, channels, 3, 5, generator=generator())
    assert torch.equal(cpu.pack_nchw(x).words, pack_nchw(x).words)


@pytest.mark.parametrize("channels", [32, 40, 96])
@pytest.mark.parametrize("pixels", [3, 17])
@pytest.mark.parametrize("position", [0, 15, 16, 31, -1])
@pytest.mark.parametrize("nchw", [False, True])
def test_pack_refuses_a_nan_wherever_it_is(
    nchw: bool, position: int, pixels: int, channels: int, variant: str | None
) -> None:
    x = torch.randn(pixels, channels, generator=generator())
    if nchw:
        x = x.T.contiguous().T
    packed, expected = cpu.pack(x, variant=variant), pack(x)
    assert torch.equal(packed.words, expected.words)
    x[-1, position] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        cpu.pack(x, variant=variant)


@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (2, 3, 5, 4), (1, 2, 31), (7, 33)])
@pytest.mark.parametrize("layout", ["dense", "cut", "expanded"])
def test_interleave_deals_out_bits_in_turn(
    layout: str, shape: tuple[int, ...], variant: str | None
) -> None:
    words = torch.randint(-(2**31), 2**31, (2, *shape), dtype=torch.int32, generator=generator())
    first, second = words
    if layout == "cut":
        first, second = torch.cat([first, second, first], dim=-1).chunk(3, dim=-1)[1:]
    elif layout == "expanded":
        first = first[:1].expand(shape)
    channels = 32 * shape[-1]
    bits = torch.stack([unpack_bits(x, channels) for x in (first, second)], dim=-1).flatten(-2)
    result = cpu.interleave(first, second, variant=variant)
    assert torch.equal(unpack_bits(result, 2 * channels), bits)
    out = torch.full_like(result, 7)
    assert cpu.interleave(first, second, out, variant=variant) is out
    assert torch.equal(out, result)
