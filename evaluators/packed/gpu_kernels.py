"""Packed inference on the Triton kernels of a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from bitfront.evaluators.packed.codes import Numbers
from bitfront.evaluators.packed.cpu_kernels import CpuStopwatch
from bitfront.evaluators.packed.cuda_graphs import Delay, EventStopwatch, captured, tuned_cudnn
from bitfront.evaluators.packed.fold import Crossings
from bitfront.evaluators.packed.kernels import MAP_DTYPES, Multiply, Run, Stopwatch
from bitfront.evaluators.packed.planes import Staircase
from bitfront.kernels.finish import Affine
from bitfront.kernels.geometry import Conv2dGeometry, Fill
from bitfront.kernels.gpu.comparing import Bounds, pack_compared
from bitfront.kernels.gpu.comparing import signs as bounds_at_zero
from bitfront.kernels.gpu.dispatch import require_supported
from bitfront.kernels.gpu.interleave import interleave
from bitfront.kernels.gpu.launch import require_device
from bitfront.kernels.gpu.packing import pack_codes
from bitfront.kernels.gpu.prepare import capability_of, prepare_product
from bitfront.kernels.gpu.unpacking import unpack_signs
from bitfront.kernels.gpu.weight import GpuWeight, prepare_weight
from bitfront.kernels.layout import BINARY, CodeFormat
from bitfront.kernels.operands import Packed
from bitfront.kernels.packing import pack_codes as pack_weight
from bitfront.spaces.ops import MaxPool


class GpuKernels:
    """The Triton kernels, as `bitfront.evaluators.packed.kernels.Kernels` says.

    A NaN before a sign or code is noted on the device while packing, and told of by `check`. 32-bit
    layers run as torch's own settings say: convolutions in TF32, unless
    ``torch.backends.cudnn.allow_tf32`` is False.

    Args:
        device: A CUDA device; the CPU where Triton's interpreter runs the kernels, for tests.
        dtype: Of maps of floats: torch.float32, or torch.bfloat16, which takes half the memory and
            the tensor cores of 32-bit layers. What a layer of signs or codes reads is compared in
            float32 either way.

    Raises:
        ValueError: If the kernels do not run there, or maps have no such dtype.
    """

    joins_planes = True

    def __init__(self, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        if dtype not in MAP_DTYPES:
            raise ValueError(
                f"`dtype` must be {' or '.join(map(str, MAP_DTYPES))}, but got {dtype}."
            )
        self.dtype = dtype
        self._nan = torch.zeros(1, dtype=torch.int32, device=device)
        require_device("device", self._nan)
        # with its number, as tensors have it
        self.device = self._nan.device
        capability = capability_of(self.device)
        require_supported(capability)
        is_cuda = device.type == "cuda"
        self.name = f"Triton, sm_{capability}" if is_cuda else "Triton, interpreted"
        self._delay = Delay()

    @contextmanager
    def settings(self) -> Iterator[None]:
        """On this device, whichever is the current one, with cuDNN's fastest kernels."""
        cuda: Any = torch.cuda
        is_cuda = self.device.type == "cuda"
        with cuda.device(self.device) if is_cuda else nullcontext(), tuned_cudnn():
            yield

    def weight(self, packed: Packed, groups: int) -> GpuWeight:
        """In rows of words."""
        return prepare_weight(packed, groups)

    def of_words(
        self,
        conv: Conv2dGeometry,
        format: CodeFormat,
        weight: GpuWeight,
        *,
        finish: Affine,
        fill: Fill,
        dtype: torch.dtype | None = None,
    ) -> Multiply:
        """The product of words [Q, B, H, W, P]."""
        ending = replace(finish, dtype=dtype or self.dtype)
        product = prepare_product(conv, format, weight, fill=fill, finish=ending)
        return lambda x, into: product(x, out=into)

    def of_signs(
        self,
        conv: Conv2dGeometry,
        signs: Crossings | None,
        weight: GpuWeight,
        *,
        finish: Affine,
        fill: Fill,
    ) -> Multiply:
        """The product of the signs of floats, which are packed first."""
        product = self.of_words(conv, BINARY, weight, finish=finish, fill=fill)
        bounds, nan = self._bounds(signs, conv.channels), self._nan
        return lambda x, into: product(pack_compared(x, bounds, nan=nan), into)

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
        """The product of codes that are rounded by torch, then packed into planes."""
        weight = self.weight(pack_weight(weight_NhwC, weight_format), conv.groups)
        product = self.of_words(conv, format, weight, finish=finish, fill=fill)
        shape = (conv.batch, conv.height, conv.width, conv.channels)

        def run(x: Tensor, into: Tensor | None) -> Tensor:
            # numbers are rounded as the network rounds them
            values = x if numbers is None else numbers.of(x.float())
            torch.bitwise_or(self._nan, values.isnan().any().int(), out=self._nan)
            # a map that is flattened behind its quantizer becomes a row
            is_map = values.dim() == 4 and values.shape[1] == conv.channels
            values = values.permute(0, 2, 3, 1) if is_map else values.reshape(shape)
            return product(pack_codes(values.int(), format, check=False).words, into)

        return run

    def planes(self, stairs: Staircase) -> Callable[[Tensor], Tensor]:
        """What packs floats into the planes of their codes."""
        channels, nan = stairs.channels, self._nan
        count = len(stairs.changes)

        def bounds(values: Tensor, flips: Tensor) -> Bounds:
            return Bounds(
                values=values,
                flips=flips,
                changes=stairs.changes,
                start=stairs.start,
                planes=stairs.bits,
            )

        if stairs.crossings is not None:
            fixed = bounds(*stairs.crossings)
            return lambda x: pack_compared(x, fixed, nan=nan)
        nowhere = torch.zeros(count, channels, dtype=torch.bool, device=self.device)

        def of_images(x: Tensor) -> Tensor:
            values = stairs.of_images(x.float())[..., None].expand(-1, -1, channels)
            return pack_compared(x, bounds(values, nowhere), nan=nan)

        return of_images

    def signs(self, signs: Crossings | None, channels: int) -> Callable[[Tensor, Tensor], None]:
        """What packs the signs of floats."""
        bounds, nan = self._bounds(signs, channels), self._nan

        def run(x_BHWC: Tensor, out_BHWP: Tensor) -> None:
            pack_compared(x_BHWC, bounds, nan=nan, out=out_BHWP[None])

        return run

    def interleave(self, first: Tensor, second: Tensor) -> Tensor:
        """The channels of two maps in turn."""
        return interleave(first, second)

    def floats(self, words: Tensor, channels: int) -> Tensor:
        """The map of words."""
        return unpack_signs(words, channels, self.dtype)

    def convolution(
        self, conv: Conv2dGeometry, weight: Tensor, bias: Tensor | None, *, rectifies: bool
    ) -> Run:
        """By torch: cuDNN."""
        laid = weight.to(self.dtype, memory_format=torch.channels_last)
        added = None if bias is None else bias.to(self.dtype)

        def run(x: Tensor) -> Tensor:
            y = F.conv2d(x, laid, added, conv.stride, conv.padding, conv.dilation, conv.groups)
            return y.relu_() if rectifies else y

        return run

    def max_pool(self, op: MaxPool, rows: int, columns: int) -> Run | None:
        """None: torch's own is fast."""
        return None

    def captured(
        self, call: Callable[[Tensor], Tensor], images: Tensor
    ) -> Callable[[Tensor], Tensor] | None:
        """The same call as a CUDA graph."""
        return captured(call, images) if self.device.type == "cuda" else None

    def stopwatch(self, *, waits: bool = True) -> Stopwatch:
        """By CUDA events, behind a delay while the host queues the run."""
        if self.device.type != "cuda":
            return CpuStopwatch(perf_counter)
        return EventStopwatch(self._delay, waits)

    def begin(self) -> None:
        """No value was NaN yet."""
        self._nan.zero_()

    def check(self) -> None:
        """Wait for a run, and raise if a value before a sign or code was NaN."""
        if bool(self._nan):
            raise ValueError(
                "What is made signs or codes must not have NaN, which is none, but got at least "
                "one."
            )

    def _bounds(self, signs: Crossings | None, channels: int) -> Bounds:
        if signs is None:
            return bounds_at_zero(channels, self.device)
        return Bounds(values=signs.values, flips=signs.flips, changes=(1,), start=0, planes=1)
