"""Products of codes of up to 8 bits as bytes, by oneDNN: exact int32 sums, finished as floats.

oneDNN multiplies unsigned bytes with signed ones. With VNNI it adds the products up in int32; older
instructions first add two of them in int16, which saturates. So what this CPU adds up exactly is
tried out once, and products beyond that take floats that are wide enough.

===============  ================================================================================
weights          bytes
===============  ================================================================================
-128 .. 127      as they are
odd, to 255      w = 2 c + 1: the maps three times side by side, times c, c and 1
===============  ================================================================================

Maps are stored as ``value - low`` of their format, so zero is the byte ``-low``.

Shape suffixes: B batch, H height, W width, C channels, N outputs, G groups, h and w the axes of a
kernel, Y and X rows and columns of a result.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from bitfront.kernels.cpu.finish import check_finish
from bitfront.kernels.finish import Affine
from bitfront.kernels.geometry import Conv2dGeometry, Fill
from bitfront.kernels.layout import MAX_ELEMENTS, CodeFormat, require_type

_BYTE: Final = 255
_SIGNED_LOW: Final = -128
_SIGNED_HIGH: Final = 127
# largest whole number up to which float32 holds all
_EXACT_FLOAT: Final = 1 << 24

_Multiply = Callable[[Tensor], Tensor]


def prepare_int8(
    conv: Conv2dGeometry,
    x_format: CodeFormat,
    weight_NhwC: Tensor,
    finish: Affine,
    *,
    fill: Fill = 0,
) -> Int8Product:
    """Prepare a convolution for maps of one size; a linear layer is one of single pixels.

    Args:
        conv: Its geometry.
        x_format: Of the maps.
        weight_NhwC: Integers [N, h, w, C / G], -128 to 127, or odd ones up to 255.
        finish: What becomes of the sums.
        fill: 0, a value of `x_format`, or "replicate".

    Raises:
        TypeError: If an argument has another type.
        ValueError: If an argument does not fit, or a sum may pass 2^31 - 1.
    """
    require_type("x_format", x_format, CodeFormat)
    if x_format.high - x_format.low > _BYTE:
        raise ValueError(f"`x_format` must have at most 256 steps of 1, but got {x_format}.")
    if weight_NhwC.is_floating_point():
        raise TypeError(f"`weight` must hold integers, but got {weight_NhwC.dtype}.")
    expected = (conv.outputs, *conv.kernel, conv.group_channels)
    if weight_NhwC.shape != expected:
        raise ValueError(f"`weight` must be {expected}, but got {tuple(weight_NhwC.shape)}.")
    check_finish(finish, conv)
    weight = weight_NhwC.to(torch.int64)
    low, high = int(weight.min()), int(weight.max())
    is_byte = low >= _SIGNED_LOW and high <= _SIGNED_HIGH
    if not is_byte and not (max(-low, high) <= _BYTE and bool((weight % 2 == 1).all())):
        raise ValueError(
            f"`weight` must be {_SIGNED_LOW} to {_SIGNED_HIGH}, or odd and at most {_BYTE}, but "
            f"got values from {low} to {high}."
        )
    # of bytes, whose zero is another number, as of values
    largest = int(weight.abs().sum((1, 2, 3)).max()) * (x_format.high - x_format.low)
    if largest > MAX_ELEMENTS:
        raise ValueError(f"A sum must be at most {MAX_ELEMENTS}, but may be {largest}.")
    if not (fill in (0, "replicate") or (isinstance(fill, int) and x_format.is_value(fill))):
        raise ValueError(
            f"`fill` must be 0, a value of the maps ({x_format.low} to {x_format.high} in steps "
            f'of {x_format.step}) or "replicate", but got {fill!r}.'
        )
    return Int8Product(conv, x_format, weight, finish, fill)


class Int8Product:
    """A convolution of bytes that is ready to run; made by `prepare_int8`.

    Write to `map`, then call. One object serves one thread at a time.

    Attributes:
        conv: Its geometry.
        low: The value whose byte is 0.
        map: uint8 [B, H, W, C] of ``value - low``, dense in its last axis.
    """

    def __init__(
        self,
        conv: Conv2dGeometry,
        x_format: CodeFormat,
        weight_NhwC: Tensor,
        finish: Affine,
        fill: Fill,
    ) -> None:
        self.conv = conv
        self._finish = finish
        self.low = x_format.low
        pads = any(conv.padding)
        self._replicates = pads and fill == "replicate"
        borders = pads and fill != 0
        self._padding = (0, 0) if borders else conv.padding
        # a zero beyond the edges is the convolution's own
        down, right = conv.padding if borders else (0, 0)
        shape = (conv.batch, conv.height + 2 * down, conv.width + 2 * right, conv.channels)
        self._map = torch.empty(shape, dtype=torch.uint8)
        if isinstance(fill, int):
            self._map.fill_(fill - self.low)
        self.map = self._map[:, down : down + conv.height, right : right + conv.width]
        bytes_NhwC, self._three = weight_NhwC, None
        if int(weight_NhwC.abs().max()) > -_SIGNED_LOW or int(weight_NhwC.max()) > _SIGNED_HIGH:
            code = (weight_NhwC - 1) // 2
            bytes_NhwC = torch.cat([code, code, torch.ones_like(code)], dim=-1)
            side_by_side = (*shape[:-1], conv.groups, 3, conv.group_channels)
            self._three = torch.empty(side_by_side, dtype=torch.uint8)
        product = (x_format.high - x_format.low) * int(bytes_NhwC.abs().max())
        self._multiply: _Multiply
        if product <= largest_product():
            self._multiply = self._by_onednn(bytes_NhwC)
        else:
            self._three = None
            self._multiply = self._by_floats(weight_NhwC, x_format)

    def __call__(self, out: Tensor | None = None) -> Tensor:
        """The finished product of what `map` holds, float32 [B, Y, X, N].

        Args:
            out: Where to write it, or what to add it to if the finish merges; None makes a new one.

        Raises:
            ValueError: If ``out`` does not fit, or is missing.
        """
        conv = self.conv
        shape = (conv.batch, conv.out_height, conv.out_width, conv.outputs)
        finish = self._finish
        if out is None and finish.merges:
            raise ValueError("A finish that merges needs `out`, which it adds to.")
        if out is not None and (out.shape != shape or out.dtype != torch.float32):
            raise ValueError(
                f"`out` must be torch.float32 {list(shape)}, but got {out.dtype} {list(out.shape)}."
            )
        if self._replicates:
            _repeat_edges(self._map, *conv.padding)
        x = self._map
        if self._three is not None:
            self._three[:] = x.reshape(*x.shape[:-1], conv.groups, 1, -1)
            x = self._three.flatten(-3)
        result = self._multiply(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        if finish.scale_after is not None and finish.shift_after is not None:
            result.mul_(finish.scale_after).add_(finish.shift_after)
        if out is None:
            return result
        return out.add_(result) if finish.merges else out.copy_(result)

    def _by_onednn(self, weight_NhwC: Tensor) -> _Multiply:
        conv, finish = self.conv, self._finish
        return _onednn(
            weight_NhwC.permute(0, 3, 1, 2).to(torch.int8),
            finish.scale,
            None if not bool(finish.shift.any()) else finish.shift,
            zero=-self.low,
            conv=conv,
            padding=self._padding,
            rectifies=finish.rectifies,
        )

    def _by_floats(self, weight_NhwC: Tensor, x_format: CodeFormat) -> _Multiply:
        """Sums in floats that hold them all, for CPUs whose bytes saturate."""
        conv, padding, finish = self.conv, self._padding, self._finish
        bound = int(weight_NhwC.abs().sum((1, 2, 3)).max()) * max(-x_format.low, x_format.high)
        dtype = torch.float32 if bound <= _EXACT_FLOAT else torch.float64
        weight = weight_NhwC.permute(0, 3, 1, 2).to(dtype)
        scale, shift = (values[:, None, None] for values in (finish.scale, finish.shift))

        def run(x: Tensor) -> Tensor:
            values = x.to(dtype).add_(self.low)
            sums = F.conv2d(values, weight, None, conv.stride, padding, conv.dilation, conv.groups)
            y = sums.float().mul_(scale).add_(shift)
            return y.relu_() if finish.rectifies else y

        return run


def _onednn(
    weight: Tensor,
    scale: Tensor,
    shift: Tensor | None,
    *,
    zero: int,
    conv: Conv2dGeometry,
    padding: tuple[int, int],
    rectifies: bool,
) -> _Multiply:
    """``scale * sum + shift`` of uint8 [B, C, H, W], whose zero is that byte."""
    ops: Any = torch.ops.onednn
    ones = torch.ones(conv.outputs)
    none = torch.zeros(conv.outputs, dtype=torch.int64)
    stride, sides, apart = list(conv.stride), list(padding), list(conv.dilation)
    laid = ops.qconv_prepack(weight, ones, 1.0, zero, stride, sides, apart, conv.groups, None)
    last = "relu" if rectifies else "none"
    multiply, groups, floats = ops.qconv2d_pointwise, conv.groups, torch.float32

    def run(x: Tensor) -> Tensor:
        y: Tensor = multiply(
            x, 1.0, zero, laid, scale, none, shift, stride, sides, apart, groups, 1.0, 0,
            floats, last, [], "",
        )  # fmt: skip
        return y

    return run


@cache
def largest_product() -> int:
    """Largest product of two bytes that oneDNN adds up exactly on this CPU; 0 without oneDNN."""
    for x, w in ((_BYTE, _SIGNED_HIGH + 1), (_SIGNED_HIGH, _SIGNED_HIGH)):
        if all(_is_exact(x, w, kernel) for kernel in (1, 3)):
            return x * w
    return 0


def _is_exact(x: int, w: int, kernel: int) -> bool:
    """Whether sums of one product are what they must be: with the largest they saturate first."""
    channels = 64
    conv = Conv2dGeometry.of(
        image=(1, 8, 8, channels), weight=(32, kernel, kernel, channels), padding=kernel // 2
    )
    map_BCHW = torch.full((1, channels, 8, 8), x, dtype=torch.uint8)
    map_BCHW = map_BCHW.contiguous(memory_format=torch.channels_last)
    weight = torch.full((32, channels, kernel, kernel), -w, dtype=torch.int8)
    try:
        run = _onednn(
            weight,
            torch.ones(32),
            None,
            zero=0,
            conv=conv,
            padding=conv.padding,
            rectifies=False,
        )
        sums = run(map_BCHW)
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    return torch.equal(sums, F.conv2d(map_BCHW.float(), weight.float(), padding=kernel // 2))


def _repeat_edges(map_BHWC: Tensor, down: int, right: int) -> None:
    """Fill a border with the outermost pixels inside it."""
    if down:
        map_BHWC[:, :down] = map_BHWC[:, down : down + 1]
        map_BHWC[:, -down:] = map_BHWC[:, -down - 1 : -down]
    if right:
        map_BHWC[:, :, :right] = map_BHWC[:, :, right : right + 1]
        map_BHWC[:, :, -right:] = map_BHWC[:, :, -right - 1 : -right]
