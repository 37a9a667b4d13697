"""Convolutions of floats: near the exact sums on every variant that this CPU runs."""

import functools

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from bitfront.kernels import cpu, native_library
from bitfront.kernels.cpu import float_conv
from bitfront.kernels.cpu.float_conv import (
    FloatConv,
    is_faster,
    panel_outputs,
    prepare_float_conv,
)
from bitfront.kernels.cpu.winograd import points_of
from bitfront.kernels.geometry import Conv2dGeometry
from bitfront.kernels.native_library import FloatJob

VARIANTS = [*cpu.variants(), None]
# outputs, channels of a group, kernel, stride, padding, dilation, groups, height, width
CASES: list[tuple[int, int, int, int, int, int, int, int, int]] = [
    (64, 3, 7, 2, 3, 1, 1, 31, 58),
    (33, 3, 3, 2, 1, 1, 1, 17, 33),
    (16, 3, 3, 2, 1, 1, 1, 9, 63),
    (1, 1, 1, 1, 0, 1, 1, 1, 1),
    (31, 5, 1, 1, 1, 1, 1, 7, 9),
    (63, 2, 3, 1, 0, 1, 1, 8, 32),
    (48, 4, 3, 1, 1, 1, 1, 5, 29),
    (40, 8, 3, 1, 1, 1, 5, 6, 30),
    (64, 4, 3, 1, 1, 1, 8, 7, 16),
    (34, 3, 3, 1, 2, 1, 2, 5, 13),
    (24, 3, 4, 1, 2, 1, 2, 9, 5),
    (34, 3, 5, 2, 2, 1, 2, 13, 31),
    (20, 2, 6, 2, 0, 1, 1, 11, 64),
    (64, 3, 11, 4, 2, 1, 1, 35, 67),
    (17, 2, 3, 1, 3, 3, 1, 12, 21),
    (18, 3, 7, 2, 6, 2, 3, 29, 27),
    (17, 1, 3, 5, 1, 1, 1, 23, 31),
    (33, 1, 3, 2, 1, 1, 33, 15, 30),
    (33, 1, 3, 1, 1, 1, 33, 1, 127),
    (66, 1, 3, 1, 1, 1, 33, 4, 15),
    (9, 1, 2, 1, 0, 1, 9, 3, 2),
    (40, 1, 5, 2, 4, 2, 40, 9, 16),
]


@pytest.fixture(autouse=True)
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh memory holds NaNs, so a value that is read or left before it is written is seen."""
    empty = torch.empty

    @functools.wraps(empty)
    def rubbish(*args: object, **kwargs: object) -> Tensor:
        fresh = empty(*args, **kwargs)
        return fresh.fill_(float("nan")) if fresh.dtype == torch.float32 else fresh

    monkeypatch.setattr(torch, "empty", rubbish)


@pytest.fixture(params=VARIANTS, ids=str)
def variant(request: pytest.FixtureRequest) -> str | None:
    return request.param


@pytest.fixture(params=[True, False], ids=["pairs", "alone"])
def pairs(request: pytest.FixtureRequest) -> bool:
    return request.param


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def prepared(*arguments: object, **named: object) -> FloatConv:
    conv = prepare_float_conv(*arguments, **named)
    assert conv is not None
    return conv


def check(result: Tensor, x: Tensor, weight: Tensor, bias: Tensor, **named: object) -> None:
    """Rounding errors of a few units of the sum of magnitudes, whose number of terms is small."""
    rectifies = named.pop("rectifies", False)
    exact = F.conv2d(x.double(), weight.double(), bias.double(), **named)
    size = F.conv2d(x.double().abs(), weight.double().abs(), bias.double().abs(), **named)
    exact = exact.relu() if rectifies else exact
    assert result.shape == exact.shape
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert ((result - exact).abs() <= 2e-6 * size).all()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_sums_are_near_the_exact_ones(
    case: tuple[int, ...], pairs: bool, variant: str | None
) -> None:
    outputs, channels, kernel, stride, padding, dilation, groups, height, width = case
    x = last(normal(2, channels * groups, height, width, seed=1))
    weight = normal(outputs, channels, kernel, kernel, seed=2)
    bias = normal(outputs, seed=3)
    named = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    geometry = Conv2dGeometry.of(
        image=(2, height, width, channels * groups),
        weight=(outputs, kernel, kernel, channels),
        **named,
    )
    pairs = pairs and points_of(geometry) > 0
    for rectifies in (False, True):
        rest = {"image": tuple(x.shape), "pairs": pairs, "variant": variant}
        conv = prepared(weight, bias, **named, rectifies=rectifies, **rest)
        check(conv(x), x, weight, bias, **named, rectifies=rectifies)


@settings(max_examples=60, deadline=None)
@given(
    kernel=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    stride=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    padding=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    dilation=st.tuples(st.integers(1, 3), st.integers(1, 2)),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    groups=st.integers(1, 4),
    channels=st.integers(1, 9),
    outputs=st.integers(1, 40),
    batch=st.integers(1, 2),
    pairs=st.booleans(),
    variant=st.sampled_from(VARIANTS),
)
def test_any_geometry(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    size: tuple[int, int],
    groups: int,
    channels: int,
    outputs: int,
    batch: int,
    pairs: bool,
    variant: str | None,
) -> None:
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    size = tuple(max(n, s - 2 * p) for n, s, p in zip(size, spans, padding, strict=True))
    x = last(normal(batch, channels * groups, *size, seed=1))
    weight = normal(outputs * groups, channels, *kernel, seed=2)
    bias = normal(outputs * groups, seed=3)
    named = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    geometry = Conv2dGeometry.of(
        image=(batch, *size, channels * groups),
        weight=(outputs * groups, *kernel, channels),
        **named,
    )
    pairs = pairs and points_of(geometry) > 0
    conv = prepared(weight, bias, **named, image=tuple(x.shape), pairs=pairs, variant=variant)
    check(conv(x), x, weight, bias, **named)


def test_pairs_are_as_accurate_as_torch(variant: str | None) -> None:
    x = last(normal(1, 3, 96, 96, seed=1))
    weight, bias = normal(64, 3, 7, 7, seed=2), torch.zeros(64)
    image = tuple(x.shape)
    conv = prepared(weight, stride=2, padding=3, image=image, pairs=True, variant=variant)
    exact = F.conv2d(x.double(), weight.double(), stride=2, padding=3)
    theirs = F.conv2d(x, weight, bias, stride=2, padding=3)
    errors = [(result - exact).square().mean().sqrt() for result in (conv(x), theirs)]
    assert errors[0] <= 2 * errors[1]


def test_sums_of_small_integers_are_exact(variant: str | None) -> None:
    # no pairs: their weights are divided by 6
    x = last(
        torch.randint(-8, 9, (2, 6, 9, 23), generator=torch.Generator().manual_seed(1)).float()
    )
    weight = torch.randint(-8, 9, (10, 3, 3, 3), generator=torch.Generator().manual_seed(2)).float()
    conv = prepared(weight, stride=2, groups=2, image=tuple(x.shape), variant=variant)
    assert torch.equal(conv(x), F.conv2d(x, weight, stride=2, groups=2))


@pytest.mark.parametrize("threads", [2, 3, 64])
def test_bits_do_not_depend_on_the_batch_or_the_threads(
    threads: int, pairs: bool, variant: str | None
) -> None:
    x = last(normal(3, 3, 21, 40, seed=1))
    weight, bias = normal(40, 3, 7, 7, seed=2), normal(40, seed=3)
    named = {"stride": 2, "padding": 3, "pairs": pairs, "variant": variant}
    together = prepared(weight, bias, **named, image=(3, 3, 21, 40), threads=threads)(x)
    alone = prepared(weight, bias, **named, image=(1, 3, 21, 40))
    assert torch.equal(together, torch.cat([alone(last(image[None])) for image in x]))


def test_a_result_goes_into_a_run_of_channels(pairs: bool, variant: str | None) -> None:
    x = last(normal(2, 3, 20, 33, seed=1))
    weight = normal(20, 3, 3, 3, seed=2)
    conv = prepared(weight, padding=1, image=tuple(x.shape), pairs=pairs, variant=variant)
    larger = last(torch.zeros(2, 50, 20, 33))
    given_back = conv(x, larger[:, 7:27])
    assert given_back.data_ptr() == larger[:, 7:27].data_ptr()
    assert torch.equal(larger[:, 7:27], conv(x))
    assert not larger[:, :7].any()
    assert not larger[:, 27:].any()


def test_a_run_of_channels_and_other_memory_formats_are_read(
    pairs: bool, variant: str | None
) -> None:
    larger = last(normal(2, 50, 20, 33, seed=1))
    x = larger[:, 7:10]
    weight = normal(20, 3, 3, 3, seed=2)
    conv = prepared(weight, padding=1, image=tuple(x.shape), pairs=pairs, variant=variant)
    assert torch.equal(conv(x), conv(last(x)))
    assert torch.equal(conv(x), conv(x.contiguous()))


def test_a_nan_reaches_the_results_that_read_it(pairs: bool, variant: str | None) -> None:
    x = last(torch.ones(1, 3, 12, 60))
    x[0, 1, 6, 30] = float("nan")
    weight = torch.ones(16, 3, 3, 3)
    rest = {"image": tuple(x.shape), "pairs": pairs, "variant": variant}
    conv = prepared(weight, padding=1, rectifies=True, **rest)
    spoilt = conv(x).isnan()
    exact = F.conv2d(x, weight, padding=1).isnan()
    assert (spoilt | ~exact).all()
    # the other of two results shares its products
    assert not spoilt[:, :, :, :28].any()
    assert not spoilt[:, :, :, 33:].any()
    assert torch.equal(spoilt, exact) or pairs


@pytest.mark.parametrize(
    ("outputs", "panel"), [(1, 8), (8, 8), (9, 16), (24, 8), (33, 8), (64, 32)]
)
def test_a_panel_has_as_few_missing_outputs_as_can_be(outputs: int, panel: int) -> None:
    assert panel_outputs(outputs) == panel


def test_wrong_arguments_are_refused() -> None:
    weight, image = torch.zeros(8, 3, 3, 3), (1, 3, 8, 8)
    wrong: list[tuple[str, type[Exception], dict[str, object]]] = [
        ("`weight` must be torch.float32 with 4 axes", ValueError, {"weight": weight.double()}),
        ("`weight` must be torch.float32 with 4 axes", ValueError, {"weight": weight[0]}),
        ("`bias` must be torch.float32 with 1 axes", ValueError, {"bias": weight}),
        ("one value per output, 8, but got 7", ValueError, {"bias": torch.zeros(7)}),
        ("`weight channels == input channels / groups`", ValueError, {"image": (1, 4, 8, 8)}),
        ("`channels % groups == 0`", ValueError, {"groups": 2}),
        ("`dilation \\* \\(kernel - 1\\)", ValueError, {"image": (1, 3, 2, 8)}),
        ("at most 32 rows", ValueError, {"weight": torch.zeros(1, 3, 33, 1), "padding": 16}),
        ("`pairs` needs a kernel of three or four steps", ValueError, {"pairs": True, "stride": 2}),
        ("`variant` must be one of portable", ValueError, {"variant": "sse"}),
        ("threads", ValueError, {"threads": 0}),
        ("threads", TypeError, {"threads": 1.5}),
        ("image", ValueError, {"image": (3, 8, 8)}),
    ]
    for message, error, change in wrong:
        named: dict[str, object] = {"weight": weight, "image": image, **change}
        with pytest.raises(error, match=message):
            prepare_float_conv(**named)


def test_wrong_maps_are_refused() -> None:
    conv = prepared(torch.zeros(8, 3, 3, 3), image=(1, 3, 8, 8))
    x = torch.zeros(1, 3, 8, 8)
    for wrong in (x[:, :2], x.double(), x[0]):
        with pytest.raises(ValueError, match="`x` must be torch.float32 \\[1, 3, 8, 8\\]"):
            conv(wrong)
    with pytest.raises(ValueError, match="`out` must be torch.float32 \\[1, 8, 6, 6\\]"):
        conv(x, torch.zeros(1, 8, 8, 8))
    with pytest.raises(ValueError, match="`out` must have its channels next to each other"):
        conv(x, torch.zeros(1, 8, 6, 6))


def test_a_malformed_job_is_refused() -> None:
    library = native_library.load()
    assert library is not None
    with pytest.raises(ValueError, match="the job sound"):
        library.float_conv(FloatJob(), library.variants[0])
    conv = prepared(torch.zeros(8, 3, 3, 3), image=(1, 3, 8, 8))
    for field, value in (("panel", 7), ("points", 5), ("kernel_rows", 33), ("group_channels", 2)):
        job = FloatJob.from_buffer_copy(conv._jobs[0])
        setattr(job, field, value)
        with pytest.raises(ValueError, match="the job sound"):
            library.float_conv(job, library.variants[0])


def test_without_the_library_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(float_conv, "load", lambda: None)
    assert prepare_float_conv(torch.zeros(8, 3, 3, 3), image=(1, 3, 8, 8)) is None
    conv = Conv2dGeometry.of(image=(1, 8, 8, 3), weight=(8, 3, 3, 3))
    assert not is_faster(conv)


@pytest.mark.parametrize(
    ("weight", "stride", "groups", "size", "on_avx512", "on_avx2"),
    [
        ((64, 3, 7, 7), 2, 1, 224, True, True),
        ((32, 3, 3, 3), 2, 1, 224, True, False),
        ((64, 3, 3, 3), 2, 1, 224, False, False),
        ((64, 4, 3, 3), 1, 8, 112, True, False),
        ((32, 8, 3, 3), 1, 4, 112, False, False),
        ((64, 64, 3, 3), 1, 1, 56, True, True),
        ((512, 512, 3, 3), 1, 1, 7, False, False),
        ((512, 512, 3, 3), 1, 1, 14, False, False),
        ((64, 16, 1, 1), 1, 1, 56, True, False),
        ((160, 320, 1, 1), 1, 1, 28, False, False),
        ((64, 1, 3, 3), 2, 64, 55, True, False),
        ((32, 1, 3, 3), 1, 32, 112, False, False),
        ((4, 3, 3, 3), 1, 1, 32, False, False),
    ],
)
def test_it_is_faster_at_some_sizes(
    weight: tuple[int, int, int, int],
    stride: int,
    groups: int,
    size: int,
    on_avx512: bool,
    on_avx2: bool,
) -> None:
    outputs, channels, *kernel = weight
    conv = Conv2dGeometry.of(
        image=(1, size, size, channels * groups),
        weight=(outputs, *kernel, channels),
        stride=stride,
        padding=kernel[0] // 2,
        groups=groups,
    )
    chosen = [is_faster(conv, variant) for variant in ("avx512", "avx2", "portable")]
    assert chosen == [on_avx512, on_avx2, False]


def test_points_are_of_kernels_of_three_or_four_steps() -> None:
    def points(kernel: int, stride: int, dilation: int = 1) -> int:
        conv = Conv2dGeometry.of(
            image=(1, 32, 32, 8),
            weight=(32, kernel, kernel, 8),
            stride=stride,
            dilation=dilation,
        )
        return points_of(conv)

    assert [points(*sizes) for sizes in ((3, 1), (4, 1), (5, 2), (7, 2), (11, 4))] == [
        4,
        5,
        4,
        5,
        4,
    ]
    assert [points(*sizes) for sizes in ((1, 1), (2, 1), (3, 2), (5, 1), (3, 1, 2))] == [0] * 5
