"""Finishes inside the kernels against torch on the reference's sums: equality, floats as well."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bitfront.kernels import (
    BINARY,
    CodeFormat,
    Conv2dGeometry,
    PackedBits,
    PackedCodes,
    pack_codes,
    reference,
)
from bitfront.kernels.finish import finished
from bitfront.kernels.gpu import (
    Affine,
    Finish,
    Requantise,
    Route,
    Threshold,
    conv2d,
    gemm,
    prepare_product,
    prepare_weight,
)
from bitfront.kernels.gpu.finish import require_out, row_pitch

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
    finish = Affine(scale=torch.ones_like(shift), shift=shift, dtype=torch.bfloat16)
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
        "affine": Affine(scale=flip + 0.3, shift=0.7 - flip.float()),
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


def run_of(device: torch.device, shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, ...]:
    """A map with something in it, and a run of its channels that begins and ends anywhere."""
    wide = torch.randn(*shape[:-1], shape[-1] + 9, generator=generator(7)) * 8
    wide = wide.to(device, dtype)
    return wide, wide[..., 4 : 4 + shape[-1]]


STEPS = {
    "ReLU": {"rectifies": True},
    "norm": {"rectifies": True, "after": True},
    "merged": {"merges": True},
    "all": {"rectifies": True, "after": True, "merges": True},
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize(("groups", "outputs"), [(1, 33), (3, 6)])
def test_all_that_a_batch_norm_may_meet(
    groups: int,
    outputs: int,
    steps: str,
    dtype: torch.dtype,
    method: Route,
    signs: Callable[..., PackedBits],
) -> None:
    x, weight = signs(2, 4, 5, 32 * groups, seed=1), signs(outputs, 3, 3, 32, seed=2)
    sums = reference.xnor_conv2d(x, weight, padding=1, groups=groups)
    scale, shift, *after = torch.randn(4, outputs, generator=generator(3)).to(sums.device).unbind()
    arguments = {"dtype": dtype, **STEPS[steps]}
    if arguments.pop("after", False):
        arguments |= {"scale_after": after[0], "shift_after": after[1]}
    finish = Affine(scale=scale, shift=shift, **arguments)
    conv = Conv2dGeometry.of(
        image=(2, 4, 5, x.channels), weight=(outputs, 3, 3, 32), padding=1, groups=groups
    )
    product = prepare_product(
        conv, BINARY, prepare_weight(weight, groups), method=method, finish=finish
    )
    wide, run = run_of(sums.device, tuple(sums.shape), dtype)
    y = finished(sums, replace(finish, dtype=torch.float32))
    expected = wide.clone()
    # rounded once, after the sum
    expected[..., 4:-5] = ((run.float() + y) if finish.merges else y).to(dtype)
    assert product(x.words[None], out=run) is run
    assert torch.equal(wide, expected)
    if not finish.merges:
        assert torch.equal(product(x.words[None]), finished(sums, finish))


@pytest.mark.parametrize("method", METHODS)
def test_what_is_no_number_stays_so(method: Route, signs: Callable[..., PackedBits]) -> None:
    a, b = signs(3, 63, seed=1), signs(5, 63, seed=2)
    scale = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0, -0.0]).to(a.words.device)
    ones = torch.ones_like(scale)
    finish = Affine(
        scale=scale, shift=-0 * ones, rectifies=True, scale_after=ones, shift_after=-0 * ones
    )
    result = gemm(a, prepare_weight(b), method=method, finish=finish)
    expected = finished(reference.xnor_gemm(a.words, b.words, 63), finish)
    assert torch.equal(result.isnan(), expected.isnan())
    assert torch.equal(result.nan_to_num(), expected.nan_to_num())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["sums", "bits", "codes"])
@pytest.mark.parametrize(("groups", "outputs"), [(1, 40), (2, 6)])
def test_whole_numbers_are_written_where_they_shall_be(
    groups: int, outputs: int, kind: str, method: Route, signs: Callable[..., PackedBits]
) -> None:
    """Also where torch finishes the sums, since groups share words."""
    x, weight = signs(2, 3, 5, 32 * groups, seed=1), signs(outputs, 1, 1, 32, seed=2)
    sums = reference.xnor_conv2d(x, weight, groups=groups)
    levels = torch.arange(outputs, dtype=torch.int32, device=sums.device) % 5 - 2
    kinds: dict[str, Finish | None] = {
        "sums": None,
        "bits": Threshold(threshold=levels, flip=levels > 0),
        "codes": Requantise(
            thresholds=torch.stack([levels - 4, levels, levels + 2]), flip=levels > 0
        ),
    }
    conv = Conv2dGeometry.of(image=(2, 3, 5, x.channels), weight=(outputs, 1, 1, 32), groups=groups)
    product = prepare_product(
        conv, BINARY, prepare_weight(weight, groups), method=method, finish=kinds[kind]
    )
    right = finished(sums, kinds[kind])
    wide, run = run_of(sums.device, tuple(right.shape), torch.int32)
    expected = wide.clone()
    expected[..., 4:-5] = right
    assert product(x.words[None], out=run) is run
    assert torch.equal(wide, expected)


def test_rows_have_one_distance() -> None:
    wide = torch.zeros(2, 3, 4, 40)
    assert row_pitch(wide) == row_pitch(wide[..., 3:20]) == row_pitch(wide[1:, ..., 5:6]) == 40
    assert row_pitch(wide[:, :1, :1, :7]) == 3 * 4 * 40
    assert row_pitch(wide[:1, :, 2:3, :7]) == 4 * 40
    # a single row has no next one
    assert row_pitch(torch.zeros(1, 1, 1, 40)[..., :7]) == 7
    assert row_pitch(torch.zeros(5, 7)) == row_pitch(torch.zeros(3, 2, 5, 1, 7)) == 7
    for wrong in (
        wide[:, :, 1:],
        wide[:, 1:],
        wide[..., ::2],
        wide.permute(0, 3, 1, 2),
        wide[..., :1, :].expand(2, 3, 4, 40),
        torch.zeros(4, 2, 3, 5, 7).transpose(0, 1),
        torch.zeros(2, 3, 4, 5, 7).movedim(3, 0),
        torch.empty_strided((1, 2, 2, 1), (1, 2**30, 2**29, 1), device="meta"),
        torch.empty_strided((4, 1, 1, 2, 1), (2**30, 1, 1, 1, 1), device="meta"),
    ):
        with pytest.raises(ValueError, match="one distance from each row"):
            row_pitch(wrong)


def test_wrong_results_are_refused(signs: Callable[..., PackedBits]) -> None:
    x, weight = signs(2, 4, 5, 40), signs(8, 1, 1, 40)
    device = x.words.device
    conv = Conv2dGeometry.of(image=(2, 4, 5, 40), weight=(8, 1, 1, 40))
    ones = torch.ones(8, device=device)
    finish = Affine(scale=ones, shift=ones, merges=True)
    product = prepare_product(conv, BINARY, prepare_weight(weight), method="int8", finish=finish)
    fits = torch.zeros(2, 4, 5, 8, device=device)
    product(x.words[None], out=fits)
    with pytest.raises(ValueError, match="merges needs `out`"):
        product(x.words[None])
    with pytest.raises(ValueError, match="for a prepared product"):
        conv2d(x, prepare_weight(weight), method="int8", finish=finish)
    for wrong in (fits[:1], fits.bfloat16(), fits.int(), fits.to("meta")):
        with pytest.raises(ValueError, match=r"`out` must be torch.float32 \[2, 4, 5, 8\] on"):
            product(x.words[None], out=wrong)
    with pytest.raises(ValueError, match="one distance"):
        product(x.words[None], out=fits.transpose(1, 2).contiguous().transpose(1, 2))
    with pytest.raises(TypeError, match="must be a torch.Tensor, but got list"):
        require_out([], (1,), torch.int32, device)
