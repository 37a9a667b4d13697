"""Timing on this machine: layers inside whole networks, and networks end to end.

A layer is timed where it stands, as one step of whole runs of a network that has it: alone, in a
loop, it would find its maps and weights in the nearest cache each time.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Final

import torch
from torch import Tensor

from bitfront.evaluators.latency.layers import layers_of
from bitfront.evaluators.latency.pace import pace_of
from bitfront.evaluators.latency.table import LatencySetting, LayerTime
from bitfront.evaluators.latency.timing import (
    PATIENCE_S,
    clock_of,
    latency_of,
    quiet_runs,
    require_repeats,
    take_turns,
)
from bitfront.evaluators.measurement import Measurement
from bitfront.evaluators.packed import PackedNetwork
from bitfront.evaluators.packed.network import on_threads
from bitfront.kernels import cpu
from bitfront.kernels.machine import cpu_name, versions
from bitfront.spaces.architecture import Architecture
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.network import build

REPEATS: Final = 40


def setting_here(*, threads: int = 1, batch: int = 1) -> LatencySetting:
    """The setting of what is measured on this machine's CPU.

    Raises:
        InvalidValue: If the kernels are not compiled.
    """
    found = cpu.variants()
    if not found:
        raise InvalidValue(
            "Layers are timed on the compiled CPU kernels, which are not there: install a C "
            "compiler and reinstall bitfront, or name a layer table that was measured elsewhere."
        )
    used = versions(("bitfront", "torch"))
    return LatencySetting(
        device="cpu",
        machine=cpu_name(),
        kernels=found[-1],
        versions=", ".join(f"{name} {used[name]}" for name in ("bitfront", "torch")),
        threads=threads,
        batch=batch,
    )


def time_layers(
    architecture: Architecture,
    setting: LatencySetting,
    wanted: Collection[str] | None = None,
    *,
    repeats: int = REPEATS,
    patience_s: float = PATIENCE_S,
) -> list[LayerTime]:
    """Time layers of an untrained network of an architecture.

    Runs of the whole network that a busy machine disturbed are made again. A layer that the network
    has several times gets the median over all its places.

    Args:
        architecture: Of a network that has the layers.
        setting: Of this machine, from `setting_here`.
        wanted: Texts of the layers; None for all.
        repeats: Runs.
        patience_s: Seconds to wait for a quiet machine.

    Raises:
        InvalidValue: If the number of repeats is out of range.
        InfeasibleArchitecture: If the architecture cannot be lowered.
    """
    require_repeats(repeats)
    packed, images = _packed(architecture, setting)
    places: dict[str, list[int]] = {}
    for place, layer in enumerate(layers_of(packed.network.graph)):
        if wanted is None or layer in wanted:
            places.setdefault(layer, []).append(place)
    _, clock = clock_of(setting.threads)
    with on_threads(setting.threads):
        packed.step_seconds(images)
        rows, redone = quiet_runs(
            lambda: packed.step_seconds(images), repeats, pace_of(clock), patience_s
        )
    now = time.time()
    return [
        LayerTime(
            layer,
            latency_of([row[i] for row in rows for i in places[layer]])._replace(redone=redone),
            now,
        )
        for layer in places
    ]


def time_network(
    architecture: Architecture,
    setting: LatencySetting,
    *,
    repeats: int = REPEATS,
    patience_s: float = PATIENCE_S,
) -> Measurement:
    """Latency of an untrained network of an architecture, end to end, in ms.

    Args:
        architecture: Of the network.
        setting: Of this machine, from `setting_here`.
        repeats: Runs.
        patience_s: Seconds to wait for a quiet machine.
    """
    packed, images = _packed(architecture, setting)
    with on_threads(setting.threads):
        times = take_turns(
            {"network": lambda: packed(images)},
            repeats=repeats,
            threads=setting.threads,
            patience_s=patience_s,
        )["network"]
    return Measurement(
        objective="latency",
        value=times.median_ms,
        unit="ms",
        method="measured",
        low=times.p10_ms,
        high=times.p90_ms,
        repeats=times.repeats,
        hardware=setting.place,
        versions=setting.versions,
    )


def _packed(architecture: Architecture, setting: LatencySetting) -> tuple[PackedNetwork, Tensor]:
    network = build(architecture).eval()
    packed = PackedNetwork(
        network, batch=setting.batch, threads=setting.threads, variant=setting.kernels
    )
    shape = (setting.batch, *architecture.input)
    return packed, torch.randn(shape, generator=torch.Generator().manual_seed(0))
