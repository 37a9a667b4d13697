"""Tables and a plot of what `run` measured."""

from __future__ import annotations

from html import escape
from typing import Any, Final

COLOURS: Final = {"1-bit": "#0b7a75", "int8": "#7b2d26", "bf16": "#d7a319", "fp32": "#19535f"}
WIDTH: Final = 960
ROW: Final = 15
LEFT: Final = 330
RIGHT: Final = 90


def table_rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """Per case: best peers, ours, ratios and the share of the popcount limit, as texts."""
    rows = []
    for case in result["cases"]:
        times = {(c["precision"], c["name"]): c["ms"] for c in case["contenders"]}

        def best(precision: str, times: dict[tuple[str, str], Any] = times) -> float | None:
            found = [ms for (p, _), ms in times.items() if p == precision and ms is not None]
            return min(found, default=None)

        packed, chain = "bitfront with packing", "bitfront packed chain"
        ratios = case["ratios"]
        share = case["share_of_limit"]
        rows.append(
            (
                case["name"],
                *(_text(best(p), ".3f") for p in ("fp32", "bf16", "int8")),
                _text(times.get(("1-bit", packed)), ".4f"),
                _text(times.get(("1-bit", chain)), ".4f"),
                _text(ratios.get(f"fp32 / {packed}"), ".1f"),
                _text(ratios.get(f"int8 / {packed}"), ".1f"),
                _text(ratios.get(f"fp32 / {chain}"), ".1f"),
                "-" if share is None else f"{share:.0%}",
            )
        )
    return rows


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def draw(result: dict[str, Any]) -> str:
    """An SVG: throughput of every contender, with the popcount limit drawn in."""
    limit = result["limit_macs_per_s"]
    bars: list[str] = []
    y = 70
    scale = (WIDTH - LEFT - RIGHT) / limit
    for case in result["cases"]:
        bars.append(f'<text x="10" y="{y + 11}" font-weight="bold">{escape(case["name"])}</text>')
        for row in case["contenders"]:
            if row["ms"] is None:
                continue
            length = row["macs_per_s"] * scale
            label = f"{row['precision']} {row['name']}"
            bars.append(
                f'<text x="{LEFT - 6}" y="{y + 11}" text-anchor="end">{escape(label)}</text>'
                f'<rect x="{LEFT}" y="{y + 2}" width="{length:.1f}" height="{ROW - 4}" '
                f'fill="{COLOURS[row["precision"]]}"/>'
                f'<text x="{LEFT + length + 4:.1f}" y="{y + 11}">'
                f"{row['macs_per_s'] / 1e12:.3f}</text>"
            )
            y += ROW
        y += 8
    line = LEFT + limit * scale
    title = (
        f"Throughput on {result['cpu']}, {result['variant']}, {result['threads']} thread(s), "
        f"{result['date']}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + 20}" '
        f'font-family="sans-serif" font-size="11">'
        f'<rect width="100%" height="100%" fill="white"/>'
        f'<text x="10" y="22" font-size="15">{escape(title)}</text>'
        f'<text x="10" y="42">Tera multiply-accumulates per second; dashed: the popcount limit '
        f"measured in the same run, {limit / 1e12:.2f}</text>"
        f'<line x1="{line}" y1="55" x2="{line}" y2="{y}" stroke="black" stroke-dasharray="4 3"/>'
        f"{''.join(bars)}</svg>\n"
    )
