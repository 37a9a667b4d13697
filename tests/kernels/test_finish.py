"""What becomes of sums, by torch: the numbers themselves, and what is no finish."""

from dataclasses import replace

import pytest
import torch

from bitfront.kernels import cpu, finish, gpu, pack
from bitfront.kernels.cpu.finish import of_multiples
from bitfront.kernels.finish import Affine, Requantise, Threshold, check_finish, finished
from bitfront.kernels.packing import unpack_bits

SUMS = torch.tensor([[3, -3, 0], [-1, 5, 2]], dtype=torch.int32)
ONES = torch.ones(3)
FLIP = torch.tensor([False, True, False])


def test_cpu_and_gpu_have_one_finish() -> None:
    for name in ("Affine", "Threshold", "Finish"):
        assert getattr(cpu, name) is getattr(gpu, name) is getattr(finish, name)
    assert gpu.Requantise is Requantise


def test_floats() -> None:
    affine = Affine(scale=torch.tensor([2.0, -1.0, 0.5]), shift=torch.tensor([0.0, 1.0, -4.0]))
    assert finished(SUMS, affine).tolist() == [[6, 4, -4], [-2, -4, -3]]
    relu = replace(affine, rectifies=True)
    assert finished(SUMS, relu).tolist() == [[6, 4, 0], [0, 0, 0]]
    norm = replace(relu, scale_after=-ONES, shift_after=ONES / 2)
    assert finished(SUMS, norm).tolist() == [[-5.5, -3.5, 0.5], [0.5, 0.5, 0.5]]
    # 257 lies between 256 and 258
    odd = Affine(scale=ONES, shift=257 - SUMS[0].float(), dtype=torch.bfloat16)
    assert finished(SUMS[0], odd).tolist() == [256, 256, 256]
    assert finished(SUMS, None) is SUMS


def test_bits_and_codes() -> None:
    bits = Threshold(threshold=torch.tensor([-1, 5, 1], dtype=torch.int32), flip=FLIP)
    made = unpack_bits(finished(SUMS, bits), 3)
    assert made.tolist() == [[1, 1, 0], [1, 0, 1]]
    levels = torch.tensor([[-2, 1, 2], [0, 2, 3], [3, 5, 4]], dtype=torch.int32)
    low, high = unpack_bits(finished(SUMS, Requantise(thresholds=levels, flip=FLIP)), 3)
    assert (low + 2 * high).tolist() == [[3, 3, 0], [1, 0, 1]]


@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        (3, TypeError, "a Threshold, a Requantise or None, but got int"),
        (Affine(scale=[1.0], shift=ONES), TypeError, "`scale` must be a torch.Tensor, but got"),
        (Affine(scale=ONES, shift=ONES[:2]), ValueError, r"`shift` must be torch.float32 \[3\]"),
        (Affine(scale=ONES.double(), shift=ONES), ValueError, "`scale` must be torch.float32"),
        (Affine(scale=ONES, shift=ONES.to("meta")), ValueError, "on cpu, but got .* on meta"),
        (Affine(scale=ONES.to_sparse(), shift=ONES), ValueError, "dense and on cpu"),
        (Affine(scale=ONES, shift=ONES, dtype=torch.float16), ValueError, "float32 or .*bfloat16"),
        (
            Affine(scale=ONES, shift=ONES, rectifies=True, scale_after=ONES),
            ValueError,
            "must come together .* got scale_after with rectifies=True",
        ),
        (
            Affine(scale=ONES, shift=ONES, scale_after=ONES, shift_after=ONES),
            ValueError,
            "follow `rectifies`, but got scale_after and shift_after with rectifies=False",
        ),
        (Threshold(threshold=ONES, flip=FLIP), ValueError, "`threshold` must be torch.int32"),
        (Threshold(threshold=SUMS[0], flip=SUMS[0]), ValueError, "`flip` must be torch.bool"),
        (Requantise(thresholds=SUMS[0], flip=FLIP), ValueError, r"Tensor \[2\^k - 1, 3\]"),
        (Requantise(thresholds=SUMS, flip=FLIP), ValueError, r"torch.int32 \[1, 3\]"),
        (Requantise(thresholds=SUMS[:0], flip=FLIP), ValueError, "1 <= bits <= 4"),
        (
            Requantise(thresholds=SUMS[:1].repeat(31, 1), flip=FLIP),
            ValueError,
            "1 <= bits <= 4.*bits=5",
        ),
    ],
)
def test_what_is_no_finish(wrong, error, text):
    with pytest.raises(error, match=text):
        check_finish(wrong, 3, torch.device("cpu"))


def test_what_cpu_kernels_do_not_make() -> None:
    row, weight = pack(torch.randn(2, 40)), cpu.prepare_weight(pack(torch.randn(3, 40)))
    floats = Affine(scale=ONES, shift=ONES, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="torch.float32 on the CPU, but got torch.bfloat16"):
        cpu.gemm(row, weight, finish=floats)
    codes = Requantise(thresholds=SUMS[:1], flip=FLIP)
    with pytest.raises(ValueError, match="store no codes of several bits, but got a Requantise"):
        cpu.gemm(row, weight, finish=codes)
    assert of_multiples(codes, 2) is None
