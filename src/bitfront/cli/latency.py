"""``bitfront latency``: how long one inference takes on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bitfront.cli.app import DEFAULT_STORE, Json, StoreUrl, app
from bitfront.cli.output import err, out, write_json, write_table

if TYPE_CHECKING:
    from bitfront.evaluators.latency.twin import Contender
    from bitfront.spaces.architecture import Architecture

Device = Annotated[str, typer.Option(help="cpu or cuda.")]
Batch = Annotated[int, typer.Option(help="Images of one call.", min=1, max=1024)]
Maps = Annotated[
    str, typer.Option(help="Of floats between the layers: float32, or bfloat16 with cuda.")
]
Threads = Annotated[int, typer.Option(help="Of the CPU; 1 with cuda.", min=1, max=1024)]


@app.command("latency")
def latency(
    target: Annotated[
        str, typer.Argument(help="A network of the zoo, an architecture file, or STUDY/N.")
    ],
    device: Device = "cpu",
    batch: Batch = 1,
    threads: Threads = 1,
    maps: Maps = "float32",
    repeats: Annotated[int, typer.Option(help="Timed calls of each.", min=2, max=1_000_000)] = 30,
    input_size: Annotated[
        int | None,
        typer.Option("--input", help="Rows and columns of the images; the target's own without."),
    ] = None,
    twin: Annotated[
        bool,
        typer.Option(
            "--twin",
            help="Also time the 32-bit twin, in turns: in ONNX Runtime; with cuda in bfloat16, the "
            "faster of torch and torch.compile.",
        ),
    ] = False,
    layers: Annotated[
        bool, typer.Option("--layers", help="List where the time goes, step by step.")
    ] = False,
    table: Annotated[
        str | None,
        typer.Option(help="Add up layers of this table, by name or file, instead of timing."),
    ] = None,
    hardware: Annotated[
        str | None,
        typer.Option(help="Add up layers of the table that is recorded for this hardware profile."),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(help="Time the layers too, and keep them in this layer table (a file)."),
    ] = None,
    store: StoreUrl = DEFAULT_STORE,
    json: Json = False,
) -> None:
    """Time one inference, end to end: packed bits on the kernels of the CPU or of a GPU."""
    from dataclasses import replace

    from bitfront.cli.target import resolve
    from bitfront.evaluators.hardware.profile import load_profile
    from bitfront.evaluators.latency import layers_of
    from bitfront.spaces.errors import InvalidValue

    check_device(device, threads, maps)
    if hardware is not None:
        if table is not None:
            raise InvalidValue("--hardware names a table that ships, --table any: give one.")
        # raises where there is no such profile
        load_profile(hardware)
    resolved = resolve(target, store)
    architecture = resolved.architecture
    if input_size is not None:
        channels = architecture.input[0]
        architecture = replace(architecture, input=(channels, input_size, input_size))
    # what cannot be built is refused before anything heavy is loaded
    graph = architecture.lower()
    recorded = table if hardware is None else hardware
    if recorded is not None:
        if twin or save is not None:
            raise InvalidValue(
                "--table and --hardware add up what was timed elsewhere: no --twin, no --save."
            )
        _sum(resolved.name, recorded, layers_of(graph), layers=layers, json=json)
        return
    from bitfront.evaluators.latency.inference import time_inference
    from bitfront.evaluators.latency.measure import setting_here
    from bitfront.evaluators.latency.recording import begun_table, record

    # refused before anything is timed: a device that is not there, a file that takes no such layers
    setting = None
    if device == "cuda" or save is not None:
        setting = setting_here(device, threads=threads, batch=batch, maps=maps)
    if setting is not None and save is not None:
        begun_table(save, setting)
    data = time_inference(
        architecture,
        device=device,
        batch=batch,
        threads=threads,
        repeats=repeats,
        maps=maps,
        twins=twins_of(architecture, device, batch=batch, threads=threads) if twin else (),
        layers=layers,
    )
    data = {"name": resolved.name, "device": device, **data}
    if setting is not None and save is not None:
        kept = record([architecture], save, setting, repeats=repeats)
        data["table"] = {"file": str(save), "layers": len(kept)}
    if json:
        write_json(data)
    else:
        _print(data)


def check_device(device: str, threads: int, maps: str) -> None:
    """Refuse a device that is none, and threads or maps that it does not have.

    Raises:
        InvalidValue: If so.
    """
    from bitfront.evaluators.latency.table import DEVICES, MAPS
    from bitfront.spaces.errors import InvalidValue

    if device not in DEVICES:
        raise InvalidValue(f"device must be one of {', '.join(DEVICES)}, but is {device!r}.")
    if device == "cuda" and threads != 1:
        raise InvalidValue(
            f"threads are those of a CPU: with --device cuda they must be 1, but are {threads}."
        )
    accepted = MAPS if device == "cuda" else MAPS[:1]
    if maps not in accepted:
        raise InvalidValue(
            f"maps must be {' or '.join(accepted)} with --device {device}, but are {maps!r}."
        )


def twins_of(
    architecture: Architecture, device: str, *, batch: int, threads: int
) -> list[Contender]:
    """The ways to run the 32-bit twin of an architecture on a device of this machine.

    Raises:
        MissingExtra: If ONNX Runtime is needed and not installed.
    """
    from bitfront.evaluators.latency.twin import Contender, cuda_twins

    if device == "cuda":
        err.print("Compiling the 32-bit twin ...")
        return cuda_twins(architecture, batch=batch)
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
    return [Contender("onnxruntime", onnx_call(network, batch=batch, threads=threads))]


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


def _print(data: dict[str, Any]) -> None:
    kernels = f"kernels: {data['variant']}" if data["packed"] else "not packed: no compiled kernels"
    # kernels of a GPU take microseconds
    digits = 3 if data["device"] == "cpu" else 4
    rows = [_row(f"packed, {kernels}", data["latency"], digits)]
    rows += [
        _row(f"32-bit twin, {twin['runtime']}", twin, digits)
        for twin in data.get("twins", [data["twin"]] if "twin" in data else [])
        if "absent" not in twin
    ]
    size = "x".join(map(str, data["input"]))
    threads = f", {data['threads']} thread(s)" if data["device"] == "cpu" else ""
    title = f"{data['name']}, {size}, batch {data['batch']}{threads}, ms"
    write_table(title, ("", "median", "10 %", "90 %", "fastest", "calls"), rows)
    if "ratio" in data:
        out.print(f"The packed network is {data['ratio']:.2f} times as fast as its 32-bit twin.")
    for twin in data.get("twins", ()):
        if "absent" in twin:
            out.print(f"absent: {twin['runtime']}: {twin['absent']}", markup=False)
    if "wall_ms" in data:
        wall = f"{data['wall_ms']:.{digits}f} ms"
        if "twin" in data:
            wall += f", of the twin {data['twin']['wall_ms']:.{digits}f} ms"
        out.print(f"Median of whole calls as the host sees them: {wall}.")
    if "layers" in data:
        _print_layers(data["layers"], digits)
    if "table" in data:
        kept = data["table"]
        out.print(f"{kept['file']} holds {kept['layers']} layers.", markup=False)
    used = ", ".join(f"{name} {number}" for name, number in data["versions"].items())
    out.print(
        f"Measured by {data['clock']} on {data.get('gpu', data['cpu'])}; {used}. The weights are "
        "untrained: their values hardly change the time.",
        style="dim",
        markup=False,
    )


def _row(name: str, times: dict[str, Any], digits: int) -> list[str]:
    keys = ("median_ms", "p10_ms", "p90_ms", "min_ms")
    return [name, *[f"{times[key]:.{digits}f}" for key in keys], str(times["repeats"])]


def _print_layers(layers: list[dict[str, Any]], digits: int) -> None:
    total = sum(row["ms"] for row in layers) or 1.0
    table = [
        (row["name"], row["kind"], f"{row['ms']:.{digits}f}", f"{100 * row['ms'] / total:.1f}")
        for row in layers
    ]
    write_table("Steps of the packed network", ("step", "kind", "ms", "%"), table, left=2)
    kinds: dict[str, list[float]] = {}
    for row in layers:
        kinds.setdefault(row["kind"], []).append(row["ms"])
    ordered = sorted(kinds.items(), key=lambda item: -sum(item[1]))
    sums = [
        (kind, len(ms), f"{sum(ms):.{digits}f}", f"{100 * sum(ms) / total:.1f}")
        for kind, ms in ordered
    ]
    write_table("Kinds of steps", ("kind", "steps", "ms", "%"), sums)
