"""The low-bit products as torch operators, one node each in a compiled or exported graph.

==========================  ==============================================
bitfront::pack              words and popcounts of the signs of a tensor
bitfront::xnor_gemm         as `bitfront.kernels.xnor_gemm`
bitfront::bitserial_gemm    as `bitfront.kernels.bitserial_gemm`
bitfront::xnor_conv2d       as `bitfront.kernels.xnor_conv2d`
bitfront::bitserial_conv2d  as `bitfront.kernels.bitserial_conv2d`
==========================  ==============================================

Operators take and give tensors: words stand where the reference has packed values, and what words
do not say is an argument (the channels, the coding; a code has as many bits as planes). A fill of
None replicates. Importing this module registers them as ``torch.ops.bitfront`` too. A result of
integers has no gradient.

The compiled kernels compute on a CPU, those of `bitfront.kernels.gpu` on a CUDA device. Where there
are none the exact reference does, after one warning. The second operand of a product is its weight:
it is prepared at the first call with the same tensor and words, once for each size of a map.

On a CUDA device an operator waits for the device: to look for NaN and for wrong padding bits, and
to compare a weight with what was prepared of it. While a CUDA graph is captured it does not look,
and needs one call with the same weight and sizes before (`bitfront.kernels.reused_weights`);
torch.compile leaves products out of the CUDA graphs that it makes. A loop that must not wait calls
a product of `bitfront.kernels.gpu.prepare_product`.

Shape suffixes are those of `bitfront.kernels.reference`.

    >>> import torch
    >>> from bitfront.kernels import custom_ops
    >>> words, popcount = custom_ops.pack(torch.tensor([[1.0, -2.0, 0.0]]))
    >>> custom_ops.xnor_gemm(words, words, 3)
    tensor([[3]], dtype=torch.int32)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from torch import Tag, Tensor
from torch.library import custom_op

from bitfront.kernels import op_kernels, op_shapes, packing, reference
from bitfront.kernels.geometry import Conv2dGeometry, Fill
from bitfront.kernels.layout import (
    BINARY,
    CodeFormat,
    Coding,
    PackedCodes,
    require_clear_padding,
    require_tensor,
    require_words,
)
from bitfront.kernels.op_kernels import Product
from bitfront.kernels.op_shapes import format_of, group_share, integers, window_of
from bitfront.kernels.operands import require_matrices
from bitfront.kernels.reused_weights import captured_product, reused_product

_GEMM: Final = "(Tensor a, Tensor b, int k) -> Tensor"
_CODED_GEMM: Final = "(Tensor a, Tensor b, int k, str a_coding, str b_coding) -> Tensor"
_WINDOW: Final = (
    "int[2] stride=1, int[2] padding=0, int[2] dilation=1, int groups=1, int? fill=0) -> Tensor"
)
_CONV: Final = f"(Tensor x, Tensor weight, int channels, {_WINDOW}"
_CODED_CONV: Final = (
    f"(Tensor x, Tensor weight, int channels, str x_coding, str weight_coding, {_WINDOW}"
)

# what is kept of a weight must not lie in the memory of a graph of torch.compile
_PRODUCT_TAG: Final = Tag.cudagraph_unsafe


@custom_op("bitfront::pack", mutates_args=(), schema="(Tensor x) -> (Tensor, Tensor)")
def pack(x: Tensor) -> tuple[Tensor, Tensor]:
    """Words [..., P] and popcount [...] of the signs along the last axis: `kernels.pack`.

    Raises:
        TypeError: As `kernels.pack`.
        ValueError: As `kernels.pack`.
    """
    kernels = op_kernels.kernels_for(require_tensor("x", x).device)
    capturing = op_kernels.is_capturing(x)
    if kernels is not None:
        packed = kernels.pack(x, check=not capturing)
    else:
        _refuse_reference(capturing)
        packed = packing.pack(x)
    return packed.words.contiguous(), packed.popcount.contiguous()


@custom_op("bitfront::xnor_gemm", mutates_args=(), schema=_GEMM, tags=_PRODUCT_TAG)
def xnor_gemm(a: Tensor, b: Tensor, k: int) -> Tensor:
    """Product of -1 and +1 of words [M, P] and [N, P], int32 [M, N]: `kernels.xnor_gemm`.

    Raises:
        TypeError: As `kernels.xnor_gemm`.
        ValueError: As `kernels.xnor_gemm`.
    """
    capturing = op_kernels.is_capturing(b)
    if capturing:
        op_shapes.require_real_operands(("a", a, k), ("b", b, k), axes=2)
    else:
        require_matrices(a, b, k)
    return _gemm(a[None], b, k, (BINARY, BINARY), capturing)


@custom_op("bitfront::bitserial_gemm", mutates_args=(), schema=_CODED_GEMM, tags=_PRODUCT_TAG)
def bitserial_gemm(a: Tensor, b: Tensor, k: int, a_coding: Coding, b_coding: Coding) -> Tensor:
    """Product of codes of words [Q, M, P] and [R, N, P], int32 [M, N]: `kernels.bitserial_gemm`.

    Raises:
        TypeError: As `kernels.bitserial_gemm`.
        ValueError: As `kernels.bitserial_gemm`.
    """
    formats = format_of("a", a, 3, a_coding), format_of("b", b, 3, b_coding)
    capturing = op_kernels.is_capturing(b)
    if capturing:
        op_shapes.require_real_operands(("a", a, k), ("b", b, k), axes=3)
    else:
        require_matrices(a[0], b[0], k)
        require_clear_padding("a", a, k)
        require_clear_padding("b", b, k)
    return _gemm(a, b, k, formats, capturing)


@custom_op("bitfront::xnor_conv2d", mutates_args=(), schema=_CONV, tags=_PRODUCT_TAG)
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
    """Convolution of -1 and +1, int32 [B, Y, X, N]: `kernels.xnor_conv2d`.

    Args:
        x: words [B, H, W, P] of all channels.
        weight: words [N, h, w, P] of the channels of a group.
        channels: C, of all groups.
        stride: an int or (vertical, horizontal).
        padding: as stride.
        dilation: as stride.
        groups: G.
        fill: 0, -1, +1, or None to replicate.

    Raises:
        TypeError: As `kernels.xnor_conv2d`.
        ValueError: As `kernels.xnor_conv2d`.
    """
    require_tensor("x", x)
    require_tensor("weight", weight)
    window = (stride, padding, dilation, groups, fill)
    return _convolve(x[None], weight[None], weight, channels, (BINARY, BINARY), *window)


@custom_op("bitfront::bitserial_conv2d", mutates_args=(), schema=_CODED_CONV, tags=_PRODUCT_TAG)
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
    """Convolution of codes, int32 [B, Y, X, N]: `kernels.bitserial_conv2d`.

    Args:
        x: words [Q, B, H, W, P] of all channels.
        weight: words [R, N, h, w, P] of the channels of a group.
        channels: C, of all groups.
        x_coding: what the Q bits of `x` are worth.
        weight_coding: what the R bits of `weight` are worth.
        stride: an int or (vertical, horizontal).
        padding: as stride.
        dilation: as stride.
        groups: G.
        fill: 0, any value of the codes of `x`, or None to replicate.

    Raises:
        TypeError: As `kernels.bitserial_conv2d`.
        ValueError: As `kernels.bitserial_conv2d`.
    """
    formats = format_of("x", x, 5, x_coding), format_of("weight", weight, 5, weight_coding)
    window = (stride, padding, dilation, groups, fill)
    return _convolve(x, weight, weight, channels, formats, *window)


def _gemm(
    a_QMP: Tensor, b: Tensor, k: int, formats: tuple[CodeFormat, CodeFormat], capturing: bool
) -> Tensor:
    conv = op_shapes.known_geometry((1, 1, a_QMP.shape[1], k), (b.shape[-2], 1, 1, k))
    product = _product(b, conv, formats, 0, capturing)
    if product is not None:
        # one row of M positions
        return product(a_QMP[:, None, None])[0, 0]
    b_RNP = b.reshape(formats[1].bits, *b.shape[-2:])
    return reference.bitserial_gemm(_codes(a_QMP, k, formats[0]), _codes(b_RNP, k, formats[1]))


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
    capturing = op_kernels.is_capturing(weight)
    conv = op_shapes.geometry_of(x_QBHWP, w_RNhwP, channels, group_channels, window, groups)
    if not capturing:
        require_clear_padding("x", x_QBHWP, channels)
        require_clear_padding("weight", w_RNhwP, group_channels)
    product = _product(weight, conv, formats, rule, capturing)
    if product is not None:
        return product(x_QBHWP)
    return reference.bitserial_conv2d(
        _codes(x_QBHWP, channels, formats[0]),
        _codes(w_RNhwP, group_channels, formats[1]),
        **window,
        groups=groups,
        fill=rule,
    )


def _product(
    weight: Tensor,
    conv: Conv2dGeometry,
    formats: tuple[CodeFormat, CodeFormat],
    fill: Fill,
    capturing: bool,
) -> Product | None:
    """The prepared product of a convolution; None where the reference computes."""
    kernels = op_kernels.kernels_for(weight.device)
    if kernels is None:
        _refuse_reference(capturing)
        return None
    if capturing:
        return captured_product(kernels, weight, conv, *formats, fill)
    return reused_product(kernels, weight, conv, *formats, fill)


def _refuse_reference(capturing: bool) -> None:
    if capturing:
        raise RuntimeError(
            "A low-bit operator in the capture of a CUDA graph must have kernels for its device, "
            "but here the exact reference computes, which reads what it computes with. A call "
            "outside the capture warns what is missing."
        )


def _codes(words: Tensor, channels: int, format: CodeFormat) -> PackedCodes:
    return PackedCodes(
        words=words, channels=channels, format=format, popcount=packing.row_count(words)
    )


@pack.register_fake
def _(x: Tensor) -> tuple[Tensor, Tensor]:
    return op_shapes.packed(x)


@xnor_gemm.register_fake
def _(a: Tensor, b: Tensor, k: int) -> Tensor:
    op_shapes.require_operands(("a", a, k), ("b", b, k), axes=2)
    return integers(a, a.shape[0], b.shape[0])


@bitserial_gemm.register_fake
def _(a: Tensor, b: Tensor, k: int, a_coding: Coding, b_coding: Coding) -> Tensor:
    op_shapes.require_operands(("a", a, k), ("b", b, k), axes=3)
    op_shapes.require_codings(a_coding, b_coding)
    return integers(a, a.shape[1], b.shape[1])


@xnor_conv2d.register_fake
def _(
    x: Tensor,
    weight: Tensor,
    channels: int,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
    fill: int | None = 0,
) -> Tensor:
    share = group_share(channels, groups)
    op_shapes.require_operands(("x", x, channels), ("weight", weight, share), axes=4)
    return op_shapes.convolved(x, weight, window_of(stride, padding, dilation))


@bitserial_conv2d.register_fake
def _(
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
    share = group_share(channels, groups)
    op_shapes.require_operands(("x", x, channels), ("weight", weight, share), axes=5)
    op_shapes.require_codings(x_coding, weight_coding)
    return op_shapes.convolved(x[0], weight[0], window_of(stride, padding, dilation))
