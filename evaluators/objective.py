"""Objectives: what a search can optimise or constrain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bitfront.evaluators.cost import PJ_PER_MJ, count, estimate_energy, peak_memory_bytes
from bitfront.evaluators.hardware.profile import HardwareProfile
from bitfront.evaluators.latency import LayerTable, layers_of
from bitfront.evaluators.measurement import Measurement
from bitfront.spaces.architecture import Architecture
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.graph import Graph
from bitfront.spaces.plan import Plan, plan
from bitfront.spaces.registry import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class Costed:
    """A lowered and planned network, and the hardware to cost it on.

    Attributes:
        graph: Of the network.
        plan: Of the graph.
        hardware: Profile, where an objective needs one.
        layers: Table of layer times, likewise.
    """

    graph: Graph
    plan: Plan
    hardware: HardwareProfile | None = None
    layers: LayerTable | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """A quantity with a direction.

    Attributes:
        name: As the command line and the store know it.
        unit: Of its value.
        direction: "maximize" or "minimize".
        needs: "nothing", "hardware", "layers" (a table of layer times) or "training".
        title: For axes and tables.
        measure: Computes it before training; None where training is needed.
    """

    name: str
    unit: str
    direction: str
    needs: str
    title: str
    measure: Callable[[Costed], Measurement] | None = None


objectives: Final[Registry[Objective]] = Registry("objective")


def _energy(costed: Costed) -> Measurement:
    if costed.hardware is None:
        raise InvalidValue("The objective 'energy' needs a hardware profile (--hardware).")
    total = estimate_energy(costed.plan, costed.hardware).total_pj
    return Measurement(
        objective="energy",
        value=total.value / PJ_PER_MJ,
        unit="mJ",
        method="estimated",
        low=total.low / PJ_PER_MJ,
        high=total.high / PJ_PER_MJ,
        hardware=costed.hardware.name,
    )


def _latency(costed: Costed) -> Measurement:
    if costed.layers is None:
        raise InvalidValue("The objective 'latency' needs a table of layer times (--latency).")
    return costed.layers.latency(layers_of(costed.graph))


def _analytic(objective: str, unit: str, value: float) -> Measurement:
    return Measurement(objective=objective, value=value, unit=unit, method="analytic")


def _ops(costed: Costed) -> Measurement:
    # "full" is defined for every width; "hpi" and "reactnet" stretch their rule beyond one bit
    ops = count(costed.graph, "full", plan=costed.plan).ops
    return _analytic("ops", "OPs", ops or 0.0)


def _params(costed: Costed) -> Measurement:
    return _analytic("params", "parameters", count(costed.graph, plan=costed.plan).params)


def _size(costed: Costed) -> Measurement:
    return _analytic("size_mib", "MiB", count(costed.graph, plan=costed.plan).size_mib)


def _memory(costed: Costed) -> Measurement:
    return _analytic("memory", "bytes", peak_memory_bytes(costed.plan))


for _objective in (
    Objective(
        name="accuracy",
        unit="fraction",
        direction="maximize",
        needs="training",
        title="Validation accuracy",
    ),
    Objective(
        name="energy",
        unit="mJ",
        direction="minimize",
        needs="hardware",
        title="Energy per inference (mJ)",
        measure=_energy,
    ),
    Objective(
        name="latency",
        unit="ms",
        direction="minimize",
        needs="layers",
        title="Latency of one image (ms)",
        measure=_latency,
    ),
    Objective(
        name="ops",
        unit="OPs",
        direction="minimize",
        needs="nothing",
        title="Operations (FLOPs + BOPs/64)",
        measure=_ops,
    ),
    Objective(
        name="params",
        unit="parameters",
        direction="minimize",
        needs="nothing",
        title="Parameters",
        measure=_params,
    ),
    Objective(
        name="size_mib",
        unit="MiB",
        direction="minimize",
        needs="nothing",
        title="Model size (MiB)",
        measure=_size,
    ),
    Objective(
        name="memory",
        unit="bytes",
        direction="minimize",
        needs="nothing",
        title="Peak feature memory (bytes)",
        measure=_memory,
    ),
):
    objectives.register(_objective.name)(_objective)


def cost_measurements(
    architecture: Architecture,
    hardware: HardwareProfile | None,
    layers: LayerTable | None = None,
) -> dict[str, Measurement]:
    """Every objective that needs no training, by name.

    Args:
        architecture: The network.
        hardware: Profile for the energy; without one there is none.
        layers: Table for the latency; likewise.

    Raises:
        InfeasibleArchitecture: If the network cannot be lowered.
        MissingLayers: If the table has no time for one of its layers.
    """
    graph = architecture.lower()
    costed = Costed(graph=graph, plan=plan(graph), hardware=hardware, layers=layers)
    given = {"hardware": hardware, "layers": layers}
    return {
        name: objective.measure(costed)
        for name, objective in objectives.items()
        if objective.measure is not None and given.get(objective.needs, True) is not None
    }
