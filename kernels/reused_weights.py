"""Products by weights that come again as plain words, prepared once for their device.

An operator is given words only, at each call. What was prepared for a tensor is found by the tensor
and used if it still holds the same words: a weight that was written to, in whatever way, is
prepared anew. To compare takes a few microseconds on a CPU; on a CUDA device it waits for the
device.

While a CUDA graph is captured nothing may wait. Then a product that one call before the capture
prepared is used, if torch counted no write to the weight since (it counts none through ``.data``).
A graph computes with the words of its capture, whatever is written later; what it reads is kept as
long as the weight.

What is prepared serves one thread, since a product of the CPU keeps its padded map; a CUDA product
keeps nothing between calls, but follows the same rule.
"""

from __future__ import annotations

import threading
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from bitfront.kernels import packing
from bitfront.kernels.geometry import Conv2dGeometry, Fill
from bitfront.kernels.layout import CodeFormat, PackedCodes
from bitfront.kernels.op_kernels import DeviceKernels, Prepare, Product

# sizes of a map that are kept ready for one weight
_SIZES_OF_A_WEIGHT: Final = 8

_Key = tuple[Conv2dGeometry, CodeFormat, CodeFormat, Fill, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What of a tensor can be compared without reading it.

    Attributes:
        version: Writes that torch has counted; None for a tensor made in inference mode.
        address: Of the first word.
        shape: Sizes.
        steps: Words from one index of each axis to the next.
    """

    version: int | None
    address: int
    shape: tuple[int, ...]
    steps: tuple[int, ...]

    @classmethod
    def of(cls, x: Tensor) -> Stamp:
        """The stamp of a tensor as it is now."""
        return cls(
            version=None if x.is_inference() else x._version,
            address=x.data_ptr(),
            shape=tuple(x.shape),
            steps=x.stride(),
        )


def capture_fault(prepared: Stamp | None, now: Stamp, *, has_sizes: bool) -> str | None:
    """Why a weight cannot be used while a CUDA graph is captured, as a clause; None if it can.

    Args:
        prepared: The weight when it was last compared or prepared; None if it never was.
        now: The weight now.
        has_sizes: Whether a product of these sizes was prepared.
    """
    if prepared is None:
        return "this thread has not called it with this weight"
    if now.version is None:
        return "a weight made in torch.inference_mode() does not count writes"
    if prepared != now:
        return "the weight was written to since"
    if not has_sizes:
        return "this thread has not called it with these sizes"
    return None


@dataclass(slots=True)
class _Known:
    """What was prepared for a tensor while it held these words.

    For a capture there are a stamp, and the storage: kept allocated, its address cannot become that
    of other words.
    """

    kernels: DeviceKernels
    words: Tensor
    stamp: Stamp | None = None
    storage: torch.UntypedStorage | None = None
    weights: dict[tuple[CodeFormat, int], Prepare] = field(default_factory=dict)
    products: dict[_Key, Product] = field(default_factory=dict)


class _PerThread(threading.local):
    def __init__(self) -> None:
        self.known: MutableMapping[Tensor, _Known] = WeakTensorKeyDictionary()


_prepared = _PerThread()

# of all threads: a graph may be replayed by any, and reads what its products point to
_captured: MutableMapping[Tensor, list[Product]] = WeakTensorKeyDictionary()
_captured_lock: Final = threading.Lock()


def reused_product(
    kernels: DeviceKernels,
    weight: Tensor,
    conv: Conv2dGeometry,
    x_format: CodeFormat,
    weight_format: CodeFormat,
    fill: Fill,
) -> Product | None:
    """The product of a convolution, prepared at the first call with these words.

    Args:
        kernels: Of the weight's device.
        weight: words [R, N, h, w, P] or of the same elements.
        conv: The geometry.
        x_format: What the bits of the maps are worth.
        weight_format: What the bits of the weight are worth.
        fill: 0, a value of `x_format`, or "replicate".

    Returns:
        None where the kernels have none, as without the compiled library.

    Raises:
        ValueError: As `prepare_product` of the device.
    """
    known = _prepared.known.get(weight)
    if known is None or known.kernels is not kernels or not kernels.same_words(known.words, weight):
        known = _prepared.known[weight] = _Known(kernels, weight.clone())
    if kernels.is_captured:
        # the same words may have been written, or lie elsewhere
        known.stamp, known.storage = Stamp.of(weight), weight.untyped_storage()
    key = _key(kernels, conv, x_format, weight_format, fill)
    product = known.products.get(key)
    if product is None:
        product = _prepare(known, conv, weight_format)(conv, x_format, fill, key[-1])
        if product is None:
            return None
        if len(known.products) == _SIZES_OF_A_WEIGHT:
            known.products.pop(next(iter(known.products)))
        known.products[key] = product
    return product


def captured_product(
    kernels: DeviceKernels,
    weight: Tensor,
    conv: Conv2dGeometry,
    x_format: CodeFormat,
    weight_format: CodeFormat,
    fill: Fill,
) -> Product:
    """As `reused_product`, while a CUDA graph is captured: nothing is read or prepared.

    Raises:
        RuntimeError: If the product was not prepared, or the weight may have changed since.
    """
    known = _prepared.known.get(weight)
    key = _key(kernels, conv, x_format, weight_format, fill)
    product = None if known is None else known.products.get(key)
    fault = capture_fault(
        None if known is None else known.stamp, Stamp.of(weight), has_sizes=product is not None
    )
    if product is None or fault is not None:
        raise RuntimeError(
            "A low-bit operator in the capture of a CUDA graph must find its weight prepared, but "
            f"{fault}. Prepare it by one call with the same weight and sizes before the capture, "
            "in the same thread, or capture a product of bitfront.kernels.gpu.prepare_product."
        )
    with _captured_lock:
        kept = _captured.setdefault(weight, [])
        if product not in kept:
            kept.append(product)
    return product


def _key(
    kernels: DeviceKernels,
    conv: Conv2dGeometry,
    x_format: CodeFormat,
    weight_format: CodeFormat,
    fill: Fill,
) -> _Key:
    work = conv.rows * conv.outputs * conv.dot_length * x_format.bits * weight_format.bits
    return conv, x_format, weight_format, fill, kernels.threads(work)


def _prepare(known: _Known, conv: Conv2dGeometry, format: CodeFormat) -> Prepare:
    key = (format, conv.groups)
    if key not in known.weights:
        words = known.words.reshape(format.bits, conv.outputs, *conv.kernel, known.words.shape[-1])
        codes = PackedCodes(
            words=words,
            channels=conv.group_channels,
            format=format,
            popcount=packing.row_count(words),
        )
        known.weights[key] = known.kernels.prepare_weight(codes, conv.groups)
    return known.weights[key]
