"""Threads that share one job; the library lets go of the interpreter while it computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Final, NamedTuple, TypeVar

from bitfront.kernels.native_library import Job, PackJob

WORD_BYTES: Final = 4

AnyJob = TypeVar("AnyJob", Job, PackJob)
Result = TypeVar("Result")


class Axis(NamedTuple):
    """An axis that a job can be cut along.

    Attributes:
        size: The field of its length.
        pointers: Fields of addresses, each with the field of its step in words; None is one word.
    """

    size: str
    pointers: tuple[tuple[str, str | None], ...]


PRODUCT_AXES: Final = (
    Axis("batch", (("a", "image_step"), ("out", "out_image"))),
    Axis("rows", (("a", "row_step"), ("out", "out_row"), ("row_class", None))),
    Axis("cols", (("a", "col_step"), ("out", "out_col"), ("col_class", None))),
)
PACK_AXES: Final = (
    Axis("images", (("x", "image_step"), ("out", "out_image"))),
    Axis("lines", (("x", "line_step"), ("out", "out_line"))),
    Axis("pixels", (("x", "pixel_step"), ("out", "out_pixel"))),
)


@cache
def workers(threads: int) -> ThreadPoolExecutor:
    """The pool of so many threads; one for all jobs."""
    return ThreadPoolExecutor(threads, thread_name_prefix="bitfront-kernels")


def shares(job: AnyJob, threads: int, axes: Sequence[Axis]) -> Iterator[AnyJob]:
    """Split a job along the first of its axes that is large enough."""
    # the first of the largest
    axis = max(axes, key=lambda axis: min(getattr(job, axis.size), threads))
    size = getattr(job, axis.size)
    for share in range(threads):
        start, end = size * share // threads, size * (share + 1) // threads
        if start == end:
            continue
        part = type(job).from_buffer_copy(job)
        setattr(part, axis.size, end - start)
        for pointer, step in axis.pointers:
            words = start * (1 if step is None else getattr(job, step))
            setattr(part, pointer, getattr(part, pointer) + words * WORD_BYTES)
        yield part


def run_shared(
    run: Callable[[AnyJob, str], Result],
    job: AnyJob,
    variant: str,
    threads: int,
    axes: Sequence[Axis],
) -> list[Result]:
    """Run the shares of a job, one of them in this thread; their results."""
    if threads == 1:
        return [run(job, variant)]
    first, *others = shares(job, threads, axes)
    if not others:
        return [run(first, variant)]
    # submitted at once, awaited below
    running: Iterator[Result] = workers(threads - 1).map(lambda share: run(share, variant), others)
    return [run(first, variant), *running]
