"""One network as the detail page shows it: its blocks, and what each of its layers costs."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from bitfront.evaluators.cost import CONVENTIONS, PJ_PER_MJ, Counts, Energy, count, estimate_energy
from bitfront.evaluators.hardware.profile import HardwareProfile
from bitfront.spaces.architecture import Architecture
from bitfront.spaces.blocks import Block
from bitfront.spaces.graph import Graph, Region, TensorType
from bitfront.spaces.plan import Group, Plan, plan
from bitfront.spaces.precision import Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A block of the drawing.

    Attributes:
        region: Name of its region in the graph.
        kind: Of the block.
        symbol: One or two letters.
        bits: Bits of weights and activations, "1/1"; "" where they are 32-bit throughout.
        kernel: Such as "3×3"; "" where the block has none.
        channels: What the block does to the channels: "+24" for growth, "64" for a number.
        storage_bits: Bits of one stored value of its result.
        shape: Of its result.
        details: Everything else, for those who point at it.
    """

    region: str
    kind: str
    symbol: str
    bits: str
    kernel: str
    channels: str
    storage_bits: int
    shape: tuple[int, ...]
    details: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Blocks at one resolution.

    Attributes:
        title: "Stem", "Stage 1", ..., "Head"; behind "Member 1, " in an ensemble.
        size: Channels, rows and columns of the row's result: "64 × 8 × 8".
        tiles: In the order of execution.
    """

    title: str
    size: str
    tiles: tuple[Tile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCost:
    """What one step of the network costs.

    Attributes:
        label: Short, unique: "D 1.4" is the fourth block of stage 1.
        name: Of the node that the step is built around.
        compute_mj, sram_mj, dram_mj: Terms of its energy.
        flops: Floating-point MACs.
        bops: Quantised MACs, each times its weight and input bits.
    """

    label: str
    name: str
    compute_mj: float
    sram_mj: float
    dram_mj: float
    flops: int
    bops: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkView:
    """A network.

    Attributes:
        architecture: What is shown.
        graph: Lowered from it.
        plan: Of the graph.
        rows: The drawing.
        counts: By every convention.
    """

    architecture: Architecture
    graph: Graph
    plan: Plan
    rows: tuple[Row, ...]
    counts: tuple[Counts, ...]


def network_view(architecture: Architecture) -> NetworkView:
    """Look at a network.

    Raises:
        InfeasibleArchitecture: If it cannot be lowered.
    """
    graph = architecture.lower()
    return NetworkView(
        architecture=architecture,
        graph=graph,
        plan=plan(graph),
        rows=_rows(architecture, graph),
        counts=tuple(count(graph, convention) for convention in CONVENTIONS),
    )


def _rows(architecture: Architecture, graph: Graph) -> tuple[Row, ...]:
    if architecture.members == 1:
        return tuple(_member(architecture, graph))
    rows = []
    for m in range(architecture.members):
        rows += _member(architecture, graph, f"members.{m}.", f"Member {m + 1}, ")
    return tuple(rows)


def _member(
    architecture: Architecture, graph: Graph, region: str = "", title: str = ""
) -> list[Row]:
    """The rows of one network of an ensemble; of the network where there is only one."""
    rows = [_row(f"{title}Stem", (_tile(graph, f"{region}stem", architecture.stem),))]
    for s, stage in enumerate(architecture.stages):
        name = f"{region}stages.{s}"
        tiles = [_tile(graph, f"{name}.blocks.{i}", block) for i, block in enumerate(stage.blocks)]
        if stage.transition is not None:
            tiles.append(_tile(graph, f"{name}.transition", stage.transition))
        rows.append(_row(f"{title}Stage {s + 1}", tuple(tiles)))
    rows.append(_row(f"{title}Head", (_tile(graph, f"{region}head", architecture.head),)))
    return rows


def _row(title: str, tiles: tuple[Tile, ...]) -> Row:
    return Row(title=title, size=" × ".join(map(str, tiles[-1].shape)), tiles=tiles)


def _tile(graph: Graph, name: str, block: Block) -> Tile:
    out = _result(graph, graph.region(name))
    precision: Precision | None = getattr(block, "precision", None)
    kernel = getattr(block, "kernel_size", None)
    growth, channels = getattr(block, "growth", None), getattr(block, "channels", None)
    does = "" if channels is None else str(channels)
    if growth is not None:
        does = f"±{growth}" if block.kind == "improvement" else f"+{growth}"
    return Tile(
        region=name,
        kind=block.kind,
        symbol=block.symbol,
        bits=precision.label if precision else "",
        kernel=f"{kernel}×{kernel}" if kernel else "",
        channels=does,
        storage_bits=out.stored_bits,
        shape=out.shape,
        details=_details(name, block, out),
    )


def _result(graph: Graph, region: Region) -> TensorType:
    return graph.nodes[region.end - 1].type


def _details(name: str, block: Block, out: TensorType) -> str:
    lines = [f"{name}: {block.kind}"]
    lines += [f"{f.name} {_plain(getattr(block, f.name))}" for f in fields(block)]
    maps = f" in {out.slices} slices" if out.slices > 1 else ""
    lines.append(f"result {' × '.join(map(str, out.shape))}{maps}, {out.stored_bits}-bit")
    return "\n".join(lines)


def _plain(value: Any) -> str:
    if isinstance(value, Precision):
        return f"{value.label} (weights/activations)"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def layer_costs(
    view: NetworkView, profile: HardwareProfile
) -> tuple[Energy, tuple[LayerCost, ...]]:
    """Energy of a network on a hardware profile, and its layers in the order of execution."""
    energy = estimate_energy(view.plan, profile)
    labels = _labels(view)
    layers = []
    for group, terms, label in zip(view.plan.groups, energy.groups(), labels, strict=True):
        # the counts of a part are those of a graph that holds nothing else
        part = Graph(nodes=tuple(view.graph.nodes[i] for i in group.nodes), regions=())
        counts = count(part, "full")
        layers.append(
            LayerCost(
                label=label,
                name=view.graph.nodes[group.anchor].name,
                compute_mj=terms.compute.value / PJ_PER_MJ,
                sram_mj=terms.sram.value / PJ_PER_MJ,
                dram_mj=terms.dram.value / PJ_PER_MJ,
                flops=counts.flops,
                bops=counts.bops,
            )
        )
    return energy, tuple(layers)


def _labels(view: NetworkView) -> list[str]:
    """Short names of the steps; several steps of one block get a letter."""
    tiles = {tile.region: tile for row in view.rows for tile in row.tiles}
    homes = [_home(view.graph, group, tiles) for group in view.plan.groups]
    labels = []
    for step, tile in enumerate(homes):
        parts = [i for i, other in enumerate(homes) if other.region == tile.region]
        letter = chr(ord("a") + parts.index(step)) if 1 < len(parts) <= 26 else ""
        labels.append(f"{tile.symbol} {_place(tile.region)}{letter}".strip())
    return _distinct(labels)


def _home(graph: Graph, group: Group, tiles: dict[str, Tile]) -> Tile:
    inside = [r for r in graph.regions if r.start <= group.anchor < r.end and r.name in tiles]
    return tiles[inside[-1].name]


def _place(region: str) -> str:
    """Where a region is, counted from 1: ``stages.0.blocks.3`` is "1.4"."""
    return ".".join(str(int(part) + 1) for part in region.split(".") if part.isdecimal())


def _distinct(labels: list[str]) -> list[str]:
    """Number what is left equal: a category occurs once on an axis."""
    return [
        label if labels.count(label) == 1 else f"{label} {labels[: i + 1].count(label)}"
        for i, label in enumerate(labels)
    ]
