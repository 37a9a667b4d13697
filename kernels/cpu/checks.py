"""What the compiled kernels take on trust: they get addresses, so all of it is checked before."""

from __future__ import annotations

import torch
from torch import Tensor

from bitfront.kernels.cpu.weight import CpuWeight
from bitfront.kernels.geometry import Conv2dGeometry
from bitfront.kernels.layout import MAX_ELEMENTS, WORD_BITS, CodeFormat, require_type, word_count
from bitfront.kernels.native_library import PANEL


def require_dense(name: str, x: object, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    """Return `x` if it is a tensor of this dtype and shape with data on the CPU, any strides.

    Raises:
        TypeError: If it is no tensor.
        ValueError: If it is another one.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"`{name}` must be a torch.Tensor, but got {type(x).__name__}.")
    if x.shape != shape or x.dtype != dtype or x.device.type != "cpu" or x.layout != torch.strided:
        raise ValueError(
            f"`{name}` must be {dtype} {list(shape)}, dense and on the CPU, but got {x.dtype} "
            f"{list(x.shape)}, layout {x.layout}, on {x.device}."
        )
    # a conjugate's imaginary part is negated when it is read, which an address does not show
    return x.resolve_neg()


def require_out(out: object, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """Check where a result goes: rows are dense, and no element lies on another.

    Raises:
        TypeError: If it is no tensor.
        ValueError: If it has another shape, dtype, device or layout.
    """
    dense = require_dense("out", out, dtype, shape)
    reach = 1
    # as large as all that lies within it, or elements may meet
    for step, size in sorted(zip(dense.stride(), shape, strict=True)):
        if size > 1 and step < reach:
            break
        reach = max(reach, step * (size - 1) + reach)
    else:
        if dense.stride(-1) == 1 or shape[-1] == 1:
            return
    raise ValueError(
        "`out` must be dense in its last axis and have a place for each element, but got "
        f"{list(shape)} with steps {dense.stride()}."
    )


def require_variant(variant: object, variants: tuple[str, ...]) -> str:
    """Return the variant, the fastest for None.

    Raises:
        ValueError: If this CPU does not have it.
    """
    if variant is None:
        return variants[-1]
    if not isinstance(variant, str) or variant not in variants:
        raise ValueError(
            f"`variant` must be one of {', '.join(variants)} on this CPU, but got {variant!r}."
        )
    return variant


def require_product(conv: Conv2dGeometry, x_format: CodeFormat, weight: CpuWeight) -> None:
    """Check a product's geometry, formats and weight.

    Raises:
        TypeError: If one is of another class.
        ValueError: If the weight is not of that geometry, or not as `prepare_weight` makes it, or
            the map with its border has more than 2^31 - 1 words.
    """
    require_type("conv", conv, Conv2dGeometry)
    require_type("x_format", x_format, CodeFormat)
    require_type("weight", weight, CpuWeight)
    fits = (conv.outputs, *conv.kernel, conv.group_channels, conv.groups)
    if (*weight.words.shape[1:4], weight.source.channels, weight.groups) != fits:
        raise ValueError(
            "`weight` must have the outputs, kernel, channels and groups of the geometry, "
            f"{fits}, but has "
            f"{(*weight.words.shape[1:4], weight.source.channels, weight.groups)}."
        )
    panels = (conv.groups, -(-conv.group_outputs // PANEL))
    k_words = conv.taps * word_count(conv.group_channels)
    for name, shape in (
        ("panels", (weight.format.bits, *panels, k_words, PANEL)),
        ("ones", (weight.format.bits, *panels, PANEL)),
        ("tap_sums", (conv.taps, *panels, PANEL)),
    ):
        if not require_dense(
            f"weight.{name}", getattr(weight, name), torch.int32, shape
        ).is_contiguous():
            raise ValueError(f"`weight.{name}` must be contiguous; make it by `prepare_weight`.")
    height, width = (
        size + 2 * padding
        for size, padding in zip((conv.height, conv.width), conv.padding, strict=True)
    )
    pixel = word_count(conv.group_channels) * conv.groups
    words = x_format.bits * conv.batch * height * width * pixel
    if words > MAX_ELEMENTS:
        raise ValueError(
            f"`planes * batch * padded height * padded width * words <= {MAX_ELEMENTS}` must "
            f"hold, but got {words} ({x_format.bits} * {conv.batch} * {height} * {width} * "
            f"{pixel})."
        )


def require_thresholds(values: object, flip_words: object) -> None:
    """Check the constants of a packing with thresholds.

    Raises:
        TypeError: If one is no tensor.
        ValueError: If they are not float32 [C] and int32 [P], contiguous, or a padding bit is 1.
    """
    if not isinstance(values, Tensor) or values.dim() != 1 or not len(values):
        got = list(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise TypeError(f"`values` must be a torch.Tensor [C], but got {got}.")
    channels = len(values)
    shape = (word_count(channels),)
    dense = require_dense("values", values, torch.float32, (channels,))
    flips = require_dense("flip_words", flip_words, torch.int32, shape)
    if not dense.is_contiguous() or not flips.is_contiguous():
        raise ValueError(
            "`values` and `flip_words` must be contiguous, but got steps "
            f"{dense.stride()} and {flips.stride()}."
        )
    used = channels - WORD_BITS * (shape[0] - 1)
    if used < WORD_BITS and int(flips[-1]) >> used:
        raise ValueError(
            f"`flip_words` must have 0 in bits {used} to {WORD_BITS - 1} of its last word, which "
            f"lie past {channels} channels, but got a 1 there."
        )
