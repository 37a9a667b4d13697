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

OURS: Final = "1-bit"
"""The precision of our kernels in a result."""

POPCOUNT: Final = "popcount"
"""The name of our kernel that counts bits in a result."""

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

    def bytes(self, operand_bits: int, result_bits: int, weight_bits: int | None = None) -> int:
        """Bytes of both operands and the result, each moved once; 1 bit is packed into words.

        Args:
            operand_bits: Of a number of the maps.
            result_bits: Of a number of the result.
            weight_bits: Of a number of the weight; None takes that of the maps.
        """
        conv = self.conv
        pixels = conv.batch * conv.height * conv.width
        rows = (
            (pixels, conv.channels, operand_bits),
            (conv.outputs * conv.taps, conv.channels, weight_bits or operand_bits),
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
    *(gemm_case(rows, size, size) for size in (4096, 16384, 8192) for rows in (1, 8)),
    gemm_case(64, 4096, 4096),
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
    timed = [row for row in rows if row["ms"]]
    peers = dict.fromkeys(row["precision"] for row in timed if row["precision"] != OURS)
    found = {}
    for precision in peers:
        least = min(row["ms"] for row in timed if row["precision"] == precision)
        for row in timed:
            if row["precision"] == OURS:
                found[f"{precision} / {row['name']}"] = least / row["ms"]
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What the kernels shall reach in all of some cases.

    Attributes:
        name: In words.
        cases: Names of cases.
        peer: A precision: our fastest kernel is so many times faster than the fastest peer of it;
            "" for the share of the popcount limit instead.
        target: The least value.
    """

    name: str
    cases: tuple[str, ...]
    peer: str
    target: float

    def outcome(self, cases: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The value in the worst of the goal's cases, and whether it is reached.

        Args:
            cases: Of a result of the benchmark.

        Returns:
            Plain data; `value` and `met` are None where a case or the peer was not measured.
        """
        measured = {case["name"]: case["contenders"] for case in cases}
        values = [self._value(measured.get(name, ())) for name in self.cases]
        known = [value for value in values if value is not None]
        value = min(known) if len(known) == len(self.cases) else None
        return {
            "name": self.name,
            "cases": list(self.cases),
            "target": self.target,
            "value": value,
            "met": None if value is None else value >= self.target,
        }

    def _value(self, rows: Sequence[Mapping[str, Any]]) -> float | None:
        ours = [row for row in rows if row["precision"] == OURS and row["ms"]]
        if not self.peer:
            shares = [row["share_of_limit"] for row in ours if row["name"] == POPCOUNT]
            return max(shares, default=None)
        peers = [row["ms"] for row in rows if row["precision"] == self.peer and row["ms"]]
        if not ours or not peers:
            return None
        return float(min(peers) / min(row["ms"] for row in ours))


_SQUARES: Final = tuple(case.name for case in CASES[:2])
_LAYERS: Final = tuple(case.name for case in CASES if not case.is_matrix)
_FEW: Final = tuple(case.name for case in CASES if case.is_matrix and case.conv.rows <= 8)

GOALS: Final = (
    Goal(name="square products, bf16 / 1-bit", cases=_SQUARES, peer="bf16", target=5.0),
    Goal(name="square products, int8 / 1-bit", cases=_SQUARES, peer="int8", target=3.0),
    Goal(name="packed 3x3 layers, bf16 / 1-bit", cases=_LAYERS, peer="bf16", target=4.0),
    Goal(name="1 and 8 rows, bf16 / 1-bit", cases=_FEW, peer="bf16", target=6.0),
    Goal(name="AND against XOR on square products", cases=_SQUARES, peer="XOR", target=1.8),
    Goal(
        name="share of the popcount limit at 64 rows",
        cases=("gemm 64x4096x4096",),
        peer="",
        target=0.7,
    ),
)
"""Set before anything was measured on a GPU."""
