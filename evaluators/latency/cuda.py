"""Timing on a CUDA device: which one is there, and its clock."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Final, TypeVar

import torch

from bitfront.evaluators.latency.table import LatencySetting
from bitfront.evaluators.packed.cuda_graphs import Delay, EventStopwatch
from bitfront.kernels.gpu.dispatch import LOWEST_CAPABILITY, require_supported
from bitfront.kernels.machine import versions
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.value import digest_of

T = TypeVar("T")

ELSEWHERE: Final = "use the device cpu, or name a layer table that was recorded on such a device."

# an idle device comes to its full clock in a fraction of a second
_WARM_UP_S: Final = 0.3


def cuda_setting(*, batch: int = 1, threads: int = 1, maps: str = "float32") -> LatencySetting:
    """The setting of what is measured on this machine's current CUDA device.

    Raises:
        InvalidValue: If there is none that runs the kernels, or there are several threads.
    """
    found = torch.cuda.is_available() and torch.version.cuda is not None
    capability = torch.cuda.get_device_capability() if found else None
    name = torch.cuda.get_device_name() if found else ""
    require_usable(name, capability, has_triton=find_spec("triton") is not None)
    used = cuda_versions(name)
    return setting_of(name, capability or (0, 0), used, batch=batch, threads=threads, maps=maps)


def cuda_versions(name: str) -> dict[str, str]:
    """Of Python, of the packages that run on a device, of CUDA, and of how the kernels are tuned.

    Args:
        name: Of the device.

    Raises:
        InvalidValue: If a tuning of the device is broken.
    """
    # these need Triton
    from bitfront.kernels.gpu.tuning import known_tuning, table_text

    used = {**versions(("bitfront", "torch", "triton")), "CUDA": torch.version.cuda or "absent"}
    try:
        texts = [table_text(table) for table in known_tuning(name).tables]
    except ValueError as error:
        raise InvalidValue(str(error)) from None
    # other tiles are other times
    return {**used, "tuning": digest_of("".join(texts))[:8]} if texts else used


def setting_of(
    name: str,
    capability: tuple[int, int],
    used: dict[str, str],
    *,
    batch: int = 1,
    threads: int = 1,
    maps: str = "float32",
) -> LatencySetting:
    """The setting of a device.

    Args:
        name: Of the device.
        capability: Of the device: (9, 0).
        used: Versions, from `cuda_versions`.
        batch: Images of one call.
        threads: 1.
        maps: Of floats between the layers.
    """
    major, minor = capability
    numbers = [f"{package} {number}" for package, number in used.items() if package != "python"]
    return LatencySetting(
        device="cuda",
        machine=name,
        kernels=f"Triton, sm_{major}{minor}",
        versions=", ".join(numbers),
        threads=threads,
        batch=batch,
        maps=maps,
    )


def require_usable(name: str, capability: tuple[int, int] | None, *, has_triton: bool) -> None:
    """Check that a device runs the Triton kernels.

    Args:
        name: Of the device.
        capability: Of the device; None if there is none.
        has_triton: Whether Triton is installed.

    Raises:
        InvalidValue: If it does not.
    """
    lowest = f"{LOWEST_CAPABILITY // 10}.{LOWEST_CAPABILITY % 10}"
    if capability is None:
        raise InvalidValue(
            f"Timing on a GPU needs a CUDA device of compute capability {lowest} or higher, but "
            f"torch {torch.__version__} finds none on this machine: {ELSEWHERE}"
        )
    major, minor = capability
    try:
        require_supported(10 * major + minor)
    except ValueError:
        raise InvalidValue(
            f"Timing on a GPU needs compute capability {lowest} or higher, but {name} has "
            f"{major}.{minor}: {ELSEWHERE}"
        ) from None
    if not has_triton:
        raise InvalidValue(
            f"Timing on {name} needs Triton, which is not installed: pip install 'bitfront[gpu]', "
            "or use the device cpu."
        )


class CudaClock:
    """Times by events what calls put into the queue of the current device; they need not wait.

    The device and its host work side by side. A device that has nothing else to do would begin a
    call before its host has queued all of it, and the time of the host would count. So each call is
    queued behind a delay, and one that was queued too late is made again behind a longer delay.
    Other programs of the host do not count then; other work of the device does, so there must be
    none. Each timed call comes right after one that is not, so contenders find in the caches what
    they left there themselves.
    """

    name = "CUDA events"
    warm_up_s = _WARM_UP_S

    def __init__(self) -> None:
        self._delay = Delay()
        self._late = 0

    def seconds(self, call: Callable[[], object]) -> float:
        """Time one call, again while the host is late and the delay not at its longest."""
        while True:
            call()
            watch = EventStopwatch(self._delay, waits=True)
            watch.mark()
            call()
            watch.mark()
            found = watch.seconds()
            if found is not None:
                return found[0]
            self._late += 1

    def runs(self, run: Callable[[], T], count: int, patience_s: float) -> tuple[list[T], int]:
        """So many runs, which all count, and how many calls the host was late for.

        Nothing reads the pace of the device: median and quantiles tell how steady it was.
        """
        before = self._late
        return [run() for _ in range(count)], self._late - before
