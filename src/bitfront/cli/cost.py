"""``bitfront cost`` and ``bitfront zoo``: what networks cost before anybody trains them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from bitfront.cli.app import DEFAULT_STORE, Json, StoreUrl, app
from bitfront.cli.output import millijoules, out, scaled, write_json, write_table


@app.command("cost")
def cost(
    target: Annotated[
        str, typer.Argument(help="A network of the zoo, an architecture file, or STUDY/N.")
    ],
    convention: Annotated[
        str, typer.Option(help="How operations are counted: hpi, reactnet, larq or full.")
    ] = "hpi",
    hardware: Annotated[
        str | None, typer.Option(help="Profile to estimate energy on: boolnet65 or horowitz45.")
    ] = None,
    scope: Annotated[
        str,
        typer.Option(help="Energy of the whole 'network', or of the 'body' without stem and head."),
    ] = "network",
    quirks: Annotated[
        bool,
        typer.Option(
            "--quirks/--no-quirks",
            help="Count the body as the profile's published figures do, or by the graph.",
        ),
    ] = True,
    twin: Annotated[
        bool, typer.Option("--twin", help="Cost the 32-bit twin: same graph, identity quantizers.")
    ] = False,
    layers: Annotated[bool, typer.Option("--layers", help="List every step of the plan.")] = False,
    store: StoreUrl = DEFAULT_STORE,
    json: Json = False,
) -> None:
    """Count operations, parameters, size and memory; estimate energy on a hardware profile."""
    from bitfront.cli.target import resolve
    from bitfront.evaluators.cost import SCOPES, count, estimate_energy, peak_memory_bytes
    from bitfront.evaluators.hardware.profile import load_profile
    from bitfront.spaces.errors import InvalidValue
    from bitfront.spaces.plan import plan

    if scope not in SCOPES:
        # checked here too, because without hardware nobody else reads it
        raise InvalidValue(f"scope must be one of {', '.join(SCOPES)}, but is {scope!r}.")
    profile = None if hardware is None else load_profile(hardware)
    resolved = resolve(target, store)
    architecture = resolved.architecture.twin() if twin else resolved.architecture
    graph = architecture.lower()
    counts = count(graph, convention)
    planned = plan(graph)
    data: dict[str, Any] = {
        "name": resolved.name,
        **counts.json(),
        "memory_peak_bytes": peak_memory_bytes(planned),
    }
    energy = None
    if profile is not None:
        energy = estimate_energy(planned, profile, scope=scope, quirks=quirks)
        data["energy"] = energy.json()
        if energy.quirks:
            plain = estimate_energy(planned, profile, scope=scope, quirks=False)
            data["energy"]["without_quirks"] = plain.json()
    if layers:
        data["layers"] = _layers(planned, energy)
    if json:
        write_json(data)
        return
    _print_cost(data)
    if layers:
        _print_layers(data["layers"], with_energy=energy is not None)


def _print_cost(data: dict[str, Any]) -> None:
    extended = " (extended beyond 1 bit)" if data["extended"] else ""
    rows = [
        ("parameters", f"{data['params']:,}"),
        ("  of them below 16 bits", f"{data['params_binary']:,}"),
        ("FLOPs", scaled(data["flops"])),
        ("BOPs", scaled(data["bops"])),
        ("OPs", scaled(data["ops"]) + ("" if data["ops"] is None else extended)),
        ("size", f"{data['size_mib']:.3g} MiB"),
        ("peak feature memory", f"{data['memory_peak_bytes']:,} bytes"),
    ]
    write_table(f"{data['name']}, counted by {data['convention']}", ("", ""), rows)
    energy = data.get("energy")
    if energy is None:
        return
    columns = ["", "energy"]
    plain = energy.get("without_quirks")
    if plain:
        columns = ["", "as published", "by the graph"]
    body = []
    for label, key in (
        ("compute", "compute_mj"),
        ("SRAM", "sram_mj"),
        ("DRAM", "dram_mj"),
        ("static", "static_mj"),
        ("total", "total_mj"),
        ("  low", "low_mj"),
        ("  high", "high_mj"),
    ):
        cells = [label, millijoules(energy[key])]
        if plain:
            cells.append(millijoules(plain[key]))
        body.append(cells)
    write_table(f"Energy of one inference on {energy['profile']}, {energy['scope']}", columns, body)
    if energy["quirks"]:
        out.print(f"Published quirks applied: {', '.join(energy['quirks'])}.")
    out.print(
        "An estimate: absolute values are good to a factor of 2 to 3, ratios on one profile to "
        "about 15 %.",
        style="dim",
    )


def _layers(planned: Any, energy: Any) -> list[dict[str, Any]]:
    from bitfront.evaluators.cost import PJ_PER_MJ

    nodes = planned.graph.nodes
    priced = {}
    if energy is not None:
        priced = {row.nodes: row for row in energy.groups()}
    rows = []
    for group in planned.groups:
        anchor = nodes[group.anchor]
        facts = anchor.facts
        row: dict[str, Any] = {
            "name": anchor.name,
            "op": anchor.op.kind,
            "fused": [nodes[i].op.kind for i in group.nodes],
            "shape": list(nodes[group.output].type.torch_shape),
            "w_bits": facts.w_bits if facts.macs else None,
            "a_bits": facts.a_bits if facts.macs else None,
            "macs": sum(nodes[i].facts.macs for i in group.nodes),
            "stored_bits": nodes[group.output].type.stored_bits,
        }
        if group.nodes in priced:
            bands = priced[group.nodes]
            row["compute_mj"] = bands.compute.value / PJ_PER_MJ
            row["sram_mj"] = bands.sram.value / PJ_PER_MJ
            row["dram_mj"] = bands.dram.value / PJ_PER_MJ
        rows.append(row)
    return rows


def _print_layers(rows: list[dict[str, Any]], *, with_energy: bool) -> None:
    columns = ["step", "fused", "out", "w/a", "MACs"]
    if with_energy:
        columns += ["compute", "SRAM", "DRAM"]
    table = []
    for row in rows:
        bits = "-" if row["w_bits"] is None else f"{row['w_bits']}/{row['a_bits']}"
        shape = "x".join(map(str, row["shape"]))
        cells = [row["name"], " ".join(row["fused"]), shape, bits, scaled(row["macs"])]
        if with_energy:
            cells += [
                millijoules(row[k]) if k in row else "-"
                for k in ("compute_mj", "sram_mj", "dram_mj")
            ]
        table.append(cells)
    write_table("Steps of the plan", columns, table, left=2)


@app.command("zoo")
def list_zoo(json: Json = False) -> None:
    """List the published networks: their figures as printed, and as counted here."""
    from bitfront.evaluators.cost import count
    from bitfront.spaces.zoo import zoo

    rows: list[dict[str, Any]] = []
    for name in sorted(zoo):
        entry = zoo[name]
        counts = count(entry.architecture().lower(), "hpi")
        rows.append(
            {
                "name": name,
                "family": entry.family,
                "published": dict(entry.published),
                "counted": counts.json(),
                "notes": entry.notes,
            }
        )
    if json:
        write_json({"networks": rows})
        return
    table = []
    for row in rows:
        published, counted = row["published"], row["counted"]
        printed = published.get("ops_1e8")
        size = published.get("size_mb")
        table.append(
            (
                row["name"],
                row["family"],
                published.get("top1", "-"),
                "-" if printed is None else f"{printed:.2f}",
                f"{counted['ops'] / 1e8:.3f}",
                "-" if size is None else f"{size:g} {published.get('size_unit', 'MB')}",
                f"{counted['size_mib']:.2f} MiB",
                f"{counted['params']:,}",
            )
        )
    write_table(
        "Published networks, ImageNet; OPs in 1e8 by the hpi convention",
        (
            "name",
            "family",
            "top-1 %",
            "OPs printed",
            "OPs counted",
            "size printed",
            "size counted",
            "parameters",
        ),
        table,
        left=2,
    )
