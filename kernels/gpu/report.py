"""A roofline plot of what the GPU benchmark measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final

from bitfront.kernels.gpu.roofline import OURS

COLOURS: Final = {
    OURS: "#0b7a75",
    "XOR": "#7aa6a4",
    "W1A8": "#8d6a9f",
    "W1A16": "#b565a7",
    "int8": "#7b2d26",
    "bf16": "#d7a319",
}
OTHER: Final = "#777777"
"""The colour of a precision that is not among them."""

LEFT: Final = 90
TOP: Final = 70
WIDTH: Final = 760
HEIGHT: Final = 460
LEGEND: Final = 260

ROOFS: Final = (
    ("binary_macs_per_s", "1-bit tensor cores"),
    ("bf16_macs_per_s", "bf16, as measured"),
    ("popcount_macs_per_s", "popcount"),
)


def draw(result: Mapping[str, Any]) -> str:
    """An SVG: products a second over products a byte, both in powers of ten, below the roofs.

    Args:
        result: Of `bitfront.kernels.gpu.bench.run`.

    Raises:
        ValueError: If it is no such result, or nothing in it was measured.
    """
    try:
        points = list(_points(result))
        limits = result["limits"]
        bandwidth = float(limits["bytes_per_s"])
        roofs = [(float(limits[key]), name) for key, name in ROOFS if limits.get(key)]
        title = f"Binary products on {result['device']}"
        versions = result["versions"]
        date, packages = result["date"], f"torch {versions['torch']}, Triton {versions['triton']}"
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"The result must be one of the GPU benchmark, but lacks {error}."
        ) from None
    if not points or not all(0 < v < math.inf for v in (bandwidth, *(rate for rate, _ in roofs))):
        raise ValueError("The result must have measured cases and positive limits.")
    plot = _Axes.of(points, bandwidth, [rate for rate, _ in roofs])
    parts = [
        f'<text x="16" y="28" font-size="17" font-weight="bold">{escape(title)}</text>',
        f'<text x="16" y="48">{escape(str(date))}, {escape(packages)}. Multiply-accumulates per '
        "second over those per byte of operands and result; each point says what it is.</text>",
        *plot.grid(),
        *plot.roofs(bandwidth, roofs),
        *(plot.point(*point) for point in points),
        *_legend([precision for _, precision, _, _ in points]),
    ]
    width, height = LEFT + WIDTH + LEGEND, TOP + HEIGHT + 70
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'
    )


_Point = tuple[str, str, float, float]
"""What it is, its precision, products a byte, products a second."""


def _points(result: Mapping[str, Any]) -> Iterator[_Point]:
    for case in result["cases"]:
        for row in case["contenders"]:
            if row["ms"] is not None:
                name = f"{case['name']}, {row['precision']} {row['name']}: {row['ms']:.4g} ms"
                yield (
                    name,
                    str(row["precision"]),
                    float(case["macs"] / row["bytes"]),
                    float(row["macs_per_s"]),
                )


class _Axes:
    """Two axes of powers of ten."""

    def __init__(self, x: tuple[int, int], y: tuple[int, int]) -> None:
        self._x = x
        self._y = y

    @classmethod
    def of(cls, points: list[_Point], bandwidth: float, rates: list[float]) -> _Axes:
        """Axes that hold the points, the roofs and where they meet."""
        bytes_ = [point[2] for point in points] + [rate / bandwidth for rate in rates]
        seconds = [point[3] for point in points] + rates
        return cls(_powers(bytes_), _powers(seconds))

    def x(self, value: float) -> float:
        low, high = self._x
        return LEFT + WIDTH * (math.log10(value) - low) / (high - low)

    def y(self, value: float) -> float:
        low, high = self._y
        return TOP + HEIGHT * (1 - (math.log10(value) - low) / (high - low))

    def grid(self) -> Iterator[str]:
        bottom, right = TOP + HEIGHT, LEFT + WIDTH
        for power in range(self._x[0], self._x[1] + 1):
            x = self.x(10.0**power)
            yield (
                f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}" stroke="#ddd"/>'
                f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">1e{power}</text>'
            )
        for power in range(self._y[0], self._y[1] + 1):
            y = self.y(10.0**power)
            yield (
                f'<line x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#ddd"/>'
                f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">1e{power}</text>'
            )
        yield (
            f'<text x="{LEFT + WIDTH / 2}" y="{bottom + 42}" text-anchor="middle">'
            f'MAC per byte</text><text x="16" y="{TOP - 6}">MAC/s</text>'
        )

    def roofs(self, bandwidth: float, roofs: list[tuple[float, str]]) -> Iterator[str]:
        """The slope of the memory, up to the highest roof, and each roof from where it meets it."""
        highest = max((rate for rate, _ in roofs), default=10.0 ** self._y[1])
        low, high = (10.0**power for power in self._x)
        start = max(low, 10.0 ** self._y[0] / bandwidth)
        yield self._line((start, start * bandwidth), (highest / bandwidth, highest))
        label = f"memory, {bandwidth / 1e12:.2f} TB/s, as measured"
        middle = math.sqrt(start * highest / bandwidth)
        yield (
            f'<text x="{self.x(middle) - 12:.1f}" y="{self.y(middle * bandwidth) - 4:.1f}" '
            f'text-anchor="end" fill="#444">{escape(label)}</text>'
        )
        for rate, name in roofs:
            yield self._line((rate / bandwidth, rate), (high, rate))
            label = f"{name}, {rate / 1e12:.0f} T/s"
            yield (
                f'<text x="{LEFT + WIDTH - 4}" y="{self.y(rate) - 4:.1f}" text-anchor="end" '
                f'fill="#444">{escape(label)}</text>'
            )

    def _line(self, start: tuple[float, float], end: tuple[float, float]) -> str:
        (x1, y1), (x2, y2) = ((self.x(x), self.y(y)) for x, y in (start, end))
        return (
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#444" '
            'stroke-width="1.5"/>'
        )

    def point(self, name: str, precision: str, per_byte: float, per_second: float) -> str:
        """A dot that tells its name when it is pointed at."""
        return (
            f'<circle cx="{self.x(per_byte):.1f}" cy="{self.y(per_second):.1f}" r="4.5" '
            f'fill="{COLOURS.get(precision, OTHER)}" fill-opacity="0.8">'
            f"<title>{escape(name)}</title></circle>"
        )


def _powers(values: list[float]) -> tuple[int, int]:
    """The powers of ten below and above."""
    low = math.floor(math.log10(min(values)))
    return low, max(low + 1, math.ceil(math.log10(max(values))))


def _legend(precisions: list[str]) -> Iterator[str]:
    for n, precision in enumerate(dict.fromkeys(precisions)):
        y = TOP + 20 * n
        meaning = _MEANING.get(precision, precision)
        yield (
            f'<circle cx="{LEFT + WIDTH + 24}" cy="{y + 8}" r="4.5" '
            f'fill="{COLOURS.get(precision, OTHER)}"/>'
            f'<text x="{LEFT + WIDTH + 36}" y="{y + 12}">{escape(meaning)}</text>'
        )


_MEANING: Final = {
    OURS: "bitfront, 1-bit weights and maps",
    "XOR": "the same kernel with XOR",
    "W1A8": "1-bit weights, 8-bit maps",
    "W1A16": "1-bit weights, 16-bit maps",
}
