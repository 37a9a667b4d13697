"""Products by counting bits against the reference: equality."""

import itertools
from collections.abc import Callable

import pytest
import torch

from bitfront.kernels import BINARY, CodeFormat, PackedBits, PackedCodes, pack, reference
from bitfront.kernels.gpu import Tile, gemm, prepare_weight

pytestmark = pytest.mark.usefixtures("poisoned")

CHANNELS = [1, 31, 32, 33, 63, 127, 1000]
SHAPES = [(1, 1), (1, 33), (8, 9), (9, 64), (70, 70)]
FORMATS = [
    CodeFormat(bits=bits, coding=coding)
    for bits, coding in (
        (1, "symmetric"),
        (1, "unsigned"),
        (2, "symmetric"),
        (2, "unsigned"),
        (3, "signed"),
        (1, "signed"),
    )
]


@pytest.mark.parametrize("k", CHANNELS)
@pytest.mark.parametrize(("m", "n"), SHAPES)
def test_gemm_of_signs(m: int, n: int, k: int, signs: Callable[..., PackedBits]) -> None:
    a, b = signs(m, k, seed=1), signs(n, k, seed=2)
    result = gemm(a, prepare_weight(b), method="popcount")
    assert torch.equal(result, reference.xnor_gemm(a.words, b.words, k))


@pytest.mark.parametrize("rows", [5, 20], ids=["few rows", "rows"])
@pytest.mark.parametrize(
    ("x_format", "w_format"), list(itertools.product(FORMATS, FORMATS)), ids=repr
)
def test_gemm_of_codes(
    x_format: CodeFormat, w_format: CodeFormat, rows: int, codes: Callable[..., PackedCodes]
) -> None:
    a, b = codes((rows, 70), x_format, 1), codes((35, 70), w_format, 2)
    result = gemm(a, prepare_weight(b), method="popcount")
    assert torch.equal(result, reference.bitserial_gemm(a, b))


@pytest.mark.parametrize("coding", ["unsigned", "signed", "symmetric"])
@pytest.mark.parametrize("bits", [4, 5, 6, 7, 8])
def test_gemm_of_wide_codes(bits: int, coding: str, codes: Callable[..., PackedCodes]) -> None:
    """Every number of planes of the maps, then of the weights."""
    wide = CodeFormat(bits=bits, coding=coding)
    for x_format, w_format in ((wide, BINARY), (FORMATS[3], wide)):
        a, b = codes((3, 70), x_format, 1), codes((5, 70), w_format, 2)
        result = gemm(a, prepare_weight(b), method="popcount")
        assert torch.equal(result, reference.bitserial_gemm(a, b))


@pytest.mark.parametrize(
    "tile",
    [
        Tile(rows=1, outputs=2, words=4),
        Tile(rows=2, outputs=16, words=8),
        Tile(rows=8, outputs=4, words=64),
        Tile(rows=16, outputs=2, words=4),
        Tile(rows=32, outputs=8, words=4),
    ],
    ids=lambda tile: f"{tile.rows}x{tile.outputs}x{tile.words}",
)
def test_every_cut_gives_the_same(tile: Tile, codes: Callable[..., PackedCodes]) -> None:
    format = CodeFormat(bits=2, coding="unsigned")
    a, b = codes((3, 130), format, 1), codes((5, 130), BINARY, 2)
    result = gemm(a, prepare_weight(b), method="popcount", tile=tile)
    assert torch.equal(result, reference.bitserial_gemm(a, b))


@pytest.mark.parametrize("rows", [2, 16])
def test_every_bit_of_a_long_row_differs(rows: int, device: torch.device) -> None:
    k = 32 * 31 + 7
    a, b = pack(torch.ones(rows, k, device=device)), pack(-torch.ones(40, k, device=device))
    result = gemm(a, prepare_weight(b), method="popcount")
    assert torch.equal(result, torch.full_like(result, -k))


def test_strided_words_are_read_as_they_are(signs: Callable[..., PackedBits]) -> None:
    packed, weight = signs(10, 70), signs(33, 70, seed=1)
    every_other = PackedBits(words=packed.words[::2], channels=70, popcount=packed.popcount[::2])
    result = gemm(every_other, prepare_weight(weight), method="popcount")
    assert torch.equal(result, reference.xnor_gemm(every_other.words, weight.words, 70))
