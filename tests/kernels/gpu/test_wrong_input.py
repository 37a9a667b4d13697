"""What GPU kernels are given and must not run on is refused, with the rule and the value."""

import os
from collections.abc import Callable, Iterator

import pytest
import torch

from bitfront.kernels import (
    BINARY,
    CodeFormat,
    Conv2dGeometry,
    PackedBits,
    PackedCodes,
    pack,
    pack_codes,
)
from bitfront.kernels.gpu import (
    Affine,
    Requantise,
    Threshold,
    Tile,
    conv2d,
    gemm,
    pack_nchw,
    prepare_product,
    prepare_weight,
)
from bitfront.kernels.gpu import pack as gpu_pack
from bitfront.kernels.gpu import pack_codes as gpu_pack_codes

Refusal = tuple[str, Callable[[], object], type[Exception], str]


def refusals() -> Iterator[Refusal]:
    def signs(*shape: int) -> PackedBits:
        return pack(torch.randn(shape))

    x, weight = signs(2, 5, 5, 40), prepare_weight(signs(8, 3, 3, 40))
    row, matrix = signs(4, 40), prepare_weight(signs(8, 40))
    dirty = PackedBits(words=row.words | (1 << 20), channels=40, popcount=row.popcount)
    two = CodeFormat(bits=2, coding="unsigned")
    ones, flips = torch.ones(8), torch.ones(8, dtype=torch.bool)
    levels = torch.zeros(4, 8, dtype=torch.int32)

    def product(**arguments: object) -> object:
        return gemm(row, matrix, **{"method": "popcount", **arguments})

    yield "tensor", lambda: gemm(row.words, matrix, method="int8"), TypeError, "PackedCodes"
    yield "weight", lambda: gemm(row, row, method="int8"), TypeError, "GpuWeight"
    yield "axes", lambda: gemm(x, matrix, method="int8"), ValueError, "rows, words"
    yield "map", lambda: conv2d(row, weight, method="int8"), ValueError, r"\[B, H, W, words\]"
    yield "channels", lambda: gemm(signs(4, 41), matrix, method="int8"), ValueError, "channels"
    yield "padding bits", lambda: gemm(dirty, matrix, method="int8"), ValueError, "have 0 in bits"
    yield "window", lambda: conv2d(x, weight, method="int8", dilation=9), ValueError, "dilation"
    yield "fill", lambda: conv2d(x, weight, method="int8", fill=3), ValueError, "fill"
    yield "fill's name", lambda: conv2d(x, weight, method="int8", fill="same"), ValueError, "fill"
    yield "fill's type", lambda: conv2d(x, weight, method="int8", fill=0.5), TypeError, "fill"
    yield "method", lambda: product(method="xor"), ValueError, "popcount, tensor_core, int8"
    yield "groups", lambda: prepare_weight(signs(8, 3, 3, 40), 3), ValueError, "groups"
    yield "weight's axes", lambda: prepare_weight(signs(2, 8, 40)), ValueError, "N, h, w, words"
    yield (
        "weight's padding bits",
        lambda: prepare_weight(dirty),
        ValueError,
        "have 0 in bits",
    )
    yield "finish", lambda: product(finish=len), TypeError, "Affine"
    yield "scale", lambda: product(finish=Affine(scale=ones[1:], shift=ones)), ValueError, r"\[8\]"
    yield (
        "scale's dtype",
        lambda: product(finish=Affine(scale=ones.double(), shift=ones)),
        ValueError,
        "`scale` must be torch.float32",
    )
    yield (
        "result's dtype",
        lambda: product(finish=Affine(scale=ones, shift=ones, dtype=torch.float16)),
        ValueError,
        "bfloat16",
    )
    alone = Affine(scale=ones, shift=ones, rectifies=True, shift_after=ones)
    yield "half a norm", lambda: product(finish=alone), ValueError, "must come together"
    bare = Affine(scale=ones, shift=ones, scale_after=ones, shift_after=ones)
    yield "a norm without a ReLU", lambda: product(finish=bare), ValueError, "follow `rectifies`"
    sparse = Affine(scale=ones.to_sparse(), shift=ones)
    yield "sparse", lambda: product(finish=sparse), ValueError, "dense and on"
    yield (
        "threshold",
        lambda: product(finish=Threshold(threshold=ones, flip=flips)),
        ValueError,
        "`threshold` must be torch.int32",
    )
    yield (
        "number of thresholds",
        lambda: product(finish=Requantise(thresholds=levels, flip=flips)),
        ValueError,
        r"`thresholds` must be torch.int32 \[3, 8\]",
    )
    yield (
        "axes of thresholds",
        lambda: product(finish=Requantise(thresholds=levels[0], flip=flips)),
        ValueError,
        r"must be a torch.Tensor \[2\^k - 1, 8\]",
    )
    yield (
        "no tensor",
        lambda: product(finish=Threshold(threshold=3, flip=flips)),
        TypeError,
        "`threshold` must be a torch.Tensor, but got int",
    )
    yield (
        "bits of a code",
        lambda: product(finish=Requantise(thresholds=levels.repeat(8, 1)[:31], flip=flips)),
        ValueError,
        "1 <= bits <= 4",
    )
    yield (
        "tile of tensor cores",
        lambda: product(method="tensor_core", tile=Tile(rows=8, outputs=8, words=4)),
        ValueError,
        "`tile` must be None",
    )
    yield "tile", lambda: Tile(rows=3, outputs=8, words=4), ValueError, "power of two"
    yield "tile's type", lambda: Tile(rows=4.0, outputs=8, words=4), TypeError, "rows"
    yield (
        "tile of int8",
        lambda: product(method="int8", tile=Tile(rows=8, outputs=16, words=2)),
        ValueError,
        "at least 16 rows",
    )
    yield (
        "tile of codes",
        lambda: product(
            tile=Tile(rows=8, outputs=16, words=4),
            finish=Threshold(threshold=levels[0], flip=flips),
        ),
        ValueError,
        "32 outputs",
    )
    yield (
        "words of a tile",
        lambda: product(tile=Tile(rows=16, outputs=16, words=8)),
        ValueError,
        "4 words",
    )
    yield (
        "few words of a tile",
        lambda: product(tile=Tile(rows=8, outputs=16, words=2)),
        ValueError,
        "4 words",
    )
    yield "geometry", lambda: prepare_product(3, BINARY, weight, method="int8"), TypeError, "conv"
    wide = CodeFormat(bits=8, coding="unsigned")
    long = pack_codes(torch.zeros(1, 40_000, dtype=torch.int64), wide)
    yield (
        "accumulator",
        lambda: gemm(long, prepare_weight(long), method="popcount"),
        ValueError,
        "int32 holds",
    )
    yield "number", lambda: gpu_pack(3), TypeError, "torch.Tensor"
    yield "unsigned", lambda: gpu_pack(torch.zeros(3, dtype=torch.uint8)), TypeError, "pack_codes"
    yield "nothing", lambda: gpu_pack(torch.zeros(0, 3)), ValueError, "elements"
    yield "three axes", lambda: pack_nchw(torch.zeros(1, 2, 3)), ValueError, r"\[B, C, H, W\]"
    yield "floats", lambda: gpu_pack_codes(torch.zeros(3), two), TypeError, "round floats first"
    yield (
        "format",
        lambda: gpu_pack_codes(torch.zeros(3, dtype=torch.int8), 2),
        TypeError,
        "CodeFormat",
    )


with torch.device("cuda" if os.environ["TRITON_INTERPRET"] == "0" else "cpu"):
    REFUSALS = list(refusals())


@pytest.mark.parametrize("case", REFUSALS, ids=lambda case: case[0])
def test_wrong_operands_are_refused(case: Refusal, device: torch.device) -> None:
    _, call, error, text = case
    with device, pytest.raises(error, match=text):
        call()


def test_a_prepared_product_refuses_other_maps_and_other_geometry(
    signs: Callable[..., PackedBits],
) -> None:
    weight = prepare_weight(signs(8, 3, 3, 40))
    geometry = Conv2dGeometry.of(image=(1, 5, 5, 40), weight=(8, 3, 3, 40))
    product = prepare_product(geometry, BINARY, weight, method="popcount")
    for words in (
        torch.zeros(1, 1, 5, 4, 2, dtype=torch.int32),
        torch.zeros(1, 1, 5, 5, 1, dtype=torch.int32),
        torch.zeros(1, 1, 5, 5, 2, dtype=torch.int64),
        torch.zeros(2, 1, 5, 5, 2, dtype=torch.int32),
        torch.zeros(1, 1, 5, 5, 2, dtype=torch.int32, device="meta"),
    ):
        with pytest.raises(ValueError, match="`words` must be"):
            product(words)
    other = Conv2dGeometry.of(image=(1, 5, 5, 40), weight=(9, 3, 3, 40))
    with pytest.raises(ValueError, match="`weight` must have"):
        prepare_product(other, BINARY, weight, method="popcount")


def test_wide_codes_are_not_made_from_few_planes(codes: Callable[..., PackedCodes]) -> None:
    weight = prepare_weight(codes((8, 40), CodeFormat(bits=2, coding="signed")))
    geometry = Conv2dGeometry.of(image=(1, 1, 4, 40), weight=(8, 1, 1, 40))
    product = prepare_product(
        geometry, CodeFormat(bits=3, coding="unsigned"), weight, method="int8"
    )
    with pytest.raises(ValueError, match=r"torch.int32 \[3, 1, 1, 4, 2\]"):
        product(torch.zeros(2, 1, 1, 4, 2, dtype=torch.int32))
