"""``bitfront zoo``: published networks, their figures as printed beside those counted here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.markup import escape

from bitfront.cli.app import Json, app
from bitfront.cli.output import millijoules, out, scaled, write_json, write_table

if TYPE_CHECKING:
    from bitfront.evaluators.published import Comparison
    from bitfront.spaces.zoo import ZooEntry

FIGURES: Final = {
    "size_mb": "size",
    "ops_1e8": "OPs",
    "energy_mj": "energy",
    "params": "parameters",
    "params_1e6": "parameters",
}
WIDE: Final = 110
"""Columns of a terminal that has room for more than the comparison."""


@app.command("zoo")
def list_zoo(
    name: Annotated[
        str | None, typer.Argument(help="One network, in full; or a pattern such as 'melius*'.")
    ] = None,
    family: Annotated[str | None, typer.Option(help="Only this family.")] = None,
    json: Json = False,
) -> None:
    """List the published networks: figures as printed, as counted here, and the difference."""
    entries = _chosen(name, family)
    if json:
        write_json({"networks": [_data(entry) for entry in entries]})
    elif name is not None and not _is_pattern(name):
        _print_card(entries[0])
    else:
        _print_tables(entries)


def _is_pattern(name: str) -> bool:
    return any(letter in name for letter in "*?[")


def _chosen(name: str | None, family: str | None) -> list[ZooEntry]:
    """The entries that are asked for, by family and name.

    Raises:
        InvalidValue: If there is none.
    """
    from bitfront.spaces.errors import InvalidValue
    from bitfront.spaces.zoo import zoo

    entries = sorted(zoo.values(), key=lambda entry: (entry.family.lower(), _natural(entry.name)))
    if family is not None:
        families = list(dict.fromkeys(entry.family for entry in entries))
        entries = [entry for entry in entries if entry.family.lower() == family.lower()]
        if not entries:
            raise InvalidValue(f"family must be one of {', '.join(families)}, but is {family!r}.")
    if name is None:
        return entries
    if _is_pattern(name):
        found = [entry for entry in entries if fnmatchcase(entry.name, name.lower())]
    else:
        found = [entry for entry in entries if entry is zoo[name]]
    if not found:
        known = ", ".join(entry.name for entry in entries)
        of = "" if family is None else f" of the family {entries[0].family}"
        raise InvalidValue(f"No network{of} is named {name!r}; there are {known}.")
    return found


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that puts 9 before 18."""
    parts: list[tuple[int, str]] = []
    digits = ""
    for letter in f"{name}\0":
        if letter.isdigit():
            digits += letter
            continue
        if digits:
            parts.append((int(digits), ""))
            digits = ""
        parts.append((0, letter))
    return parts


def _data(entry: ZooEntry) -> dict[str, Any]:
    """Everything that is known of a network, unrounded."""
    from bitfront.evaluators.cost import CONVENTIONS, count, estimate_energy, peak_memory_bytes
    from bitfront.evaluators.hardware.profile import load_profile, profile_names
    from bitfront.evaluators.published import compare
    from bitfront.spaces.plan import plan

    graph = entry.architecture().lower()
    planned = plan(graph)
    counted = {convention: count(graph, convention).json() for convention in CONVENTIONS}
    return {
        "name": entry.name,
        "family": entry.family,
        "dataset": entry.dataset,
        "published": dict(entry.published),
        "convention": entry.convention,
        "figures": [row.json() for row in compare(entry, graph)],
        "counted": counted[entry.convention],
        "counted_by": counted,
        "memory_peak_bytes": peak_memory_bytes(planned),
        "energy": [
            estimate_energy(planned, load_profile(profile), scope=scope).json()
            for profile in profile_names()
            for scope in ("network", "body")
        ],
        "recipe": entry.recipe.json(),
        "notes": entry.notes,
    }


def _print_tables(entries: list[ZooEntry]) -> None:
    from bitfront.evaluators.cost import count
    from bitfront.evaluators.published import ENERGY_PROFILE, compare

    wide = out.width >= WIDE
    compared: dict[str, dict[str, Comparison]] = {}
    rows, energies = [], []
    for entry in entries:
        graph = entry.architecture().lower()
        figures = {row.figure: row for row in compare(entry, graph)}
        compared[entry.name] = figures
        published = entry.published
        more = (entry.family, f"{count(graph, entry.convention).params:,}") if wide else ()
        rows.append(
            (
                entry.name,
                *more,
                published.get("top1", "-"),
                *_cells(entry, figures.get("ops_1e8")),
                *_cells(entry, figures.get("size_mb")),
            )
        )
        if "energy_mj" in figures:
            energies.append((entry.name, *_cells(entry, figures["energy_mj"])))
    more_titles = ("family", "parameters") if wide else ()
    columns = ("network", *more_titles, "top-1", "OPs", "here", "off %", "size", "here", "off %")
    write_table(
        "Published networks: as printed, as counted here, and the difference",
        columns,
        rows,
        left=2 if wide else 1,
        tight=not wide,
    )
    if energies:
        write_table(
            f"Energy of one inference in mJ, {ENERGY_PROFILE}, without stem and head",
            ("network", "printed", "here", "off %"),
            energies,
        )
    everything = [row for figures in compared.values() for row in figures.values()]
    good = sum(row.reproduced for row in everything)
    out.print(
        "OPs are BOPs/64 + FLOPs in 1e8, by the rule of each source; sizes are MiB where no unit "
        f"stands. {good} of {len(everything)} figures are reproduced to the printed digit"
        + ("." if good == len(everything) else "; * marks the others:")
    )
    _tell([("*", f"{', '.join(names)}, {text}") for text, names in _reasons(compared)])
    out.print("`bitfront zoo NAME` shows one network: source, every convention, recipe, notes.")


def _cells(entry: ZooEntry, row: Comparison | None) -> tuple[str, str, str]:
    """Printed, counted and difference."""
    if row is None:
        return "-", "-", ""
    about = "~" if row.figure in entry.published.get("about", ()) else ""
    printed = f"{about}{row.published:,}" + (" MB" if row.unit == "MB" else "")
    if row.counted is None or row.difference is None:
        return printed, "-", "*"
    # one digit more than is printed; a whole number has none behind its point
    digits = len(str(row.published).partition(".")[2]) + (row.figure != "params")
    # adding zero turns -0.0 into 0.0
    percent = round(100 * row.difference / row.published, 1) + 0.0
    return printed, f"{row.counted:,.{digits}f}", f"{percent:+.1f}" + "*" * (not row.reproduced)


def _reasons(compared: dict[str, dict[str, Comparison]]) -> Iterable[tuple[str, list[str]]]:
    """Why figures are not reproduced, each reason once with the networks that it is true of."""
    found: dict[str, list[str]] = {}
    for name, figures in compared.items():
        for row in figures.values():
            if not row.reproduced:
                found.setdefault(_reason(row), []).append(name)
    return found.items()


def _print_card(entry: ZooEntry) -> None:
    data = _data(entry)
    out.print(f"{entry.name}, {entry.family}, {entry.dataset}", style="bold", markup=False)
    wrong = _print_figures(entry)
    counted = data["counted_by"].values()
    write_table(
        "",
        ("counted by", "parameters", "< 16 bits", "FLOPs", "BOPs", "OPs", "MiB"),
        [
            (
                counts["convention"] + (" (extended)" if counts["extended"] else ""),
                f"{counts['params']:,}",
                f"{counts['params_binary']:,}",
                scaled(counts["flops"]),
                scaled(counts["bops"]),
                scaled(counts["ops"]),
                f"{counts['size_mib']:.4g}",
            )
            for counts in counted
        ],
    )
    by = {(row["profile"], row["scope"]): millijoules(row["total_mj"]) for row in data["energy"]}
    write_table(
        "",
        ("energy estimated on", "network", "body"),
        [
            (profile, by[profile, "network"], by[profile, "body"])
            for profile in sorted({profile for profile, _ in by})
        ],
    )
    recipe = entry.recipe
    told = [f.name for f in fields(recipe) if f.init and getattr(recipe, f.name) is not None]
    _tell(
        [
            ("source", entry.published["source"]),
            *[("not reproduced", text) for text in wrong],
            ("rule", f"printed figures are compared with the count by {entry.convention}"),
            ("recipe", ", ".join(f"{name} {getattr(recipe, name)}" for name in told)),
            ("notes", entry.notes),
        ]
    )


def _print_figures(entry: ZooEntry) -> list[str]:
    """Print what is printed of a network; return what of it is not reproduced, and why."""
    from bitfront.evaluators.published import compare

    rows: list[tuple[object, ...]] = []
    for title, value in (
        ("top-1 %", entry.published.get("top1")),
        ("top-5 %", entry.published.get("top5")),
    ):
        if value is not None:
            rows.append((title, value, "", ""))
    wrong = []
    for row in compare(entry):
        unit = f", {row.unit}" if row.unit else ""
        rows.append((f"{FIGURES[row.figure]}{unit}", *_cells(entry, row)))
        if not row.reproduced:
            wrong.append(_reason(row))
    write_table("", ("", "printed", "here", "off %"), rows)
    return wrong


def _reason(row: Comparison) -> str:
    return f"{FIGURES[row.figure]}: {row.mismatch or 'no reason is known.'}"


def _tell(texts: list[tuple[str, str]]) -> None:
    """Print texts beside their titles, each in a column of its own."""
    from rich.table import Table

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column()
    for title, text in texts:
        if text:
            grid.add_row(escape(title), escape(text))
    if grid.row_count:
        out.print(grid)
