"""A trained network that runs on packed bits."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from statistics import median
from time import perf_counter, thread_time
from typing import NamedTuple

import torch
from torch import Tensor

from bitfront.evaluators.packed.compute import Compiler
from bitfront.evaluators.packed.grouping import Group, grouped, kept_as_bits, readers_of
from bitfront.evaluators.packed.layers import Run
from bitfront.evaluators.packed.memory import Memory
from bitfront.evaluators.packed.places import places
from bitfront.kernels.native_library import load
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.network import Network


class StepTime(NamedTuple):
    """What one step takes.

    Attributes:
        name: Of the node that the step is built around.
        kind: "binary", "bitserial" or "int8" (a layer of signs or codes with all that is folded
            into it), "conv" (a 32-bit convolution), "affine", "pack", or the op of a single node.
        ms: Median, in milliseconds.
    """

    name: str
    kind: str
    ms: float


class _Step(NamedTuple):
    group: Group
    run: Run
    ended: tuple[int, ...]


class PackedNetwork:
    """A network's inference on the bitwise kernels of this CPU.

    Weights are packed, thresholds found and norms folded once, here: a network that is changed
    afterwards has to be packed again. Layers of signs and codes read and write channels-last maps,
    all else runs as torch forms, concatenations mostly without copies. These layers are exact: for
    the same floats they see the same signs and codes as the network, and give the integers that
    its sums stand for. Folded norms round differently, by about 1e-7 of a value. One object serves
    one thread at a time.

    Without the compiled kernels the network itself runs, after one warning.

    Args:
        network: On the CPU, 32-bit floats, in evaluation mode.
        batch: Images of one call.
        threads: Threads that share one operation.
        variant: Instruction set of the kernels, one of `bitfront.kernels.cpu.variants`; None takes
            the fastest.

    Attributes:
        network: As given.
        batch: As given.
        is_packed: Whether the kernels run, not the network itself.

    Raises:
        InvalidValue: If an argument is none of these.
    """

    def __init__(
        self, network: Network, *, batch: int = 1, threads: int = 1, variant: str | None = None
    ) -> None:
        _check(network, batch, threads)
        library = load()
        if library is not None and variant not in (None, *library.variants):
            raise InvalidValue(
                f"variant must be one of {', '.join(library.variants)} on this CPU, but is "
                f"{variant!r}."
            )
        self.network = network
        self.batch = batch
        self.is_packed = library is not None
        self._threads = threads
        self._shape = (batch, *network.graph.input.torch_shape)
        self._steps: list[_Step] = []
        if library is None:
            warnings.warn(
                "The CPU kernels are not compiled, so the network runs in 32-bit floats: install "
                "a C compiler and reinstall bitfront.",
                RuntimeWarning,
                stacklevel=2,
            )
            return
        nodes = network.graph.nodes
        bits = kept_as_bits(nodes, readers_of(nodes))
        groups = grouped(nodes, bits)
        memory = Memory(nodes, groups, bits, places(nodes, groups, bits), batch)
        compiler = Compiler(network, library, memory, threads=threads, variant=variant)
        last_read = {i: group.output for group in groups for i in group.reads}
        # on several threads, small operations wait for each other
        with torch.no_grad(), on_threads(threads):
            for group in groups:
                ended = tuple(i for i in group.reads if last_read[i] == group.output)
                self._steps.append(_Step(group, compiler.run_of(group), ended))

    def __call__(self, images: Tensor) -> Tensor:
        """Images (batch, C, H, W), float32, to logits (batch, classes).

        Raises:
            InvalidValue: If the images have another shape or dtype.
            ValueError: If a value before a sign or code is NaN, which has none.
        """
        x = self._checked(images)
        with torch.no_grad(), on_threads(self._threads):
            if not self.is_packed:
                logits: Tensor = self.network(x)
                return logits
            values = {0: x.contiguous(memory_format=torch.channels_last)}
            for group, run, ended in self._steps:
                values[group.output] = run(*[values[i] for i in group.reads])
                for i in ended:
                    del values[i]
            # what is handed out is not overwritten by the next call
            return values[len(self.network.graph.nodes) - 1].clone()

    def profile(self, images: Tensor, repeats: int = 20) -> list[StepTime]:
        """What each step takes, measured step by step in whole runs.

        One thread is timed by its CPU time, several by the wall clock.

        Args:
            images: As in a call.
            repeats: Runs; one more goes first and is not timed.

        Raises:
            InvalidValue: If the kernels are not compiled, or an argument does not fit.
        """
        if repeats < 1:
            raise InvalidValue(f"repeats must be at least 1, but is {repeats}.")
        nodes = self.network.graph.nodes
        with on_threads(self._threads):
            self.step_seconds(images)
            runs = [self.step_seconds(images)[1:] for _ in range(repeats)]
        return [
            StepTime(nodes[step.group.main].name, step.group.kind, median(seconds) * 1e3)
            for step, seconds in zip(self._steps, zip(*runs, strict=True), strict=True)
        ]

    def step_seconds(self, images: Tensor) -> list[float]:
        """Seconds of each step of one run: the images' layout first, then the steps in order.

        A step lasts from the end of the one before it to its own end, less the reading of the
        clock, so the steps add up to the run.

        Raises:
            InvalidValue: If the kernels are not compiled, or the images do not fit.
        """
        if not self.is_packed:
            raise InvalidValue("A profile needs the compiled CPU kernels, which are not there.")
        x = self._checked(images)
        clock: Callable[[], float] = thread_time if self._threads == 1 else perf_counter
        with torch.no_grad(), on_threads(self._threads):
            ends = [clock()]
            values = {0: x.contiguous(memory_format=torch.channels_last)}
            ends.append(clock())
            for group, run, ended in self._steps:
                values[group.output] = run(*[values[i] for i in group.reads])
                for i in ended:
                    del values[i]
                ends.append(clock())
        cost = _cost_of(clock)
        return [max(0.0, after - before - cost) for before, after in pairwise(ends)]

    def _checked(self, images: Tensor) -> Tensor:
        if images.shape != self._shape or images.dtype != torch.float32 or images.is_cuda:
            raise InvalidValue(
                f"Images must be float32 {list(self._shape)} on the CPU, but are {images.dtype} "
                f"{list(images.shape)} on {images.device}."
            )
        return images


@cache
def _cost_of(clock: Callable[[], float]) -> float:
    """Seconds between two readings of a clock: the thread's processor time is no cheap one."""
    readings = [clock() for _ in range(1001)]
    return median(after - before for before, after in pairwise(readings))


def _check(network: Network, batch: int, threads: int) -> None:
    for name, value in (("batch", batch), ("threads", threads)):
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 1024:
            raise InvalidValue(f"{name} must be a whole number from 1 to 1024, but is {value!r}.")
    if network.training:
        raise InvalidValue("The network must be in evaluation mode, but is training: call eval().")
    for name, values in (*network.named_parameters(), *network.named_buffers()):
        is_float = values.is_floating_point() and values.dtype != torch.float32
        if values.device.type != "cpu" or is_float:
            raise InvalidValue(
                f"The network must be float32 on the CPU, but {name} is {values.dtype} on "
                f"{values.device}."
            )


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    """Run torch's operations on so many threads."""
    before = torch.get_num_threads()
    if before != count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if before != count:
            torch.set_num_threads(before)
