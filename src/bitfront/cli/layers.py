"""``bitfront layers``: the tables of layer times that a database holds."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bitfront.cli.app import DEFAULT_STORE, Json, StoreUrl, app
from bitfront.cli.latency import Batch, Device, Maps, Threads, check_device
from bitfront.cli.output import err, milliseconds, out, write_json, write_table

if TYPE_CHECKING:
    from bitfront.evaluators.latency import LayerTable
    from bitfront.spaces import Task
    from bitfront.spaces.architecture import Architecture
    from bitfront.spaces.graph import Graph

layers_app = typer.Typer(
    help="Tables of layer times: list, save to a file, load from a file, record in a file.",
    no_args_is_help=True,
)
app.add_typer(layers_app, name="layers")

COVERED_OF = 100
"""Other candidates of a space, to say how many of them a recorded table can time."""


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


@layers_app.command("record")
def record_table(
    file: Annotated[Path, typer.Argument(help="To write, or to go on with: NAME.latency.json.")],
    device: Device = "cpu",
    batch: Batch = 1,
    threads: Threads = 1,
    maps: Maps = "float32",
    repeats: Annotated[int, typer.Option(help="Timed runs of each.", min=2, max=100_000)] = 40,
    networks: Annotated[
        str, typer.Option(help="Targets, with commas: meliusnet22,quicknet,STUDY/N.")
    ] = "",
    space: Annotated[str | None, typer.Option(help="Also random candidates of this space.")] = None,
    samples: Annotated[int, typer.Option(help="How many.", min=1, max=1_000_000)] = 50,
    seed: Annotated[int, typer.Option(help="Of the random candidates.")] = 0,
    image: Annotated[
        str, typer.Option("--input", help="Channels, rows and columns of the candidates' images.")
    ] = "3x32x32",
    classes: Annotated[int, typer.Option(help="Of the candidates.", min=2)] = 10,
    store: StoreUrl = DEFAULT_STORE,
    json: Json = False,
) -> None:
    """Time the layers of many networks on this machine that a file lacks, and add them to it."""
    from bitfront.cli.target import resolve
    from bitfront.spaces import InvalidValue, Task, spaces

    check_device(device, threads, maps)
    names = [name.strip() for name in networks.split(",") if name.strip()]
    if not names and space is None:
        raise InvalidValue("There must be --networks or a --space to record layers of.")
    targets = [resolve(name, store).architecture for name in names]
    task = Task(input=_shape(image), classes=classes)
    if space is not None:
        # raises where there is no such space
        spaces[space]
    from bitfront.evaluators.latency.measure import setting_here
    from bitfront.evaluators.latency.recording import record

    drawn = [] if space is None else _drawn(space, task, f"{seed}:record", samples)
    everything = [*targets, *drawn]
    if not everything:
        raise InvalidValue(f"No drawn candidate of {space} can be built for images of {image}.")

    def tell(network: int, timed: int) -> None:
        err.print(f"{network} of {len(everything)}: {timed} new layers")

    setting = setting_here(device, threads=threads, batch=batch, maps=maps)
    try:
        table = record(everything, file, setting, repeats=repeats, tell=tell)
    except KeyboardInterrupt:
        err.print(
            f"Interrupted: what was timed is kept in {file}; the same command goes on.",
            markup=False,
        )
        raise typer.Exit(130) from None
    data = {"file": str(file), "networks": len(everything), **facts(table)}
    if space is not None:
        others = _drawn(space, task, f"{seed}:others", COVERED_OF)
        data["covered"] = sum(_covers(table, other) for other in others)
        data["covered_of"] = len(others)
    if json:
        write_json(data)
        return
    out.print(
        f"{file} holds {len(table)} layers of {setting.place}, measured with {setting.versions}.",
        markup=False,
    )
    if space is not None:
        out.print(
            f"It has every layer of {data['covered']} of {data['covered_of']} other candidates of "
            f"{space}; the rest would be infeasible in a search by it."
        )


def _shape(text: str) -> tuple[int, int, int]:
    from bitfront.spaces.errors import InvalidValue

    parts = text.split("x")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts):
        raise InvalidValue(f"input must be like 3x32x32, but is {text!r}.")
    channels, rows, columns = map(int, parts)
    return channels, rows, columns


def _drawn(space: str, task: Task, seed: str, count: int) -> list[Architecture]:
    """Of so many random candidates those that can be built."""
    from bitfront.spaces import InfeasibleArchitecture, RandomChoose, spaces

    found = []
    for number in range(count):
        with suppress(InfeasibleArchitecture):
            architecture = spaces[space](RandomChoose(f"{seed}:{number}"), task).architecture
            architecture.lower()
            found.append(architecture)
    return found


def _covers(table: LayerTable, architecture: Architecture) -> bool:
    from bitfront.evaluators.latency import layers_of

    return not table.missing(layers_of(architecture.lower()))


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


def by_hardware(hardware: str, graph: Graph) -> dict[str, Any] | None:
    """A network's latency by the table that ships for a hardware profile.

    Returns:
        Plain data: ``latency``, None if the table lacks layers; how many are ``missing``;
        ``table``. None if no table ships.
    """
    from bitfront.evaluators.latency import find_table, layers_of, table_names
    from bitfront.spaces.value import encode

    if hardware not in table_names():
        return None
    table, layers = find_table(hardware), layers_of(graph)
    missing = len(table.missing(layers))
    return {
        "latency": None if missing else encode(table.latency(layers)),
        "missing": missing,
        "table": {"place": table.setting.place, **facts(table)},
    }


def print_by_hardware(data: dict[str, Any]) -> None:
    """Print what `by_hardware` gave, in a line."""
    table, latency = data["table"], data["latency"]
    days = " to ".join(dict.fromkeys((table["first_day"], table["last_day"])))
    source = f"the recorded table of {table['place']} ({table['versions']}; {days})"
    if latency is None:
        text = f"Latency: {source} has no time for {data['missing']} of the layers."
    else:
        text = f"Latency: {milliseconds(latency['value'])}, by {source}."
    out.print(text, markup=False)


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
