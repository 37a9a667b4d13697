"""Which kernels compute the operators of `bitfront.kernels.custom_ops` on which device.

===========================  ===========================================================
CPU                          `bitfront.kernels.cpu`
CUDA, capability 8.0 and up  `bitfront.kernels.gpu`, loaded at the first call with its tensors
any other                    none: the exact reference computes, after one warning
===========================  ===========================================================

Importing this module does not load Triton.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Final, Protocol

import numpy as np
import torch
from torch import Tensor

from bitfront.kernels import cpu
from bitfront.kernels.geometry import Conv2dGeometry, Fill
from bitfront.kernels.layout import CodeFormat, PackedBits, PackedCodes

Product = Callable[[Tensor], Tensor]
"""From words [Q, B, H, W, P] to int32 [B, Y, X, N]."""

Prepare = Callable[[Conv2dGeometry, CodeFormat, Fill, int], Product | None]
"""Of a geometry, the format of the maps, a fill and threads; None where there is no kernel."""

# products of bits that are worth a thread of their own: tens of microseconds
_WORK_OF_A_THREAD: Final = 1 << 27


class DeviceKernels(Protocol):
    """What the operators ask of the kernels of a device."""

    @property
    def is_captured(self) -> bool:
        """Whether a CUDA graph may hold the products."""

    def pack(self, x: Tensor, *, check: bool) -> PackedBits:
        """Words and popcounts of signs; `check` looks for NaN."""

    def same_words(self, kept: Tensor, words: Tensor) -> bool:
        """Whether two tensors hold the same words."""

    def threads(self, work: int) -> int:
        """Threads that share a product of so many products of bits."""

    def prepare_weight(self, codes: PackedCodes, groups: int) -> Prepare:
        """A weight as the kernels read it, and what makes products of it."""


class CpuKernels:
    """The compiled kernels of `bitfront.kernels.cpu`."""

    is_captured = False

    def pack(self, x: Tensor, *, check: bool) -> PackedBits:
        """As `cpu.pack`, which looks for NaN as it packs."""
        return cpu.pack(x)

    def same_words(self, kept: Tensor, words: Tensor) -> bool:
        """Whether two tensors hold the same words; takes a few microseconds."""
        return np.array_equal(kept.numpy(), words.numpy())

    def threads(self, work: int) -> int:
        """As many threads as torch takes, if each has enough to do."""
        return min(torch.get_num_threads(), 1 + work // _WORK_OF_A_THREAD)

    def prepare_weight(self, codes: PackedCodes, groups: int) -> Prepare:
        """As `cpu.prepare_weight`."""
        weight = cpu.prepare_weight(codes, groups)

        def prepare(
            conv: Conv2dGeometry, x_format: CodeFormat, fill: Fill, threads: int
        ) -> Product | None:
            return cpu.prepare_product(conv, x_format, weight, fill=fill, threads=threads)

        return prepare


class GpuKernels:
    """The Triton kernels of `bitfront.kernels.gpu`, for one device."""

    is_captured = True

    def pack(self, x: Tensor, *, check: bool) -> PackedBits:
        """As `gpu.pack`; to look for NaN waits for the device."""
        from bitfront.kernels import gpu

        return gpu.pack(x, check=check)

    def same_words(self, kept: Tensor, words: Tensor) -> bool:
        """Whether two tensors hold the same words; waits for the device."""
        return torch.equal(kept, words)

    def threads(self, work: int) -> int:
        """One thread launches a kernel."""
        return 1

    def prepare_weight(self, codes: PackedCodes, groups: int) -> Prepare:
        """As `gpu.prepare_weight`."""
        from bitfront.kernels import gpu

        weight = gpu.prepare_weight(codes, groups)

        def prepare(
            conv: Conv2dGeometry, x_format: CodeFormat, fill: Fill, threads: int
        ) -> Product:
            product = gpu.prepare_product(conv, x_format, weight, fill=fill)
            if weight.rows.is_cuda:
                # later calls may come on other streams, such as that of a capture
                torch.cuda.current_stream(weight.rows.device).synchronize()
            return product

        return prepare


_CPU: Final = CpuKernels()


def kernels_for(device: torch.device) -> DeviceKernels | None:
    """The kernels of a device: always the same object.

    Returns:
        None where there are none, after one ``RuntimeWarning`` for each reason of a process.
    """
    return _CPU if device.type == "cpu" else _kernels_beyond_cpu(device)


def is_capturing(x: object) -> bool:
    """Whether work on a tensor's device is now recorded into a CUDA graph, and nothing may wait."""
    return isinstance(x, Tensor) and x.is_cuda and torch.cuda.is_current_stream_capturing()


@cache
def _kernels_beyond_cpu(device: torch.device) -> DeviceKernels | None:
    reason = missing_kernels(device)
    if reason is None:
        return GpuKernels()
    _warn(reason)
    return None


def missing_kernels(device: torch.device) -> str | None:
    """Why a device that is no CPU has no kernels, and what to do; None where it has."""
    if device.type != "cuda":
        return (
            f"There are no kernels for devices of type {device.type!r}. Move the tensors to a "
            "CUDA device or to the CPU."
        )
    if torch.version.hip is not None:
        return "The GPU kernels are made for NVIDIA devices. Move the tensors to the CPU."
    try:
        from bitfront.kernels.gpu.dispatch import require_supported
        from bitfront.kernels.gpu.prepare import capability_of
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.partition(".")[0] != "triton":
            raise
        return (
            f"The GPU kernels need Triton, but there is no module {missing.name!r}: "
            "pip install 'bitfront[gpu]'."
        )
    try:
        require_supported(capability_of(device))
    except ValueError as too_old:
        return str(too_old)
    return None


@cache
def _warn(reason: str) -> None:
    # by the reason, not by the device: a process says each once
    warnings.warn(
        "The low-bit operators run on the exact reference on this device, hundreds of times slower "
        f"than by kernels. {reason}",
        RuntimeWarning,
        stacklevel=2,
    )
