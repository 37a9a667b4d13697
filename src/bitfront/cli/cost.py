"""``bitfront cost``: what a network costs before anybody trains it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from bitfront.cli.app import DEFAULT_STORE, Json, StoreUrl, app
from bitfront.cli.layers import by_hardware, print_by_hardware
from bitfront.cli.output import millijoules, out, scaled, write_json, write_table

if TYPE_CHECKING:
    from bitfront.evaluators.cost import Energy
    from bitfront.spaces.plan import Plan


@app.command("cost")
def cost(
    target: Annotated[
        str, typer.Argument(help="A network of the zoo, an architecture file, or STUDY/N.")
    ],
    convention: Annotated[
        str,
        typer.Option(help="How operations are counted: hpi, reactnet, larq, full or fvbitcore."),
    ] = "hpi",
    hardware: Annotated[
        str | None,
        typer.Option(
            help="Profile to estimate energy on: boolnet65, edge7, eyeriss65, h200, horowitz45 "
            "or rpi4."
        ),
    ] = None,
    scope: Annotated[
        str,
        typer.Option(help="Energy of the whole 'network', or of the 'body' without stem and head."),
    ] = "network",
    quirks: Annotated[
        bool | None,
        typer.Option(
            "--quirks/--no-quirks",
            help="Count as the profile's published figures do, or by the graph. Without either: "
            "as published in the body, by the graph in the network.",
            show_default=False,
        ),
    ] = None,
    twin: Annotated[
        bool, typer.Option("--twin", help="Cost the 32-bit twin: same graph, identity quantizers.")
    ] = False,
    layers: Annotated[
        bool, typer.Option("--layers", help="List every step of the plan, term by term.")
    ] = False,
    store: StoreUrl = DEFAULT_STORE,
    json: Json = False,
) -> None:
    """Count operations, parameters, size and memory; estimate energy on a hardware profile."""
    from bitfront.cli.target import resolve
    from bitfront.evaluators.cost import SCOPES, count, estimate_energy, peak_memory_bytes
    from bitfront.evaluators.hardware.profile import load_profile
    from bitfront.spaces.errors import InvalidValue
    from bitfront.spaces.plan import plan
    from bitfront.spaces.zoo import zoo

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
        entry = zoo.get(resolved.name)
        published = entry is not None and entry.architecture() == architecture
        energy = estimate_energy(
            planned,
            profile,
            scope=scope,
            quirks=quirks,
            storage_bits=entry.published_storage_bits if entry and published else None,
        )
        data["energy"] = {**energy.json(), "constants": profile.kinds()}
        if energy.quirks:
            plain = estimate_energy(planned, profile, scope=scope, quirks=False)
            data["energy"]["without_quirks"] = plain.json()
        if (recorded := by_hardware(profile.name, graph)) is not None:
            data["latency"] = recorded
    if layers:
        data["layers"] = _layers(planned, energy)
    if json:
        write_json(data)
        return
    _print_counts(data)
    if energy is not None:
        _print_energy(data)
    if "latency" in data:
        print_by_hardware(data["latency"])
    if layers:
        _print_layers(data["layers"], with_energy=energy is not None)


def _print_counts(data: dict[str, Any]) -> None:
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


def _print_energy(data: dict[str, Any]) -> None:
    energy = data["energy"]
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
    peak, buffer = data["memory_peak_bytes"], energy["feature_buffer_bytes"]
    fits = "fits" if peak <= buffer else "does not fit"
    out.print(
        f"Features: the peak of {peak:,} bytes {fits} the buffer of {buffer:,}; "
        f"{energy['spilled_bytes']:,.0f} bytes spill to or from DRAM. "
        f"Weights: {energy['loaded_bytes']:,.0f} bytes are loaded."
    )
    if energy["time_ms"] is not None:
        out.print(f"Static power is charged for {energy['time_ms']:.3g} ms, a lower bound.")
    if energy["quirks"]:
        out.print(f"Published quirks applied: {', '.join(energy['quirks'])}.")
    kinds = ", ".join(f"{n} {kind}" for kind, n in energy["constants"].items())
    out.print(
        f"An estimate, not a simulation: no bank conflicts, no interconnect, no voltage scaling. "
        f"Constants: {kinds}. Absolute values are good to a factor of 2 to 3, ratios on one "
        "profile to about 15 %.",
        style="dim",
    )


def _layers(planned: Plan, energy: Energy | None) -> list[dict[str, Any]]:
    from bitfront.evaluators.cost import PJ_PER_MJ

    nodes = planned.graph.nodes
    priced = {} if energy is None else {row.nodes: row for row in energy.groups()}
    rows = []
    for group, live_bits in zip(planned.groups, planned.live_bits, strict=True):
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
            "memory_bytes": -(-(live_bits + group.scratch_bits) // 8),
        }
        if group.nodes in priced:
            terms = priced[group.nodes]
            every = terms.compute.plus(terms.sram).plus(terms.dram)
            row["compute_mj"] = terms.compute.value / PJ_PER_MJ
            row["sram_mj"] = terms.sram.value / PJ_PER_MJ
            row["dram_mj"] = terms.dram.value / PJ_PER_MJ
            row["low_mj"] = every.low / PJ_PER_MJ
            row["high_mj"] = every.high / PJ_PER_MJ
            row["spilled_bytes"] = terms.spilled_bits / 8
        rows.append(row)
    return rows


def _print_layers(rows: list[dict[str, Any]], *, with_energy: bool) -> None:
    columns = ["step", "fused", "out", "w/a", "MACs", "memory"]
    if with_energy:
        columns += ["compute", "SRAM", "DRAM", "spilled"]
    table = []
    for row in rows:
        bits = "-" if row["w_bits"] is None else f"{row['w_bits']}/{row['a_bits']}"
        shape = "x".join(map(str, row["shape"]))
        cells = [row["name"], " ".join(row["fused"]), shape, bits, scaled(row["macs"])]
        cells.append(f"{row['memory_bytes']:,}")
        if with_energy and "compute_mj" in row:
            cells += [millijoules(row[k]) for k in ("compute_mj", "sram_mj", "dram_mj")]
            cells.append(f"{row['spilled_bytes']:,.0f}" if row["spilled_bytes"] else "-")
        elif with_energy:
            cells += ["-"] * 4
        table.append(cells)
    write_table("Steps of the plan; memory and spilled in bytes", columns, table, left=2)
