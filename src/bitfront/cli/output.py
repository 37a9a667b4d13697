"""Writing: tables for people, one JSON object for programs, errors as one sentence."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

# piped output is for grep and files, so it does not fold at 80 columns
out = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
err = Console(stderr=True, highlight=False)


def complain(error: Exception) -> None:
    """Print an error as one sentence on stderr."""
    text = " ".join(str(error).split())
    err.print(f"[bold red]error:[/] {escape(text)}", soft_wrap=True)


def write_json(data: Any) -> None:
    """Print one JSON object on stdout, unrounded, and nothing else."""
    sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    left: int = 1,
    tight: bool = False,
) -> None:
    """Print a table; the first ``left`` columns are texts, the others right-aligned numbers.

    ``tight`` leaves less room between columns, for many of them.
    """
    table = Table(
        title=escape(title) or None,
        title_justify="left",
        title_style="bold",
        header_style="bold",
        box=SIMPLE_HEAD,
        show_header=any(columns),
        pad_edge=False,
        padding=(0, 1, 0, 0) if tight else (0, 1),
    )
    for index, column in enumerate(columns):
        table.add_column(
            escape(column),
            justify="left" if index < left else "right",
            no_wrap=index == 0,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*[escape("" if cell is None else str(cell)) for cell in row])
    out.print(table)


def scaled(value: float | None, digits: int = 4) -> str:
    """A number for people: ``6.94 M``, ``208.1 M``, ``0.0021``."""
    if value is None:
        return "-"
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:.{digits}g}{unit}"
    return f"{value:.{digits}g}"


def millijoules(value: float) -> str:
    """An energy for people, with the unit that fits."""
    for size, unit in ((1.0, "mJ"), (1e-3, "µJ"), (1e-6, "nJ")):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-9:.3g} pJ"


def milliseconds(value: float) -> str:
    """A time for people, with the unit that fits."""
    for size, unit in ((1e3, "s"), (1.0, "ms")):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-3:.3g} µs"


def percent(value: float | None) -> str:
    """A fraction as percent."""
    return "-" if value is None else f"{100 * value:.2f} %"
