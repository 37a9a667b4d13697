"""The generated parts of ``docs/coverage.md``: the field's tables, and which networks work here.

What is in the zoo, what it costs and whether ``zoo_check.py`` passed is read when the document is
renewed, so a row of a network that is not there yet says so until it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any, Final

from field_tables import BY_METHOD, BY_POWER, BY_SIZE, FAMILIES, Method

from bitfront.evaluators.cost import count, estimate_energy
from bitfront.evaluators.files import replace_file
from bitfront.evaluators.hardware.profile import load_profile, profile_names
from bitfront.evaluators.published import BYTES_PER_UNIT, compare
from bitfront.spaces import Graph, InvalidValue
from bitfront.spaces.plan import plan
from bitfront.spaces.zoo import zoo

ROOT: Final = Path(__file__).resolve().parent.parent
DOCUMENT: Final = ROOT / "docs" / "coverage.md"
RESULTS: Final = ROOT / "benchmarks" / "results" / "zoo_check.json"

Results = dict[str, dict[str, Any]]


def load_results() -> Results:
    """What ``zoo_check.py`` found, by network."""
    if not RESULTS.exists():
        return {}
    results: Results = json.loads(RESULTS.read_text(encoding="utf-8"))
    return results


def keep(name: str, row: dict[str, Any]) -> None:
    """Keep a network's result beside the others; networks that left the zoo leave here too."""
    results = {known: result for known, result in load_results().items() if known in zoo}
    results[name] = row
    text = json.dumps(dict(sorted(results.items())), indent=1) + "\n"
    replace_file(RESULTS, text.encode())


def state(name: str, results: Results) -> str:
    """Whether a network works: "works", or in what way it is not known to."""
    result = results.get(name)
    if result is None:
        return "not checked yet"
    if result["digest"] != zoo[name].architecture().digest:
        return "changed since its check"
    if result["failed"]:
        return "fails: " + ", ".join(text.partition(":")[0] for text in result["failed"])
    return "works"


def renew() -> None:
    """Write the generated parts of the document anew."""
    replace_file(DOCUMENT, renewed().encode())


def renewed() -> str:
    """The document as it should be."""
    text = DOCUMENT.read_text(encoding="utf-8")
    results = load_results()
    for name, write in PARTS.items():
        start, end = f"<!-- {name}: generated -->\n", f"<!-- {name}: end -->"
        before, found, rest = text.partition(start)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise SystemExit(f"{DOCUMENT} must have the lines {start.strip()} and {end}.")
        text = f"{before}{start}\n{write(results)}\n{end}{after}"
    return text


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


@cache
def _graph(name: str) -> Graph:
    return zoo[name].architecture().lower()


@cache
def _counted(name: str) -> tuple[str, str]:
    """Size and OPs, as text with the digits of a table."""
    entry = zoo[name]
    unit = entry.published.get("size_unit", "MiB")
    shown = {row.figure: row for row in compare(entry, _graph(name))}
    counts = count(_graph(name), entry.convention)
    size = counts.size_mib * 2**20 / BYTES_PER_UNIT[unit]
    if "size_mb" in shown and shown["size_mb"].counted is not None:
        # it holds what the source counts beside the parameters
        size = shown["size_mb"].counted
    ops = "-" if counts.ops is None else f"{counts.ops / 1e8:.4g}"
    return f"{size:.4g} {unit}", ops


def _methods(rows: tuple[Method, ...]) -> Callable[[Results], str]:
    def write(results: Results) -> str:
        columns: dict[str, list[str]] = {}
        for row in rows:
            there = row.network in zoo
            size, ops = _counted(row.network) if there else ("", "")
            cells = {
                "method": row.method,
                "W/A": row.bits,
                "layers": row.layers,
                "accuracy %": row.accuracy,
                "size": row.size,
                "OPs, 1e8": row.ops,
                "here": f"`{row.network}`" if there else "",
                "size here": size,
                "OPs here": ops if row.ops else "",
                "status": state(row.network, results) if there else f"not yet: {row.why}",
            }
            for column, cell in cells.items():
                columns.setdefault(column, []).append(cell)
        told = {column: cells for column, cells in columns.items() if any(cells)}
        return _table(list(told), zip(*told.values(), strict=True))

    return write


def _matching(patterns: Iterable[str]) -> list[str]:
    return [name for name in sorted(zoo) if any(fnmatchcase(name, p) for p in patterns)]


def _families(results: Results) -> str:
    rows = []
    for family in FAMILIES:
        names = _matching(family.networks)
        shown = ", ".join(f"`{name}`" for name in names) or "none yet"
        rows.append([family.name, family.source, shown, _working(names, results), family.left_out])
    listed = {name for family in FAMILIES for name in _matching(family.networks)}
    others = [name for name in sorted(zoo) if name not in listed]
    if others:
        shown = ", ".join(f"`{name}`" for name in others)
        rows.append(["others", "", shown, _working(others, results), ""])
    return _table(["family", "source", "networks here", "work", "left out"], rows)


def _working(names: list[str], results: Results) -> str:
    return f"{sum(state(name, results) == 'works' for name in names)} of {len(names)}"


def _mismatches(results: Results) -> str:
    reproduced = 0
    rows = []
    for name in sorted(zoo):
        for row in compare(zoo[name], _graph(name)):
            reproduced += row.reproduced
            if not row.reproduced:
                counted = "-" if row.counted is None else f"{row.counted:.4g}"
                figure = row.figure.partition("_")[0]
                why = row.mismatch or "not known"
                rows.append([f"`{name}`", figure, f"{row.published}", counted, why])
    table = _table(["network", "figure", "printed", "here", "why"], rows)
    return (
        f"{reproduced} of {reproduced + len(rows)} published figures are reproduced to the printed "
        f"digit. These are not:\n\n{table}"
    )


def _twins(results: Results) -> str:
    """Size and energy of every network of few bits against its 32-bit twin."""
    ratios: dict[str, dict[str, float]] = {}
    for name in sorted(zoo):
        graph = _graph(name)
        counts = count(graph)
        if counts.params_binary == 0:
            continue
        try:
            twin = zoo[name].architecture().twin().lower()
        except InvalidValue:
            continue
        ratios[name] = {"size": count(twin).size_mib / counts.size_mib}
        for profile in map(load_profile, profile_names()):
            mine, its = (estimate_energy(plan(g), profile) for g in (graph, twin))
            key = f"compute on {profile.name}"
            ratios[name][key] = its.compute_pj.value / mine.compute_pj.value
            ratios[name][f"energy on {profile.name}"] = its.total_mj / mine.total_mj
    rows = []
    for figure in next(iter(ratios.values()), {}):
        values = {name: row[figure] for name, row in ratios.items()}
        least, most = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
        rows.append(
            [
                figure,
                f"{values[least]:.3g} (`{least}`)",
                f"{median(values.values()):.3g}",
                f"{values[most]:.3g} (`{most}`)",
            ]
        )
    table = _table(["32-bit twin / network", "least", "median", "most"], rows)
    return f"Over {len(ratios)} networks of the zoo:\n\n{table}"


def _checks(results: Results) -> str:
    rows = []
    for name in sorted(zoo):
        result = results.get(name)
        if result is None:
            rows.append([f"`{name}`", *["-"] * 6, "not checked yet"])
            continue
        blocks = result.get("exported_blocks")
        exported = f"; exported {blocks} blocks" if blocks else ""
        rows.append(
            [
                f"`{name}`",
                "x".join(map(str, result.get("input", []))) or "-",
                f"{result['parameters']:,}" if "parameters" in result else "-",
                str(result.get("binary_layers", "-")),
                f"{result['total_seconds']:.0f}",
                str(max(result.get("peak_mib", {}).values(), default="-")),
                result["date"],
                state(name, results) + exported,
            ]
        )
    used = sorted({tuple(sorted(r["versions"].items())) for r in results.values()})
    versions = "; ".join(", ".join(f"{k} {v}" for k, v in each) for each in used) or "none yet"
    columns = ["network", "input", "parameters", "binary layers", "s", "MiB", "date", "result"]
    return f"Checked with {versions}.\n\n{_table(columns, rows)}"


PARTS: Final[dict[str, Callable[[Results], str]]] = {
    "by method": _methods(BY_METHOD),
    "by size": _methods(BY_SIZE),
    "by power": _methods(BY_POWER),
    "families": _families,
    "mismatches": _mismatches,
    "twins": _twins,
    "checks": _checks,
}
