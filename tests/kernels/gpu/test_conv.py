"""Convolutions by gathering words under a window, against the reference: equality."""

from collections.abc import Callable

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from bitfront.kernels import BINARY, CodeFormat, Fill, PackedBits, PackedCodes, reference
from bitfront.kernels.gpu import Route, conv2d, prepare_weight

pytestmark = pytest.mark.usefixtures("poisoned")

FILLS: list[Fill] = [-1, 0, 1, "replicate"]
METHODS: list[Route] = ["popcount", "int8"]
FORMATS = [
    CodeFormat(bits=bits, coding=coding)
    for bits, coding in (
        (1, "symmetric"),
        (2, "unsigned"),
        (3, "signed"),
        (2, "symmetric"),
    )
]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("kernel", "padding"), [(1, 0), (3, 0), (3, 1), (1, 1)])
def test_conv2d_of_signs(
    kernel: int,
    padding: int,
    stride: int,
    fill: Fill,
    method: Route,
    signs: Callable[..., PackedBits],
) -> None:
    x = signs(2, 5, 6, 33, seed=3)
    weight = signs(37, kernel, kernel, 33, seed=4)
    arguments = {"stride": stride, "padding": padding, "fill": fill}
    result = conv2d(x, prepare_weight(weight), method=method, **arguments)
    assert torch.equal(result, reference.xnor_conv2d(x, weight, **arguments))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("channels", [1, 31, 32, 63, 127, 500])
def test_conv2d_of_odd_channels(
    channels: int, method: Route, signs: Callable[..., PackedBits]
) -> None:
    x, weight = signs(1, 3, 3, channels, seed=3), signs(3, 1, 2, channels, seed=4)
    result = conv2d(x, prepare_weight(weight), method=method, padding=(0, 1))
    assert torch.equal(result, reference.xnor_conv2d(x, weight, padding=(0, 1)))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fill", [0, "low", "high", "replicate"])
@pytest.mark.parametrize("coding", ["unsigned", "signed", "symmetric"])
@pytest.mark.parametrize("bits", [4, 8])
def test_conv2d_of_wide_codes(
    bits: int, coding: str, fill: Fill, method: Route, codes: Callable[..., PackedCodes]
) -> None:
    format = CodeFormat(bits=bits, coding=coding)
    x = codes((1, 3, 4, 33), format, 1)
    weight = codes((4, 3, 3, 33), BINARY, 2)
    arguments = {"padding": 1, "fill": {"low": format.low, "high": format.high}.get(fill, fill)}
    result = conv2d(x, prepare_weight(weight), method=method, **arguments)
    assert torch.equal(result, reference.bitserial_conv2d(x, weight, **arguments))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("groups", "channels", "outputs"), [(2, 32, 33), (3, 33, 2), (5, 1, 1), (2, 64, 32)]
)
def test_conv2d_of_groups(
    groups: int, channels: int, outputs: int, method: Route, signs: Callable[..., PackedBits]
) -> None:
    x = signs(2, 4, 5, groups * channels, seed=3)
    weight = signs(groups * outputs, 3, 3, channels, seed=4)
    result = conv2d(x, prepare_weight(weight, groups), method=method, padding=1)
    assert torch.equal(result, reference.xnor_conv2d(x, weight, padding=1, groups=groups))


@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_conv2d_on_any_geometry(codes: Callable[..., PackedCodes], data: st.DataObject) -> None:
    draw = data.draw
    groups = draw(st.integers(1, 3), label="groups")
    channels = groups * draw(st.sampled_from([1, 5, 31, 32, 33, 64]), label="channels / groups")
    outputs = groups * draw(st.sampled_from([1, 3, 31, 32, 40]), label="outputs / groups")
    kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    dilation = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    padding = (draw(st.integers(0, 3)), draw(st.integers(0, 3)))
    stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    height, width = (
        draw(st.integers(max(1, d * (k - 1) + 1 - 2 * p), 8))
        for d, k, p in zip(dilation, kernel, padding, strict=True)
    )
    x_format = draw(st.sampled_from(FORMATS), label="x")
    w_format = draw(st.sampled_from(FORMATS), label="weight")
    batch = draw(st.integers(1, 2))
    x = codes((batch, height, width, channels), x_format, draw(st.integers(0, 99)))
    weight = codes((outputs, *kernel, channels // groups), w_format, draw(st.integers(0, 99)))
    fill = draw(st.sampled_from([0, x_format.low, x_format.high, "replicate"]), label="fill")
    arguments = {"stride": stride, "padding": padding, "dilation": dilation, "fill": fill}
    expected = reference.bitserial_conv2d(x, weight, groups=groups, **arguments)
    method = draw(st.sampled_from(METHODS), label="method")
    result = conv2d(x, prepare_weight(weight, groups), method=method, **arguments)
    assert torch.equal(result, expected)


def test_the_method_is_chosen_by_rows_and_bits(codes: Callable[..., PackedCodes]) -> None:
    format = CodeFormat(bits=4, coding="unsigned")
    x, weight = codes((1, 2, 3, 33), format, 1), codes((4, 1, 1, 33), format, 2)
    for image in (x, codes((1, 9, 9, 33), format, 3)):
        result = conv2d(image, prepare_weight(weight))
        assert torch.equal(result, reference.bitserial_conv2d(image, weight))
