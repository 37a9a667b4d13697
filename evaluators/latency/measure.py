"""Timing on this machine: layers inside whole networks, and networks end to end.

A layer is timed where it stands, as one step of whole runs of a network that has it: alone, in a
loop, it would find its maps and weights in the nearest cache each time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from typing import Final

import torch
from torch import Tensor

from bitfront.evaluators.latency.cuda import CudaClock, cuda_setting
from bitfront.evaluators.latency.layers import layers_of
from bitfront.evaluators.latency.table import LatencySetting, LayerTime
from bitfront.evaluators.latency.timing import (
    PATIENCE_S,
    Clock,
    CpuClock,
    latency_of,
    require_repeats,
    take_turns,
    warm_up,
)
from bitfront.evaluators.measurement import Measurement
from bitfront.evaluators.packed import PackedNetwork
from bitfront.evaluators.packed.cpu_kernels import on_threads
from bitfront.kernels import cpu
from bitfront.kernels.machine import cpu_name, versions
from bitfront.spaces.architecture import Architecture
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.network import build

REPEATS: Final = 40


def setting_here(
    device: str = "cpu", *, threads: int = 1, batch: int = 1, maps: str = "float32"
) -> LatencySetting:
    """The setting of what is measured on this machine.

    Args:
        device: "cpu", or "cuda" for the current CUDA device.
        threads: That share one operation; 1 on a CUDA device.
        batch: Images of one call.
        maps: Of floats between the layers: "float32", or "bfloat16" on a CUDA device.

    Raises:
        InvalidValue: If there is no such device, or no kernels or maps for it.
    """
    if device == "cuda":
        return cuda_setting(batch=batch, threads=threads, maps=maps)
    found = cpu.variants()
    if not found:
        raise InvalidValue(
            "Layers are timed on the compiled CPU kernels, which are not there: install a C "
            "compiler and reinstall bitfront, or name a layer table that was measured elsewhere."
        )
    used = versions(("bitfront", "torch"))
    return LatencySetting(
        device=device,
        machine=cpu_name(),
        kernels=found[-1],
        versions=", ".join(f"{name} {used[name]}" for name in ("bitfront", "torch")),
        threads=threads,
        batch=batch,
        maps=maps,
    )


def clock_of(device: str, threads: int) -> Clock:
    """What calls on a device of this machine are timed by."""
    return CudaClock() if device == "cuda" else CpuClock(threads)


def time_layers(
    architecture: Architecture,
    setting: LatencySetting,
    wanted: Collection[str] | None = None,
    *,
    repeats: int = REPEATS,
    patience_s: float = PATIENCE_S,
    alone: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> list[LayerTime]:
    """Time layers of an untrained network of an architecture.

    Runs of the whole network that a busy CPU disturbed are made again. A layer that the network has
    several times gets the median over all its places.

    Args:
        architecture: Of a network that has the layers.
        setting: Of this machine, from `setting_here`.
        wanted: Texts of the layers; None for all.
        repeats: Runs.
        patience_s: Seconds to wait for a quiet machine.
        alone: Keeps others off the device while the network is timed, not while it is prepared.

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
    clock = clock_of(setting.device, setting.threads)

    def run() -> list[float]:
        return packed.step_seconds(images)

    with on_threads(setting.threads):
        # kernels may be compiled in the first run
        run()
        with alone():
            warm_up(run, clock)
            rows, redone = clock.runs(run, repeats, patience_s)
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
    alone: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> Measurement:
    """Latency of an untrained network of an architecture, end to end, in ms.

    Args:
        architecture: Of the network.
        setting: Of this machine, from `setting_here`.
        repeats: Runs.
        patience_s: Seconds to wait for a quiet machine.
        alone: As `time_layers`.
    """
    packed, images = _packed(architecture, setting)
    calls, clock = {"network": run_of(packed, images)}, clock_of(setting.device, setting.threads)
    with on_threads(setting.threads):
        # kernels may be compiled, and a graph made, in the first run
        packed(images)
        with alone():
            found = take_turns(calls, clock, repeats=repeats, patience_s=patience_s)
    times = found["network"]
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


def run_of(packed: PackedNetwork, images: Tensor) -> Callable[[], object]:
    """One inference, as it is timed: on a GPU it is queued, and events tell when it was done."""
    once = packed.launch if packed.device.type == "cuda" else packed
    return lambda: once(images)


def _packed(architecture: Architecture, setting: LatencySetting) -> tuple[PackedNetwork, Tensor]:
    network = build(architecture).eval().to(setting.device)
    # an instruction set is the CPU's
    variant = setting.kernels if setting.device == "cpu" else None
    packed = PackedNetwork(
        network,
        batch=setting.batch,
        threads=setting.threads,
        variant=variant,
        maps=maps_of(setting.maps),
    )
    return packed, images_for(architecture, setting.batch, packed.device)


def maps_of(name: str) -> torch.dtype:
    """The dtype of maps by its name in a setting."""
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]


def images_for(architecture: Architecture, batch: int, device: torch.device) -> Tensor:
    """Random images (batch, C, H, W), always the same, on a device."""
    images = torch.randn((batch, *architecture.input), generator=torch.Generator().manual_seed(0))
    return images.to(device)
