"""Products on int8 tensor cores against the reference: equality."""

import itertools
from collections.abc import Callable

import pytest
import torch

from bitfront.kernels import (
    BINARY,
    CodeFormat,
    PackedBits,
    PackedCodes,
    pack,
    reference,
    word_count,
)
from bitfront.kernels.gpu import Tile, gemm, prepare_weight
from bitfront.kernels.gpu.constants import ByteCode

pytestmark = pytest.mark.usefixtures("poisoned")

CHANNELS = [1, 31, 32, 33, 63, 127, 1000]
SHAPES = [(1, 1), (1, 33), (31, 2), (9, 64), (130, 70)]
CODINGS = ["unsigned", "signed", "symmetric"]
FORMATS = [CodeFormat(bits=bits, coding=coding) for bits in (1, 3, 8) for coding in CODINGS]


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("bits", range(1, 9))
def test_a_code_is_an_int8_and_two_constants(bits: int, coding: str) -> None:
    format = CodeFormat(bits=bits, coding=coding)
    byte = ByteCode.of(format)
    for value in range(format.low, format.high + 1, format.step):
        int8 = (format.encode(value) ^ byte.flip) * byte.scale + byte.offset
        assert -128 <= int8 <= 127
        assert abs(int8) <= byte.largest(format)
        assert byte.step * int8 + byte.bias == value
    fits = format.low >= -128 and format.high <= 127
    assert (byte.bias == 0) == fits
    assert byte.zero == byte.offset + byte.flip * byte.scale


@pytest.mark.parametrize("k", CHANNELS)
@pytest.mark.parametrize(("m", "n"), SHAPES)
def test_gemm_of_signs(m: int, n: int, k: int, signs: Callable[..., PackedBits]) -> None:
    a, b = signs(m, k, seed=1), signs(n, k, seed=2)
    result = gemm(a, prepare_weight(b), method="int8")
    assert torch.equal(result, reference.xnor_gemm(a.words, b.words, k))


@pytest.mark.parametrize(
    ("x_format", "w_format"), list(itertools.product(FORMATS, FORMATS)), ids=repr
)
def test_gemm_of_codes(
    x_format: CodeFormat, w_format: CodeFormat, codes: Callable[..., PackedCodes]
) -> None:
    a, b = codes((5, 70), x_format, 1), codes((35, 70), w_format, 2)
    result = gemm(a, prepare_weight(b), method="int8")
    assert torch.equal(result, reference.bitserial_gemm(a, b))


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("bits", range(1, 9))
def test_every_number_of_planes(bits: int, coding: str, codes: Callable[..., PackedCodes]) -> None:
    wide = CodeFormat(bits=bits, coding=coding)
    for x_format, w_format in ((wide, BINARY), (BINARY, wide)):
        a, b = codes((3, 70), x_format, 1), codes((5, 70), w_format, 2)
        result = gemm(a, prepare_weight(b), method="int8")
        assert torch.equal(result, reference.bitserial_gemm(a, b))


@pytest.mark.parametrize(
    "tile",
    [
        Tile(rows=16, outputs=16, words=1),
        Tile(rows=32, outputs=16, words=4),
        Tile(rows=16, outputs=64, words=8),
    ],
    ids=lambda tile: f"{tile.rows}x{tile.outputs}x{tile.words}",
)
def test_every_cut_gives_the_same(tile: Tile, codes: Callable[..., PackedCodes]) -> None:
    x_format = CodeFormat(bits=8, coding="symmetric")
    w_format = CodeFormat(bits=8, coding="unsigned")
    a, b = codes((20, 150), x_format, 1), codes((18, 150), w_format, 2)
    result = gemm(a, prepare_weight(b), method="int8", tile=tile)
    assert torch.equal(result, reference.bitserial_gemm(a, b))


def test_every_product_of_a_long_row_is_the_largest(codes: Callable[..., PackedCodes]) -> None:
    """The second rows hold only the largest value, so their sum is the largest possible."""
    format = CodeFormat(bits=8, coding="symmetric")
    a, b = codes((3, 1000), format, 1), codes((4, 1000), format, 2)
    result = gemm(a, prepare_weight(b), method="int8")
    assert result[1, 1] == 1000 * 255**2
    assert torch.equal(result, reference.bitserial_gemm(a, b))


def test_a_sum_that_may_saturate_is_refused(device: torch.device) -> None:
    """int32 holds the sum of the channels, but not with the padding of the last words."""
    format = CodeFormat(bits=7, coding="symmetric")
    k = (2**31 - 1) // 127**2
    words = torch.zeros(7, 1, word_count(k), dtype=torch.int32, device=device)
    a = PackedCodes(words=words, channels=k, format=format, popcount=words[..., 0])
    with pytest.raises(ValueError, match="saturate.*popcount route"):
        gemm(a, prepare_weight(a), method="int8")


def test_every_bit_of_a_long_row_differs(device: torch.device) -> None:
    k = 32 * 31 + 7
    a, b = pack(torch.ones(2, k, device=device)), pack(-torch.ones(40, k, device=device))
    result = gemm(a, prepare_weight(b), method="int8")
    assert torch.equal(result, torch.full_like(result, -k))
