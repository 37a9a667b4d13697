"""Where the energy of a machine is read: RAPL for the processor, NVML for the GPUs, or a model.

A source gives the joules since it was last asked. Its method is "measured" if a hardware counter
gave them, "estimated" if power was sampled or modelled; a component without a source is unknown,
which is not the same as 0 J.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import psutil

POWERCAP: Final = Path("/sys/class/powercap")
NVML: Final = "libnvidia-ml.so.1"

# Assumed, for machines whose counters cannot be read.
# 4 W per logical processor at full load: CodeCarbon's DEFAULT_POWER_PER_CORE (kind: assumed)
CPU_FULL_W: Final = 4.0
# share of that at no load: between a laptop's tenth and the 2.2 of 5.4 W of a Raspberry Pi 4
# (kind: assumed)
CPU_IDLE_SHARE: Final = 0.3
# 3 W per 8 GB of memory, whatever the load: CodeCarbon 2's ratio, after Crucial (kind: assumed)
DRAM_W_PER_GIB: Final = 0.375

_NVML_SUCCESS: Final = 0


class EnergySource(Protocol):
    """Gives the energy of one component.

    Attributes:
        component: "cpu", "dram" or "gpu:UUID".
        method: "measured" or "estimated".
    """

    component: str
    method: str

    def joules(self, seconds: float, utilisation: float) -> float:
        """Energy since the last call, or since the source was made.

        Args:
            seconds: That have passed.
            utilisation: Mean load of all processors in that time, 0 to 1.

        Raises:
            OSError: If the counter can no longer be read.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """A component that no source could be found for.

    Attributes:
        component: "gpu:UUID", ...
        reason: Why.
    """

    component: str
    reason: str


class PowerModel:
    """P = idle + utilisation x (full - idle)."""

    method = "estimated"

    def __init__(self, component: str, *, idle_w: float, full_w: float) -> None:
        self.component = component
        self._idle_w = idle_w
        self._full_w = full_w

    def joules(self, seconds: float, utilisation: float) -> float:
        """P x seconds."""
        return (self._idle_w + utilisation * (self._full_w - self._idle_w)) * seconds


class RaplCounter:
    """Sums energy counters of the kernel's powercap tree; each starts again at its range."""

    method = "measured"

    def __init__(self, component: str, zones: Sequence[Path]) -> None:
        self.component = component
        self._zones = tuple(zones)
        self._ranges_uj = [_number(zone / "max_energy_range_uj") for zone in zones]
        self._last_uj = [_number(zone / "energy_uj") for zone in zones]

    def joules(self, seconds: float, utilisation: float) -> float:
        """What the counters rose by, wraps included."""
        total_uj = 0
        for i, zone in enumerate(self._zones):
            now_uj = _number(zone / "energy_uj")
            risen_uj = now_uj - self._last_uj[i]
            total_uj += risen_uj if risen_uj >= 0 else risen_uj + self._ranges_uj[i]
            self._last_uj[i] = now_uj
        return total_uj / 1e6


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except ValueError as error:
        raise OSError(f"{path} holds no number: {error}") from None


class Nvml:
    """The driver's library; no Python package is needed.

    Raises:
        OSError: If there is no driver, or it does not start.
    """

    def __init__(self, library: str = NVML) -> None:
        self._library = ctypes.CDLL(library)
        status = self._library.nvmlInit_v2()
        if status != _NVML_SUCCESS:
            raise OSError(f"NVML does not start: status {status}")

    def devices(self) -> list[GpuDevice]:
        """All GPUs of the machine, in the driver's order."""
        count = ctypes.c_uint()
        self._call("nvmlDeviceGetCount_v2", ctypes.byref(count))
        found = []
        for index in range(count.value):
            handle = ctypes.c_void_p()
            self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(handle))
            uuid = ctypes.create_string_buffer(96)
            self._call("nvmlDeviceGetUUID", handle, uuid, ctypes.c_uint(len(uuid)))
            found.append(GpuDevice(nvml=self, uuid=uuid.value.decode(), handle=handle))
        return found

    def read(self, function: str, handle: ctypes.c_void_p, value: ctypes._SimpleCData[int]) -> int:
        """Read a number of a device."""
        self._call(function, handle, ctypes.byref(value))
        return value.value

    def _call(self, function: str, *arguments: object) -> None:
        status = getattr(self._library, function)(*arguments)
        if status != _NVML_SUCCESS:
            raise OSError(f"{function} gives status {status}")


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuDevice:
    """One GPU.

    Attributes:
        nvml: The library.
        uuid: The driver's name of it.
        handle: The library's.
    """

    nvml: Nvml
    uuid: str
    handle: ctypes.c_void_p

    def energy_mj(self) -> int:
        """Energy since the driver was loaded; the counter moves about every 100 ms.

        Raises:
            OSError: If the GPU has no such counter (before Volta), or is gone.
        """
        name = "nvmlDeviceGetTotalEnergyConsumption"
        return self.nvml.read(name, self.handle, ctypes.c_ulonglong())

    def power_w(self) -> float:
        """Power now.

        Raises:
            OSError: If the GPU does not tell, or is gone.
        """
        milliwatt = self.nvml.read("nvmlDeviceGetPowerUsage", self.handle, ctypes.c_uint())
        return milliwatt / 1000


class GpuCounter:
    """The energy counter of a GPU."""

    method = "measured"

    def __init__(self, device: GpuDevice) -> None:
        self.component = f"gpu:{device.uuid}"
        self._device = device
        self._last_mj = device.energy_mj()

    def joules(self, seconds: float, utilisation: float) -> float:
        """What the counter rose by; nothing if the driver was loaded anew."""
        now_mj = self._device.energy_mj()
        risen_mj = max(0, now_mj - self._last_mj)
        self._last_mj = now_mj
        return risen_mj / 1000


class GpuPower:
    """Power of a GPU without a counter, sampled."""

    method = "estimated"

    def __init__(self, device: GpuDevice) -> None:
        self.component = f"gpu:{device.uuid}"
        self._device = device
        device.power_w()

    def joules(self, seconds: float, utilisation: float) -> float:
        """Power now x seconds."""
        return self._device.power_w() * seconds


def find_sources(
    powercap: Path = POWERCAP, nvml: str = NVML
) -> tuple[list[EnergySource], list[Unknown]]:
    """Find the best source of each component of this machine.

    Args:
        powercap: The kernel's tree of power zones.
        nvml: Name of the driver's library.

    Returns:
        The sources, and the components that have none.
    """
    cpus = psutil.cpu_count() or 1
    full_w = cpus * CPU_FULL_W
    dram_w = psutil.virtual_memory().total / 2**30 * DRAM_W_PER_GIB
    sources: list[EnergySource] = [
        _rapl("cpu", powercap, "package")
        or PowerModel("cpu", idle_w=CPU_IDLE_SHARE * full_w, full_w=full_w),
        _rapl("dram", powercap, "dram") or PowerModel("dram", idle_w=dram_w, full_w=dram_w),
    ]
    unknown = []
    for device in _gpus(nvml):
        try:
            sources.append(GpuCounter(device))
        except OSError:
            try:
                sources.append(GpuPower(device))
            except OSError as error:
                unknown.append(Unknown(component=f"gpu:{device.uuid}", reason=str(error)))
    return sources, unknown


def _rapl(component: str, powercap: Path, name: str) -> RaplCounter | None:
    """The counter over all zones of a name; None unless every one of them can be read."""
    # "intel-rapl:0" is a package and "intel-rapl:0:1" a part of it, listed side by side (AMD too);
    # "psys" holds the packages once more, and so does "intel-rapl-mmio"
    zones = []
    try:
        for zone in sorted(powercap.glob("intel-rapl:*")):
            if (zone / "name").read_text().strip().startswith(name):
                zones.append(zone)
        return RaplCounter(component, zones) if zones else None
    except OSError:
        # since 2020 the kernel lets only root read them
        return None


def _gpus(nvml: str) -> list[GpuDevice]:
    """The GPUs that this process may use."""
    try:
        devices = Nvml(nvml).devices()
    except (OSError, AttributeError):
        return []
    return visible(devices, os.environ.get("CUDA_VISIBLE_DEVICES"))


def visible(devices: Sequence[GpuDevice], chosen: str | None) -> list[GpuDevice]:
    """Keep the GPUs of a ``CUDA_VISIBLE_DEVICES``: indices or beginnings of UUIDs."""
    if chosen is None:
        return list(devices)
    kept = []
    for word in (part.strip() for part in chosen.split(",")):
        for index, device in enumerate(devices):
            if word and (word == str(index) or device.uuid.startswith(word)) and device not in kept:
                kept.append(device)
    return kept
