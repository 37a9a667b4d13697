"""The geometry of a convolution: sizes as torch's, and what is refused."""

import dataclasses

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from bitfront.kernels import Conv2dGeometry


def test_sizes_of_the_implicit_matrix_product() -> None:
    geometry = Conv2dGeometry.of(
        image=(2, 7, 9, 12), weight=(6, 3, 1, 4), stride=(2, 1), padding=(1, 0), groups=3
    )
    assert (geometry.out_height, geometry.out_width) == (4, 9)
    assert geometry.rows == 2 * 4 * 9
    assert geometry.taps == 3
    assert (geometry.group_channels, geometry.group_outputs) == (4, 2)
    assert geometry.dot_length == 12


@settings(deadline=None, max_examples=80)
@given(
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    dilation=st.tuples(st.integers(1, 3), st.integers(1, 3)),
)
def test_output_size_is_torch_s(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> None:
    def ours() -> tuple[int, int]:
        geometry = Conv2dGeometry.of(
            image=(1, *size, 1),
            weight=(1, *kernel, 1),
            stride=stride,
            padding=padding,
            dilation=dilation,
        )
        return geometry.out_height, geometry.out_width

    x, weight = torch.zeros(1, 1, *size), torch.zeros(1, 1, *kernel)
    try:
        y = torch.nn.functional.conv2d(x, weight, stride=stride, padding=padding, dilation=dilation)
    except RuntimeError:
        with pytest.raises(ValueError, match="input"):
            ours()
    else:
        assert ours() == tuple(y.shape[2:])


@pytest.mark.parametrize(
    ("image", "weight", "message"),
    [
        # 2^30 pixels are few enough, 2^31 results are not
        ((1, 2**15, 2**15, 1), (2, 1, 1, 1), "batch .* outputs <= 2147483647.* got 2147483648"),
        ((1, 3, 3, 2**28), (1, 3, 3, 2**28), "channels / groups <= 2147483647.* got 2415919104"),
        ((0, 3, 3, 1), (1, 1, 1, 1), "1 <= batch"),
        ((1, 3, 3, 1), (0, 1, 1, 1), "1 <= outputs"),
        ((1, 3, 3, 1), (1, 0, 1, 1), "1 <= kernel"),
        ((1, 3, 3, 2), (1, 1, 1, 1), "weight channels=1, input channels=2, groups=1"),
    ],
)
def test_geometry_refuses_sizes(
    image: tuple[int, int, int, int], weight: tuple[int, int, int, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Conv2dGeometry.of(image=image, weight=weight)


@pytest.mark.parametrize("name", ["kernel", "stride", "padding", "dilation"])
def test_geometry_holds_pairs(name: str) -> None:
    good = Conv2dGeometry.of(image=(1, 3, 3, 1), weight=(1, 1, 1, 1))
    with pytest.raises(TypeError, match=f"`{name}` must be a pair of ints, but got 1"):
        dataclasses.replace(good, **{name: 1})
