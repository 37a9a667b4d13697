"""Products by weights that come again as plain words, prepared for the CPU once.

An operator is given words only, at each call. What was prepared for a tensor is found by the tensor
and used if it still holds the same words, which takes a few microseconds to compare: a weight that
was written to, in whatever way, is prepared anew.
"""

from __future__ import annotations

import threading
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from bitfront.kernels import cpu, packing
from bitfront.kernels.geometry import Conv2dGeometry, Fill
from bitfront.kernels.layout import CodeFormat, PackedCodes

# products of bits that are worth a thread of their own: tens of microseconds
_WORK_OF_A_THREAD: Final = 1 << 27

# sizes of a map that are kept ready for one weight
_SIZES_OF_A_WEIGHT: Final = 8

_Key = tuple[Conv2dGeometry, CodeFormat, CodeFormat, Fill, int]


@dataclass(slots=True)
class _Known:
    """What was prepared for a tensor while it held these words."""

    words: Tensor
    weights: dict[tuple[CodeFormat, int], cpu.CpuWeight] = field(default_factory=dict)
    products: dict[_Key, cpu.Product] = field(default_factory=dict)


class _PerThread(threading.local):
    # a product keeps its padded map, so it serves one thread
    def __init__(self) -> None:
        self.known: MutableMapping[Tensor, _Known] = WeakTensorKeyDictionary()


_prepared = _PerThread()


def reused_product(
    weight: Tensor,
    conv: Conv2dGeometry,
    x_format: CodeFormat,
    weight_format: CodeFormat,
    fill: Fill,
) -> cpu.Product | None:
    """The product of a convolution, prepared at the first call with these words.

    It takes as many threads as torch does, if each has enough to do.

    Args:
        weight: words [R, N, h, w, P] or of the same elements, on the CPU.
        conv: The geometry.
        x_format: What the bits of the maps are worth.
        weight_format: What the bits of the weight are worth.
        fill: 0, a value of `x_format`, or "replicate".

    Returns:
        None without the compiled library.

    Raises:
        ValueError: As `cpu.prepare_product`.
    """
    known = _prepared.known.get(weight)
    if known is None or not np.array_equal(known.words.numpy(), weight.numpy()):
        known = _prepared.known[weight] = _Known(weight.clone())
    work = conv.rows * conv.outputs * conv.dot_length * x_format.bits * weight_format.bits
    threads = min(torch.get_num_threads(), 1 + work // _WORK_OF_A_THREAD)
    key = (conv, x_format, weight_format, fill, threads)
    product = known.products.get(key)
    if product is None:
        product = cpu.prepare_product(
            conv, x_format, _weight(known, conv, weight_format), fill=fill, threads=threads
        )
        if product is None:
            return None
        if len(known.products) == _SIZES_OF_A_WEIGHT:
            known.products.pop(next(iter(known.products)))
        known.products[key] = product
    return product


def _weight(known: _Known, conv: Conv2dGeometry, format: CodeFormat) -> cpu.CpuWeight:
    key = (format, conv.groups)
    if key not in known.weights:
        words = known.words.reshape(format.bits, conv.outputs, *conv.kernel, known.words.shape[-1])
        codes = PackedCodes(
            words=words,
            channels=conv.group_channels,
            format=format,
            popcount=packing.row_count(words),
        )
        known.weights[key] = cpu.prepare_weight(codes, conv.groups)
    return known.weights[key]
