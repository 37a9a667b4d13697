"""Calls with wrong or strange arguments, one outcome a line, in a process that may die of them.

python wrong_calls.py FIRST      the calls from that number on
python wrong_calls.py any        conv2d on whatever Hypothesis finds; how many results were right

A line is the JSON of [number, what happened]; what happened is "" where it was right.
"""

import json
import re
import sys
import warnings
from collections.abc import Callable, Iterator

import hypothesis.strategies as st
import numpy as np
import torch
from hypothesis import given, settings
from torch import Tensor

from bitfront.kernels import (
    BINARY,
    CodeFormat,
    Conv2dGeometry,
    PackedBits,
    cpu,
    custom_ops,
    pack,
    pack_codes,
    reference,
)

Call = Callable[[], object]
Refusal = tuple[str, Call, type[Exception], str]

UNSIGNED = CodeFormat(bits=1, coding="unsigned")


def signs(*shape: int, seed: int = 0) -> PackedBits:
    return pack(torch.randn(shape, generator=torch.Generator().manual_seed(seed)))


def meta(x: Tensor) -> Tensor:
    return x.to("meta")


def operands() -> Iterator[Refusal]:
    x, row, matrix = signs(2, 5, 5, 40), signs(4, 40), cpu.prepare_weight(signs(8, 40))
    weight = cpu.prepare_weight(signs(8, 3, 3, 40))
    small = cpu.CpuWeight(
        source=matrix.source,
        words=matrix.words,
        format=matrix.format,
        groups=1,
        panels=matrix.panels[:, :, :, :1],
        ones=matrix.ones,
        tap_sums=matrix.tap_sums,
    )
    yield "gemm: a is a tensor", lambda: cpu.gemm(row.words, matrix), TypeError, "PackedCodes"
    yield "gemm: a is None", lambda: cpu.gemm(None, matrix), TypeError, "NoneType"
    yield "gemm: weight is not prepared", lambda: cpu.gemm(row, row), TypeError, "CpuWeight"
    yield "gemm: a map", lambda: cpu.gemm(x, matrix), ValueError, "rows, words"
    yield "gemm: other K", lambda: cpu.gemm(signs(4, 41), matrix), ValueError, "weight channels"
    yield "gemm: panels made by hand", lambda: cpu.gemm(row, small), ValueError, "panels"
    yield "conv2d: a matrix", lambda: cpu.conv2d(row, weight), ValueError, r"\[B, H, W, words\]"
    for name, value, error in (
        ("stride", 0, ValueError),
        ("stride", (1, 2, 3), ValueError),
        ("stride", "2", TypeError),
        ("stride", 2.0, TypeError),
        ("padding", -1, ValueError),
        ("padding", True, TypeError),
        ("padding", 2**40, ValueError),
        ("dilation", 9, ValueError),
        ("fill", 2, ValueError),
        ("fill", "reflect", ValueError),
        ("fill", 1.0, TypeError),
        ("fill", None, TypeError),
        ("threads", 0, ValueError),
        ("threads", 1025, ValueError),
        ("threads", 2**40, ValueError),
        ("threads", True, TypeError),
        ("threads", "2", TypeError),
        ("variant", "mmx", ValueError),
        ("variant", 3, ValueError),
        ("variant", ["avx2"], ValueError),
        ("variant", "neon" if "neon" not in cpu.variants() else "avx2", ValueError),
    ):
        call = lambda name=name, value=value: cpu.conv2d(x, weight, **{name: value})  # noqa: E731
        yield f"conv2d: {name}={value!r}", call, error, f"`.*{name}"
    border = {"padding": 60_000, "stride": 60_000}
    yield "conv2d: a border of 57 GB", lambda: cpu.conv2d(x, weight, **border), ValueError, "padded"
    yield "weight: a tensor", lambda: cpu.prepare_weight(row.words), TypeError, "Packed"
    yield "weight: one row", lambda: cpu.prepare_weight(signs(40)), ValueError, "weight"
    yield "weight: no group", lambda: cpu.prepare_weight(signs(8, 40), 0), ValueError, "groups"
    yield "weight: groups", lambda: cpu.prepare_weight(signs(8, 40), 3), ValueError, "groups"
    yield "weight: text", lambda: cpu.prepare_weight(signs(8, 40), "2"), TypeError, "groups"


def packing() -> Iterator[Refusal]:
    wide = torch.zeros(1, 1).expand(2, 2**30)
    yield "pack: None", lambda: cpu.pack(None), TypeError, "torch.Tensor"
    yield "pack: numpy", lambda: cpu.pack(np.zeros((2, 2), np.float32)), TypeError, "ndarray"
    yield "pack: a number", lambda: cpu.pack(torch.tensor(1.0)), ValueError, "one axis"
    yield "pack: no rows", lambda: cpu.pack(torch.zeros(0, 3)), ValueError, "1 to"
    yield "pack: no channels", lambda: cpu.pack(torch.zeros(3, 0)), ValueError, "1 to"
    yield "pack: too many", lambda: cpu.pack(wide), ValueError, "2147483647"
    yield "pack: too many on meta", lambda: cpu.pack(meta(wide)), TypeError, "with data"
    yield "pack: complex", lambda: cpu.pack(torch.zeros(2, 3, dtype=torch.complex64)), TypeError, ""
    yield "pack: bool", lambda: cpu.pack(torch.zeros(2, 3) > 0), TypeError, "torch.bool"
    yield "pack: sparse", lambda: cpu.pack(torch.zeros(2, 3).to_sparse()), TypeError, "dense"
    yield "pack: mkldnn", lambda: cpu.pack(torch.zeros(2, 3).to_mkldnn()), TypeError, "dense"
    yield "pack: meta", lambda: cpu.pack(torch.zeros(2, 3, device="meta")), TypeError, "data"
    for variant in ("mmx", 3, []):
        for x in (torch.zeros(2, 3), torch.zeros(2, 3).double()):
            call = lambda x=x, variant=variant: cpu.pack(x, variant=variant)  # noqa: E731
            yield f"pack: {variant!r} of {x.dtype}", call, ValueError, "`variant` must be"
    yield "pack_nchw: rows", lambda: cpu.pack_nchw(torch.zeros(2, 3)), ValueError, "B, C, H, W"
    yield "pack_nchw: None", lambda: cpu.pack_nchw(None), (TypeError, ValueError), "B, C, H, W"
    yield "interleave: None", lambda: cpu.interleave(None, None), TypeError, "first"


def finishes() -> Iterator[Refusal]:
    row, matrix = signs(4, 40), cpu.prepare_weight(signs(8, 40))
    one, ints, flags = torch.ones(8), torch.ones(8, dtype=torch.int32), torch.ones(8) > 0

    def affine(scale: object, shift: object = one) -> Call:
        return lambda: cpu.gemm(row, matrix, finish=cpu.Affine(scale=scale, shift=shift))

    def threshold(values: object, flip: object = flags) -> Call:
        return lambda: cpu.gemm(row, matrix, finish=cpu.Threshold(threshold=values, flip=flip))

    yield "finish: text", lambda: cpu.gemm(row, matrix, finish="relu"), TypeError, "finish"
    yield "affine: a list", affine([1.0] * 8), TypeError, "`scale` must be a torch.Tensor"
    yield "affine: None", affine(None), TypeError, "`scale` must be a torch.Tensor"
    for name, wrong in (
        ("meta", meta(one)),
        ("sparse", one.to_sparse()),
        ("double", one.double()),
        ("seven", one[:7]),
        ("two axes", one[None]),
        ("none", one[:0]),
    ):
        yield f"affine: scale {name}", affine(wrong), ValueError, "`scale` must be torch.float32"
        yield f"affine: shift {name}", affine(one, wrong), ValueError, "`shift` must be"
        after = cpu.Affine(scale=one, shift=one, rectifies=True, scale_after=wrong, shift_after=one)
        call = lambda after=after: cpu.gemm(row, matrix, finish=after)  # noqa: E731
        yield f"affine: scale after {name}", call, ValueError, "`scale_after` must be"
    yield "threshold: meta", threshold(meta(ints)), ValueError, "`threshold` must be torch.int32"
    yield "threshold: floats", threshold(one), ValueError, "`threshold` must be torch.int32"
    yield "threshold: flip of ints", threshold(ints, ints), ValueError, "`flip` must be torch.bool"
    yield "threshold: flip on meta", threshold(ints, meta(flags)), ValueError, "`flip` must be"
    yield "threshold: a list", threshold([1] * 8), TypeError, "`threshold` must be a torch.Tensor"


def products() -> Iterator[Refusal]:
    weight = cpu.prepare_weight(signs(8, 3, 3, 70))
    geometry = Conv2dGeometry.of(image=(1, 5, 5, 70), weight=(8, 3, 3, 70))
    product = cpu.prepare_product(geometry, BINARY, weight)
    assert product is not None
    words = torch.zeros(1, 1, 5, 5, 3, dtype=torch.int32)
    x = torch.zeros(1, 5, 5, 70)
    out = torch.zeros(1, 3, 3, 8, dtype=torch.int32)

    def with_thresholds(values: object, flip_words: object = words[0, 0, 0, 0]) -> Call:
        def call() -> Tensor:
            thresholds = cpu.Thresholds(values=values, flip_words=flip_words)
            return product.of_floats(x, thresholds)

        return call

    prepare = cpu.prepare_product
    yield "prepare: no geometry", lambda: prepare(None, BINARY, weight), TypeError, "Geometry"
    yield "prepare: no format", lambda: prepare(geometry, None, weight), TypeError, "CodeFormat"
    yield "prepare: no weight", lambda: prepare(geometry, BINARY, None), TypeError, "CpuWeight"
    for name, wrong, error in (
        ("a list", [1], TypeError),
        ("sparse", words.to_sparse(), ValueError),
        ("meta", meta(words), ValueError),
        ("int64", words.long(), ValueError),
        ("short", words[..., :2], ValueError),
        ("no plane", words[0], ValueError),
    ):
        yield f"words: {name}", lambda wrong=wrong: product(wrong), error, "`words` must be"
    for name, wrong, error in (
        ("a list", [1], TypeError),
        ("sparse", out.to_sparse(), ValueError),
        ("meta", meta(out), ValueError),
        ("float", out.float(), ValueError),
        ("expanded", out[:, :1, :1].expand(1, 3, 3, 8), ValueError),
        ("folded", out.flatten().as_strided((1, 3, 3, 8), (72, 8, 4, 1)), ValueError),
        ("channels first", out.permute(0, 1, 3, 2).contiguous().permute(0, 1, 3, 2), ValueError),
    ):
        yield f"out: {name}", lambda wrong=wrong: product(words, wrong), error, "`out` must"
    for name, wrong, error in (
        ("a list", [1.0], TypeError),
        ("sparse", x.to_sparse(), ValueError),
        ("meta", meta(x), ValueError),
        ("double", x.double(), ValueError),
        ("other", x[:, 1:], ValueError),
        ("empty", x[:0], ValueError),
    ):
        call = lambda wrong=wrong: product.of_floats(wrong)  # noqa: E731
        yield f"floats: {name}", call, error, "`x` must be"
    for name, wrong, error in (
        ("short", x[0, 0, 0, :3], ValueError),
        ("double", x[0, 0, 0].double(), ValueError),
        ("meta", meta(x[0, 0, 0]), ValueError),
        ("a list", [0.0] * 70, TypeError),
        ("a map", x, TypeError),
    ):
        yield f"thresholds: {name}", with_thresholds(wrong), error, "`.*(values|flip_words)`"
    dirty = torch.full((3,), -1, dtype=torch.int32)
    for name, wrong, error in (
        ("short", dirty[:2], ValueError),
        ("int64", dirty.long(), ValueError),
        ("padding bits", dirty, ValueError),
        ("None", None, TypeError),
    ):
        yield f"flips: {name}", with_thresholds(x[0, 0, 0], wrong), error, "`flip_words` must"


def operators() -> Iterator[Refusal]:
    x, weight = signs(2, 5, 5, 40).words, signs(8, 3, 3, 40).words
    a, b = signs(4, 40).words, signs(8, 40).words
    codes = pack_codes(torch.ones(4, 40, dtype=torch.int32), UNSIGNED).words
    conv, gemm, coded = custom_ops.xnor_conv2d, custom_ops.xnor_gemm, custom_ops.bitserial_gemm
    both = (a, b)
    yield "op pack: a number", lambda: custom_ops.pack(torch.tensor(1.0)), ValueError, "one axis"
    yield "op pack: empty", lambda: custom_ops.pack(torch.zeros(0, 3)), ValueError, "1 to"
    yield "op pack: bool", lambda: custom_ops.pack(torch.zeros(2, 3) > 0), TypeError, "bool"
    yield "op pack: sparse", lambda: custom_ops.pack(a.float().to_sparse()), TypeError, "dense"
    yield "op pack: None", lambda: custom_ops.pack(None), TypeError, "`x` must be a torch.Tensor"
    nan = torch.full((2, 3), float("nan"))
    yield "op pack: NaN", lambda: custom_ops.pack(nan), ValueError, "NaN"
    for name, call in (
        ("conv", lambda: conv(x, None, 40)),
        ("gemm", lambda: gemm(None, b, 40)),
        ("coded", lambda: coded(None, b, 40, "signed", "signed")),
    ):
        yield f"op {name}: None", call, TypeError, "must be a torch.Tensor"
    yield "op gemm: int64", lambda: gemm(a.long(), b, 40), TypeError, "int32"
    yield "op gemm: k", lambda: gemm(a, b, 70), ValueError, "3 words"
    yield "op gemm: k=0", lambda: gemm(a, b, 0), ValueError, "k"
    yield "op gemm: k=1.5", lambda: gemm(a, b, 1.5), RuntimeError, "'int' for argument 'k'"
    yield "op gemm: axes", lambda: gemm(x, b, 40), ValueError, "matrix"
    yield "op gemm: one device", lambda: gemm(meta(a), b, 40), (TypeError, ValueError), "device"
    yield "op gemm: dirty", lambda: gemm(a | 1 << 20, b, 40), ValueError, "0 in bits"
    yield "op gemm: dirty weight", lambda: gemm(a, b | 1 << 20, 40), ValueError, "0 in bits"
    yield "op coded: axes", lambda: coded(*both, 40, "signed", "signed"), ValueError, "axes"
    yield (
        "op coded: coding",
        lambda: coded(codes, b[None], 40, "grey", "signed"),
        ValueError,
        "coding",
    )
    yield (
        "op coded: nine planes",
        lambda: coded(codes.expand(9, -1, -1), b[None], 40, "unsigned", "signed"),
        ValueError,
        "bits",
    )
    for on in (lambda t: t, meta):
        where = "cpu" if on is not meta else "meta"
        for name, value in (
            ("stride", 0),
            ("padding", -1),
            ("dilation", [1, 2, 3]),
            ("dilation", 9),
            ("groups", 0),
            ("groups", 3),
        ):
            call = lambda on=on, name=name, value=value: conv(  # noqa: E731
                on(x), on(weight), 40, **{name: value}
            )
            yield f"op conv: {name}={value} on {where}", call, ValueError, name
        call = lambda on=on: conv(on(x)[0], on(weight), 40)  # noqa: E731
        yield f"op conv: axes on {where}", call, ValueError, "`x`.* must (be|have)"
        call = lambda on=on: conv(on(x).long(), on(weight), 40)  # noqa: E731
        yield f"op conv: dtype on {where}", call, TypeError, "int32"
    yield "op conv: fill", lambda: conv(x, weight, 40, fill=3), ValueError, "fill"
    yield "op conv: text", lambda: conv(x, weight, 40, fill="replicate"), RuntimeError, "'fill'"


def equal(result: object, expected: object) -> None:
    assert isinstance(result, Tensor)
    assert isinstance(expected, Tensor)
    assert torch.equal(result, expected), "another result than the reference's"


def strange() -> Iterator[tuple[str, Call]]:
    """Arguments that look wrong and are right: odd steps, offsets and sizes of tensors."""
    complex_numbers = torch.randn(4, 40, dtype=torch.complex64)
    long = torch.randn(4 * 41 + 3)
    for name, x in (
        ("lazy negation", complex_numbers.conj().imag),
        ("imaginary part", complex_numbers.imag),
        ("odd offset", long[3:][: 4 * 41].view(4, 41)),
        ("overlapping rows", long.as_strided((5, 33), (7, 1))),
        ("one value for all", torch.full((1,), -1.0).expand(3, 65)),
        ("backwards", torch.randn(3, 40).flip(1)),
        ("five axes", torch.randn(1, 2, 3, 2, 33)),
        ("a vector", torch.randn(100)),
        ("a gradient", torch.randn(3, 40, requires_grad=True)),
        ("every third channel", torch.randn(3, 120)[:, ::3]),
        ("half precision", torch.randn(3, 40).half()),
    ):
        yield f"pack: {name}", lambda x=x: equal(cpu.pack(x).words, pack(x.detach()).words)
        yield f"op pack: {name}", lambda x=x: equal(custom_ops.pack(x)[0], pack(x.detach()).words)
    whole = torch.randint(-(2**31), 2**31, (9, 7), dtype=torch.int32)
    b = signs(33, 64)
    prepared = cpu.prepare_weight(b)
    for name, words in (
        ("odd offset", whole.flatten()[1:9].view(4, 2)),
        ("columns of a map", whole[:, 3:5]),
        ("every other word", whole[:, 0:3:2]),
        ("transposed", whole[:2].T),
        ("one row for all", whole[:1, :2].expand(5, 2)),
    ):
        a = PackedBits(
            words=words, channels=64, popcount=torch.zeros(words.shape[0], dtype=torch.int32)
        )
        expected = reference.xnor_gemm(words, b.words, 64)
        call = lambda a=a, expected=expected: equal(cpu.gemm(a, prepared), expected)  # noqa: E731
        yield f"gemm: {name}", call
        call = lambda words=words, expected=expected: equal(  # noqa: E731
            custom_ops.xnor_gemm(words, b.words, 64), expected
        )
        yield f"op gemm: {name}", call
    a, scale = signs(5, 64), torch.randn(66)
    sums = reference.xnor_gemm(a.words, b.words, 64).float()
    for name, values in (
        ("every other", scale[::2]),
        ("one for all", scale[:1].expand(33)),
        ("a parameter", torch.nn.Parameter(scale[:33])),
        ("lazy negation", torch.randn(33, dtype=torch.complex64).conj().imag),
    ):
        affine = cpu.Affine(scale=values, shift=values)
        expected = (sums * values + values).detach()
        call = lambda affine=affine, expected=expected: equal(  # noqa: E731
            cpu.gemm(a, prepared, finish=affine), expected
        )
        yield f"affine: {name}", call
    many = lambda: equal(  # noqa: E731
        cpu.gemm(a, prepared, threads=1024), reference.xnor_gemm(a.words, b.words, 64)
    )
    yield "gemm: 1024 threads", many


def outcome_of(call: Call, error: type[Exception] | None, text: str) -> str:
    try:
        call()
    except Exception as found:
        if error is None or not isinstance(found, error):
            return f"{type(found).__name__}: {found}"
        return "" if re.search(text, str(found)) else f"the message is {found}"
    return "" if error is None else "no error"


def calls() -> Iterator[tuple[str, Call, type[Exception] | None, str]]:
    for group in (operands, packing, finishes, products, operators):
        yield from group()
    for name, call in strange():
        yield name, call, None, ""


SIZES = st.sampled_from([0, 1, 2, 31, 32, 33, 64, 70])
STRANGE = st.sampled_from([-1, 2**31, 1.0, None, "1", True, (1, 2), "replicate"])


def mostly(*usual: object) -> st.SearchStrategy[object]:
    """One of the usual values, now and then a strange one."""
    return st.integers(0, 19).flatmap(lambda n: STRANGE if n == 19 else st.sampled_from(usual))


@st.composite
def words(draw: st.DrawFn, sizes: tuple[int, ...], channels: int) -> Tensor:
    """Words of any steps, offset and size; often of the right number."""
    shape = [draw(st.integers(1, high)) for high in sizes]
    right = -(-channels // 32)
    shape.append(draw(st.sampled_from([right] * 6 + [1, 2])))
    strides = [draw(st.integers(0, 6)) for _ in shape]
    offset = draw(st.integers(0, 3))
    reach = offset + 1 + sum(max(0, n - 1) * s for n, s in zip(shape, strides, strict=True))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    data = torch.randint(-(2**31), 2**31, (reach,), generator=generator, dtype=torch.int64)
    # the rows of one word are those of the channels, the others are as they come
    used = channels % 32
    if used and draw(st.integers(0, 9)):
        data &= (1 << used) - 1
    dtype = draw(st.sampled_from([torch.int32] * 8 + [torch.int64, torch.float32, torch.uint8]))
    return data.to(torch.int32).to(dtype).as_strided(shape, strides, offset)


def packed(words: Tensor, channels: int) -> PackedBits:
    lead = words.shape[:-1]
    return PackedBits(words=words, channels=channels, popcount=torch.zeros(lead, dtype=torch.int32))


@settings(deadline=None, max_examples=400, derandomize=True, database=None)
@given(data=st.data())
def any_conv2d(data: st.DataObject) -> None:
    draw = data.draw
    channels = draw(SIZES)
    groups = draw(mostly(1, 1, 1, 2))
    share = channels // groups if isinstance(groups, int) and groups > 0 else channels
    x, weight = draw(words((3, 9, 9), channels)), draw(words((40, 3, 3), share))
    window = {
        "stride": draw(mostly(1, 2, 3)),
        "padding": draw(mostly(0, 1, 2, 3)),
        "dilation": draw(mostly(1, 1, 2)),
        "fill": draw(mostly(0, 1, -1, "replicate")),
    }
    options = {
        "variant": draw(st.sampled_from([*cpu.variants() * 5, None, "mmx"])),
        "threads": draw(st.sampled_from([1] * 6 + [2, 3, 0])),
    }
    print(
        f"{x.shape=} {x.stride()=} {x.dtype=} {weight.shape=} {weight.stride()=} "
        f"{weight.dtype=} {channels=} {groups=} {window=} {options=}",
        file=sys.stderr,
        flush=True,
    )
    try:
        left = packed(x, channels)
        right = packed(weight, share)
        expected = reference.xnor_conv2d(left, right, groups=groups, **window)
    except (TypeError, ValueError):
        expected = None
    known = options["variant"] != "mmx" and options["threads"] > 0
    try:
        prepared = cpu.prepare_weight(packed(weight, share), groups)
        result = cpu.conv2d(packed(x, channels), prepared, **window, **options)
    except (TypeError, ValueError):
        assert expected is None or not known, "it refuses what the reference takes"
        return
    assert known, "it takes an option that there is not"
    equal(result, expected)
    agreed.append(result)


agreed: list[object] = []


def main() -> None:
    warnings.simplefilter("ignore")
    if sys.argv[1] == "any":
        any_conv2d()
        print(len(agreed))
        return
    for number, (_, call, error, text) in enumerate(calls()):
        if number >= int(sys.argv[1]):
            print(json.dumps([number, outcome_of(call, error, text)]), flush=True)


if __name__ == "__main__":
    main()
