"""Rows of several tensors: joined where all of them are dense, apart where one is not."""

import itertools
import random

import pytest
import torch
from torch import Tensor

from bitfront.kernels.gpu.rows import Rows, joined_axes, require_row_count, rows_of


def starts(rows: Rows, tensor: int) -> list[int]:
    """First element of each row, as the kernels count."""
    outer_step, line_step, pixel_step = rows.steps[tensor]
    counts = (range(rows.outer), range(rows.lines), range(rows.pixels))
    return [
        o * outer_step + i * line_step + p * pixel_step for o, i, p in itertools.product(*counts)
    ]


def true_starts(x: Tensor) -> list[int]:
    sizes, steps = x.shape[:-1], x.stride()[:-1]
    indices = itertools.product(*(range(size) for size in sizes))
    return [sum(i * step for i, step in zip(index, steps, strict=True)) for index in indices]


@pytest.mark.parametrize("seed", range(40))
def test_rows_start_where_they_do(seed: int) -> None:
    choose = random.Random(seed)
    shape = tuple(choose.choice([1, 2, 3, 17]) for _ in range(3))
    tensors = []
    for _ in range(2):
        wide = torch.zeros(*(size + choose.choice([0, 0, 2]) for size in shape), 4)
        x = wide[: shape[0], : shape[1], : shape[2], : choose.choice([2, 4])]
        tensors.append(x[:1].expand(*shape, x.shape[-1]) if choose.random() < 0.2 else x)
    keeps_first = choose.random() < 0.3
    rows = rows_of(shape, *(x.stride()[:3] for x in tensors), keeps_first=keeps_first)
    assert [starts(rows, n) for n in range(2)] == [true_starts(x) for x in tensors]
    if keeps_first:
        assert rows.outer == shape[0]
    assert rows.count == rows.lines * rows.pixels


@pytest.mark.parametrize(
    ("sizes", "strides", "expected"),
    [
        # dense in both: one axis
        ((8, 28, 28), ((50176, 1792, 64), (1568, 56, 2)), (1, 1, 6272)),
        # inside of a border: lines of pixels in each image
        ((8, 28, 28), ((50176, 1792, 64), (1800, 60, 2)), (8, 28, 28)),
        # channels first: pixels of an image lie behind each other
        ((8, 7, 7), ((3136, 7, 1), (98, 14, 2)), (8, 1, 49)),
        # few pixels to a line fill a tile together
        ((1, 7, 7), ((3136, 448, 64), (162, 18, 2)), (1, 7, 7)),
        ((8, 1, 1), ((64, 64, 64), (2, 2, 2)), (1, 1, 8)),
        ((1, 1, 1), ((64, 64, 64), (2, 2, 2)), (1, 1, 1)),
    ],
)
def test_axes_are_joined(
    sizes: tuple[int, ...], strides: tuple[tuple[int, ...], ...], expected: tuple[int, ...]
) -> None:
    rows = rows_of(sizes, *strides)
    assert (rows.outer, rows.lines, rows.pixels) == expected


def test_a_kept_first_axis_is_joined_with_none() -> None:
    rows = rows_of((8, 4, 4), (1024, 256, 64), (32, 8, 2), keeps_first=True)
    assert (rows.outer, rows.lines, rows.pixels) == (8, 1, 16)
    assert rows.steps == ((1024, 0, 64), (32, 0, 2))


def test_more_than_three_axes_are_refused() -> None:
    strides = torch.zeros(3, 3, 3, 3, 8)[:2, :2, :2, :2].stride()[:-1]
    assert len(joined_axes((2, 2, 2, 2), strides)) == 4
    with pytest.raises(ValueError, match="three axes at most"):
        rows_of((2, 2, 2, 2), strides)


def test_more_rows_than_int32_numbers_are_refused() -> None:
    require_row_count("x", torch.zeros(1).expand(2**31 - 1, 2))
    with pytest.raises(ValueError, match=r"`x` must have at most 2147483647 rows"):
        require_row_count("x", torch.zeros(1).expand(2**31, 2))
