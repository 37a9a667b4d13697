"""Packed inference on the compiled kernels of a CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from itertools import pairwise
from statistics import median
from time import perf_counter, thread_time
from typing import Final

import torch
from torch import Tensor

from bitfront.evaluators.packed.codes import Bytes, Numbers
from bitfront.evaluators.packed.cpu_layers import convolution, max_pool
from bitfront.evaluators.packed.cpu_planes import Planes, cpu_thresholds
from bitfront.evaluators.packed.fold import Crossings
from bitfront.evaluators.packed.kernels import Multiply, Run
from bitfront.evaluators.packed.planes import Staircase
from bitfront.evaluators.packed.words import edges_repeated, floats
from bitfront.kernels.cpu import (
    CpuWeight,
    Product,
    interleave,
    prepare_product,
    prepare_weight,
)
from bitfront.kernels.cpu.int8 import prepare_int8
from bitfront.kernels.cpu.packer import pack_into
from bitfront.kernels.finish import Affine
from bitfront.kernels.geometry import Conv2dGeometry, Fill
from bitfront.kernels.layout import BINARY, CodeFormat, word_count
from bitfront.kernels.native_library import NativeLibrary
from bitfront.kernels.operands import Packed
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.ops import MaxPool

_CPU: Final = torch.device("cpu")


class CpuKernels:
    """The compiled kernels, as `bitfront.evaluators.packed.kernels.Kernels` says.

    Args:
        library: The compiled kernels.
        threads: Threads that share one operation.
        variant: Instruction set; None takes the fastest.

    Raises:
        InvalidValue: If this CPU has no such instruction set.
    """

    device = _CPU
    dtype = torch.float32
    joins_planes = False

    def __init__(
        self, library: NativeLibrary, threads: int = 1, variant: str | None = None
    ) -> None:
        if variant not in (None, *library.variants):
            raise InvalidValue(
                f"variant must be one of {', '.join(library.variants)} on this CPU, but is "
                f"{variant!r}."
            )
        self.name = variant or library.variants[-1]
        self._library = library
        self._threads = threads
        self._variant = variant

    def settings(self) -> AbstractContextManager[None]:
        """So many threads."""
        return on_threads(self._threads)

    def captured(self, call: Callable[[Tensor], Tensor], images: Tensor) -> None:
        """Nothing: a call costs a CPU next to nothing."""

    def weight(self, packed: Packed, groups: int) -> CpuWeight:
        """In panels of 32 outputs."""
        return prepare_weight(packed, groups)

    def of_words(
        self,
        conv: Conv2dGeometry,
        format: CodeFormat,
        weight: CpuWeight,
        *,
        finish: Affine,
        fill: Fill,
        dtype: torch.dtype | None = None,
    ) -> Multiply:
        """The product of words [Q, B, H, W, P]: float32."""
        down, right = conv.padding
        if fill != "replicate" or format.bits > 1 or not down == right > 0:
            return self._product(conv, format, weight, finish, fill)
        product = self._product(conv.bordered(), format, weight, finish, 0)
        shape = (conv.batch, conv.height, conv.width, word_count(conv.channels))
        widened = edges_repeated(shape, down)
        return lambda x, into: product(widened(x[0])[None], into)

    def of_signs(
        self,
        conv: Conv2dGeometry,
        signs: Crossings | None,
        weight: CpuWeight,
        *,
        finish: Affine,
        fill: Fill,
    ) -> Multiply:
        """The product of the signs of floats, packed straight into the border."""
        product = self._product(conv, BINARY, weight, finish, fill)
        thresholds = None if signs is None else cpu_thresholds(signs)[0]
        return lambda x, into: product.of_floats(x, thresholds, into)

    def of_numbers(
        self,
        conv: Conv2dGeometry,
        format: CodeFormat,
        weight_NhwC: Tensor,
        weight_format: CodeFormat,
        numbers: Numbers | None,
        *,
        finish: Affine,
        fill: Fill,
    ) -> Multiply:
        """The product of codes that are written as bytes."""
        product = prepare_int8(conv, format, weight_NhwC, finish, fill=fill)
        row, map_BCHW = product.map[:, 0, 0], product.map.permute(0, 3, 1, 2)
        write = None if numbers is None else Bytes(numbers, format)

        def run(x: Tensor, into: Tensor | None) -> Tensor:
            codes = row if x.dim() == 2 else map_BCHW
            if write is None:
                codes.copy_(x - format.low)
            elif x.shape == codes.shape:
                write(x, codes)
            else:
                # a map that is flattened behind its quantizer
                unflattened = torch.empty_like(x, dtype=torch.uint8)
                write(x, unflattened)
                row.copy_(unflattened.flatten(1))
            return product(into)

        return run

    def planes(self, stairs: Staircase) -> Callable[[Tensor], Tensor]:
        """What packs floats into the planes of their codes."""
        return Planes(stairs, self._library, self._variant)

    def signs(self, signs: Crossings | None, channels: int) -> Callable[[Tensor, Tensor], None]:
        """What packs the signs of floats."""
        thresholds = None if signs is None else cpu_thresholds(signs)[0]

        def run(x_BHWC: Tensor, out_BHWP: Tensor) -> None:
            pack_into(self._library, x_BHWC, out_BHWP, self._variant, thresholds)

        return run

    def interleave(self, first: Tensor, second: Tensor) -> Tensor:
        """The channels of two maps in turn."""
        return interleave(first, second, variant=self._variant)

    def floats(self, words: Tensor, channels: int) -> Tensor:
        """The map of words."""
        return floats(words, channels)

    def convolution(
        self, conv: Conv2dGeometry, weight: Tensor, bias: Tensor | None, *, rectifies: bool
    ) -> Run:
        """By whichever is faster: the compiled kernels, oneDNN or torch."""
        return convolution(
            conv,
            weight,
            bias,
            rectifies=rectifies,
            variant=self._variant,
            threads=self._threads,
        )

    def max_pool(self, op: MaxPool, rows: int, columns: int) -> Run | None:
        """As maxima of shifted maps, if that is faster."""
        return max_pool(op, rows, columns)

    def stopwatch(self, *, waits: bool = True) -> CpuStopwatch:
        """By the thread's CPU time, or the wall clock where there are several threads."""
        return CpuStopwatch(thread_time if self._threads == 1 else perf_counter)

    def begin(self) -> None:
        """Nothing."""

    def check(self) -> None:
        """Nothing: a packer says at once what is wrong."""

    def _product(
        self,
        conv: Conv2dGeometry,
        format: CodeFormat,
        weight: CpuWeight,
        finish: Affine,
        fill: Fill,
    ) -> Product:
        product = prepare_product(
            conv,
            format,
            weight,
            fill=fill,
            finish=finish,
            variant=self._variant,
            threads=self._threads,
        )
        if product is None:
            raise RuntimeError("The compiled kernels were there, and are no more.")
        return product


class CpuStopwatch:
    """Reads a clock, and takes off what the reading costs."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._marks: list[float] = []

    def mark(self) -> None:
        """A step ends and the next begins."""
        self._marks.append(self._clock())

    def seconds(self) -> list[float]:
        """Between the marks."""
        cost = _cost_of(self._clock)
        return [max(0.0, after - before - cost) for before, after in pairwise(self._marks)]


@cache
def _cost_of(clock: Callable[[], float]) -> float:
    """Seconds between two readings of a clock: the thread's processor time is no cheap one."""
    readings = [clock() for _ in range(1001)]
    return median(after - before for before, after in pairwise(readings))


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    """Run torch's operations on so many threads: on several, small ones wait for each other."""
    before = torch.get_num_threads()
    if before != count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if before != count:
            torch.set_num_threads(before)
