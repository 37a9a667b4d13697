"""What a GPU can do at most, and what a product asks of it: shapes, bytes, rates, ratios.

Pure arithmetic, so a machine without a GPU can check it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bitfront.kernels.geometry import Conv2dGeometry
from bitfront.kernels.layout import WORD_BITS, word_count

POPC_PER_CLOCK: Final = 16
"""Words that a multiprocessor counts in a clock, from capability 8.0 to 9.0 (reported)."""

BINARY_MACS_PER_CLOCK: Final = 17_700
"""1-bit products of a multiprocessor's tensor cores in a clock: 0.54 m16n8k256, reported, GH200."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuCase:
    """A product to measure.

    Attributes:
        name: As in the tables.
        conv: Its geometry; a matrix product is a row of M pixels.
    """

    name: str
    conv: Conv2dGeometry

    @property
    def is_matrix(self) -> bool:
        """Whether it is a matrix product."""
        return self.conv.taps == 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.conv.rows * self.conv.outputs * self.conv.dot_length

    def bytes(self, operand_bits: int, result_bits: int) -> int:
        """Bytes of both operands and the result, each moved once; 1 bit is packed into words."""
        conv = self.conv
        pixels = conv.batch * conv.height * conv.width
        rows = (
            (pixels, conv.channels, operand_bits),
            (conv.outputs * conv.taps, conv.channels, operand_bits),
            (conv.rows, conv.outputs, result_bits),
        )
        return sum(count * _row_bytes(length, bits) for count, length, bits in rows)


def _row_bytes(length: int, bits: int) -> int:
    if bits == 1:
        return word_count(length) * WORD_BITS // 8
    return length * bits // 8


def gemm_case(rows: int, outputs: int, depth: int) -> GpuCase:
    """The matrix product [M, K] x [N, K]."""
    conv = Conv2dGeometry.of(image=(1, 1, rows, depth), weight=(outputs, 1, 1, depth))
    return GpuCase(name=f"gemm {rows}x{outputs}x{depth}", conv=conv)


def conv_case(channels: int, size: int, batch: int) -> GpuCase:
    """A 3x3 convolution that keeps its size."""
    conv = Conv2dGeometry.of(
        image=(batch, size, size, channels), weight=(channels, 3, 3, channels), padding=1
    )
    return GpuCase(name=f"conv3x3 {channels}x{size}x{size} b{batch}", conv=conv)


CASES: Final[tuple[GpuCase, ...]] = (
    gemm_case(4096, 4096, 4096),
    gemm_case(8192, 8192, 8192),
    *(
        conv_case(channels, size, 256)
        for channels, size in ((64, 56), (128, 28), (256, 14), (512, 7))
    ),
    *(gemm_case(rows, size, size) for size in (4096, 8192, 16384) for rows in (1, 8)),
)
"""The products whose ratios are goals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of a device.

    Attributes:
        multiprocessors: How many.
        clock_hz: Their highest clock.
        bytes_per_s: Of a large copy, read and written bytes added, as measured.
    """

    multiprocessors: int
    clock_hz: float
    bytes_per_s: float

    @property
    def popcount_macs_per_s(self) -> float:
        """Of counting bits on CUDA cores."""
        return self.multiprocessors * self.clock_hz * POPC_PER_CLOCK * WORD_BITS

    @property
    def binary_macs_per_s(self) -> float:
        """Of the 1-bit tensor cores."""
        return self.multiprocessors * self.clock_hz * BINARY_MACS_PER_CLOCK

    def least_ms(self, macs: int, macs_per_s: float, moved: int) -> float:
        """Milliseconds of a product that computes and moves its bytes at once at full rate."""
        return max(macs / macs_per_s, moved / self.bytes_per_s) * 1e3


def ratios(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The fastest peer of each precision over each of our rows: how many times faster ours is."""
    found = {}
    for precision in ("bf16", "int8"):
        times = [row["ms"] for row in rows if row["precision"] == precision and row["ms"]]
        for row in rows:
            if row["precision"] == "1-bit" and row["ms"] and times:
                found[f"{precision} / {row['name']}"] = min(times) / row["ms"]
    return found
