"""Dealing out bits by a Triton kernel, against the CPU's and against the bits themselves."""

import os
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from bitfront.kernels.cpu import interleave as cpu_interleave
from bitfront.kernels.gpu.interleave import interleave
from bitfront.kernels.packing import pack_bits, unpack_bits

pytestmark = pytest.mark.usefixtures("poisoned")


def random_words(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-(2**31), 2**31, shape, generator=generator).to(torch.int32)


def dealt(first: Tensor, second: Tensor) -> Tensor:
    """The same, bit by bit."""
    channels = 32 * first.shape[-1]
    bits = [unpack_bits(words.contiguous(), channels) for words in (first, second)]
    return pack_bits(torch.stack(bits, dim=-1).flatten(-2).bool())


@pytest.mark.parametrize("words", [1, 2, 3, 5, 64, 65])
@pytest.mark.parametrize("leading", [(), (1,), (7,), (2, 3, 19), (2, 1, 3, 2)], ids=str)
def test_interleave_equals_that_of_the_cpu(
    leading: tuple[int, ...], words: int, device: torch.device
) -> None:
    first, second = random_words(*leading, words), random_words(*leading, words, seed=1)
    expected = cpu_interleave(first, second)
    assert torch.equal(expected, dealt(first, second))
    assert torch.equal(interleave(first.to(device), second.to(device)).cpu(), expected)


@pytest.mark.parametrize(
    "part",
    [
        lambda x: x.view(2, 4, 18, 3, 8).chunk(2, dim=-1),
        lambda x: (x[..., 3:10], x[..., 14:21]),
        lambda x: (x[:, 1:-1, 1:-1], x[:, 1:-1, :-2]),
        lambda x: (x[:, ::2, ::3, :6], x[:, 1::2, ::3, 6:12]),
        lambda x: (x[:1].expand(2, 4, 18, 24), x),
        lambda x: x.view(2, 4, 18, 3, 8)[:, 1:, 1:, 1:].split([3, 3, 2], dim=-1)[:2],
        lambda x: (
            x.view(2, 2, 2, 3, 6, 24)[:, :, 1:, 1:, 1:],
            x.view(2, 2, 2, 3, 6, 24)[:, :, :1, :2, :5],
        ),
    ],
    ids=["halves of slices", "runs", "insides", "scattered", "expanded", "slices", "many axes"],
)
def test_rows_of_any_steps_are_read(
    part: Callable[[Tensor], tuple[Tensor, Tensor]], device: torch.device
) -> None:
    first, second = part(random_words(2, 4, 18, 24).to(device))
    assert torch.equal(interleave(first, second), dealt(first, second))


@pytest.mark.parametrize(
    "inside",
    [
        (slice(None), slice(1, -1), slice(1, -1), slice(None, None)),
        (slice(None), slice(None, 3), slice(2, None), slice(5, 11)),
        (slice(None, None, 2), slice(None, 3), slice(None, None, 2), slice(4, 10)),
    ],
    ids=["border", "wider rows", "steps"],
)
def test_it_writes_where_it_belongs(inside: tuple[slice, ...], device: torch.device) -> None:
    whole = random_words(2, 5, 20, 12, seed=2).to(device)
    expected, out = whole.clone(), whole[inside]
    *leading, words = out.shape
    first = random_words(*leading, words // 2, seed=3).to(device)
    second = random_words(*leading, words // 2, seed=4).to(device)
    expected[inside] = dealt(first, second)
    assert interleave(first, second, out) is out
    assert torch.equal(whole, expected)


def test_rows_of_more_axes_than_a_launch_has_are_written(device: torch.device) -> None:
    whole = random_words(3, 3, 3, 3, 8, seed=5).to(device)
    expected, out = whole.clone(), whole[:2, :2, :2, :2]
    first, second = (random_words(2, 2, 2, 2, 4, seed=seed).to(device) for seed in (6, 7))
    expected[:2, :2, :2, :2] = dealt(first, second)
    assert interleave(first, second, out) is out
    assert torch.equal(whole, expected)


Refusal = tuple[str, Callable[[], object], type[Exception], str]


def refusals() -> Iterator[Refusal]:
    x, wide = torch.zeros(2, 3, 4, dtype=torch.int32), torch.zeros(2, 3, 16, dtype=torch.int32)
    yield "no tensor", lambda: interleave(3, x), TypeError, "`first` must be a dense tensor"
    yield "floats", lambda: interleave(x, x.float()), TypeError, "`second` must be a dense tensor"
    yield "device", lambda: interleave(x.to("meta"), x), ValueError, "CUDA device"
    yield "shapes", lambda: interleave(x, x[:1]), ValueError, "one shape"
    yield "nothing", lambda: interleave(x[:0], x[:0]), ValueError, "not empty"
    yield "no axis", lambda: interleave(x[0, 0, 0], x[0, 0, 0]), ValueError, r"\[..., P\]"
    yield "steps", lambda: interleave(x, wide[..., ::4]), ValueError, "`second` must have a dense"
    yield "out's shape", lambda: interleave(x, x, x), ValueError, r"`out` must be \[2, 3, 8\]"
    yield "out's dtype", lambda: interleave(x, x, wide.float()), TypeError, "`out` must be"
    yield "out's steps", lambda: interleave(x, x, wide[..., ::2]), ValueError, "`out` must have"


with torch.device("cuda" if os.environ["TRITON_INTERPRET"] == "0" else "cpu"):
    REFUSALS = list(refusals())


@pytest.mark.parametrize("case", REFUSALS, ids=lambda case: case[0])
def test_wrong_arguments_are_refused(case: Refusal) -> None:
    _, call, error, text = case
    with pytest.raises(error, match=text):
        call()
