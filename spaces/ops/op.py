"""The registry of ops, and the arithmetic of shapes and widths that ops share."""

from __future__ import annotations

from math import ceil, log2
from typing import Final

from bitfront.spaces.errors import InfeasibleArchitecture
from bitfront.spaces.graph import Op, TensorType
from bitfront.spaces.registry import Registry

ops: Final[Registry[type[Op]]] = Registry("op")


def feature_map(x: TensorType) -> tuple[int, int, int]:
    """Channels, rows and columns of a feature map.

    Raises:
        InfeasibleArchitecture: If the tensor is none.
    """
    if len(x.shape) != 3:
        raise InfeasibleArchitecture(f"A feature map (C, H, W) is needed, but got {x.shape}.")
    return x.shape


def window(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_: bool) -> int:
    """Rows or columns that a sliding window gives.

    Raises:
        InfeasibleArchitecture: If the window does not fit the padded map.
    """
    span = size + 2 * padding - dilation * (kernel - 1) - 1
    if span < 0:
        raise InfeasibleArchitecture(
            f"A window of {dilation * (kernel - 1) + 1} must fit the padded size "
            f"{size + 2 * padding}, but does not."
        )
    out = (-(-span // stride) if ceil_ else span // stride) + 1
    if ceil_ and (out - 1) * stride >= size + padding:
        out -= 1
    return out


def accumulator_bits(fan_in: int, w_bits: int, a_bits: int) -> int:
    """Bits of a two's complement sum of ``fan_in`` products of w_bits x a_bits codes."""
    return min(32, w_bits + a_bits + ceil(log2(max(fan_in, 2))))
