"""A product by whichever kernel suits the device, the rows and the bits."""

from __future__ import annotations

from typing import Final, get_args

import torch

from bitfront.kernels.geometry import Conv2dGeometry, Fill
from bitfront.kernels.gpu.constants import largest_byte_sum
from bitfront.kernels.gpu.dispatch import Route, route
from bitfront.kernels.gpu.finish import Finish
from bitfront.kernels.gpu.launch import blocks, require_device
from bitfront.kernels.gpu.product import Product, prepare_triton_product
from bitfront.kernels.gpu.tensor_core_product import (
    MAX_TAPS,
    TensorCoreProduct,
    prepare_tensor_core_product,
)
from bitfront.kernels.gpu.tiles import Tile, int8_tile
from bitfront.kernels.gpu.weight import GpuWeight
from bitfront.kernels.layout import MAX_ELEMENTS, CodeFormat, require_type, word_count

_INTERPRETED: Final = 100
"""The interpreter takes all kernels but those of the 1-bit tensor cores, as such a device does."""


def prepare_product(
    conv: Conv2dGeometry,
    x_format: CodeFormat,
    weight: GpuWeight,
    *,
    method: Route | None = None,
    fill: Fill = 0,
    finish: Finish | None = None,
    tile: Tile | None = None,
) -> Product | TensorCoreProduct:
    """Prepare a convolution for maps of one size.

    Args:
        conv: Its geometry.
        x_format: What the bits of the maps are worth.
        weight: Of that geometry, on the device where the product will run.
        method: "popcount", "tensor_core" or "int8"; None takes what suits the device.
        fill: 0, a value of `x_format`, or "replicate".
        finish: What becomes of the sums; None leaves them.
        tile: How a product by popcount or int8 is cut; None takes the default.

    Returns:
        A callable from words [Q, B, H, W, P] to the result.

    Raises:
        TypeError: If an argument has another type.
        ValueError: If an argument does not fit, the device is too old, or a sum may pass 2^31 - 1.
    """
    require_type("conv", conv, Conv2dGeometry)
    require_type("x_format", x_format, CodeFormat)
    require_type("weight", weight, GpuWeight)
    require_device("weight", weight.rows)
    if method is None:
        method = choose(capability_of(weight.rows.device), conv, x_format, weight.format)
    if method not in get_args(Route):
        raise ValueError(
            f"`method` must be one of {', '.join(get_args(Route))}, but got {method!r}."
        )
    if method != "tensor_core":
        return prepare_triton_product(
            conv, x_format, weight, method=method, fill=fill, finish=finish, tile=tile
        )
    if tile is not None:
        raise ValueError(f"`tile` must be None on the 1-bit tensor cores, but got {tile}.")
    return prepare_tensor_core_product(conv, x_format, weight, fill=fill, finish=finish)


def choose(
    capability: int, conv: Conv2dGeometry, x_format: CodeFormat, w_format: CodeFormat
) -> Route:
    """The route of a product, or the next one that takes its geometry.

    Args:
        capability: Ten times the compute capability.
        conv: The geometry.
        x_format: What the bits of the maps are worth.
        w_format: What the bits of the weight are worth.

    Raises:
        ValueError: The device is too old.
    """
    chosen = route(capability, conv.rows, w_format.bits, x_format.bits)
    if chosen == "tensor_core" and conv.taps > MAX_TAPS:
        chosen = "int8"
    row_words = conv.taps * word_count(conv.group_channels)
    step = int8_tile(conv.rows, conv.group_outputs, row_words, False).words
    padded = blocks(row_words, step) * step
    if chosen == "int8" and largest_byte_sum(x_format, w_format, padded) > MAX_ELEMENTS:
        chosen = "popcount"
    return chosen


def capability_of(device: torch.device) -> int:
    """Ten times the compute capability of a device."""
    if device.type != "cuda":
        return _INTERPRETED
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor
