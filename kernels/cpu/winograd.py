"""Pairs of neighbouring results of a convolution from fewer products.

A row of a kernel that is r steps of its window long, and what it reads of a map, are polynomials;
two results follow from their products at r + 1 points instead of from 2 r products.

References:
    S. Winograd, Arithmetic Complexity of Computations, SIAM 1980, chapter 5b;
    A. Lavin and S. Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016,
    https://arxiv.org/abs/1509.09308, section 4.1.
"""

from __future__ import annotations

from math import prod
from typing import Final

import torch
from torch import Tensor

from bitfront.kernels.geometry import Conv2dGeometry

FINITE_POINTS: Final = (0, 1, -1, 2)
"""The finite points of a kernel of four steps; one of three does without the last."""


def points_of(conv: Conv2dGeometry) -> int:
    """Points at which pairs of results are multiplied; 0 where each result is computed alone."""
    steps = -(-conv.kernel[1] // conv.stride[1])
    fits = steps in (3, 4) and conv.dilation[1] == 1
    return steps + 1 if fits and conv.group_outputs > 1 else 0


def saves_time(conv: Conv2dGeometry) -> bool:
    """Whether pairs of results take less time than results alone, where `points_of` allows them.

    The last tile of a row may compute some of it again, so products are counted in whole tiles of
    7, and pairs cost a fixed part more: on a Zen 4 core a kernel of 3x3 of 16 to 16 channels is
    1.06 times as fast at 32x32, where 0.8 as many products remain. What is added up at a point must
    be worth what it takes to put the points together: 1.1 times as fast with 12 products of 16 and
    more outputs (3x3 of 4 channels), 0.8 with 9; 1.1 with 48 of 8 outputs, 1.0 with 24.
    """
    (rows, columns), stride = conv.kernel, conv.stride[1]
    steps = -(-columns // stride)
    pairs = -(-conv.out_width // 2)
    if pairs < 7:
        return False
    # a point less in the columns that the last step does not reach
    products = columns + stride
    few = _tiles(pairs) * products <= 0.8 * _tiles(conv.out_width) * columns
    summed = rows * stride * conv.group_channels
    return steps in (3, 4) and few and summed >= (12 if conv.group_outputs > 8 else 32)


def _tiles(pixels: int) -> int:
    return -(-pixels // 7)


def transformed(weight_NhwC: Tensor, stride: int) -> Tensor:
    """Weights at the points, [N, T]: point by point; rows, columns of a step and channels in each.

    The weights g of one column of a step are worth ``sum_k g_k p^k / prod_q (p - q)`` at a finite
    point p, where q are the other finite ones, and the last of them at infinity, the last point. A
    column that the last step of the kernel does not reach has one weight less, and one point: it
    is left out at the last finite one.

    Args:
        weight_NhwC: float32 [N, kh, kw, C / G]; kw is three or four steps, the last maybe in part.
        stride: Columns of a step.
    """
    columns = weight_NhwC.shape[2]
    steps = -(-columns // stride)
    values: list[list[Tensor]] = [[] for _ in range(steps + 1)]
    for column in range(stride):
        weights_NhkC = weight_NhwC[:, :, column::stride].double()
        count = weights_NhkC.shape[2]
        finite = FINITE_POINTS[:count]
        for place, p in enumerate(finite):
            powers = torch.tensor([float(p**k) for k in range(count)], dtype=torch.float64)
            scale = prod(p - q for q in finite if q != p)
            values[place].append(torch.einsum("nhkc,k->nhc", weights_NhkC, powers / scale))
        values[-1].append(weights_NhkC[:, :, -1])
    return torch.cat([torch.stack(parts, 2).flatten(1) for parts in values], 1).float()
