"""The layout: golden words, and the values that carry it."""

import doctest
import importlib
import subprocess
import sys

import pytest
import torch

import bitfront.kernels as kernels
from bitfront.kernels import (
    BINARY,
    BIT_ORDER,
    MAX_ELEMENTS,
    SIGN_OF_ZERO,
    CodeFormat,
    PackedBits,
    PackedCodes,
    pack,
    pack_codes,
    pack_nchw,
    word_count,
)

FORMATS = [
    CodeFormat(bits=bits, coding=coding)
    for bits in (1, 2, 3, 8)
    for coding in ("unsigned", "signed", "symmetric")
]


# --- golden words: the layout cannot change silently ----------------------------------------------


def test_the_facts_that_spaces_states_as_well() -> None:
    assert SIGN_OF_ZERO == 1
    assert BIT_ORDER == "little"


@pytest.mark.parametrize(
    ("plus_one", "channels", "words"),
    [
        ([], 1, [0]),
        ([0], 1, [1]),
        ([0, 2], 40, [5, 0]),
        ([1], 32, [2]),
        ([31], 32, [-(2**31)]),
        ([31], 33, [-(2**31), 0]),
        ([32], 33, [0, 1]),
        (range(31), 31, [2**31 - 1]),
        (range(32), 32, [-1]),
        (range(33), 33, [-1, 1]),
        ([4, 8, 12, 33, 62], 63, [0x1110, 0x4000_0002]),
    ],
)
def test_known_bits_give_known_words(plus_one: range, channels: int, words: list[int]) -> None:
    x = -torch.ones(channels)
    x[list(plus_one)] = 1
    packed = pack(x)
    assert packed.words.dtype == torch.int32
    assert packed.words.tolist() == words
    assert packed.channels == channels
    assert int(packed.popcount) == len(plus_one)


def test_pixels_lie_as_nhwc_and_weights_as_n_kh_kw_c() -> None:
    x = -torch.ones(2, 3, 4, 5)
    x[1, 2, 3, 4] = 1
    x[0, 1, 0, 2] = 1
    words = pack_nchw(x).words
    assert words.shape == (2, 4, 5, 1)
    assert words[1, 3, 4, 0] == 4
    assert words[0, 0, 2, 0] == 2
    assert int(words.sum()) == 6


def test_planes_hold_the_bits_of_a_code_from_the_least_significant() -> None:
    packed = pack_codes(torch.tensor([[6, 1, 0, 3]]), CodeFormat(bits=3, coding="unsigned"))
    assert packed.words.tolist() == [[[0b1010]], [[0b1001]], [[0b0001]]]
    assert packed.popcount.tolist() == [[2], [2], [1]]


def test_two_s_complement_sets_the_top_plane_for_negative_values() -> None:
    packed = pack_codes(torch.tensor([-4, -1, 3]), CodeFormat(bits=3, coding="signed"))
    assert packed.words.tolist() == [[0b110], [0b110], [0b011]]


# --- the values of codes --------------------------------------------------------------------------


def test_every_value_of_a_format_has_its_own_code() -> None:
    for format in FORMATS:
        values = [v for v in range(format.low - 3, format.high + 4) if format.is_value(v)]
        assert len(values) == 2**format.bits
        assert sorted(format.encode(v) for v in values) == list(range(2**format.bits))
        for value in values:
            code = format.encode(value)
            bits = [code >> q & 1 for q in range(format.bits)]
            weighted = zip(format.plane_values, bits, strict=True)
            assert format.offset + sum(p * b for p, b in weighted) == value


def test_one_symmetric_bit_is_the_binary_domain() -> None:
    x = torch.tensor([[1, -1, -1, 1, 1]])
    assert torch.equal(pack_codes(x, BINARY).words[0], pack(x).words)
    assert (BINARY.low, BINARY.high) == (-1, 1)


@pytest.mark.parametrize(("channels", "words"), [(1, 1), (32, 1), (33, 2), (MAX_ELEMENTS, 2**26)])
def test_word_count(channels: int, words: int) -> None:
    assert word_count(channels) == words


# --- wrong input ----------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [0, 9, -1])
def test_code_format_refuses_bits_out_of_range(bits: int) -> None:
    with pytest.raises(ValueError, match=f"1 <= bits <= 8.*bits={bits}"):
        CodeFormat(bits=bits, coding="unsigned")


def test_code_format_refuses_other_wrong_arguments() -> None:
    with pytest.raises(TypeError, match="`bits` must be an int, but got 2.0"):
        CodeFormat(bits=2.0, coding="unsigned")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unsigned, signed, symmetric, but got 'gray'"):
        CodeFormat(bits=2, coding="gray")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("channels", "error"),
    [(0, ValueError), (-32, ValueError), (2**31, ValueError), (32.0, TypeError), (True, TypeError)],
)
def test_word_count_refuses(channels: int, error: type[Exception]) -> None:
    with pytest.raises(error, match="channels"):
        word_count(channels)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"words": torch.zeros(2, 3, 2)}, TypeError, "torch.int32 words, but got torch.float32"),
        ({"words": None}, TypeError, "must be a torch.Tensor, but got NoneType"),
        (
            {"words": torch.zeros(1, 1, 1, dtype=torch.int32).expand(2**30, 1, 2)},
            ValueError,
            "1 to 2147483647 elements",
        ),
        ({"channels": 65}, ValueError, r"ceil\(65 / 32\) = 3 words, but got shape \(2, 3, 2\)"),
        ({"channels": 32}, ValueError, r"ceil\(32 / 32\) = 1 words"),
        ({"channels": 40.0}, TypeError, "`channels` must be an int, but got 40.0"),
        ({"channels": 0}, ValueError, "1 <= channels"),
        ({"popcount": torch.zeros(2, 3)}, TypeError, "`popcount` must be a torch.int32 tensor"),
        ({"popcount": None}, TypeError, "`popcount` must be a torch.int32 tensor"),
        ({"popcount": torch.zeros(3, 2, dtype=torch.int32)}, ValueError, r"\(2, 3\).*\(3, 2\)"),
    ],
)
def test_packed_bits_refuses(
    change: dict[str, object], error: type[Exception], message: str
) -> None:
    good: dict[str, object] = {
        "words": torch.zeros(2, 3, 2, dtype=torch.int32),
        "channels": 40,
        "popcount": torch.zeros(2, 3, dtype=torch.int32),
    }
    PackedBits(**good)  # type: ignore[arg-type]
    with pytest.raises(error, match=message):
        PackedBits(**(good | change))  # type: ignore[arg-type]


def test_packed_codes_refuses_another_number_of_planes() -> None:
    packed = pack_codes(torch.tensor([[1, 2]]), CodeFormat(bits=2, coding="unsigned"))
    with pytest.raises(ValueError, match=r"3 planes.*got shape \(2, 1, 1\)"):
        PackedCodes(
            words=packed.words,
            channels=2,
            format=CodeFormat(bits=3, coding="unsigned"),
            popcount=packed.popcount,
        )
    with pytest.raises(TypeError, match="`format` must be a bitfront.kernels.CodeFormat"):
        PackedCodes(words=packed.words, channels=2, format=2, popcount=packed.popcount)  # type: ignore[arg-type]


# --- the package ----------------------------------------------------------------------------------


def test_every_public_name_exists() -> None:
    assert len(kernels.__all__) == len(set(kernels.__all__))
    for name in kernels.__all__:
        assert getattr(kernels, name) is not None
        assert name in dir(kernels)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = kernels.nothing  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["bitfront.kernels", "bitfront.kernels.layout"])
def test_the_examples_of_the_docstrings_run(name: str) -> None:
    results = doctest.testmod(importlib.import_module(name))
    assert results.attempted > 0
    assert results.failed == 0


def test_importing_the_package_loads_neither_torch_nor_spaces() -> None:
    code = (
        "import sys, bitfront.kernels\n"
        "print([m for m in ('torch', 'bitfront.spaces') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
