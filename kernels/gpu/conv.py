"""Products of packed operands on a GPU, prepared and run at once."""

from __future__ import annotations

from torch import Tensor

from bitfront.kernels.finish import Affine, Finish
from bitfront.kernels.geometry import Conv2dGeometry, Fill, Pair
from bitfront.kernels.gpu.dispatch import Route
from bitfront.kernels.gpu.prepare import prepare_product
from bitfront.kernels.gpu.tiles import Tile
from bitfront.kernels.gpu.weight import GpuWeight
from bitfront.kernels.layout import require_clear_padding, require_type
from bitfront.kernels.operands import Packed, planes_of, require_same_device


def gemm(
    a: Packed,
    weight: GpuWeight,
    *,
    method: Route | None = None,
    finish: Finish | None = None,
    tile: Tile | None = None,
) -> Tensor:
    """Product of packed rows and a weight, ``a @ w.T`` of their values.

    Args:
        a: words [M, P] of each plane.
        weight: Of one tap and one group.
        method: "popcount", "tensor_core" or "int8"; None takes what suits the device.
        finish: What becomes of the sums; None leaves them.
        tile: How a product by popcount or int8 is cut; None takes the default.

    Returns:
        int32 [M, N]; floats [M, N] with `Affine`; int32 words [M, P'] with `Threshold`,
        [k, M, P'] with `Requantise`.

    Raises:
        TypeError: If an operand has another type.
        ValueError: If shapes or devices do not agree, padding bits are not 0, or a sum may pass
            2^31 - 1.
    """
    words, _ = planes_of(a)
    if words.dim() != 3:
        raise ValueError(
            f"`a` must hold words [rows, words] of each plane, but got {tuple(words.shape[1:])}."
        )
    result = _convolve(a, words[:, None, None], weight, 1, 0, 1, 0, method, finish, tile)
    # an image of one row of M pixels
    return result.squeeze(-4).squeeze(-3)


def conv2d(
    x: Packed,
    weight: GpuWeight,
    *,
    method: Route | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    fill: Fill = 0,
    finish: Finish | None = None,
    tile: Tile | None = None,
) -> Tensor:
    """Convolution of packed maps; the arguments are those of `reference.xnor_conv2d`.

    Args:
        x: words [B, H, W, P] of each plane.
        weight: Holds the groups too.
        method: "popcount", "tensor_core" or "int8"; None takes what suits the device.
        stride: An int or (vertical, horizontal).
        padding: As stride.
        dilation: As stride.
        fill: 0, a value of the format of `x`, or "replicate".
        finish: What becomes of the sums; None leaves them.
        tile: How a product by popcount or int8 is cut; None takes the default.

    Returns:
        int32 [B, Y, X, N]; floats with `Affine`; int32 words [B, Y, X, P'] with `Threshold`,
        [k, B, Y, X, P'] with `Requantise`.

    Raises:
        TypeError: If an operand has another type.
        ValueError: If shapes or devices do not agree, padding bits are not 0, or a sum may pass
            2^31 - 1.
    """
    words, _ = planes_of(x)
    if words.dim() != 5:
        raise ValueError(
            f"`x` must hold words [B, H, W, words] of each plane, but got {tuple(words.shape[1:])}."
        )
    return _convolve(x, words, weight, stride, padding, dilation, fill, method, finish, tile)


def _convolve(
    x: Packed,
    words: Tensor,
    weight: GpuWeight,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    fill: Fill,
    method: Route | None,
    finish: Finish | None,
    tile: Tile | None,
) -> Tensor:
    require_type("weight", weight, GpuWeight)
    require_same_device("x", words, "weight", weight.rows)
    if isinstance(finish, Affine) and finish.merges:
        raise ValueError("A finish that merges is for a prepared product, which is given `out`.")
    batch, height, width = words.shape[1:4]
    outputs, kernel_height, kernel_width = weight.words.shape[1:4]
    conv = Conv2dGeometry.of(
        image=(batch, height, width, x.channels),
        weight=(outputs, kernel_height, kernel_width, weight.source.channels),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=weight.groups,
    )
    require_clear_padding("x", words, x.channels)
    product = prepare_product(
        conv, planes_of(x)[1], weight, method=method, fill=fill, finish=finish, tile=tile
    )
    return product(words)
