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

On a CPU the compiled kernels compute. Elsewhere it is the reference, until a device registers its
own form, ``xnor_gemm.register_kernel("cuda")``.

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

from torch import Tensor
from torch.library import custom_op

from bitfront.kernels import cpu, op_shapes, packing, reference
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
from bitfront.kernels.op_shapes import format_of, group_share, integers, window_of
from bitfront.kernels.operands import conv_geometry, require_matrices
from bitfront.kernels.reused_weights import reused_product

_GEMM: Final = "(Tensor a, Tensor b, int k) -> Tensor"
_CODED_GEMM: Final = "(Tensor a, Tensor b, int k, str a_coding, str b_coding) -> Tensor"
_WINDOW: Final = (
    "int[2] stride=1, int[2] padding=0, int[2] dilation=1, int groups=1, int? fill=0) -> Tensor"
)
_CONV: Final = f"(Tensor x, Tensor weight, int channels, {_WINDOW}"
_CODED_CONV: Final = (
    f"(Tensor x, Tensor weight, int channels, str x_coding, str weight_coding, {_WINDOW}"
)


@custom_op("bitfront::pack", mutates_args=(), schema="(Tensor x) -> (Tensor, Tensor)")
def pack(x: Tensor) -> tuple[Tensor, Tensor]:
    """Words [..., P] and popcount [...] of the signs along the last axis: `kernels.pack`.

    Raises:
        TypeError: As `kernels.pack`.
        ValueError: As `kernels.pack`.
    """
    on_cpu = require_tensor("x", x).device.type == "cpu"
    packed = cpu.pack(x) if on_cpu else packing.pack(x)
    return packed.words.contiguous(), packed.popcount.contiguous()


@custom_op("bitfront::xnor_gemm", mutates_args=(), schema=_GEMM)
def xnor_gemm(a: Tensor, b: Tensor, k: int) -> Tensor:
    """Product of -1 and +1 of words [M, P] and [N, P], int32 [M, N]: `kernels.xnor_gemm`.

    Raises:
        TypeError: As `kernels.xnor_gemm`.
        ValueError: As `kernels.xnor_gemm`.
    """
    require_matrices(a, b, k)
    return _gemm(a[None], b, k, BINARY, BINARY)


@custom_op("bitfront::bitserial_gemm", mutates_args=(), schema=_CODED_GEMM)
def bitserial_gemm(a: Tensor, b: Tensor, k: int, a_coding: Coding, b_coding: Coding) -> Tensor:
    """Product of codes of words [Q, M, P] and [R, N, P], int32 [M, N]: `kernels.bitserial_gemm`.

    Raises:
        TypeError: As `kernels.bitserial_gemm`.
        ValueError: As `kernels.bitserial_gemm`.
    """
    formats = format_of("a", a, 3, a_coding), format_of("b", b, 3, b_coding)
    require_matrices(a[0], b[0], k)
    require_clear_padding("a", a, k)
    require_clear_padding("b", b, k)
    return _gemm(a, b, k, *formats)


@custom_op("bitfront::xnor_conv2d", mutates_args=(), schema=_CONV)
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


@custom_op("bitfront::bitserial_conv2d", mutates_args=(), schema=_CODED_CONV)
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


def _gemm(a_QMP: Tensor, b: Tensor, k: int, a_format: CodeFormat, b_format: CodeFormat) -> Tensor:
    if b.device.type == "cpu":
        rows = b.shape[-2]
        conv = Conv2dGeometry.of(image=(1, 1, a_QMP.shape[1], k), weight=(rows, 1, 1, k))
        product = reused_product(b, conv, a_format, b_format, 0)
        if product is not None:
            # one row of M positions
            return product(a_QMP[:, None, None])[0, 0]
    b_RNP = b.reshape(b_format.bits, *b.shape[-2:])
    return reference.bitserial_gemm(_codes(a_QMP, k, a_format), _codes(b_RNP, k, b_format))


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
    if weight.device.type == "cpu":
        conv = conv_geometry(x_QBHWP, w_RNhwP, channels, group_channels, **window, groups=groups)
        product = reused_product(weight, conv, *formats, rule)
        if product is not None:
            return product(x_QBHWP)
    return reference.bitserial_conv2d(
        _codes(x_QBHWP, channels, formats[0]),
        _codes(w_RNhwP, group_channels, formats[1]),
        **window,
        groups=groups,
        fill=rule,
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
