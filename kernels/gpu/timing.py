"""Times of CUDA work: graphs that take turns, so that Python and drift do not count."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median, quantiles
from typing import Any, Final

import torch

ROUNDS: Final = 20
GRAPH_MS: Final = 2.0
MOST_CALLS: Final = 200

DELAY_CYCLES: Final = 500_000
"""A device waits so long, a fraction of a millisecond, while its host queues what is timed."""

COLD_ROWS: Final = 64
"""Up to so many rows of a product it is mostly its weight that is read."""

MOST_COPIES: Final = 64
"""Of a weight that is read from memory each time."""

Calls = Sequence[Callable[[], object]]
"""One piece of work on operands of its own each time, taken in turn: more than a cache holds."""


def timed(ways: Sequence[Calls], rounds: int = ROUNDS) -> list[dict[str, float]]:
    """Time ways to compute something against each other on the current device.

    Args:
        ways: Each is one call or several that do the same work on other operands.
        rounds: In each, every way's graph runs once.

    Returns:
        Milliseconds of one call of each way: median, tenths and least.
    """
    graphs = [_graph(calls) for calls in ways]
    seen: list[list[float]] = [[] for _ in ways]
    cuda: Any = torch.cuda
    begin, end = (cuda.Event(enable_timing=True) for _ in range(2))
    for _ in range(rounds):
        for times, (graph, count) in zip(seen, graphs, strict=True):
            # to launch a graph takes the host longer than a device takes for a small one
            cuda._sleep(DELAY_CYCLES)
            begin.record()
            graph.replay()
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end) / count)
    return [spread(times) for times in seen]


def spread(times: Sequence[float]) -> dict[str, float]:
    """Median, tenths and least of two or more times in milliseconds."""
    low, *_, high = quantiles(times, n=10)
    return {"ms": median(times), "ms_p10": low, "ms_p90": high, "ms_min": min(times)}


def _graph(calls: Calls) -> tuple[Any, int]:
    """A graph of as many calls as take some milliseconds, and how many they are."""
    cuda: Any = torch.cuda
    cuda.synchronize()
    stream = cuda.Stream()
    with cuda.stream(stream):
        # what compiles, measures or allocates at its first call has done so then
        for _ in range(2):
            for call in calls:
                call()
        begin, end = (cuda.Event(enable_timing=True) for _ in range(2))
        cuda._sleep(DELAY_CYCLES)
        begin.record(stream)
        calls[0]()
        end.record(stream)
        stream.synchronize()
    count = turns(begin.elapsed_time(end), len(calls))
    graph = cuda.CUDAGraph()
    with cuda.graph(graph, stream=stream):
        for n in range(count):
            calls[n % len(calls)]()
    graph.replay()
    cuda.synchronize()
    return graph, count


def turns(call_ms: float, calls: int) -> int:
    """Calls of a graph that takes some milliseconds: whole turns, at least one.

    >>> turns(0.5, 1), turns(0.01, 64), turns(50.0, 2), turns(0.0, 3)
    (4, 192, 2, 198)
    """
    wanted = min(MOST_CALLS, int(GRAPH_MS / max(call_ms, 1e-3)))
    return max(1, wanted // calls) * calls


def copies_of(cache_bytes: int, size: int) -> int:
    """Copies of a weight that are together twice as large as a cache, at most `MOST_COPIES`.

    Args:
        cache_bytes: Of the device's last cache.
        size: Of the weight, in bytes.

    >>> copies_of(60 << 20, 2 << 20), copies_of(60 << 20, 512 << 20), copies_of(60 << 20, 1)
    (60, 1, 64)
    """
    return max(1, min(MOST_COPIES, -(-2 * cache_bytes // size)))
