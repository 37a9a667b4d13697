"""Tables and a plot of what `run` measured."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any, Final

PACKING: Final = "bitfront with packing"
CHAIN: Final = "bitfront packed chain"
KERNEL: Final = "bitfront kernel"
OURS: Final = {PACKING: "1-bit, packing included", CHAIN: "1-bit, packed in and out"}
COLOURS: Final = {"1-bit": "#0b7a75", "int8": "#7b2d26", "bf16": "#d7a319", "fp32": "#19535f"}

LEFT: Final = 250
AXIS: Final = 340
GAP: Final = 110
TOP: Final = 104
BAR: Final = 15


def table_rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """Per case of one of the runs: best peers, ours, ratios and shares of the popcount limit."""
    rows = []
    for case in result["cases"]:
        times = {c["name"]: c["ms"] for c in case["contenders"] if c["precision"] == "1-bit"}
        ratios, shares = case["ratios"], case["shares_of_limit"]
        peers = [best(case, precision) for precision in ("fp32", "bf16", "int8")]
        rows.append(
            (
                case["name"],
                *(_text(None if peer is None else peer["ms"], ".3f") for peer in peers),
                _text(times.get(PACKING), ".4f"),
                _text(times.get(CHAIN), ".4f"),
                _text(ratios.get(f"fp32 / {PACKING}"), ".1f"),
                _text(ratios.get(f"int8 / {PACKING}"), ".1f"),
                _text(ratios.get(f"fp32 / {CHAIN}"), ".1f"),
                _text(shares.get(KERNEL), ".0%"),
                _text(shares.get(CHAIN), ".0%"),
            )
        )
    return rows


def best(case: dict[str, Any], precision: str) -> dict[str, Any] | None:
    """The fastest contender of a precision, None if all are absent."""
    found = [c for c in case["contenders"] if c["precision"] == precision and c["ms"] is not None]
    return min(found, key=lambda row: row["ms"], default=None)


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def draw(result: dict[str, Any]) -> str:
    """An SVG: throughput of the best peers and of ours, a column for each number of threads.

    Bars are drawn as shares of the popcount limit of their column, a dashed line.
    """
    runs = result["runs"]
    cases = [case["name"] for case in runs[0]["cases"]]
    group = 5 * BAR + 12
    width = LEFT + len(runs) * (AXIS + GAP)
    height = TOP + len(cases) * group + 20
    parts = [
        f'<text x="16" y="28" font-size="17" font-weight="bold">Binary products on '
        f"{escape(result['cpu'])}</text>",
        f'<text x="16" y="48">{escape(result["variant"])}, {escape(result["date"])}, torch '
        f"{escape(result['versions']['torch'])}, ONNX Runtime "
        f"{escape(result['versions']['onnxruntime'])}. Tera multiply-accumulates per second, and "
        "the ratio to the best fp32.</text>",
    ]
    for n, name in enumerate(cases):
        y = TOP + n * group
        parts.append(f'<text x="16" y="{y + 11}" font-weight="bold">{escape(name)}</text>')
    for column, run in enumerate(runs):
        parts.extend(_column(run, LEFT + column * (AXIS + GAP), group, height, column == 0))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'
    )


def _column(
    run: dict[str, Any], left: int, group: int, height: int, is_labelled: bool
) -> Iterator[str]:
    """One number of threads: its limit and the bars of all cases."""
    limit = run["limit_macs_per_s"]
    line = left + AXIS
    threads = f"{run['threads']} thread{'s' * (run['threads'] > 1)}"
    yield f'<text x="{left}" y="{TOP - 28}" font-weight="bold">{threads}, {run["clock"]}</text>'
    yield (
        f'<text x="{line}" y="{TOP - 12}" text-anchor="middle">popcount limit '
        f"{limit / 1e12:.2f}</text>"
        f'<line x1="{line}" y1="{TOP - 8}" x2="{line}" y2="{height - 20}" stroke="#444" '
        'stroke-dasharray="4 3"/>'
        f'<line x1="{left}" y1="{TOP - 8}" x2="{left}" y2="{height - 20}" stroke="#bbb"/>'
    )
    for n, case in enumerate(run["cases"]):
        for i, (label, row) in enumerate(_bars(case)):
            y = TOP + n * group + i * BAR
            if is_labelled:
                yield f'<text x="{left - 8}" y="{y + 11}" text-anchor="end">{label}</text>'
            if row is None:
                yield f'<text x="{left + 5}" y="{y + 11}" fill="#777">absent</text>'
                continue
            yield _bar(row, case, left, y, limit)


def _bars(case: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any] | None]]:
    for precision in ("fp32", "bf16", "int8"):
        yield precision, best(case, precision)
    rows = {row["name"]: row for row in case["contenders"] if row["ms"] is not None}
    for name, label in OURS.items():
        yield label, rows.get(name)


def _bar(row: dict[str, Any], case: dict[str, Any], left: int, y: int, limit: float) -> str:
    length = row["macs_per_s"] / limit * AXIS
    text = f"{row['macs_per_s'] / 1e12:.3f}"
    ratio = case["ratios"].get(f"fp32 / {row['name']}")
    if row["precision"] != "1-bit":
        text += f" {escape(row['name'])}"
    elif ratio is not None:
        text += f", {ratio:.1f}x"
    # a long bar has its text inside
    x, style = left + length + 5, 'fill="black"'
    if length > AXIS / 2:
        x, style = left + length - 5, 'fill="white" text-anchor="end"'
    return (
        f'<rect x="{left}" y="{y + 1}" width="{length:.1f}" height="{BAR - 3}" '
        f'fill="{COLOURS[row["precision"]]}"/>'
        f'<text x="{x:.1f}" y="{y + 11}" font-size="11" {style}>{text}</text>'
    )
