"""Threads that share one product; the library lets go of the interpreter while it computes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Final

from bitfront.kernels.native_library import Job

WORD_BYTES: Final = 4


@cache
def workers(threads: int) -> ThreadPoolExecutor:
    """The pool of so many threads; one for all products."""
    return ThreadPoolExecutor(threads, thread_name_prefix="bitfront-kernels")


def shares(job: Job, threads: int) -> Iterator[Job]:
    """Split a job by images, rows or columns: the first of them that is large enough."""
    axes = (
        ("batch", job.image_step, job.out_image, None),
        ("rows", job.row_step, job.out_row, "row_class"),
        ("cols", job.col_step, job.out_col, "col_class"),
    )
    # the first of the largest
    axis, step, out_step, classes = max(axes, key=lambda row: min(getattr(job, row[0]), threads))
    size = getattr(job, axis)
    for share in range(threads):
        start, end = size * share // threads, size * (share + 1) // threads
        if start == end:
            continue
        part = Job.from_buffer_copy(job)
        setattr(part, axis, end - start)
        part.a += start * step * WORD_BYTES
        part.out += start * out_step * WORD_BYTES
        if classes is not None:
            setattr(part, classes, getattr(part, classes) + start * WORD_BYTES)
        yield part
