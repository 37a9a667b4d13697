"""Products of packed operands, prepared and run at once."""

from __future__ import annotations

from torch import Tensor

from bitfront.kernels import reference
from bitfront.kernels.cpu.product import prepare_product
from bitfront.kernels.cpu.weight import CpuWeight
from bitfront.kernels.finish import Affine, Finish, finished
from bitfront.kernels.geometry import Conv2dGeometry, Fill, Pair
from bitfront.kernels.layout import (
    CodeFormat,
    PackedCodes,
    require_clear_padding,
    require_type,
)
from bitfront.kernels.native_library import load
from bitfront.kernels.operands import Packed, planes_of
from bitfront.kernels.packing import row_count


def variants() -> tuple[str, ...]:
    """Instruction sets of this CPU that the library has, slowest first; none without it."""
    library = load()
    return () if library is None else library.variants


def gemm(
    a: Packed,
    weight: CpuWeight,
    *,
    finish: Finish | None = None,
    variant: str | None = None,
    threads: int = 1,
) -> Tensor:
    """Product of packed rows and a weight, ``a @ w.T`` of their values.

    Args:
        a: words [M, P] of each plane.
        weight: Of one tap and one group.
        finish: What becomes of the sums; None leaves them.
        variant: Instruction set, one of `variants`; None takes the fastest.
        threads: Threads that share the rows.

    Returns:
        int32 [M, N]; float32 [M, N] with `Affine`; int32 words [M, P'] with `Threshold`.

    Raises:
        TypeError: If an operand has another type.
        ValueError: If shapes do not agree, padding bits are not 0, or a sum may pass 2^31 - 1.
    """
    words, _ = planes_of(a)
    if words.dim() != 3:
        raise ValueError(
            f"`a` must hold words [rows, words] of each plane, but got {tuple(words.shape[1:])}."
        )
    # one row of M positions
    result = _convolve(
        a, words[:, None, None], weight, 1, 0, 1, 0, finish, variant=variant, threads=threads
    )
    return result[0, 0]


def conv2d(
    x: Packed,
    weight: CpuWeight,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    fill: Fill = 0,
    finish: Finish | None = None,
    variant: str | None = None,
    threads: int = 1,
) -> Tensor:
    """Convolution of packed maps; the arguments are those of `reference.xnor_conv2d`.

    Args:
        x: words [B, H, W, P] of each plane.
        weight: Holds the groups too.
        stride: An int or (vertical, horizontal).
        padding: As stride.
        dilation: As stride.
        fill: 0, a value of the format of `x`, or "replicate".
        finish: What becomes of the sums; None leaves them.
        variant: Instruction set, one of `variants`; None takes the fastest.
        threads: Threads that share images or rows.

    Returns:
        int32 [B, Y, X, N]; float32 with `Affine`; int32 words [B, Y, X, P'] with `Threshold`.

    Raises:
        TypeError: If an operand has another type.
        ValueError: If shapes do not agree, padding bits are not 0, or a sum may pass 2^31 - 1.
    """
    words, _ = planes_of(x)
    if words.dim() != 5:
        raise ValueError(
            f"`x` must hold words [B, H, W, words] of each plane, but got {tuple(words.shape[1:])}."
        )
    return _convolve(
        x,
        words,
        weight,
        stride,
        padding,
        dilation,
        fill,
        finish,
        variant=variant,
        threads=threads,
    )


def _convolve(
    x: Packed,
    words: Tensor,
    weight: CpuWeight,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    fill: Fill,
    finish: Finish | None,
    *,
    variant: str | None,
    threads: int,
) -> Tensor:
    require_type("weight", weight, CpuWeight)
    if isinstance(finish, Affine) and finish.merges:
        raise ValueError("A finish that merges is for a prepared product, which is given `out`.")
    if words.device.type != "cpu":
        raise ValueError(f"`x` must be on the CPU, but is on {words.device}.")
    conv = Conv2dGeometry.of(
        image=(*words.shape[1:4], x.channels),
        weight=(*weight.words.shape[1:4], weight.source.channels),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=weight.groups,
    )
    require_clear_padding("x", words, x.channels)
    product = prepare_product(
        conv,
        planes_of(x)[1],
        weight,
        fill=fill,
        finish=finish,
        variant=variant,
        threads=threads,
    )
    if product is None:
        return finished(_reference_sums(x, words, weight, conv, fill), finish)
    return product(words)


def _reference_sums(
    x: Packed, words: Tensor, weight: CpuWeight, conv: Conv2dGeometry, fill: Fill
) -> Tensor:
    def coded(planes: Tensor, channels: int, format: CodeFormat) -> PackedCodes:
        return PackedCodes(
            words=planes, channels=channels, format=format, popcount=row_count(planes)
        )

    return reference.bitserial_conv2d(
        coded(words, x.channels, planes_of(x)[1]),
        coded(weight.words, weight.source.channels, weight.format),
        stride=conv.stride,
        padding=conv.padding,
        dilation=conv.dilation,
        groups=conv.groups,
        fill=fill,
    )
