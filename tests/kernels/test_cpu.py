"""The compiled kernels against the reference: equality on every variant that this CPU runs."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from bitfront.kernels import (
    BINARY,
    CodeFormat,
    Conv2dGeometry,
    Fill,
    PackedBits,
    PackedCodes,
    cpu,
    native_library,
    pack,
    pack_codes,
    reference,
)
from bitfront.kernels.cpu import conv, packer, product
from bitfront.kernels.packing import unpack_bits

CHANNELS = [1, 31, 32, 33, 63, 127, 1000]
FILLS: list[Fill] = [-1, 0, 1, "replicate"]
VARIANTS = [*cpu.variants(), None]
FORMATS = [
    CodeFormat(bits=bits, coding=coding)
    for bits, coding in (
        (1, "symmetric"),
        (2, "unsigned"),
        (3, "signed"),
        (2, "symmetric"),
        (8, "unsigned"),
    )
]


@pytest.fixture(autouse=True)
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh memory holds rubbish, so a value that a kernel forgets to write is seen."""
    empty = torch.empty

    def rubbish(*args: object, **kwargs: object) -> Tensor:
        fresh = empty(*args, **kwargs)
        if fresh.dtype == torch.int32:
            fresh.fill_(0x0BADF00D)
        elif fresh.dtype == torch.float32:
            fresh.fill_(float("nan"))
        return fresh

    monkeypatch.setattr(torch, "empty", rubbish)


@pytest.fixture(params=VARIANTS, ids=str)
def variant(request: pytest.FixtureRequest) -> str | None:
    return request.param


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def signs(*shape: int, seed: int = 0) -> PackedBits:
    """Random signs, and rows of only one sign among them."""
    x = torch.randn(shape, generator=generator(seed))
    x[0] = -1.0
    if shape[0] > 1:
        x[1] = 1.0
    return pack(x)


def codes(shape: tuple[int, ...], format: CodeFormat, seed: int = 0) -> PackedCodes:
    numbers = torch.randint(0, 2**format.bits, shape, generator=generator(seed))
    return pack_codes(format.low + format.step * numbers, format)


def test_this_build_has_the_compiled_library() -> None:
    assert cpu.variants()[0] == "portable"
    assert set(cpu.variants()) <= set(native_library.VARIANTS)


@pytest.mark.parametrize("k", CHANNELS)
@pytest.mark.parametrize(("m", "n"), [(1, 1), (1, 33), (31, 2), (9, 64)])
def test_gemm_equals_the_reference(m: int, n: int, k: int, variant: str | None) -> None:
    a, b = signs(m, k, seed=1), signs(n, k, seed=2)
    result = cpu.gemm(a, cpu.prepare_weight(b), variant=variant)
    assert torch.equal(result, reference.xnor_gemm(a.words, b.words, k))


@pytest.mark.parametrize("x_format", FORMATS, ids=repr)
@pytest.mark.parametrize("w_format", FORMATS, ids=repr)
def test_bit_serial_gemm_equals_the_reference(
    x_format: CodeFormat, w_format: CodeFormat, variant: str | None
) -> None:
    a, b = codes((5, 70), x_format, 1), codes((35, 70), w_format, 2)
    result = cpu.gemm(a, cpu.prepare_weight(b), variant=variant)
    assert torch.equal(result, reference.bitserial_gemm(a, b))


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("kernel", "padding"), [(1, 0), (3, 0), (3, 1), (1, 1)])
@pytest.mark.parametrize("channels", [1, 31, 32, 33, 127])
def test_conv2d_equals_the_reference(
    channels: int, kernel: int, padding: int, stride: int, fill: Fill, variant: str | None
) -> None:
    x = signs(2, 7, 9, channels, seed=3)
    weight = signs(37, kernel, kernel, channels, seed=4)
    arguments = {"stride": stride, "padding": padding, "fill": fill}
    result = cpu.conv2d(x, cpu.prepare_weight(weight), variant=variant, **arguments)
    assert torch.equal(result, reference.xnor_conv2d(x, weight, **arguments))


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_conv2d_on_any_geometry(data: st.DataObject) -> None:
    draw = data.draw
    groups = draw(st.integers(1, 4), label="groups")
    channels = groups * draw(st.sampled_from([1, 5, 31, 32, 33, 64]), label="channels / groups")
    outputs = groups * draw(st.sampled_from([1, 3, 31, 32, 40]), label="outputs / groups")
    kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    dilation = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    padding = (draw(st.integers(0, 3)), draw(st.integers(0, 3)))
    stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    height, width = (
        draw(st.integers(max(1, d * (k - 1) + 1 - 2 * p), 11))
        for d, k, p in zip(dilation, kernel, padding, strict=True)
    )
    x_format = draw(st.sampled_from(FORMATS), label="x")
    w_format = draw(st.sampled_from(FORMATS), label="weight")
    batch = draw(st.integers(1, 3))
    x = codes((batch, height, width, channels), x_format, draw(st.integers(0, 99)))
    weight = codes((outputs, *kernel, channels // groups), w_format, draw(st.integers(0, 99)))
    fill = draw(st.sampled_from([0, x_format.low, x_format.high, "replicate"]), label="fill")
    arguments = {"stride": stride, "padding": padding, "dilation": dilation, "fill": fill}
    expected = reference.bitserial_conv2d(x, weight, groups=groups, **arguments)
    prepared = cpu.prepare_weight(weight, groups)
    chosen = draw(st.sampled_from(VARIANTS), label="variant")
    threads = draw(st.sampled_from([1, 2, 3]), label="threads")
    result = cpu.conv2d(x, prepared, variant=chosen, threads=threads, **arguments)
    assert torch.equal(result, expected)
    affine = cpu.Affine(
        scale=torch.randn(outputs, generator=generator(5)),
        shift=torch.randn(outputs, generator=generator(6)),
    )
    floats = cpu.conv2d(x, prepared, finish=affine, variant=chosen, threads=threads, **arguments)
    assert torch.equal(floats, expected.float() * affine.scale + affine.shift)
    threshold = cpu.Threshold(
        threshold=expected.flatten(0, 2).float().mean(0).round().int(),
        flip=torch.rand(outputs, generator=generator(7)) < 0.5,
    )
    bits = cpu.conv2d(x, prepared, finish=threshold, variant=chosen, threads=threads, **arguments)
    wanted = (expected >= threshold.threshold) != threshold.flip
    assert torch.equal(bits, pack_codes(wanted, CodeFormat(bits=1, coding="unsigned")).words[0])


def test_bytes_do_not_overflow_in_a_long_row(variant: str | None) -> None:
    """Every bit differs: the largest count that a partial sum can hold."""
    k = 32 * 100 + 7
    a, b = pack(torch.ones(2, k)), pack(-torch.ones(40, k))
    result = cpu.gemm(a, cpu.prepare_weight(b), variant=variant)
    assert torch.equal(result, torch.full((2, 40), -k, dtype=torch.int32))


def test_without_the_library_the_reference_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = signs(2, 5, 5, 40), signs(33, 3, 3, 20, seed=1)
    weight = PackedBits(words=weight.words, channels=20, popcount=weight.popcount)
    prepared = cpu.prepare_weight(signs(34, 3, 3, 20, seed=1), groups=2)
    affine = cpu.Affine(scale=torch.full((34,), 0.5), shift=torch.ones(34))
    with_library = cpu.conv2d(x, prepared, padding=1, finish=affine)
    rectified = replace(affine, rectifies=True, scale_after=affine.shift, shift_after=affine.scale)
    rectified_with_library = cpu.conv2d(x, prepared, padding=1, finish=rectified)
    dealt = cpu.interleave(x.words, x.words.flip(0))
    for module in (conv, product, packer, sys.modules["bitfront.kernels.cpu.interleave"]):
        monkeypatch.setattr(module, "load", lambda: None)
    assert torch.equal(cpu.conv2d(x, prepared, padding=1, finish=affine), with_library)
    results = cpu.conv2d(x, prepared, padding=1, finish=rectified)
    assert torch.equal(results, rectified_with_library)
    assert torch.equal(cpu.interleave(x.words, x.words.flip(0)), dealt)
    assert cpu.variants() == ()


def test_a_missing_library_is_named_once_in_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(native_library, "EXTENSION_SUFFIXES", [".not-built"])
    native_library.load.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match="without its compiled CPU kernels"):
            assert native_library.load() is None
    finally:
        native_library.load.cache_clear()


def refusals() -> Iterator[tuple[str, Callable[[], object], type[Exception], str]]:
    x, weight = signs(2, 5, 5, 40), cpu.prepare_weight(signs(8, 3, 3, 40))
    row, matrix = signs(4, 40), cpu.prepare_weight(signs(8, 40))
    dirty = PackedBits(words=row.words | (1 << 20), channels=40, popcount=row.popcount)
    huge = CodeFormat(bits=8, coding="unsigned")
    short = cpu.Affine(scale=torch.ones(7), shift=torch.ones(7))
    doubles = cpu.Affine(scale=torch.ones(8).double(), shift=torch.ones(8))
    yield "tensor", lambda: cpu.gemm(row.words, matrix), TypeError, "PackedCodes"
    yield "weight", lambda: cpu.gemm(row, row), TypeError, "CpuWeight"
    yield "axes", lambda: cpu.gemm(x, matrix), ValueError, "rows, words"
    yield "map", lambda: cpu.conv2d(row, weight), ValueError, r"\[B, H, W, words\]"
    yield "channels", lambda: cpu.gemm(signs(4, 41), matrix), ValueError, "weight channels"
    yield "padding bits", lambda: cpu.gemm(dirty, matrix), ValueError, "must have 0 in bits"
    yield "window", lambda: cpu.conv2d(x, weight, dilation=9), ValueError, "dilation"
    yield "fill", lambda: cpu.conv2d(x, weight, fill=3), ValueError, "fill"
    yield "variant", lambda: cpu.gemm(row, matrix, variant="mmx"), ValueError, "variant"
    yield "threads", lambda: cpu.gemm(row, matrix, threads=0), ValueError, "threads"
    yield "finish", lambda: cpu.gemm(row, matrix, finish=short), ValueError, r"\[8\]"
    yield "dtype", lambda: cpu.gemm(row, matrix, finish=doubles), ValueError, "float32"
    alone = cpu.Affine(scale=torch.ones(8), shift=torch.ones(8), scale_after=torch.ones(8))
    yield "after", lambda: cpu.gemm(row, matrix, finish=alone), ValueError, "come together"
    bare = replace(alone, shift_after=torch.ones(8))
    yield "no ReLU", lambda: cpu.gemm(row, matrix, finish=bare), ValueError, "follow `rectifies`"
    bits = row.words
    yield "deal", lambda: cpu.interleave(bits, bits[:2]), ValueError, "one shape"
    yield "dealt", lambda: cpu.interleave(bits, bits, bits), ValueError, "contiguous"
    yield "deal floats", lambda: cpu.interleave(bits, bits.float()), TypeError, "int32 words"
    yield "deal mmx", lambda: cpu.interleave(bits, bits, variant="mmx"), ValueError, "variant"
    yield "groups", lambda: cpu.prepare_weight(signs(8, 3, 3, 40), 3), ValueError, "groups"
    yield (
        "accumulator",
        lambda: cpu.gemm(codes((1, 40_000), huge), cpu.prepare_weight(codes((1, 40_000), huge, 1))),
        ValueError,
        "int32 holds",
    )


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize(("channels", "groups"), [(40, 1), (64, 2), (40, 2)])
@pytest.mark.parametrize("nchw", [False, True])
def test_floats_are_packed_inside_the_border(
    nchw: bool, channels: int, groups: int, fill: Fill, variant: str | None
) -> None:
    weight = signs(6, 3, 3, channels // groups, seed=1)
    geometry = Conv2dGeometry.of(
        image=(2, 5, 19, channels),
        weight=weight.words.shape[:3] + (channels // groups,),
        padding=1,
        groups=groups,
    )
    product = cpu.prepare_product(
        geometry, BINARY, cpu.prepare_weight(weight, groups), fill=fill, variant=variant
    )
    assert product is not None
    # twice: the border is kept between calls
    for seed in (2, 3):
        x = torch.randn(2, 5, 19, channels, generator=generator(seed))
        if nchw:
            x = x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
        expected = reference.xnor_conv2d(pack(x), weight, padding=1, groups=groups, fill=fill)
        assert torch.equal(product.of_floats(x), expected)
        assert torch.equal(product(pack(x).words[None]), expected)


@pytest.mark.parametrize("format", [BINARY, CodeFormat(bits=2, coding="unsigned")], ids=repr)
@pytest.mark.parametrize("merges", [False, True])
def test_a_result_goes_into_channels_of_a_larger_map(
    merges: bool, format: CodeFormat, variant: str | None
) -> None:
    weight = signs(37, 3, 3, 40, seed=1)
    x = codes((2, 5, 6, 40), format)
    affine = cpu.Affine(
        scale=torch.randn(37, generator=generator(5)),
        shift=torch.randn(37, generator=generator(6)),
        merges=merges,
    )
    geometry = Conv2dGeometry.of(image=(2, 5, 6, 40), weight=(37, 3, 3, 40), padding=1)
    product = cpu.prepare_product(
        geometry, format, cpu.prepare_weight(weight), finish=affine, variant=variant
    )
    assert product is not None
    larger = torch.randn(2, 5, 6, 80, generator=generator(7))
    before = larger.clone()
    product(x.words, larger[..., 20:57])
    binary = PackedCodes(
        words=weight.words[None], channels=40, format=BINARY, popcount=weight.popcount[None]
    )
    sums = reference.bitserial_conv2d(x, binary, padding=1).float() * affine.scale + affine.shift
    assert torch.equal(larger[..., 20:57], before[..., 20:57] + sums if merges else sums)
    assert torch.equal(larger[..., :20], before[..., :20])
    assert torch.equal(larger[..., 57:], before[..., 57:])
    for wrong in (larger[..., 20:58], larger[..., ::2][..., :37], larger.double()[..., :37]):
        with pytest.raises(ValueError, match="`out` must be"):
            product(x.words, wrong)
    if merges:
        with pytest.raises(ValueError, match="needs `out`"):
            product(x.words)


@pytest.mark.parametrize("outputs", [5, 32, 37, 64])
@pytest.mark.parametrize("channels", [33, 64])
@pytest.mark.parametrize("has_after", [False, True])
@pytest.mark.parametrize("merges", [False, True])
@pytest.mark.parametrize("format", [BINARY, FORMATS[1]], ids=repr)
def test_an_affine_may_rectify_and_go_on(
    format: CodeFormat,
    merges: bool,
    has_after: bool,
    channels: int,
    outputs: int,
    variant: str | None,
) -> None:
    scale, shift, scale_after, shift_after = torch.randn(4, outputs, generator=generator(5))
    finish = cpu.Affine(
        scale=scale,
        shift=20 * shift,
        merges=merges,
        rectifies=True,
        scale_after=scale_after if has_after else None,
        shift_after=shift_after if has_after else None,
    )
    geometry = Conv2dGeometry.of(
        image=(2, 4, 15, channels), weight=(outputs, 3, 3, channels), padding=1
    )
    x, weight = codes((2, 4, 15, channels), format), codes((outputs, 3, 3, channels), BINARY, 1)
    product = cpu.prepare_product(
        geometry, format, cpu.prepare_weight(weight), fill=0, finish=finish, variant=variant
    )
    assert product is not None
    out = torch.randn(2, 4, 15, outputs, generator=generator(6))
    sums = reference.bitserial_conv2d(x, weight, padding=1).float()
    expected = (sums * scale + 20 * shift).clamp_min(0.0)
    assert (expected == 0).any()
    assert (expected > 0).any()
    if has_after:
        expected = expected * scale_after + shift_after
    if merges:
        expected = out + expected
    assert torch.equal(product(x.words, out), expected)


@pytest.mark.parametrize("channels", [31, 32, 64])
def test_a_finish_is_exact_where_floats_and_thresholds_end(
    channels: int, variant: str | None
) -> None:
    """Factors that overflow when doubled, or are subnormal; thresholds that no sum reaches."""
    weight, x = signs(64, channels), signs(5, channels, seed=1)
    sums = reference.xnor_gemm(x.words, weight.words, channels)
    scale = torch.tensor([3e38, -3e38, 1e-45, -1e-45, 1.2e-38, float("inf"), float("nan"), 0.0])
    affine = cpu.Affine(scale=scale.repeat(8), shift=torch.randn(64, generator=generator(2)))
    floats = cpu.gemm(x, cpu.prepare_weight(weight), finish=affine, variant=variant)
    expected = sums.float() * affine.scale + affine.shift
    assert torch.equal(floats.nan_to_num(1.5), expected.nan_to_num(1.5))
    near = torch.arange(-channels - 2, channels + 3, dtype=torch.int32)
    limits = torch.tensor([-(2**31), 1 - 2**31, 2**31 - 1, 0], dtype=torch.int32)
    for values in torch.cat([limits, near]).split(32):
        threshold = cpu.Threshold(
            threshold=values.repeat_interleave(2).repeat(32)[:64],
            flip=torch.tensor([False, True]).repeat(32),
        )
        bits = cpu.gemm(x, cpu.prepare_weight(weight), finish=threshold, variant=variant)
        wanted = (sums >= threshold.threshold) != threshold.flip
        assert torch.equal(unpack_bits(bits, 64).bool(), wanted)


@pytest.mark.parametrize("width", [23, 24, 30, 56])
@pytest.mark.parametrize("dilation", [1, 9])
def test_a_wide_row_has_tiles_inside_and_at_its_ends(
    dilation: int, width: int, variant: str | None
) -> None:
    """Zeros outside give the ends of a row other constants than its middle."""
    x, weight = signs(1, 4, width, 64), signs(64, 3, 3, 64, seed=1)
    arguments = {"padding": dilation, "dilation": dilation, "fill": 0}
    sums = reference.xnor_conv2d(x, weight, **arguments)
    prepared = cpu.prepare_weight(weight)
    assert torch.equal(cpu.conv2d(x, prepared, variant=variant, **arguments), sums)
    scale, shift = torch.randn(2, 64, generator=generator(5))
    affine = cpu.Affine(scale=scale, shift=shift)
    floats = cpu.conv2d(x, prepared, finish=affine, variant=variant, **arguments)
    assert torch.equal(floats, sums.float() * scale + shift)
    threshold = cpu.Threshold(threshold=(20 * shift).int(), flip=scale < 0)
    bits = cpu.conv2d(x, prepared, finish=threshold, variant=variant, **arguments)
    wanted = (sums >= threshold.threshold) != threshold.flip
    assert torch.equal(unpack_bits(bits, 64).bool(), wanted)


def test_thresholds_are_a_batch_norm_before_a_sign(variant: str | None) -> None:
    channels = 70
    weight = signs(5, 1, 1, channels, seed=1)
    values = torch.randn(channels, generator=generator(3))
    flip = torch.rand(channels, generator=generator(4)) < 0.5
    thresholds = cpu.Thresholds(
        values=values, flip_words=pack_codes(flip, CodeFormat(bits=1, coding="unsigned")).words[0]
    )
    x = torch.randn(2, 3, 17, channels, generator=generator(5))
    x[0, 0, 0] = values
    geometry = Conv2dGeometry.of(image=tuple(x.shape), weight=(5, 1, 1, channels))
    product = cpu.prepare_product(geometry, BINARY, cpu.prepare_weight(weight), variant=variant)
    assert product is not None
    bits = (x >= values) != flip
    expected = reference.xnor_conv2d(pack(bits.float() - 0.5), weight)
    assert torch.equal(product.of_floats(x, thresholds), expected)
    nchw = x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    assert torch.equal(product.of_floats(nchw, thresholds), expected)


@pytest.mark.parametrize("fill", FILLS)
def test_a_chain_writes_bits_into_the_next_padded_map(fill: Fill, variant: str | None) -> None:
    x, weight = signs(2, 6, 15, 64), signs(64, 3, 3, 64, seed=1)
    threshold = torch.randint(-9, 9, (64,), dtype=torch.int32, generator=generator(2))
    finish = cpu.Threshold(threshold=threshold, flip=threshold > 5)
    geometry = Conv2dGeometry.of(image=(2, 6, 15, 64), weight=(64, 3, 3, 64), padding=1)
    products = [
        cpu.prepare_product(
            geometry, BINARY, cpu.prepare_weight(weight), fill=fill, finish=finish, variant=variant
        )
        for _ in range(2)
    ]
    first, second = products
    assert first is not None
    assert second is not None
    bits = first(x.words[None])
    expected = reference.xnor_conv2d(x, weight, padding=1, fill=fill)
    assert torch.equal(unpack_bits(bits, 64).bool(), (expected >= threshold) != finish.flip)
    wanted = second(bits[None]).clone()
    inside = second.inside
    assert (inside is None) == (fill == "replicate")
    if inside is not None:
        first(x.words[None], inside[0])
        assert torch.equal(second(inside), wanted)


def test_a_prepared_product_refuses_other_maps_and_other_geometry() -> None:
    weight = cpu.prepare_weight(signs(8, 3, 3, 40))
    geometry = Conv2dGeometry.of(image=(1, 5, 5, 40), weight=(8, 3, 3, 40))
    product = cpu.prepare_product(geometry, BINARY, weight)
    assert product is not None
    for words in (
        torch.zeros(1, 1, 5, 4, 2, dtype=torch.int32),
        torch.zeros(1, 1, 5, 5, 1, dtype=torch.int32),
        torch.zeros(1, 1, 5, 5, 2, dtype=torch.int64),
    ):
        with pytest.raises(ValueError, match="words"):
            product(words)
    other = Conv2dGeometry.of(image=(1, 5, 5, 40), weight=(9, 3, 3, 40))
    with pytest.raises(ValueError, match="weight"):
        cpu.prepare_product(other, BINARY, weight)


@pytest.mark.parametrize("case", list(refusals()), ids=lambda case: case[0])
def test_wrong_operands_are_refused(
    case: tuple[str, Callable[[], object], type[Exception], str],
) -> None:
    _, call, error, text = case
    with pytest.raises(error, match=text):
        call()


def test_threads_share_a_matrix_product() -> None:
    a, b = signs(50, 96), signs(40, 96, seed=1)
    weight = cpu.prepare_weight(b)
    whole = cpu.gemm(a, weight)
    for threads in (2, 3, 64):
        assert torch.equal(cpu.gemm(a, weight, threads=threads), whole)


@pytest.mark.parametrize("shape", [(4, 32, 33, 64), (1, 64, 65, 64), (1, 1, 4100, 64)])
@pytest.mark.parametrize("nchw", [False, True])
def test_threads_share_the_packing_of_large_maps(nchw: bool, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=generator())
    if nchw:
        x = x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    weight = signs(32, 1, 1, 64, seed=1)
    geometry = Conv2dGeometry.of(image=shape, weight=(32, 1, 1, 64))
    results = []
    for threads in (1, 2, 3):
        ready = cpu.prepare_product(geometry, BINARY, cpu.prepare_weight(weight), threads=threads)
        assert ready is not None
        results.append(ready.of_floats(x).clone())
        spoilt = x.clone()
        spoilt[-1, -1, -1, 5] = float("nan")
        with pytest.raises(ValueError, match="NaN"):
            ready.of_floats(spoilt)
    assert torch.equal(results[1], results[0])
    assert torch.equal(results[2], results[0])


def test_strided_words_are_read_as_they_are() -> None:
    packed = signs(10, 70)
    every_other = PackedBits(words=packed.words[::2], channels=70, popcount=packed.popcount[::2])
    weight = signs(33, 70, seed=1)
    result = cpu.gemm(every_other, cpu.prepare_weight(weight))
    assert torch.equal(result, reference.xnor_gemm(every_other.words, weight.words, 70))


def test_one_bit_symmetric_codes_are_signs() -> None:
    x, w = codes((4, 66), BINARY), codes((34, 66), BINARY, 1)
    as_bits = PackedBits(words=x.words[0], channels=66, popcount=x.popcount[0])
    weight = cpu.prepare_weight(w)
    assert torch.equal(cpu.gemm(x, weight), cpu.gemm(as_bits, weight))
