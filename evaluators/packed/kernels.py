"""What packed inference asks of a device: products of packed maps, packing, 32-bit layers.

The steps of a network, where its maps lie and what is folded into what are the same on each
device; only what is named here differs. `cpu_kernels` has the compiled kernels of a CPU,
`gpu_kernels` those of a GPU.

Shape suffixes: B batch, H height, W width, C channels, P words of a row, Q planes, Y and X rows and
columns of a result, N outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol

import torch
from torch import Tensor

from bitfront.evaluators.packed.codes import Numbers
from bitfront.evaluators.packed.fold import Crossings
from bitfront.evaluators.packed.planes import Staircase
from bitfront.kernels.finish import Affine
from bitfront.kernels.geometry import Conv2dGeometry, Fill
from bitfront.kernels.layout import CodeFormat
from bitfront.kernels.operands import Packed
from bitfront.spaces.ops import MaxPool

MAP_DTYPES: Final = (torch.float32, torch.bfloat16)
"""What maps of floats may be on a GPU; on a CPU only the first."""

Run = Callable[..., Tensor]
"""A step: from the values that it reads to its own."""

Multiply = Callable[[Tensor, Tensor | None], Tensor]
"""From what a layer reads, and where to write or add, to its finished sums [B, Y, X, N]."""


class Stopwatch(Protocol):
    """Takes the times between the steps of one run."""

    def mark(self) -> None:
        """A step ends and the next begins."""

    def seconds(self) -> list[float] | None:
        """Between the marks; None if the host was too slow, and the run is to be made again."""


class Kernels(Protocol):
    """What computes layers on a device."""

    @property
    def name(self) -> str:
        """Instruction set or device class: "avx512vpopcntdq", "Triton, sm_90"."""

    @property
    def device(self) -> torch.device:
        """Where maps and constants are."""

    @property
    def dtype(self) -> torch.dtype:
        """Of maps of floats between the steps."""

    @property
    def joins_planes(self) -> bool:
        """Whether a product of several planes is finished in one pass, like one of single bits."""

    def settings(self) -> AbstractContextManager[None]:
        """What torch's own operations run under: so many threads."""

    def weight(self, packed: Packed, groups: int) -> Any:
        """A weight as `of_words` and `of_signs` take it."""

    def of_words(
        self,
        conv: Conv2dGeometry,
        format: CodeFormat,
        weight: Any,
        *,
        finish: Affine,
        fill: Fill,
        dtype: torch.dtype | None = None,
    ) -> Multiply:
        """The product of words [Q, B, H, W, P], in another dtype than that of maps if given."""

    def of_signs(
        self,
        conv: Conv2dGeometry,
        signs: Crossings | None,
        weight: Any,
        *,
        finish: Affine,
        fill: Fill,
    ) -> Multiply:
        """The product of the signs of floats [B, H, W, C]; None: they change at 0."""

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
        """The product of the codes of floats: a map (B, C, H, W), which may be flattened, or a row.

        Args:
            conv: Its geometry.
            format: Of the codes.
            weight_NhwC: int64 whole numbers.
            weight_format: What their bits are worth.
            numbers: Of the quantizer; None where floats are the whole numbers themselves.
            finish: What becomes of the sums.
            fill: Of the padding.
        """

    def planes(self, stairs: Staircase) -> Callable[[Tensor], Tensor]:
        """What packs floats [B, H, W, C] into the planes of their codes, [Q, B, H, W, P]."""

    def signs(self, signs: Crossings | None, channels: int) -> Callable[[Tensor, Tensor], None]:
        """What packs the signs of floats [B, H, W, C] into words [B, H, W, P]."""

    def interleave(self, first: Tensor, second: Tensor) -> Tensor:
        """Words [..., 2 P]: the channels of two maps in turn."""

    def floats(self, words: Tensor, channels: int) -> Tensor:
        """The map of words [B, H, W, P], (B, C, H, W) of -1 and +1."""

    def convolution(
        self, conv: Conv2dGeometry, weight: Tensor, bias: Tensor | None, *, rectifies: bool
    ) -> Run:
        """A 32-bit convolution of zero-padded maps, with a ReLU behind it where asked for."""

    def max_pool(self, op: MaxPool, rows: int, columns: int) -> Run | None:
        """A faster form of a pool than torch's, if there is one."""

    def captured(
        self, call: Callable[[Tensor], Tensor], images: Tensor
    ) -> Callable[[Tensor], Tensor] | None:
        """The same call for images of that size without the cost of its launches, if it has any.

        Args:
            call: From images to logits, by operations that do not wait for the device.
            images: Of the size and dtype of all others.

        Returns:
            A call whose result the next call overwrites, or None.
        """

    def stopwatch(self, *, waits: bool = True) -> Stopwatch:
        """A new one, for one run; ``waits``: where the host is slow, asks for another run."""

    def begin(self) -> None:
        """A run begins: what was wrong with another one is forgotten."""

    def check(self) -> None:
        """Wait for a run, and raise what is wrong with its images.

        Raises:
            ValueError: If a value before a sign or code was NaN, which has none.
        """
