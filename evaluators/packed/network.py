"""A trained network that runs on packed bits."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Final, NamedTuple

import torch
from torch import Tensor

from bitfront.evaluators.packed.compute import Compiler
from bitfront.evaluators.packed.cpu_kernels import CpuKernels
from bitfront.evaluators.packed.fold import device_of
from bitfront.evaluators.packed.grouping import Group, grouped, kept_as_bits, readers_of
from bitfront.evaluators.packed.kernels import MAP_DTYPES, Kernels, Run, Stopwatch
from bitfront.evaluators.packed.memory import Memory
from bitfront.evaluators.packed.places import places
from bitfront.kernels.native_library import load
from bitfront.kernels.op_kernels import missing_kernels
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.network import Network

_ATTEMPTS: Final = 5
"""Runs that a GPU is given to be timed before its host counts in."""


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
    """A network's inference on bitwise kernels: of this CPU, or of the GPU where the network is.

    Weights are packed, thresholds found and norms folded once, here: a network that is changed
    afterwards has to be packed again. Layers of signs and codes read and write channels-last maps,
    all else runs as torch forms, concatenations mostly without copies. These layers are exact: for
    the same floats they see the same signs and codes as the network, and give the integers that
    its sums stand for. Folded norms round differently, by about 1e-7 of a value. One object serves
    one thread at a time.

    Where there are no kernels (no compiled library; no Triton, or a GPU that is too old) the
    network itself runs, after one warning. On a GPU::

        packed = PackedNetwork(network.cuda(), batch=32)
        logits = packed(images.cuda())

    Args:
        network: 32-bit floats, in evaluation mode.
        batch: Images of one call.
        threads: Threads that share one operation of a CPU.
        variant: Instruction set of a CPU's kernels, one of `bitfront.kernels.cpu.variants`; None
            takes the fastest.
        maps: Of floats between the steps: torch.float32, or torch.bfloat16 on a GPU, which takes
            half the memory. Layers on integers stay exact for the maps that they read; folded
            norms and 32-bit layers round to 8 bits.
        kernels: What computes layers; None takes what is made for the network's device.
        graph: Whether a GPU is given the whole run at once, as a CUDA graph.

    Attributes:
        network: As given.
        batch: As given.
        device: Where it runs.
        is_packed: Whether the kernels run, not the network itself.
        kernels_name: "avx512vpopcntdq", "Triton, sm_90"; "" if none run.

    Raises:
        InvalidValue: If an argument is none of these.
    """

    def __init__(
        self,
        network: Network,
        *,
        batch: int = 1,
        threads: int = 1,
        variant: str | None = None,
        maps: torch.dtype = torch.float32,
        kernels: Kernels | None = None,
        graph: bool = True,
    ) -> None:
        _check(network, batch, threads)
        self.network = network
        self.batch = batch
        self.device = device_of(network)
        if kernels is None:
            kernels = _kernels_of(self.device, threads, variant, maps)
        elif kernels.device != self.device or threads != 1 or variant is not None:
            raise InvalidValue(
                f"kernels must be of {self.device}, where the network is, and have threads and "
                f"variant of their own, but are of {kernels.device}, beside threads={threads} and "
                f"variant={variant!r}."
            )
        self.is_packed = kernels is not None
        self.kernels_name = kernels.name if kernels is not None else ""
        self._shape = (batch, *network.graph.input.torch_shape)
        self._steps: list[_Step] = []
        self._kernels = kernels
        self._call: Callable[[Tensor], Tensor] | None = None
        self._graph = graph
        if kernels is None:
            return
        nodes = network.graph.nodes
        bits = kept_as_bits(nodes, readers_of(nodes))
        groups = grouped(nodes, bits)
        memory = Memory(nodes, groups, bits, places(nodes, groups, bits), batch, kernels)
        compiler = Compiler(network, kernels, memory)
        last_read = {i: group.output for group in groups for i in group.reads}
        with torch.no_grad(), kernels.settings():
            for group in groups:
                ended = tuple(i for i in group.reads if last_read[i] == group.output)
                self._steps.append(_Step(group, compiler.run_of(group), ended))

    def __call__(self, images: Tensor) -> Tensor:
        """Images (batch, C, H, W), float32 on the network's device, to logits (batch, classes).

        Waits for a GPU, since it says whether a value was NaN.

        Raises:
            InvalidValue: If the images have another shape, dtype or device.
            ValueError: If a value before a sign or code is NaN, which has none.
        """
        logits = self.launch(images)
        if self._kernels is not None:
            self._kernels.check()
        return logits

    def launch(self, images: Tensor) -> Tensor:
        """As a call, without waiting for a GPU, nor looking whether a value there was NaN."""
        x = self._checked(images)
        with torch.no_grad():
            if self._kernels is None:
                logits: Tensor = self.network(x)
                return logits
            with self._kernels.settings():
                if self._call is None:
                    walk = partial(self._walk, self._kernels)
                    captured = self._kernels.captured(walk, x) if self._graph else None
                    self._call = captured or walk
                # what is handed out is not overwritten by the next call
                return self._call(x).clone()

    def profile(self, images: Tensor, repeats: int = 20) -> list[StepTime]:
        """What each step takes, measured step by step in whole runs.

        One thread is timed by its CPU time, several by the wall clock, a GPU by its events.

        Args:
            images: As in a call.
            repeats: Runs; one more goes first and is not timed.

        Raises:
            InvalidValue: If no kernels run, or an argument does not fit.
        """
        if repeats < 1:
            raise InvalidValue(f"repeats must be at least 1, but is {repeats}.")
        nodes = self.network.graph.nodes
        self.step_seconds(images)
        runs = [self.step_seconds(images)[1:] for _ in range(repeats)]
        return [
            StepTime(nodes[step.group.main].name, step.group.kind, median(seconds) * 1e3)
            for step, seconds in zip(self._steps, zip(*runs, strict=True), strict=True)
        ]

    def step_seconds(self, images: Tensor) -> list[float]:
        """Seconds of each step of one run: the images' layout first, then the steps in order.

        A step lasts from the end of the one before it to its own end, less the reading of the
        clock, so the steps add up to the run. A GPU gets the whole run before it begins, so what
        its host takes does not count.

        Raises:
            InvalidValue: If no kernels run, or the images do not fit.
        """
        if self._kernels is None:
            raise InvalidValue("A profile needs compiled kernels, which are not there.")
        x = self._checked(images)
        with torch.no_grad(), self._kernels.settings():
            for _ in range(_ATTEMPTS):
                watch = self._kernels.stopwatch()
                self._walk(self._kernels, x, watch)
                seconds = watch.seconds()
                if seconds is not None:
                    return seconds
            watch = self._kernels.stopwatch(waits=False)
            self._walk(self._kernels, x, watch)
            return watch.seconds() or []

    def _walk(self, kernels: Kernels, x: Tensor, watch: Stopwatch | None = None) -> Tensor:
        """Step by step, to the logits, which the next run may overwrite."""
        kernels.begin()
        if watch is not None:
            watch.mark()
        values = {0: x.to(kernels.dtype, memory_format=torch.channels_last)}
        if watch is not None:
            watch.mark()
        for group, run, ended in self._steps:
            values[group.output] = run(*[values[i] for i in group.reads])
            for i in ended:
                del values[i]
            if watch is not None:
                watch.mark()
        return values[len(self.network.graph.nodes) - 1].float()

    def _checked(self, images: Tensor) -> Tensor:
        fits = images.shape == self._shape and images.dtype == torch.float32
        if not fits or images.device != self.device:
            raise InvalidValue(
                f"Images must be float32 {list(self._shape)} on {_named(self.device)}, but are "
                f"{images.dtype} {list(images.shape)} on {images.device}."
            )
        return images


def _kernels_of(
    device: torch.device, threads: int, variant: str | None, maps: torch.dtype
) -> Kernels | None:
    """What is made for a device; None, after a warning, where nothing is."""
    accepted = MAP_DTYPES[:1] if device.type == "cpu" else MAP_DTYPES
    if maps not in accepted:
        raise InvalidValue(
            f"maps must be {' or '.join(map(str, accepted))} on {_named(device)}, but is {maps}."
        )
    if device.type == "cuda":
        if threads != 1 or variant is not None:
            raise InvalidValue(
                "threads and variant are those of a CPU's kernels, but the network is on "
                f"{device}, with threads={threads} and variant={variant!r}."
            )
        return _gpu_kernels(device, maps)
    library = load()
    if library is not None:
        return CpuKernels(library, threads, variant)
    warnings.warn(
        "The CPU kernels are not compiled, so the network runs in 32-bit floats: install a C "
        "compiler and reinstall bitfront.",
        RuntimeWarning,
        stacklevel=3,
    )
    return None


def _gpu_kernels(device: torch.device, maps: torch.dtype) -> Kernels | None:
    reason = missing_kernels(device)
    if reason is not None:
        warnings.warn(
            f"The network runs in 32-bit floats on {device}. {reason}",
            RuntimeWarning,
            stacklevel=4,
        )
        return None
    # loads Triton
    from bitfront.evaluators.packed.gpu_kernels import GpuKernels

    return GpuKernels(device, maps)


def _check(network: Network, batch: int, threads: int) -> None:
    for name, value in (("batch", batch), ("threads", threads)):
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 1024:
            raise InvalidValue(f"{name} must be a whole number from 1 to 1024, but is {value!r}.")
    if network.training:
        raise InvalidValue("The network must be in evaluation mode, but is training: call eval().")
    device = device_of(network)
    for name, values in (*network.named_parameters(), *network.named_buffers()):
        is_float = values.is_floating_point() and values.dtype != torch.float32
        if values.device != device or values.device.type not in ("cpu", "cuda") or is_float:
            raise InvalidValue(
                "The network must be float32 on the CPU or on one CUDA device, but "
                f"{name} is {values.dtype} on {values.device}."
            )


def _named(device: torch.device) -> str:
    return "the CPU" if device.type == "cpu" else str(device)
