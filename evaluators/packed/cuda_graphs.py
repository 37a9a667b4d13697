"""Whole runs on a GPU: captured as CUDA graphs, and timed by CUDA events."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from statistics import median
from typing import Any, Final

import torch
from torch import Tensor

_WARM_UP: Final = 3
"""Calls before a capture: kernels are compiled, libraries choose their algorithms."""

_FIRST_DELAY: Final = 10_000_000
_LONGEST_DELAY: Final = 2_000_000_000
_READINGS: Final = 200


def captured(call: Callable[[Tensor], Tensor], images: Tensor) -> Callable[[Tensor], Tensor] | None:
    """A call as a CUDA graph, which the host launches at once.

    Args:
        call: From images to logits, by operations that do not wait for the device.
        images: Of the size and dtype of all others, on the current device.

    Returns:
        A call whose result the next call overwrites, and which keeps what it was captured from;
        None, after a warning, if an operation cannot be captured.
    """
    cuda: Any = torch.cuda
    kept = images.clone(memory_format=torch.channels_last)
    stream = cuda.Stream()
    stream.wait_stream(cuda.current_stream())
    with cuda.stream(stream):
        for _ in range(_WARM_UP):
            call(kept)
    before = cuda.current_stream()
    before.wait_stream(stream)
    graph = cuda.CUDAGraph()
    try:
        # a stream of this device: torch's own is that of the first device it captured on
        with cuda.graph(graph, stream=stream):
            logits = call(kept)
    except RuntimeError as error:
        # a capture that cannot be ended leaves its own stream the current one, and hides the cause
        cuda.set_stream(before)
        first = str(error.__context__ or error).partition("\n")[0]
        warnings.warn(
            f"The network runs without a CUDA graph, each launch on its own: {first}",
            RuntimeWarning,
            stacklevel=2,
        )
        return None

    return _Captured(call, kept, graph, logits)


class _Captured:
    """A graph with all that it reads where it lies: the call's constants, too."""

    def __init__(
        self, call: Callable[[Tensor], Tensor], images: Tensor, graph: Any, logits: Tensor
    ) -> None:
        self._call = call
        self._images = images
        self._graph = graph
        self._logits = logits

    def __call__(self, x: Tensor) -> Tensor:
        self._images.copy_(x)
        self._graph.replay()
        return self._logits


@contextmanager
def tuned_cudnn() -> Iterator[None]:
    """Let cuDNN try its kernels, and keep the fastest for each convolution."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


class Delay:
    """How long a GPU waits, in clock cycles, while its host queues a run; doubled when too short.

    Attributes:
        cycles: Of the next run.
    """

    def __init__(self) -> None:
        self.cycles = _FIRST_DELAY

    def lengthen(self) -> bool:
        """Double it; False if it is as long as it gets."""
        before = self.cycles
        self.cycles = min(2 * before, _LONGEST_DELAY)
        return self.cycles > before


class EventStopwatch:
    """Events between the steps of a run that is queued before it begins, so the host is not timed.

    Args:
        delay: How long the GPU waits for the host.
        waits: Whether a run that began before it was queued is to be made again.
    """

    def __init__(self, delay: Delay, waits: bool) -> None:
        self._delay = delay
        self._waits = waits
        self._events: list[Any] = []
        cuda: Any = torch.cuda
        cuda._sleep(delay.cycles)

    def mark(self) -> None:
        """A step ends and the next begins."""
        event: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        self._events.append(event)

    def seconds(self) -> list[float] | None:
        """Between the marks; None if the GPU began before the host had queued all."""
        is_late = self._events[0].query()
        self._events[-1].synchronize()
        if is_late and self._waits and self._delay.lengthen():
            return None
        cost = _cost_of_events()
        return [max(0.0, seconds - cost) for seconds in _between(self._events)]


@cache
def _cost_of_events() -> float:
    """Seconds between two events with nothing between them."""
    cuda: Any = torch.cuda
    cuda._sleep(_FIRST_DELAY)
    events = [cuda.Event(enable_timing=True) for _ in range(_READINGS)]
    for event in events:
        event.record()
    events[-1].synchronize()
    return median(_between(events))


def _between(events: list[Any]) -> list[float]:
    return [before.elapsed_time(after) * 1e-3 for before, after in pairwise(events)]
