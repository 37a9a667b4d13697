"""Packed signs back to floats by a Triton kernel: the values of the map that was packed."""

import os
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from bitfront.kernels import pack
from bitfront.kernels.gpu.unpacking import unpack_signs

pytestmark = pytest.mark.usefixtures("poisoned")


def random_signs(*shape: int) -> Tensor:
    numbers = torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(0))
    return (2 * numbers - 1).float()


@pytest.mark.parametrize("channels", [1, 31, 32, 33, 64, 100, 300])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 5), (3, 1, 1), (2, 4, 19)], ids=str)
def test_unpacking_gives_back_what_was_packed(
    shape: tuple[int, ...], channels: int, device: torch.device
) -> None:
    x = random_signs(*shape, channels).to(device)
    y = unpack_signs(pack(x).words, channels)
    assert y.dtype == torch.float32
    assert torch.equal(y, x.permute(0, 3, 1, 2))
    # C dense, as the network's maps
    assert y.permute(0, 2, 3, 1).is_contiguous()
    assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_every_dtype(dtype: torch.dtype, device: torch.device) -> None:
    x = random_signs(2, 3, 4, 45).to(device)
    y = unpack_signs(pack(x).words, 45, dtype)
    assert torch.equal(y, x.permute(0, 3, 1, 2).to(dtype))
    assert y.dtype == dtype


@pytest.mark.parametrize(
    "layout",
    [
        lambda words: torch.nn.functional.pad(words, (0, 0, 1, 1, 1, 1))[:, 1:-1, 1:-1],
        lambda words: torch.cat([words, words + 1], dim=-1)[..., : words.shape[-1]],
        lambda words: words.transpose(0, 2).contiguous().transpose(0, 2),
        lambda words: words[:1].expand(words.shape),
    ],
    ids=["inside of a border", "part of wider rows", "turned", "expanded"],
)
@pytest.mark.parametrize("channels", [7, 64, 70])
def test_words_of_any_steps_are_read(
    layout: Callable[[Tensor], Tensor], channels: int, device: torch.device
) -> None:
    words = layout(pack(random_signs(2, 3, 18, channels).to(device)).words)
    expected = unpack_signs(words.contiguous(), channels)
    assert torch.equal(unpack_signs(words, channels), expected)
    assert torch.equal(pack(expected.permute(0, 2, 3, 1)).words, words)


def test_bits_past_the_channels_are_not_looked_at(device: torch.device) -> None:
    words = torch.full((1, 1, 1, 2), -1, dtype=torch.int32, device=device)
    assert torch.equal(unpack_signs(words, 33), torch.ones(1, 33, 1, 1, device=device))


Refusal = tuple[str, Callable[[], object], type[Exception], str]


def refusals() -> Iterator[Refusal]:
    x = torch.zeros(2, 3, 4, 2, dtype=torch.int32)
    yield "no tensor", lambda: unpack_signs(3, 40), TypeError, "`words_BHWP` must be a dense"
    yield "floats", lambda: unpack_signs(x.float(), 40), TypeError, "`words_BHWP` must be a dense"
    yield "device", lambda: unpack_signs(x.to("meta"), 40), ValueError, "CUDA device"
    yield "axes", lambda: unpack_signs(x[0], 40), ValueError, r"\[B, H, W, 2\]"
    yield "channels", lambda: unpack_signs(x, 65), ValueError, r"\[B, H, W, 3\] for 65 channels"
    yield "no channels", lambda: unpack_signs(x, 0), ValueError, "channels"
    yield "channels' type", lambda: unpack_signs(x, 40.0), TypeError, "channels"
    yield "nothing", lambda: unpack_signs(x[:0], 40), ValueError, "not empty"
    yield (
        "steps",
        lambda: unpack_signs(x.repeat(1, 1, 1, 2)[..., ::2], 40),
        ValueError,
        "dense last",
    )
    yield "dtype", lambda: unpack_signs(x, 40, torch.float64), TypeError, "`dtype` must be"


with torch.device("cuda" if os.environ["TRITON_INTERPRET"] == "0" else "cpu"):
    REFUSALS = list(refusals())


@pytest.mark.parametrize("case", REFUSALS, ids=lambda case: case[0])
def test_wrong_arguments_are_refused(case: Refusal) -> None:
    _, call, error, text = case
    with pytest.raises(error, match=text):
        call()
