"""What one inference takes on a device of this machine, beside its 32-bit twin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter
from typing import Any, Final

import torch

from bitfront.evaluators.latency.cuda import cuda_setting, cuda_versions
from bitfront.evaluators.latency.measure import clock_of, images_for, maps_of, run_of
from bitfront.evaluators.latency.timing import take_turns
from bitfront.evaluators.latency.twin import Contender
from bitfront.evaluators.packed import PackedNetwork
from bitfront.evaluators.packed.cpu_kernels import on_threads
from bitfront.kernels.machine import cpu_name, versions
from bitfront.spaces.architecture import Architecture
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.network import build

PACKED: Final = "packed"


def time_inference(
    architecture: Architecture,
    *,
    device: str = "cpu",
    batch: int = 1,
    threads: int = 1,
    repeats: int = 30,
    maps: str = "float32",
    twins: Sequence[Contender] = (),
    layers: bool = False,
) -> dict[str, Any]:
    """Time an untrained network of an architecture, packed, end to end.

    Args:
        architecture: Of the network.
        device: "cpu", or "cuda" for the current CUDA device.
        batch: Images of one call.
        threads: Of every contender; 1 on a CUDA device.
        repeats: Timed calls of each.
        maps: Of floats between the layers: "float32", or "bfloat16" on a CUDA device.
        twins: Ways to run its 32-bit twin on the device; the fastest is the twin.
        layers: Whether to time each step.

    Returns:
        Plain data: the setting and ``latency``; ``twin``, ``ratio`` and ``layers`` where asked for.
        On a CUDA device also ``wall_ms``, the median of whole calls as the host sees them.

    Raises:
        InvalidValue: If the device is not there, or no twin can run on it.
    """
    on_cuda = device == "cuda"
    place = cuda_setting(batch=batch, threads=threads, maps=maps) if on_cuda else None
    if twins and all(twin.call is None for twin in twins):
        why = "; ".join(f"{twin.runtime}: {twin.absent}" for twin in twins)
        raise InvalidValue(f"The 32-bit twin cannot run here: {why}.")
    # 32-bit layers of the packed network, and the twin's, share one setting
    with on_threads(threads):
        network = build(architecture).eval().to(device)
        packed = PackedNetwork(network, batch=batch, threads=threads, maps=maps_of(maps))
        images = images_for(architecture, batch, packed.device)
        # the first call compiles kernels
        packed(images)
        ways = {PACKED: run_of(packed, images)}
        ways |= {twin.runtime: twin.call for twin in twins if twin.call is not None}
        clock = clock_of(device, threads)
        times = take_turns(ways, clock, repeats=repeats)
        data: dict[str, Any] = {
            "input": list(architecture.input),
            "batch": batch,
            "threads": threads,
            "maps": maps,
            "clock": clock.name,
            "weights": "untrained",
            "packed": packed.is_packed,
            "variant": packed.kernels_name or None,
            "cpu": cpu_name(),
            "versions": versions(("bitfront", "torch", "onnxruntime")),
            "latency": times[PACKED]._asdict(),
        }
        if place is not None:
            data |= {"gpu": place.machine, "versions": cuda_versions(place.machine)}
            data["wall_ms"] = _wall_ms(lambda: packed(images), repeats)
        if twins:
            ran = {name: row for name, row in times.items() if name != PACKED}
            best = min(ran, key=lambda name: ran[name].median_ms)
            data["twin"] = {"runtime": best, **ran[best]._asdict()}
            data["ratio"] = ran[best].median_ms / times[PACKED].median_ms
            if len(twins) > 1:
                data["twins"] = [
                    {"runtime": twin.runtime, "absent": twin.absent}
                    if twin.call is None
                    else {"runtime": twin.runtime, **ran[twin.runtime]._asdict()}
                    for twin in twins
                ]
            if place is not None:
                data["twin"]["wall_ms"] = _wall_ms(_waiting(ways[best]), repeats)
        if layers:
            rows = packed.profile(images, max(2, min(repeats, 100)))
            data["layers"] = [row._asdict() for row in rows]
    return data


def _wall_ms(call: Callable[[], object], repeats: int) -> float:
    """Median over calls that wait for their device."""
    seconds = []
    for _ in range(repeats):
        start = perf_counter()
        call()
        seconds.append(perf_counter() - start)
    return median(seconds) * 1e3


def _waiting(call: Callable[[], object]) -> Callable[[], object]:
    def both() -> None:
        call()
        torch.cuda.synchronize()

    return both
