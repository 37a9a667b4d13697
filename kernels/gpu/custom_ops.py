"""The operators of `bitfront.kernels.custom_ops` on a CUDA device: importing this registers them.

    import bitfront.kernels.gpu.custom_ops

Then ``torch.ops.bitfront.xnor_conv2d`` and the others run the kernels of this package on CUDA
tensors; before, they run the exact reference there. A weight comes as plain words at each call:
what was prepared for a tensor is found by the tensor, and used if it still holds the same words.
Like the checks of padding bits this waits for the device, so a loop that must not wait, or a CUDA
graph, calls `bitfront.kernels.gpu.prepare_product`.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from bitfront.kernels import custom_ops, packing
from bitfront.kernels.geometry import Conv2dGeometry, Fill
from bitfront.kernels.gpu.packing import pack as gpu_pack
from bitfront.kernels.gpu.prepare import prepare_product
from bitfront.kernels.gpu.weight import GpuWeight, prepare_weight
from bitfront.kernels.layout import (
    BINARY,
    CodeFormat,
    Coding,
    PackedCodes,
    require_clear_padding,
    require_words,
)
from bitfront.kernels.op_shapes import format_of, group_share, window_of
from bitfront.kernels.operands import conv_geometry, require_matrices

# sizes of a map that are kept ready for one weight
_SIZES_OF_A_WEIGHT: Final = 8

_Key = tuple[Conv2dGeometry, CodeFormat, CodeFormat, Fill]
_Product = Callable[[Tensor], Tensor]


@dataclass(slots=True)
class _Known:
    """What was prepared for a tensor while it held these words."""

    words: Tensor
    weights: dict[tuple[CodeFormat, int], GpuWeight] = field(default_factory=dict)
    products: dict[_Key, _Product] = field(default_factory=dict)


_prepared: MutableMapping[Tensor, _Known] = WeakTensorKeyDictionary()


def pack(x: Tensor) -> tuple[Tensor, Tensor]:
    """As `bitfront.kernels.custom_ops.pack`."""
    packed = gpu_pack(x)
    return packed.words.contiguous(), packed.popcount.contiguous()


def xnor_gemm(a: Tensor, b: Tensor, k: int) -> Tensor:
    """As `bitfront.kernels.custom_ops.xnor_gemm`."""
    require_matrices(a, b, k)
    return _gemm(a[None], b, k, BINARY, BINARY)


def bitserial_gemm(a: Tensor, b: Tensor, k: int, a_coding: Coding, b_coding: Coding) -> Tensor:
    """As `bitfront.kernels.custom_ops.bitserial_gemm`."""
    formats = format_of("a", a, 3, a_coding), format_of("b", b, 3, b_coding)
    require_matrices(a[0], b[0], k)
    require_clear_padding("a", a, k)
    require_clear_padding("b", b, k)
    return _gemm(a, b, k, *formats)


def xnor_conv2d(
    x: Tensor,
    weight: Tensor,
    channels: int,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
    fill: int | None = 0,
) -> Tensor:
    """As `bitfront.kernels.custom_ops.xnor_conv2d`."""
    window = (stride, padding, dilation, groups, fill)
    return _convolve(x[None], weight[None], weight, channels, (BINARY, BINARY), *window)


def bitserial_conv2d(
    x: Tensor,
    weight: Tensor,
    channels: int,
    x_coding: Coding,
    weight_coding: Coding,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
    fill: int | None = 0,
) -> Tensor:
    """As `bitfront.kernels.custom_ops.bitserial_conv2d`."""
    formats = format_of("x", x, 5, x_coding), format_of("weight", weight, 5, weight_coding)
    window = (stride, padding, dilation, groups, fill)
    return _convolve(x, weight, weight, channels, formats, *window)


def _gemm(a_QMP: Tensor, b: Tensor, k: int, a_format: CodeFormat, b_format: CodeFormat) -> Tensor:
    rows = b.shape[-2]
    conv = Conv2dGeometry.of(image=(1, 1, a_QMP.shape[1], k), weight=(rows, 1, 1, k))
    # an image of one row of M pixels
    return _reused(b, conv, a_format, b_format, 0)(a_QMP[:, None, None])[0, 0]


def _convolve(
    x_QBHWP: Tensor,
    w_RNhwP: Tensor,
    weight: Tensor,
    channels: int,
    formats: tuple[CodeFormat, CodeFormat],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    fill: int | None,
) -> Tensor:
    group_channels = group_share(channels, groups)
    require_words("x", x_QBHWP, channels)
    require_words("weight", w_RNhwP, group_channels)
    window = window_of(stride, padding, dilation)
    rule: Fill = "replicate" if fill is None else fill
    conv = conv_geometry(x_QBHWP, w_RNhwP, channels, group_channels, **window, groups=groups)
    return _reused(weight, conv, *formats, rule)(x_QBHWP)


def _reused(
    weight: Tensor,
    conv: Conv2dGeometry,
    x_format: CodeFormat,
    w_format: CodeFormat,
    fill: Fill,
) -> _Product:
    """The product of a convolution, prepared at the first call with these words."""
    known = _prepared.get(weight)
    if known is None or not torch.equal(known.words, weight):
        known = _prepared[weight] = _Known(weight.clone())
    key = (conv, x_format, w_format, fill)
    product = known.products.get(key)
    if product is None:
        product = prepare_product(conv, x_format, _weight(known, conv, w_format), fill=fill)
        if len(known.products) == _SIZES_OF_A_WEIGHT:
            known.products.pop(next(iter(known.products)))
        known.products[key] = product
    return product


def _weight(known: _Known, conv: Conv2dGeometry, format: CodeFormat) -> GpuWeight:
    key = (format, conv.groups)
    if key not in known.weights:
        words = known.words.reshape(format.bits, conv.outputs, *conv.kernel, known.words.shape[-1])
        codes = PackedCodes(
            words=words,
            channels=conv.group_channels,
            format=format,
            popcount=packing.row_count(words),
        )
        known.weights[key] = prepare_weight(codes, conv.groups)
    return known.weights[key]


for _operator, _form in (
    (custom_ops.pack, pack),
    (custom_ops.xnor_gemm, xnor_gemm),
    (custom_ops.bitserial_gemm, bitserial_gemm),
    (custom_ops.xnor_conv2d, xnor_conv2d),
    (custom_ops.bitserial_conv2d, bitserial_conv2d),
):
    _operator.register_kernel("cuda")(_form)
