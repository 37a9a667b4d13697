"""The kernels of the 1-bit tensor cores, their source run by numpy, against the reference.

What only a device can show is in the tests marked gpu, which run the compiled kernels.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor

from bitfront.kernels import (
    BINARY,
    CodeFormat,
    Conv2dGeometry,
    Fill,
    PackedBits,
    PackedCodes,
    pack,
    pack_codes,
    reference,
)
from bitfront.kernels.finish import Affine, Finish, Requantise, Threshold, finished
from bitfront.kernels.gpu import tensor_core_conv, tensor_core_product
from bitfront.kernels.gpu.emulation import emulate
from bitfront.kernels.gpu.fragments import WarpTile
from bitfront.kernels.gpu.tensor_core_product import (
    LARGE,
    SMALL,
    SQUARE,
    TALL,
    PlanePlan,
    choose_tile,
    prepare_tensor_core_product,
)
from bitfront.kernels.gpu.weight import prepare_weight
from bitfront.kernels.packing import row_count

FORMATS = [
    CodeFormat(bits=bits, coding=coding)
    for bits, coding in (
        (1, "symmetric"),
        (1, "unsigned"),
        (1, "signed"),
        (2, "symmetric"),
        (2, "unsigned"),
        (2, "signed"),
        (4, "symmetric"),
        (4, "signed"),
    )
]
WARP = WarpTile(m_tiles=1, n_tiles=4, m_warps=1, n_warps=1)
TILES = [
    WARP,
    WarpTile(m_tiles=2, n_tiles=4, m_warps=2, n_warps=1),
    WarpTile(m_tiles=1, n_tiles=8, m_warps=1, n_warps=2),
]
PAIRS = [(x, w) for x in FORMATS for w in FORMATS if x.bits * w.bits <= 4]


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch, poisoned: None) -> None:
    """Kernels run by numpy; fresh memory holds rubbish."""

    def launch(kernel: Any, count: int, arguments: dict[str, Any], warps: int) -> None:
        assert warps == arguments["WM"] * arguments["WN"]
        emulate(kernel, count, arguments)

    monkeypatch.setattr(tensor_core_product, "launch", launch)
    # a plain Triton kernel, which has tests of its own in the interpreter
    monkeypatch.setattr(tensor_core_product, "count_ones", row_count)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def codes(shape: tuple[int, ...], format: CodeFormat, seed: int = 0) -> PackedCodes:
    """Random codes, the smallest and the largest value in rows of their own."""
    numbers = torch.randint(0, 2**format.bits, shape, generator=generator(seed))
    values = format.low + format.step * numbers
    values[0] = format.low
    if shape[0] > 1:
        values[1] = format.high
    return pack_codes(values, format)


def matrix_product(x: PackedCodes, w: PackedCodes, **arguments: Any) -> Tensor:
    """A product of matrices, as a convolution of one row of pixels."""
    conv = Conv2dGeometry.of(
        image=(1, 1, x.words.shape[1], x.channels), weight=(w.words.shape[1], 1, 1, w.channels)
    )
    product = prepare_tensor_core_product(conv, x.format, prepare_weight(w), **arguments)
    return product(x.words[:, None, None], x.popcount[:, None, None])[0, 0]


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("stages", [0, 2, 3, 4])
@pytest.mark.parametrize("k", [1, 31, 32, 33, 63, 127, 512, 1000])
@pytest.mark.parametrize(("m", "n"), [(1, 1), (17, 33), (40, 2)])
def test_a_matrix_product_equals_the_reference(m: int, n: int, k: int, stages: int) -> None:
    x, w = codes((m, k), BINARY, 1), codes((n, k), BINARY, 2)
    result = matrix_product(x, w, tile=WARP, stages=stages)
    assert torch.equal(result, reference.xnor_gemm(x.words[0], w.words[0], k))


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize(("x_format", "w_format"), PAIRS, ids=repr)
def test_planes_of_every_pair_of_formats(x_format: CodeFormat, w_format: CodeFormat) -> None:
    for k in (70, 512):
        x, w = codes((19, k), x_format, 1), codes((35, k), w_format, 2)
        for stages in (0, 3):
            result = matrix_product(x, w, tile=WARP, stages=stages)
            assert torch.equal(result, reference.bitserial_gemm(x, w))


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("stages", [0, 4])
@pytest.mark.parametrize("tile", [LARGE, SQUARE, TALL, SMALL], ids=repr)
def test_the_tiles_that_are_launched(tile: WarpTile, stages: int) -> None:
    m, n = tile.rows + 3, tile.columns + 33
    x, w = codes((m, 600), BINARY, 1), codes((n, 600), BINARY, 2)
    result = matrix_product(x, w, tile=tile, stages=stages)
    assert torch.equal(result, reference.bitserial_gemm(x, w))


def finishes(outputs: int, sums: Tensor, seed: int) -> list[Finish | None]:
    random = generator(seed)
    middle = sums.flatten(0, -2).float().mean(0).round().int()
    flip = torch.rand(outputs, generator=random) < 0.5
    scale, shift = torch.randn(2, outputs, generator=random)
    steps = torch.tensor([-3, 0, 2], dtype=torch.int32)
    norm = Affine(scale=scale, shift=shift, rectifies=True, scale_after=shift, shift_after=-scale)
    return [
        None,
        Affine(scale=scale, shift=shift, dtype=torch.bfloat16),
        Affine(scale=scale, shift=shift),
        Threshold(threshold=middle, flip=flip),
        Requantise(thresholds=middle + steps[:, None], flip=flip),
        Affine(scale=scale, shift=shift, rectifies=True, dtype=torch.bfloat16),
        norm,
        replace(norm, merges=True),
        replace(norm, merges=True, dtype=torch.bfloat16),
    ]


@pytest.mark.usefixtures("emulated")
@settings(
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_conv2d_on_any_geometry(data: st.DataObject) -> None:
    draw = data.draw
    groups = draw(st.integers(1, 3), label="groups")
    # groups that share a word are taken apart by a kernel that needs a device
    shares = [32, 64] if groups > 1 else [1, 5, 31, 32, 33, 64, 130]
    channels = groups * draw(st.sampled_from(shares), label="channels / groups")
    outputs = groups * draw(st.sampled_from([1, 3, 31, 32, 40]), label="outputs / groups")
    kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    dilation = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    padding = (draw(st.integers(0, 3)), draw(st.integers(0, 3)))
    stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    height, width = (
        draw(st.integers(max(1, d * (k - 1) + 1 - 2 * p), 9))
        for d, k, p in zip(dilation, kernel, padding, strict=True)
    )
    x_format, w_format = draw(st.sampled_from(PAIRS), label="formats")
    batch = draw(st.integers(1, 3))
    x = codes((batch, height, width, channels), x_format, draw(st.integers(0, 99)))
    weight = codes((outputs, *kernel, channels // groups), w_format, draw(st.integers(0, 99)))
    fills: list[Fill] = [0, x_format.low, x_format.high, "replicate"]
    fill = draw(st.sampled_from(fills), label="fill")
    arguments: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
    sums = reference.bitserial_conv2d(x, weight, groups=groups, fill=fill, **arguments)
    geometry = Conv2dGeometry.of(
        image=(batch, height, width, channels),
        weight=(outputs, *kernel, channels // groups),
        groups=groups,
        **arguments,
    )
    finish = draw(st.sampled_from(finishes(outputs, sums, 3)), label="finish")
    product = prepare_tensor_core_product(
        geometry,
        x_format,
        prepare_weight(weight, groups),
        fill=fill,
        finish=finish,
        tile=draw(st.sampled_from(TILES), label="tile"),
        stages=draw(st.sampled_from([0, 2, 4]), label="stages"),
    )
    ones = draw(st.sampled_from([None, x.popcount]), label="ones")
    expected = finished(sums, finish)
    if not (isinstance(finish, Affine) and finish.merges):
        assert torch.equal(product(x.words, ones), expected)
    # a run of channels of a larger map
    wide = torch.arange(expected.numel() * 2).reshape(*expected.shape[:-1], -1) % 101
    wide = wide.to(expected.dtype)
    run = wide[..., 1 : 1 + expected.shape[-1]]
    if isinstance(finish, Affine) and finish.merges:
        y = finished(sums, replace(finish, dtype=torch.float32))
        expected = (run.float() + y).to(finish.dtype)
    right = wide.clone()
    right[..., 1 : 1 + expected.shape[-1]] = expected
    assert product(x.words, ones, out=run) is run
    assert torch.equal(wide, right)


def shifted(right: Callable[..., Any], place: int) -> Callable[..., Any]:
    """A function of a kernel that is off by one, in its argument or in a number of its result."""

    def wrong(k: Any, *rest: Any) -> Any:
        if place < 0:
            return right(k + 1, *rest)
        made = right(k, *rest)
        return tuple(x + (n == place) for n, x in enumerate(made))

    return wrong


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("stages", [0, 3])
@pytest.mark.parametrize("channels", [64, 96, 512])
@pytest.mark.parametrize(
    ("name", "place"), [("word_under", -1), ("word_under", 0), ("word_under", 1), ("half_word", -1)]
)
def test_a_wrong_window_is_seen(
    name: str, place: int, channels: int, stages: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 18, 27 and 144 words: half a step is left, or more than half, or nothing
    # the first two images are all -1 and all +1
    x, w = codes((3, 4, 5, channels), BINARY, 1), codes((9, 3, 3, channels), BINARY, 2)
    conv = Conv2dGeometry.of(image=(3, 4, 5, channels), weight=(9, 3, 3, channels), padding=1)
    product = prepare_tensor_core_product(conv, BINARY, prepare_weight(w), tile=WARP, stages=stages)
    expected = reference.bitserial_conv2d(x, w, padding=1)
    assert torch.equal(product(x.words), expected)
    right = getattr(tensor_core_conv, name).fn
    monkeypatch.setattr(tensor_core_conv, name, shifted(right, place))
    used = name == "word_under" or channels == 64
    try:
        seen = not torch.equal(product(x.words), expected)
    except (IndexError, ValueError):
        seen = True
    assert seen == used


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("outputs", [20, 64, 130])
@pytest.mark.parametrize("kind", [3, 4])
def test_layers_of_a_chain_hand_on_their_popcounts(kind: int, outputs: int) -> None:
    x = pack(torch.randn(2, 5, 6, 40, generator=generator(1)))
    weights = [
        pack(torch.randn(n, 3, 3, c, generator=generator(2)))
        for n, c in ((outputs, 40), (9, outputs))
    ]
    sums = reference.xnor_conv2d(x, weights[0], padding=1, fill=-1)
    finish = finishes(outputs, sums, 4)[kind]
    geometries = [
        Conv2dGeometry.of(
            image=(2, 5, 6, w.channels), weight=tuple(w.words.shape[:3]) + (w.channels,), padding=1
        )
        for w in weights
    ]
    first = prepare_tensor_core_product(
        geometries[0], BINARY, prepare_weight(weights[0]), fill=-1, finish=finish, tile=WARP
    )
    handed = first.packed(x)
    assert torch.equal(handed.words, finished(sums, finish))
    assert torch.equal(handed.popcount, row_count(handed.words))
    if isinstance(handed, PackedBits):
        expected = reference.xnor_conv2d(handed, weights[1], padding=1)
        planes, format = handed.words[None], BINARY
    else:
        binary = PackedCodes(
            words=weights[1].words[None],
            channels=outputs,
            format=BINARY,
            popcount=weights[1].popcount[None],
        )
        expected = reference.bitserial_conv2d(handed, binary, padding=1)
        planes, format = handed.words, handed.format
    second = prepare_tensor_core_product(
        geometries[1], format, prepare_weight(weights[1]), tile=WARP
    )
    assert torch.equal(second(planes, handed.popcount.reshape(planes.shape[:-1])), expected)


def test_the_planes_are_added_up_by_horners_rule() -> None:
    for x, w in PAIRS:
        plan = PlanePlan.of(x, w)
        total = dict.fromkeys(((i, j) for i, j, _ in plan.pairs), 0)
        for n, (i, j, _) in enumerate(plan.pairs):
            value = plan.last
            for _, _, factor in plan.pairs[n + 1 :]:
                value *= factor
            total[i, j] += value
        assert total == {
            (i, j): p * q
            for i, p in enumerate(x.plane_values)
            for j, q in enumerate(w.plane_values)
        }


def test_tiles_fill_a_device() -> None:
    assert choose_tile(8192, 8192) == LARGE
    assert choose_tile(256 * 56 * 56, 64) == TALL
    assert choose_tile(256 * 7 * 7, 512) == LARGE
    assert choose_tile(2048, 1024) == SQUARE
    assert choose_tile(64, 64) == SMALL


def geometry(**changes: Any) -> Conv2dGeometry:
    shapes: dict[str, Any] = {"image": (1, 9, 9, 40), "weight": (8, 3, 3, 40)}
    return Conv2dGeometry.of(**{**shapes, **changes})


def refusals() -> Iterator[tuple[str, Callable[[], object], type[Exception], str]]:
    w = prepare_weight(codes((8, 3, 3, 40), BINARY))
    eight = CodeFormat(bits=8, coding="unsigned")
    large = prepare_weight(codes((8, 6, 6, 40), BINARY))
    x = codes((1, 9, 9, 40), BINARY)
    product = prepare_tensor_core_product(geometry(), BINARY, w)
    merging = prepare_tensor_core_product(
        geometry(),
        BINARY,
        w,
        finish=Affine(scale=torch.ones(8), shift=torch.ones(8), merges=True),
    )
    short = Threshold(threshold=torch.zeros(7, dtype=torch.int32), flip=torch.zeros(7).bool())
    yield (
        "weight",
        lambda: prepare_tensor_core_product(geometry(), BINARY, w.source),
        TypeError,
        "GpuWeight",
    )
    yield (
        "geometry",
        lambda: prepare_tensor_core_product(geometry(weight=(9, 3, 3, 40)), BINARY, w),
        ValueError,
        "weight",
    )
    yield (
        "bits",
        lambda: prepare_tensor_core_product(geometry(), eight, w),
        ValueError,
        r"<= 4.*but got 8",
    )
    yield (
        "taps",
        lambda: prepare_tensor_core_product(geometry(weight=(8, 6, 6, 40)), BINARY, large),
        ValueError,
        "taps <= 31",
    )
    yield (
        "stages",
        lambda: prepare_tensor_core_product(geometry(), BINARY, w, stages=1),
        ValueError,
        "stages",
    )
    yield (
        "finish",
        lambda: prepare_tensor_core_product(geometry(), BINARY, w, finish=short),
        ValueError,
        r"\[8\]",
    )
    yield (
        "fill",
        lambda: prepare_tensor_core_product(geometry(padding=1), BINARY, w, fill=3),
        ValueError,
        "fill",
    )
    yield "words", lambda: product(x.words[:, :, 1:]), ValueError, "`words` must be"
    yield "ones", lambda: product(x.words, x.popcount[:, :, 1:]), ValueError, "`ones` must be"
    yield "device", lambda: product(x.words), ValueError, "on a CUDA device"
    yield (
        "out",
        lambda: product(x.words, out=x.words),
        ValueError,
        r"`out` must be .* \[1, 7, 7, 8\]",
    )
    yield "adding", lambda: merging(x.words), ValueError, "merges needs `out`"
    yield "chain", lambda: product.packed(x), ValueError, "Threshold or a Requantise"


@pytest.mark.parametrize("case", list(refusals()), ids=lambda case: case[0])
def test_wrong_operands_are_refused(
    case: tuple[str, Callable[[], object], type[Exception], str],
) -> None:
    _, call, error, text = case
    with pytest.raises(error, match=text):
        call()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_compiled_kernels_equal_the_reference() -> None:
    for channels, outputs in ((64, 64), (130, 33), (512, 512)):
        x = pack(torch.randn(3, 13, 11, channels, generator=generator(1)).cuda())
        weight = pack(torch.randn(outputs, 3, 3, channels, generator=generator(2)).cuda())
        prepared = prepare_weight(weight)
        for padding in (0, 1):
            conv = Conv2dGeometry.of(
                image=(3, 13, 11, channels), weight=(outputs, 3, 3, channels), padding=padding
            )
            expected = reference.xnor_conv2d(x, weight, padding=padding)
            for stages in (0, 4):
                product = prepare_tensor_core_product(conv, BINARY, prepared, stages=stages)
                assert torch.equal(product(x.words[None], x.popcount[None]), expected)
