"""Pools, means and the fixed blur: windows that need no learned weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bitfront.spaces.errors import InfeasibleArchitecture
from bitfront.spaces.graph import Facts, Op, ParameterSpec, Role, TensorType, Work
from bitfront.spaces.ops.op import feature_map, ops, window


@ops.register("slice_mean")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SliceMean(Op):
    """Mean over the slices: k boolean maps back to one real map."""

    kind: ClassVar[str] = "slice_mean"
    fusable: ClassVar[bool] = True

    def infer(self, *inputs: TensorType) -> Facts:
        """One float map."""
        (x,) = inputs
        return Facts(out=TensorType(shape=x.shape), work=(Work("add", x.stored_bits, x.elements),))


class Pool(Op):
    """A window that moves over each channel."""

    __slots__ = ()
    fusable: ClassVar[bool] = True
    kernel_size: int
    stride: int
    padding: int
    ceil: bool

    def infer(self, *inputs: TensorType) -> Facts:
        """``k^2`` evaluations per output value."""
        (x,) = inputs
        channels, height, width = feature_map(x)
        if 2 * self.padding > self.kernel_size:
            raise InfeasibleArchitecture(
                f"A pool's padding must be at most half of its window {self.kernel_size}, but is "
                f"{self.padding}."
            )
        rows, columns = (
            window(n, self.kernel_size, self.stride, self.padding, 1, self.ceil)
            for n in (height, width)
        )
        out = self.result(x, (channels, rows, columns))
        count = out.elements * self.kernel_size**2
        return Facts(out=out, work=(Work(self.kind, x.stored_bits, count),))

    def result(self, x: TensorType, shape: tuple[int, int, int]) -> TensorType:
        """A float map."""
        return TensorType(shape=shape, slices=x.slices)


@ops.register("max_pool")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MaxPool(Pool):
    """Largest value of each window; the domain stays."""

    kind: ClassVar[str] = "max_pool"
    kernel_size: int
    stride: int
    padding: int = 0
    ceil: bool = False

    def result(self, x: TensorType, shape: tuple[int, int, int]) -> TensorType:
        """The input's domain and bits."""
        return TensorType(shape=shape, domain=x.domain, slices=x.slices, stored_bits=x.stored_bits)


@ops.register("avg_pool")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AvgPool(Pool):
    """Mean of each window."""

    kind: ClassVar[str] = "avg_pool"
    kernel_size: int
    stride: int
    padding: int = 0
    ceil: bool = False


@ops.register("global_avg_pool")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GlobalAvgPool(Op):
    """Mean over all pixels: ``(C, H, W)`` to ``(C, 1, 1)``."""

    kind: ClassVar[str] = "global_avg_pool"
    fusable: ClassVar[bool] = True

    def infer(self, *inputs: TensorType) -> Facts:
        """One addition per input value."""
        (x,) = inputs
        channels, _, _ = feature_map(x)
        return Facts(
            out=TensorType(shape=(channels, 1, 1), slices=x.slices),
            work=(Work("avg_pool", x.stored_bits, x.elements),),
        )


@ops.register("blur")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Blur(Op):
    """Fixed 3x3 binomial filter per channel, outer product of (1, 2, 1)/4 with itself."""

    kind: ClassVar[str] = "blur"
    fusable: ClassVar[bool] = True
    stride: int = 2

    def infer(self, *inputs: TensorType) -> Facts:
        """Nine MACs per output value; the kernel is a buffer."""
        (x,) = inputs
        channels, height, width = feature_map(x)
        rows, columns = (window(n, 3, self.stride, 1, 1, ceil_=False) for n in (height, width))
        out = TensorType(shape=(channels, rows, columns), slices=x.slices)
        return Facts(
            out=out,
            params=(ParameterSpec("kernel", (x.torch_shape[0], 1, 3, 3), Role.BUFFER),),
            macs=out.elements * 9,
            fan_in=9,
            a_bits=x.value_bits,
        )
