"""``bitfront latency``: how long one inference takes on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bitfront.cli.app import DEFAULT_STORE, Json, StoreUrl, app
from bitfront.cli.output import out, write_json, write_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from bitfront.spaces.architecture import Architecture

DEVICES = ("cpu",)


@app.command("latency")
def latency(
    target: Annotated[
        str, typer.Argument(help="A network of the zoo, an architecture file, or STUDY/N.")
    ],
    device: Annotated[str, typer.Option(help="cpu.")] = "cpu",
    batch: Annotated[int, typer.Option(help="Images of one call.", min=1, max=1024)] = 1,
    threads: Annotated[int, typer.Option(help="Threads of every contender.", min=1, max=1024)] = 1,
    repeats: Annotated[int, typer.Option(help="Timed calls of each.", min=2, max=1_000_000)] = 30,
    input_size: Annotated[
        int | None,
        typer.Option("--input", help="Rows and columns of the images; the target's own without."),
    ] = None,
    twin: Annotated[
        bool, typer.Option("--twin", help="Also time the 32-bit twin in ONNX Runtime, in turns.")
    ] = False,
    layers: Annotated[
        bool, typer.Option("--layers", help="List where the time goes, step by step.")
    ] = False,
    table: Annotated[
        str | None,
        typer.Option(help="Add up layers of this table, by name or file, instead of timing."),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(help="Time the layers too, and keep them in this layer table (a file)."),
    ] = None,
    store: StoreUrl = DEFAULT_STORE,
    json: Json = False,
) -> None:
    """Time one inference, end to end: packed bits on the compiled CPU kernels."""
    from dataclasses import replace

    from bitfront.cli.target import resolve
    from bitfront.evaluators.latency import layers_of
    from bitfront.spaces.errors import InvalidValue

    if device not in DEVICES:
        raise InvalidValue(f"device must be one of {', '.join(DEVICES)}, but is {device!r}.")
    resolved = resolve(target, store)
    architecture = resolved.architecture
    if input_size is not None:
        channels = architecture.input[0]
        architecture = replace(architecture, input=(channels, input_size, input_size))
    # what cannot be built is refused before anything heavy is loaded
    graph = architecture.lower()
    if table is not None:
        if twin or save is not None:
            raise InvalidValue("--table adds up what was timed elsewhere: no --twin, no --save.")
        _sum(resolved.name, table, layers_of(graph), layers=layers, json=json)
        return
    data = measure(
        architecture, batch=batch, threads=threads, repeats=repeats, twin=twin, layers=layers
    )
    data = {"name": resolved.name, "device": device, **data}
    if save is not None:
        kept = keep_layers(architecture, save, batch=batch, threads=threads, repeats=repeats)
        data["table"] = {"file": str(save), "layers": kept}
    if json:
        write_json(data)
    else:
        _print(data)


def measure(
    architecture: Architecture,
    *,
    batch: int = 1,
    threads: int = 1,
    repeats: int = 30,
    twin: bool = False,
    layers: bool = False,
) -> dict[str, Any]:
    """Time an untrained network of an architecture, packed.

    Args:
        architecture: Of the network.
        batch: Images of one call.
        threads: Of every contender.
        repeats: Timed calls of each.
        twin: Whether to time the 32-bit twin in ONNX Runtime too.
        layers: Whether to time each step.

    Returns:
        Plain data: the setting, ``latency``; ``twin``, ``ratio`` and ``layers`` where asked for.

    Raises:
        MissingExtra: If ONNX Runtime is needed and not installed.
    """
    import torch

    from bitfront.evaluators.latency import clock_of, take_turns
    from bitfront.evaluators.packed import PackedNetwork
    from bitfront.kernels import cpu
    from bitfront.kernels.machine import cpu_name, versions
    from bitfront.spaces.network import build

    # 32-bit layers of the packed network, and the twin's, share one setting
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        packed = PackedNetwork(build(architecture).eval(), batch=batch, threads=threads)
        shape = (batch, *architecture.input)
        images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        calls: dict[str, Callable[[], object]] = {"packed": lambda: packed(images)}
        if twin:
            calls["twin"] = _twin_call(architecture, batch, threads)
        times = take_turns(calls, repeats=repeats, threads=threads)
        data: dict[str, Any] = {
            "input": list(architecture.input),
            "batch": batch,
            "threads": threads,
            "clock": clock_of(threads)[0],
            "weights": "untrained",
            "packed": packed.is_packed,
            "variant": cpu.variants()[-1] if packed.is_packed else None,
            "cpu": cpu_name(),
            "versions": versions(("bitfront", "torch", "onnxruntime")),
            "latency": times["packed"]._asdict(),
        }
        if twin:
            data["twin"] = {"runtime": "onnxruntime", **times["twin"]._asdict()}
            data["ratio"] = times["twin"].median_ms / times["packed"].median_ms
        if layers:
            rows = packed.profile(images, max(2, min(repeats, 100)))
            data["layers"] = [row._asdict() for row in rows]
    finally:
        torch.set_num_threads(before)
    return data


def keep_layers(
    architecture: Architecture, path: Path, *, batch: int, threads: int, repeats: int
) -> int:
    """Time the layers of a network that a table's file lacks, and add them to it.

    Returns:
        Layers of the table afterwards.

    Raises:
        InvalidValue: If the file is no table, or one of another setting.
    """
    from bitfront.evaluators.latency import LayerTable, layers_of, read_table
    from bitfront.evaluators.latency import write_table as write_file
    from bitfront.evaluators.latency.measure import setting_here, time_layers
    from bitfront.spaces.errors import InvalidValue

    setting = setting_here(threads=threads, batch=batch)
    table = read_table(path) if path.exists() else LayerTable(setting)
    if table.setting != setting:
        raise InvalidValue(
            f"{path} holds layers of {table.setting.place} ({table.setting.versions}), but these "
            f"are of {setting.place} ({setting.versions}): give another file."
        )
    missing = table.missing(layers_of(architecture.lower()))
    if missing:
        table.add(time_layers(architecture, setting, set(missing), repeats=repeats))
        write_file(table, path)
    return len(table)


def _sum(name: str, named: str, used: tuple[str, ...], *, layers: bool, json: bool) -> None:
    """Print a network's latency by a table."""
    from bitfront.cli.layers import facts, print_sum
    from bitfront.evaluators.latency import find_table
    from bitfront.spaces.value import encode

    table = find_table(named)
    if not json:
        print_sum(name, table, used, each=layers)
        return
    data = {"name": name, "latency": encode(table.latency(used)), "table": facts(table)}
    if layers:
        data["layers"] = [{"layer": x, **table[x].times._asdict()} for x in used]
    write_json(data)


def _twin_call(architecture: Architecture, batch: int, threads: int) -> Callable[[], object]:
    from bitfront.export.errors import MissingExtra
    from bitfront.spaces.network import build

    try:
        from bitfront.export.twin import onnx_call
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"--twin needs the package {error.name}, which is not installed: "
            "pip install 'bitfront[export]'."
        ) from None
    network = build(architecture.twin()).eval()
    return onnx_call(network, batch=batch, threads=threads)


def _print(data: dict[str, Any]) -> None:
    kernels = f"kernels: {data['variant']}" if data["packed"] else "not packed: no compiled kernels"
    rows = [_row(f"packed, {kernels}", data["latency"])]
    if "twin" in data:
        rows.append(_row("32-bit twin, onnxruntime", data["twin"]))
    size = "x".join(map(str, data["input"]))
    title = f"{data['name']}, {size}, batch {data['batch']}, {data['threads']} thread(s), ms"
    write_table(title, ("", "median", "10 %", "90 %", "fastest", "calls"), rows)
    if "ratio" in data:
        out.print(f"The packed network is {data['ratio']:.2f} times as fast as its 32-bit twin.")
    if "layers" in data:
        _print_layers(data["layers"])
    if "table" in data:
        kept = data["table"]
        out.print(f"{kept['file']} holds {kept['layers']} layers.", markup=False)
    used = ", ".join(f"{name} {number}" for name, number in data["versions"].items())
    out.print(
        f"Measured by {data['clock']} on {data['cpu']}; {used}. The weights are untrained: their "
        "values hardly change the time.",
        style="dim",
        markup=False,
    )


def _row(name: str, times: dict[str, Any]) -> list[str]:
    keys = ("median_ms", "p10_ms", "p90_ms", "min_ms")
    return [name, *[f"{times[key]:.3f}" for key in keys], str(times["repeats"])]


def _print_layers(layers: list[dict[str, Any]]) -> None:
    total = sum(row["ms"] for row in layers) or 1.0
    table = [
        (row["name"], row["kind"], f"{row['ms']:.3f}", f"{100 * row['ms'] / total:.1f}")
        for row in layers
    ]
    write_table("Steps of the packed network", ("step", "kind", "ms", "%"), table, left=2)
    kinds: dict[str, list[float]] = {}
    for row in layers:
        kinds.setdefault(row["kind"], []).append(row["ms"])
    ordered = sorted(kinds.items(), key=lambda item: -sum(item[1]))
    sums = [
        (kind, len(ms), f"{sum(ms):.3f}", f"{100 * sum(ms) / total:.1f}") for kind, ms in ordered
    ]
    write_table("Kinds of steps", ("kind", "steps", "ms", "%"), sums)
