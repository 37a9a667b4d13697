"""``bitfront layers``: the tables of layer times that a database holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bitfront.cli.app import DEFAULT_STORE, Json, StoreUrl, app
from bitfront.cli.output import milliseconds, out, write_json, write_table

if TYPE_CHECKING:
    from bitfront.evaluators.latency import LayerTable

layers_app = typer.Typer(
    help="Tables of layer times: list, save to a file, load from a file.", no_args_is_help=True
)
app.add_typer(layers_app, name="layers")


@layers_app.command("list")
def list_tables(store: StoreUrl = DEFAULT_STORE, json: Json = False) -> None:
    """List the tables of a database, with where, how and when they were measured."""
    tables = _tables(store)
    if json:
        write_json({"tables": [{"table": n, **facts(t)} for n, t in enumerate(tables, 1)]})
        return
    write_table(
        "Layer tables",
        ("table", "measured on", "with", "layers", "disturbed", "days"),
        [
            (
                n,
                table.setting.place,
                table.setting.versions,
                len(table),
                table.redone,
                " to ".join(dict.fromkeys(table.dates or ())),
            )
            for n, table in enumerate(tables, 1)
        ],
        left=3,
    )


@layers_app.command("save")
def save(
    file: Annotated[Path, typer.Argument(help="To write: NAME.latency.json.")],
    table: Annotated[
        int | None, typer.Option(help="Number from the list; the only or the latest without.")
    ] = None,
    store: StoreUrl = DEFAULT_STORE,
) -> None:
    """Save a table to a file, which can be used on other machines."""
    from bitfront.evaluators.latency import write_table as write_file
    from bitfront.spaces.errors import InvalidValue

    tables = _tables(store)
    number = len(tables) if table is None else table
    if not 1 <= number <= len(tables):
        raise InvalidValue(
            f"table must be 1 to {len(tables)}, but is {number}: the store {store} holds "
            f"{len(tables)} layer tables."
            if tables
            else f"The store {store} holds no layer table yet: a search with --objectives "
            "accuracy,latency makes one."
        )
    chosen = tables[number - 1]
    write_file(chosen, file)
    out.print(f"Wrote {len(chosen)} layers to {file}.", markup=False)


@layers_app.command("load")
def load(
    file: Annotated[str, typer.Argument(help="A layer table: a file, or one that ships.")],
    store: StoreUrl = DEFAULT_STORE,
) -> None:
    """Load a table into a database; layers that it has there get the newer time."""
    from bitfront.evaluators.latency import find_table
    from bitfront.search import open_store

    table = find_table(file)
    with open_store(store, create=True) as opened:
        known = opened.layer_table(table.setting)
        newer = [
            time
            for time in table
            if time.layer not in known or known[time.layer].measured_at < time.measured_at
        ]
        if newer:
            opened.add_layer_times(table.setting, newer)
    out.print(f"Loaded {len(newer)} of {len(table)} layers of {table.setting.place}.", markup=False)


def facts(table: LayerTable) -> dict[str, Any]:
    """Where, how and when a table was measured, as plain data."""
    from bitfront.spaces.value import encode

    first, last = table.dates or (None, None)
    return {
        **encode(table.setting),
        "layers": len(table),
        "redone": table.redone,
        "first_day": first,
        "last_day": last,
    }


def print_sum(name: str, table: LayerTable, layers: tuple[str, ...], *, each: bool) -> None:
    """Print the latency of a network by a table."""
    from bitfront.evaluators.latency import shown

    total = table.latency(layers)
    days = " to ".join(dict.fromkeys(table.dates or ()))
    low, high = (milliseconds(v or 0.0) for v in (total.low, total.high))
    out.print(
        f"{name}: {milliseconds(total.value)} ({low} to {high}), the sum of {len(layers)} layers.",
        markup=False,
    )
    if each:
        rows = [(shown(layer), milliseconds(table[layer].times.median_ms)) for layer in layers]
        write_table("Layers", ("layer", "median"), rows)
    out.print(
        f"By a layer table, not timed here: {table.setting.place}; {table.setting.versions}; "
        f"{days}.",
        style="dim",
        markup=False,
    )


def _tables(store: str) -> tuple[LayerTable, ...]:
    from bitfront.search import open_store

    with open_store(store, create=False, read_only=True) as opened:
        return opened.layer_tables()
