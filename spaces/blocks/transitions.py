"""Transitions of the 32-bit classics: a pool alone, and DenseNet's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from bitfront.spaces.blocks.block import (
    Block,
    avg_pool_op,
    blocks,
    check_channels,
    check_range,
    conv,
    norm,
    relu,
)
from bitfront.spaces.blocks.classic import check_choice
from bitfront.spaces.graph import Builder
from bitfront.spaces.ops import AvgPool, MaxPool


@blocks.register("pool")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PoolTransition(Block):
    """A max or average pool between stages.

    Attributes:
        method: "max" or "avg".
        kernel_size: Rows and columns of the window.
        stride: Step in pixels.
        padding: Pixels added on every side.
    """

    kind: ClassVar[str] = "pool"
    place: ClassVar[str] = "transition"
    symbol: ClassVar[str] = "P"
    method: str = "max"
    kernel_size: int = 2
    stride: int = 2
    padding: int = 0

    def check(self) -> None:
        """A known method, a sane window."""
        check_choice("method", self.method, ("max", "avg"))
        check_range("kernel_size", self.kernel_size, 1, 7)
        check_range("stride", self.stride, 1, 4)
        check_range("padding", self.padding, 0, self.kernel_size // 2)

    def build(self, b: Builder, x: int) -> int:
        """``stride`` times fewer rows and columns."""
        return b.add(_pool_op(self), x, name="pool")


@cache
def _pool_op(pool: PoolTransition) -> MaxPool | AvgPool:
    op = MaxPool if pool.method == "max" else AvgPool
    return op(kernel_size=pool.kernel_size, stride=pool.stride, padding=pool.padding)


@blocks.register("dense_transition")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DenseTransition(Block):
    """DenseNet's transition: batch norm, ReLU, average pool 2x2, 32-bit 1x1 convolution.

    DenseNet pools behind the convolution. The order does not matter for the result, since a mean
    over pixels and a sum over channels commute; in this one the convolution has a quarter of the
    work.

    Attributes:
        channels: Filters of the 1x1 convolution.

    References:
        Huang et al. 2017, DenseNet (arXiv:1608.06993), Sec. 3.
    """

    kind: ClassVar[str] = "dense_transition"
    place: ClassVar[str] = "transition"
    symbol: ClassVar[str] = "TA"
    channels: int

    def check(self) -> None:
        """A sane number of channels."""
        check_channels("channels", self.channels)

    def build(self, b: Builder, x: int) -> int:
        """Half the rows and columns, ``channels`` channels."""
        x = b.add(avg_pool_op(2, 2), relu(b, norm(b, x)), name="pool")
        return conv(b, x, self.channels, 1)
