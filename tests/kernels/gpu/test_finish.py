"""Finishes inside the kernels against torch on the reference's sums: equality, floats as well."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bitfront.kernels import CodeFormat, PackedBits, PackedCodes, pack_codes, reference
from bitfront.kernels.gpu import (
    Affine,
    Requantise,
    Route,
    Threshold,
    conv2d,
    gemm,
    prepare_weight,
)

pytestmark = pytest.mark.usefixtures("poisoned")

METHODS: list[Route] = ["popcount", "int8"]
OUTPUTS = [1, 31, 32, 33, 70]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def words_of(codes: Tensor, bits: int) -> Tensor:
    return pack_codes(codes.int(), CodeFormat(bits=bits, coding="unsigned")).words


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("rows", [3, 20])
def test_affine_is_what_torch_computes(
    rows: int, dtype: torch.dtype, method: Route, signs: Callable[..., PackedBits]
) -> None:
    a, b = signs(rows, 127, seed=1), signs(70, 127, seed=2)
    scale, shift = (torch.randn(70, generator=generator(seed)) * 3 for seed in (3, 4))
    scale[:4], shift[:4] = torch.tensor([0.0, 1e36, -1e36, 1e-44]), torch.tensor([0.0, 1, -1, 0])
    scale, shift = scale.to(a.words.device), shift.to(a.words.device)
    finish = Affine(scale=scale, shift=shift, dtype=dtype)
    result = gemm(a, prepare_weight(b), method=method, finish=finish)
    sums = reference.xnor_gemm(a.words, b.words, 127)
    assert result.dtype == dtype
    assert torch.equal(result, (sums.float() * scale + shift).to(dtype))


@pytest.mark.parametrize("method", METHODS)
def test_bfloat16_ties_go_to_even(method: Route, signs: Callable[..., PackedBits]) -> None:
    """Sums of 257 to 511 need 9 bits where bfloat16 has 8: each second one is a tie."""
    a, b = signs(20, 1000, seed=1), signs(64, 1000, seed=2)
    sums = reference.xnor_gemm(a.words, b.words, 1000)
    shift = torch.arange(64, device=sums.device).float() * 4 + 257
    finish = Affine(scale=torch.ones_like(shift), shift=shift)
    result = gemm(a, prepare_weight(b), method=method, finish=finish)
    assert torch.equal(result, (sums + shift).bfloat16())
    nan = Affine(scale=torch.full_like(shift, torch.nan), shift=shift)
    assert bool(gemm(a, prepare_weight(b), method=method, finish=nan).isnan().all())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("outputs", OUTPUTS)
@pytest.mark.parametrize("rows", [3, 20])
def test_threshold_makes_the_bits_of_the_next_layer(
    rows: int, outputs: int, method: Route, signs: Callable[..., PackedBits]
) -> None:
    a, b = signs(rows, 63, seed=1), signs(outputs, 63, seed=2)
    sums = reference.xnor_gemm(a.words, b.words, 63)
    finish = Threshold(
        threshold=sums[rows // 2].clone(),
        flip=(torch.rand(outputs, generator=generator(3)) < 0.5).to(sums.device),
    )
    result = gemm(a, prepare_weight(b), method=method, finish=finish)
    assert torch.equal(result, words_of((sums >= finish.threshold) != finish.flip, 1)[0])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("outputs", [31, 70])
@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_requantise_counts_thresholds(
    bits: int, outputs: int, method: Route, codes: Callable[..., PackedCodes]
) -> None:
    format = CodeFormat(bits=2, coding="unsigned")
    a, b = codes((6, 63), format, 1), codes((outputs, 63), format, 2)
    sums = reference.bitserial_gemm(a, b)
    thresholds = torch.randint(0, 400, (2**bits - 1, outputs), generator=generator(3))
    finish = Requantise(
        thresholds=thresholds.sort(0).values.int().to(sums.device),
        flip=(torch.rand(outputs, generator=generator(4)) < 0.5).to(sums.device),
    )
    result = gemm(a, prepare_weight(b), method=method, finish=finish)
    passed = (sums[:, None] >= finish.thresholds).sum(1)
    expected = torch.where(finish.flip, 2**bits - 1 - passed, passed)
    assert finish.bits == bits
    assert torch.equal(result, words_of(expected, bits))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("finish", ["affine", "threshold", "requantise"])
@pytest.mark.parametrize(("groups", "share"), [(2, 32), (2, 40), (3, 1)])
def test_finishes_of_groups(
    groups: int, share: int, finish: str, method: Route, signs: Callable[..., PackedBits]
) -> None:
    """Also where a group's codes do not fill whole words."""
    outputs = groups * share
    x, weight = signs(2, 4, 5, 33 * groups, seed=1), signs(outputs, 3, 3, 33, seed=2)
    sums = reference.xnor_conv2d(x, weight, padding=1, groups=groups)
    flip = (torch.rand(outputs, generator=generator(3)) < 0.5).to(sums.device)
    kinds = {
        "affine": Affine(scale=flip + 0.3, shift=0.7 - flip.float(), dtype=torch.float32),
        "threshold": Threshold(threshold=flip.int() * 7 - 3, flip=flip),
        "requantise": Requantise(
            thresholds=torch.stack([flip.int() * 5 + level for level in (-9, 1, 9)]), flip=flip
        ),
    }
    result = conv2d(
        x, prepare_weight(weight, groups), method=method, padding=1, finish=kinds[finish]
    )
    passed = (sums[..., None, :] >= kinds["requantise"].thresholds).sum(-2)
    expected = {
        "affine": sums * kinds["affine"].scale + kinds["affine"].shift,
        "threshold": words_of((sums >= kinds["threshold"].threshold) != flip, 1)[0],
        "requantise": words_of(torch.where(flip, 3 - passed, passed), 2),
    }
    assert torch.equal(result, expected[finish])
