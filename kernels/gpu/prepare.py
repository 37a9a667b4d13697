"""A product by whichever kernel suits the device, the rows and the bits."""

from __future__ import annotations

from typing import Final, get_args

import torch

from bitfront.kernels.finish import Finish
from bitfront.kernels.geometry import Conv2dGeometry, Fill
from bitfront.kernels.gpu.constants import largest_byte_sum
from bitfront.kernels.gpu.dispatch import Route, route
from bitfront.kernels.gpu.launch import blocks, require_device
from bitfront.kernels.gpu.product import Method, Product, prepare_triton_product
from bitfront.kernels.gpu.tensor_core_product import (
    MAX_TAPS,
    TensorCoreProduct,
    choose_tile,
    prepare_tensor_core_product,
)
from bitfront.kernels.gpu.tiles import Tile, int8_tile, popcount_tile
from bitfront.kernels.gpu.tuning import Choice, ProductCase, Tuning, fits, known_tuning
from bitfront.kernels.gpu.weight import GpuWeight
from bitfront.kernels.layout import MAX_ELEMENTS, CodeFormat, require_type, word_count

INTERPRETED: Final = 100
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
    tuning: Tuning | None = None,
) -> Product | TensorCoreProduct:
    """Prepare a convolution for maps of one size.

    Where neither `method` nor `tile` is given, the product is computed as was fastest on this
    device: for the same product if it was timed, else for the nearest one that was
    (`Tuning.choices`), else as a model of the hardware says (`choose` and the default tiles).

    Args:
        conv: Its geometry.
        x_format: What the bits of the maps are worth.
        weight: Of that geometry, on the device where the product will run.
        method: "popcount", "tensor_core" or "int8"; None takes what suits the device.
        fill: 0, a value of `x_format`, or "replicate".
        finish: What becomes of the sums; None leaves them.
        tile: How a product by popcount or int8 is cut; None takes the default.
        tuning: What was timed on the device; None takes the tables that ship with bitfront and
            the user's own (`bitfront.kernels.gpu.tuning.known_tuning`).

    Returns:
        A callable from words [Q, B, H, W, P] to the result.

    Raises:
        TypeError: If an argument has another type.
        ValueError: If an argument does not fit, the device is too old, or a sum may pass 2^31 - 1;
            or if a table of the device is damaged.
    """
    require_type("conv", conv, Conv2dGeometry)
    require_type("x_format", x_format, CodeFormat)
    require_type("weight", weight, GpuWeight)
    require_device("weight", weight.rows)
    if tuning is not None:
        require_type("tuning", tuning, Tuning)
    if method is None and tile is None:
        chosen = choose_way(conv, x_format, weight, finish, tuning)
        return prepare_choice(conv, x_format, weight, chosen, fill=fill, finish=finish)
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


def prepare_choice(
    conv: Conv2dGeometry,
    x_format: CodeFormat,
    weight: GpuWeight,
    choice: Choice,
    *,
    fill: Fill = 0,
    finish: Finish | None = None,
) -> Product | TensorCoreProduct:
    """Prepare a convolution that is computed in one way; else as `prepare_product`.

    Args:
        conv: Its geometry.
        x_format: What the bits of the maps are worth.
        weight: Of that geometry, on the device where the product will run.
        choice: The way.
        fill: 0, a value of `x_format`, or "replicate".
        finish: What becomes of the sums; None leaves them.

    Raises:
        TypeError: As `prepare_product`.
        ValueError: As `prepare_product`, or if the way does not suit the product.
    """
    tile = choice.tile
    if not isinstance(tile, Tile):
        return prepare_tensor_core_product(
            conv, x_format, weight, fill=fill, finish=finish, tile=tile, stages=choice.stages
        )
    method: Method = "int8" if choice.route == "int8" else "popcount"
    return prepare_triton_product(
        conv, x_format, weight, method=method, fill=fill, finish=finish, tile=tile
    )


def choose_way(
    conv: Conv2dGeometry,
    x_format: CodeFormat,
    weight: GpuWeight,
    finish: Finish | None,
    tuning: Tuning | None = None,
) -> Choice:
    """How a product is computed: as was fastest for it or its nearest neighbour, else the default.

    Args:
        conv: The geometry.
        x_format: What the bits of the maps are worth.
        weight: On the device.
        finish: What becomes of the sums.
        tuning: What was timed; None takes the tables that are known of the device.

    Raises:
        ValueError: The device is too old, or a table of it is damaged.
    """
    device = weight.rows.device
    capability = capability_of(device)
    formats = (x_format, weight.format)
    default = choose(capability, conv, *formats)
    case = ProductCase.of(conv, *formats, finish)
    if tuning is None:
        is_cuda = device.type == "cuda"
        tuning = known_tuning(torch.cuda.get_device_name(device)) if is_cuda else Tuning()
    for choice in tuning.choices(case):
        if fits(choice, capability, case, formats):
            return choice
    return default_choice(default, case)


def default_choice(method: Route, case: ProductCase) -> Choice:
    """How a route computes a product where nothing was timed."""
    if method == "tensor_core":
        return Choice(route=method, tile=choose_tile(case.rows, case.outputs))
    sizes = (case.rows, case.outputs, case.words, case.kind == "codes")
    if method == "int8":
        return Choice(route=method, tile=int8_tile(*sizes))
    return Choice(route=method, tile=popcount_tile(*sizes, case.weight_bits * case.input_bits))


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
        return INTERPRETED
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor
