"""Packing, unpacking and popcounts: round trips, and the same bits counted in other ways."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from bitfront.kernels import (
    BINARY,
    BIT_ORDER,
    SIGN_OF_ZERO,
    CodeFormat,
    PackedBits,
    pack,
    pack_codes,
    pack_nchw,
    popcount,
    unpack,
    unpack_codes,
    word_count,
)

CHANNELS = [1, 31, 32, 33, 63, 64, 127, 1000]
REAL = [
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
]
FORMATS = [
    CodeFormat(bits=bits, coding=coding)
    for bits in (1, 2, 3, 8)
    for coding in ("unsigned", "signed", "symmetric")
]


def signs(x: torch.Tensor) -> torch.Tensor:
    """The oracle of a sign with sign(0) = +1, without a comparison of the code under test."""
    return torch.where(x < 0, -1.0, 1.0)


def words_of(bits: np.ndarray) -> np.ndarray:
    """Another way to the same words: numpy packs bytes, four of them are a little-endian int32."""
    padding = -bits.shape[-1] % 32
    padded = np.pad(bits, [(0, 0)] * (bits.ndim - 1) + [(0, padding)])
    return np.packbits(padded, axis=-1, bitorder=BIT_ORDER).view("<i4")


# --- packing and unpacking ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", REAL, ids=str)
@pytest.mark.parametrize("channels", CHANNELS)
def test_pack_agrees_with_numpy_and_unpacks_to_the_signs(channels: int, dtype: torch.dtype) -> None:
    x = torch.randint(-2, 3, (2, 3, channels), generator=torch.Generator().manual_seed(channels))
    packed = pack(x.to(dtype))
    np.testing.assert_array_equal(packed.words.numpy(), words_of(x.numpy() >= 0))
    assert torch.equal(packed.popcount, (x >= 0).sum(-1, dtype=torch.int32))
    assert torch.equal(unpack(packed), signs(x))


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 2),
    st.integers(1, 35),
    st.lists(st.floats(allow_nan=False, width=32), min_size=70, max_size=70),
)
def test_any_float_packs_to_its_sign(rows: int, channels: int, values: list[float]) -> None:
    x = torch.tensor(values[: rows * channels]).reshape(rows, channels)
    packed = pack(x)
    unpacked = unpack(packed)
    assert torch.equal(unpacked, signs(x))
    # idempotent: signs pack to the same words
    assert torch.equal(pack(unpacked).words, packed.words)


def test_zero_and_negative_zero_are_plus_one_and_infinities_have_a_sign() -> None:
    x = torch.tensor([0.0, -0.0, float("inf"), -float("inf"), 1e-45, -1e-45])
    assert unpack(pack(x)).tolist() == [SIGN_OF_ZERO, SIGN_OF_ZERO, 1, -1, 1, -1]


@pytest.mark.parametrize("channels", CHANNELS)
def test_pack_nchw_is_pack_of_the_permuted_tensor(channels: int) -> None:
    x = torch.randn(2, channels, 3, 5, generator=torch.Generator().manual_seed(channels))
    packed = pack_nchw(x)
    assert packed.words.shape == (2, 3, 5, word_count(channels))
    assert torch.equal(unpack(packed), signs(x.permute(0, 2, 3, 1)))
    # the memory order of the input does not matter
    strided = x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(pack_nchw(strided).words, packed.words)


@pytest.mark.parametrize("dtype", REAL, ids=str)
def test_unpack_gives_the_dtype_asked_for(dtype: torch.dtype) -> None:
    x = unpack(pack(torch.tensor([3.0, -3.0])), dtype)
    assert x.dtype == dtype
    assert x.tolist() == [1, -1]


def test_a_parameter_with_gradient_packs() -> None:
    weight = torch.nn.Parameter(torch.tensor([[-1.0, 2.0]]))
    assert pack(weight).words.tolist() == [[2]]


@settings(deadline=None, max_examples=60)
@given(st.data(), st.sampled_from(FORMATS), st.integers(1, 70))
def test_codes_survive_packing(data: st.DataObject, format: CodeFormat, channels: int) -> None:
    level = st.integers(0, 2**format.bits - 1).map(lambda code: format.low + format.step * code)
    values = torch.tensor([data.draw(st.lists(level, min_size=channels, max_size=channels))])
    packed = pack_codes(values, format)
    assert packed.words.shape == (format.bits, 1, word_count(channels))
    assert torch.equal(unpack_codes(packed), values.to(torch.int32))


def test_bool_packs_as_zero_and_one() -> None:
    packed = pack_codes(torch.tensor([True, False]), CodeFormat(bits=1, coding="unsigned"))
    assert packed.words.tolist() == [[1]]


# --- popcount -------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=40))
def test_popcount_is_exact(values: list[int]) -> None:
    counts = popcount(torch.tensor(values, dtype=torch.int32))
    assert counts.dtype == torch.int32
    assert counts.tolist() == [(value & 0xFFFF_FFFF).bit_count() for value in values]


def test_popcount_counts_each_bit_the_sign_bit_too() -> None:
    one_bit = torch.tensor([-(2**31), *(1 << i for i in range(31))], dtype=torch.int32)
    assert popcount(one_bit).tolist() == [1] * 32
    assert popcount(~one_bit).tolist() == [31] * 32
    assert popcount(torch.tensor([0, -1], dtype=torch.int32)).tolist() == [0, 32]


def test_popcount_agrees_with_numpy_on_a_million_words() -> None:
    words = torch.randint(
        -(2**31), 2**31, (1 << 20,), generator=torch.Generator().manual_seed(1)
    ).to(torch.int32)
    np.testing.assert_array_equal(
        popcount(words).numpy(), np.bitwise_count(words.numpy().view(np.uint32))
    )


# --- wrong input ----------------------------------------------------------------------------------


def huge(dtype: torch.dtype, *last: int) -> torch.Tensor:
    """More elements than int32 can index, in the memory of one."""
    return torch.zeros(1, dtype=dtype).expand(2**31, *last)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        ([1.0, 2.0], TypeError, "must be a torch.Tensor, but got list"),
        (np.ones(3), TypeError, "must be a torch.Tensor, but got ndarray"),
        (torch.ones(3, dtype=torch.bool), TypeError, "got torch.bool.*pack_codes"),
        (torch.ones(3, dtype=torch.uint8), TypeError, "got torch.uint8.*pack_codes"),
        (torch.ones(3, dtype=torch.complex64), TypeError, "torch.float32.*got torch.complex64"),
        (torch.ones(3, device="meta"), TypeError, "dense tensor with data"),
        (torch.ones(3).to_sparse(), TypeError, "dense tensor with data"),
        (torch.tensor(1.0), ValueError, r"at least one axis.*got shape \(\)"),
        (torch.ones(2, 0), ValueError, r"1 to 2147483647 elements, but got shape \(2, 0\)"),
        (torch.ones(0, 2), ValueError, r"got shape \(0, 2\)"),
        (huge(torch.float32, 1), ValueError, r"got shape \(2147483648, 1\)"),
        (torch.tensor([1.0, float("nan")]), ValueError, "NaN"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_pack_refuses(x: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        pack(x)  # type: ignore[arg-type]


def test_pack_nchw_refuses_three_axes() -> None:
    with pytest.raises(ValueError, match=r"\[B, C, H, W\], but got shape \(2, 3, 4\)"):
        pack_nchw(torch.ones(2, 3, 4))


@pytest.mark.parametrize(
    ("values", "format", "error", "message"),
    [
        (torch.ones(2), CodeFormat(bits=2, coding="unsigned"), TypeError, "round floats first"),
        (torch.tensor([4]), CodeFormat(bits=2, coding="unsigned"), ValueError, "0 to 3.*4 to 4"),
        (torch.tensor([-1]), CodeFormat(bits=2, coding="unsigned"), ValueError, "0 to 3"),
        (torch.tensor([2]), CodeFormat(bits=2, coding="signed"), ValueError, "-2 to 1"),
        (torch.tensor([0, 1]), BINARY, ValueError, "-1 to 1 in steps of 2.*off the steps"),
        (torch.tensor([0, 1]), 2, TypeError, "`format` must be a bitfront.kernels.CodeFormat"),
    ],
)
def test_pack_codes_refuses(
    values: torch.Tensor, format: CodeFormat, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        pack_codes(values, format)


def test_unpack_refuses_set_padding_bits_other_types_and_unsigned_dtypes() -> None:
    bad = PackedBits(
        words=torch.tensor([8], dtype=torch.int32),
        channels=3,
        popcount=torch.tensor(1, dtype=torch.int32),
    )
    with pytest.raises(ValueError, match="0 in bits 3 to 31 .* 3 channels"):
        unpack(bad)
    with pytest.raises(TypeError, match="`packed` must be a bitfront.kernels.PackedBits"):
        unpack(bad.words)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="but got torch.uint8"):
        unpack(pack(torch.ones(3)), torch.uint8)
    with pytest.raises(TypeError, match="`packed` must be a bitfront.kernels.PackedCodes"):
        unpack_codes(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.uint8])
def test_popcount_refuses_other_dtypes(dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match=f"torch.int32, but got {dtype}"):
        popcount(torch.zeros(3, dtype=dtype))
