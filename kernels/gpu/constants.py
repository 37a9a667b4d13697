"""What of a product does not depend on the maps, computed once on the CPU.

A position's class tells which taps of its window lie outside the map: where a zero padding is
filled with another value, each class has constants of its own.

Shape suffixes: N outputs, T taps, R planes of the weight.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bitfront.kernels.geometry import Conv2dGeometry, Fill
from bitfront.kernels.gpu.weight import GpuWeight
from bitfront.kernels.layout import MAX_ELEMENTS, WORD_BITS, CodeFormat
from bitfront.kernels.operands import taps


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Constants:
    """Constants of each output by class of position.

    Attributes:
        beta: int32 [classes, N].
        row_class: int32 [Y]; a position's class is the sum of those of its row and its column.
        col_class: int32 [X].
    """

    beta: Tensor
    row_class: Tensor
    col_class: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class ByteCode:
    """A code c as the int8 ``u = (c ^ flip) * scale + offset``; its value is ``step * u + bias``.

    Attributes:
        flip: The bit of the sign in two's complement, else 0.
        scale: 2 where values are odd and fit int8.
        offset: What is added.
        step: 1, or 2 where odd values do not fit int8.
        bias: 0 where values fit int8.
    """

    flip: int
    scale: int
    offset: int
    step: int = 1
    bias: int = 0

    @classmethod
    def of(cls, format: CodeFormat) -> ByteCode:
        """The int8 of a format's codes."""
        half = 1 << (format.bits - 1)
        if format.coding == "signed":
            return cls(flip=half, scale=1, offset=-half)
        if format.bits < 8:
            return cls(flip=0, scale=format.step, offset=format.offset)
        bias = format.offset + format.step * half
        return cls(flip=0, scale=1, offset=-half, step=format.step, bias=bias)

    @property
    def zero(self) -> int:
        """The int8 of code 0, which is what padding bits are."""
        return self.flip * self.scale + self.offset

    def largest(self, format: CodeFormat) -> int:
        """The largest size of an int8."""
        return max(abs((value - self.bias) // self.step) for value in (format.low, format.high))


def plane_scales(format: CodeFormat) -> tuple[int, ...]:
    """What a plane's -1 and +1 (symmetric) or its 1 (else) are worth."""
    if format.coding == "symmetric":
        return tuple(1 << q for q in range(format.bits))
    return format.plane_values


def popcount_constants(
    conv: Conv2dGeometry, x_format: CodeFormat, weight: GpuWeight, fill: Fill
) -> Constants:
    """Of a product that counts bits; `bitfront.kernels.cpu` has the algebra."""
    ones_RN = weight.ones.cpu()
    constant = torch.zeros(conv.outputs, dtype=torch.int32)
    for x_scale in plane_scales(x_format):
        for j, w_scale in enumerate(plane_scales(weight.format)):
            scale = x_scale * w_scale
            if weight.format.coding == "symmetric":
                both = x_format.coding == "symmetric"
                constant += scale * (conv.dot_length if both else ones_RN[j])
            elif x_format.coding == "symmetric":
                constant -= scale * ones_RN[j]
    return _by_class(conv, x_format, weight, fill, constant)


def popcount_factor(x_format: CodeFormat, w_format: CodeFormat) -> int:
    """What a counted bit of the planes of value 1 is worth."""
    factor = 2 if x_format.coding == "symmetric" else 1
    return -factor if w_format.coding == "symmetric" else factor


def largest_byte_sum(x: CodeFormat, w: CodeFormat, padded_words: int) -> int:
    """The largest size of a sum of products of int8, padding bits among them."""
    return padded_words * WORD_BITS * ByteCode.of(x).largest(x) * ByteCode.of(w).largest(w)


def byte_constants(
    conv: Conv2dGeometry,
    x_format: CodeFormat,
    weight: GpuWeight,
    fill: Fill,
    padded_words: int,
) -> Constants:
    """Of a product of int8, whose rows of `padded_words` words have padding bits of code 0.

    ::

        x w = (s_x u_x + b_x) w = s_x s_w u_x u_w + s_x b_w u_x + b_x w

    Raises:
        ValueError: int32 may not hold the sum of the padded rows.
    """
    x, w = ByteCode.of(x_format), ByteCode.of(weight.format)
    length = padded_words * WORD_BITS
    largest = largest_byte_sum(x_format, weight.format, padded_words)
    if largest > MAX_ELEMENTS:
        raise ValueError(
            f"`padded K * max|a| * max|b| <= {MAX_ELEMENTS}` must hold on the int8 route, whose "
            f"sums saturate, but got {largest} (padded K={length}, {x_format}, {weight.format}). "
            "The popcount route takes it."
        )
    padding = length - conv.dot_length
    constant = x.bias * weight.tap_sums.cpu().sum(0, dtype=torch.int64)
    constant -= padding * x.step * x.zero * (w.step * w.zero + w.bias)
    return _by_class(conv, x_format, weight, fill, constant.to(torch.int32))


def _by_class(
    conv: Conv2dGeometry,
    x_format: CodeFormat,
    weight: GpuWeight,
    fill: Fill,
    constant_N: Tensor,
) -> Constants:
    """Take back, in each class, what taps outside counted for code 0 in place of a zero."""
    device = weight.rows.device
    if fill != 0 or x_format.is_value(0) or not any(conv.padding):
        return Constants(
            beta=constant_N[None].contiguous().to(device),
            row_class=torch.zeros(conv.out_height, dtype=torch.int32, device=device),
            col_class=torch.zeros(conv.out_width, dtype=torch.int32, device=device),
        )
    outside = [~taps(conv, axis, torch.device("cpu"))[1] for axis in (0, 1)]
    rows, row_class = torch.unique(outside[0], dim=0, return_inverse=True)
    columns, col_class = torch.unique(outside[1], dim=0, return_inverse=True)
    # [row class, column class, h, w] to [classes, T]: taps that lie outside
    missing = (rows[:, None, :, None] | columns[None, :, None, :]).flatten(2).flatten(0, 1)
    correction = missing.int() @ weight.tap_sums.cpu()
    return Constants(
        beta=(constant_N - x_format.offset * correction).to(torch.int32).to(device),
        row_class=(row_class * len(columns)).to(torch.int32).to(device),
        col_class=col_class.to(torch.int32).to(device),
    )
