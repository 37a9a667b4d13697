"""What a CUDA device and its software say of themselves."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import torch
import triton

from bitfront.kernels import machine
from bitfront.kernels.gpu.prepare import capability_of

_DRIVER: Final = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFacts:
    """Of a device.

    Attributes:
        name: As the driver gives it.
        capability: Ten times its compute capability.
        multiprocessors: How many.
        clock_hz: Their highest clock.
        shared_bytes: Shared memory that a block may have.
        cache_bytes: Of the second-level cache.
    """

    name: str
    capability: int
    multiprocessors: int
    clock_hz: float
    shared_bytes: int
    cache_bytes: int


def device_facts(device: torch.device) -> DeviceFacts:
    """The facts of a CUDA device."""
    properties: Any = torch.cuda.get_device_properties(device)
    # CUDA 13 took the clock out of the properties; Triton asks the driver
    driver: Any = triton.runtime.driver
    known = driver.active.utils.get_device_properties(device.index or 0)
    return DeviceFacts(
        name=torch.cuda.get_device_name(device),
        capability=capability_of(device),
        multiprocessors=known["multiprocessor_count"],
        clock_hz=float(known["sm_clock_rate"]) * 1e3,
        shared_bytes=known["max_shared_mem"],
        cache_bytes=properties.L2_cache_size,
    )


def versions() -> dict[str, str]:
    """Of what takes part in a measurement; "absent" where it is not there."""
    found = machine.versions(("torch", "triton", "gemlite", "bitblas"))
    return {**found, "cuda": torch.version.cuda or "absent", "driver": driver_version()}


def driver_version(path: Path = _DRIVER) -> str:
    """The driver's version as Linux gives it, or "absent"."""
    try:
        words = path.read_text(encoding="utf-8").split()
    except OSError:
        return "absent"
    # the first number with a dot, as in 580.159.03
    return next((word for word in words if word[:1].isdigit() and "." in word), "absent")


def power_limit_w(device: torch.device) -> float | None:
    """Watts that a device may draw, where NVIDIA's package for Python is there and tells them."""
    try:
        nvml: Any = import_module("pynvml")
    except ModuleNotFoundError:
        return None
    try:
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByUUID(
            f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        )
        return float(nvml.nvmlDeviceGetPowerManagementLimit(handle)) / 1e3
    except nvml.NVMLError:
        return None
