"""Rows of tensors with different strides, walked together by one kernel.

A program is given one index of an outer axis and a tile of the rows below it, which are lines of
pixels. Axes that lie behind each other in every tensor count as one, so dense maps need neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
import triton
import triton.language as tl
from torch import Tensor

from bitfront.kernels.gpu.launch import require_device
from bitfront.kernels.layout import MAX_ELEMENTS

_FEW: Final = 16
"""An axis of fewer rows does not fill a tile on its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Where the rows of some tensors are.

    Attributes:
        outer: Size of the outer axis, one index for each program.
        lines: Lines of pixels below each index of it.
        pixels: Rows of a line.
        steps: For each tensor, its elements from one index of these three axes to the next.
    """

    outer: int
    lines: int
    pixels: int
    steps: tuple[tuple[int, int, int], ...]

    @property
    def count(self) -> int:
        """Rows below one index of the outer axis."""
        return self.lines * self.pixels


def joined_axes(sizes: Sequence[int], *strides: Sequence[int]) -> list[tuple[int, tuple[int, ...]]]:
    """Size and steps of the axes that are left where neighbours in line are one.

    Args:
        sizes: Of the axes, outermost first.
        strides: Of the axes, for each tensor.
    """
    joined: list[tuple[int, tuple[int, ...]]] = []
    for size, steps in zip(sizes, zip(*strides, strict=True), strict=True):
        if size == 1:
            continue
        if joined and all(a == size * b for a, b in zip(joined[-1][1], steps, strict=True)):
            joined[-1] = (joined[-1][0] * size, steps)
        else:
            joined.append((size, steps))
    return joined


def rows_of(sizes: Sequence[int], *strides: Sequence[int], keeps_first: bool = False) -> Rows:
    """Rows of tensors of one shape.

    Args:
        sizes: Of the axes before the last one of a row; at most three that cannot be joined.
        strides: Of these axes, for each tensor.
        keeps_first: Make the first axis the outer one, as it is.

    Raises:
        ValueError: More than three axes cannot be joined.
    """
    one = (1, (0,) * len(strides))
    if keeps_first:
        below = joined_axes(sizes[1:], *(steps[1:] for steps in strides))
        axes = [(sizes[0], tuple(s[0] for s in strides)), *[one] * (2 - len(below)), *below]
    else:
        axes = joined_axes(sizes, *strides)
        if len(axes) == 2 and axes[1][0] >= _FEW:
            axes.insert(1, one)
        axes = [one] * (3 - len(axes)) + axes
    if len(axes) > 3:
        raise ValueError(
            f"`sizes` must have three axes at most that steps do not join, but got {list(sizes)} "
            f"with steps {', '.join(map(str, strides))}."
        )
    (outer, lines, pixels), steps = zip(*axes, strict=True)
    return Rows(outer=outer, lines=lines, pixels=pixels, steps=tuple(zip(*steps, strict=True)))


def require_row_count(name: str, x: Tensor) -> None:
    """Check that int32 numbers the rows.

    Raises:
        ValueError: It does not.
    """
    rows = x.numel() // x.shape[-1]
    if rows > MAX_ELEMENTS:
        raise ValueError(
            f"`{name}` must have at most {MAX_ELEMENTS} rows along its last axis, but got {rows}."
        )


def require_dense_words(name: str, words: object) -> Tensor:
    """Return `words` if they are int32 [..., P] on a GPU, not empty, with a dense last axis.

    Raises:
        TypeError: No dense tensor of int32.
        ValueError: On another device, empty, or with steps along the last axis.
    """
    if not isinstance(words, Tensor) or words.dtype != torch.int32 or words.layout != torch.strided:
        got = words.dtype if isinstance(words, Tensor) else type(words).__name__
        raise TypeError(f"`{name}` must be a dense tensor of torch.int32 words, but got {got}.")
    require_device(name, words)
    if words.dim() == 0 or words.numel() == 0:
        raise ValueError(
            f"`{name}` must be words [..., P], not empty, but got shape {list(words.shape)}."
        )
    if words.shape[-1] > 1 and words.stride(-1) != 1:
        raise ValueError(
            f"`{name}` must have a dense last axis, but got shape {list(words.shape)} with steps "
            f"{words.stride()}."
        )
    return words


def require_out(name: str, out: object, shape: Sequence[int], device: torch.device) -> None:
    """Check that words can be written there.

    Raises:
        TypeError: As `require_dense_words`.
        ValueError: As `require_dense_words`, or of another shape or on another device.
    """
    words = require_dense_words(name, out)
    if words.shape != tuple(shape) or words.device != device:
        raise ValueError(
            f"`{name}` must be {list(shape)} on {device}, but got {list(words.shape)} on "
            f"{words.device}."
        )


@triton.jit
def row_start(
    row: tl.tensor,
    pixels: tl.tensor,
    line_step: tl.tensor,
    pixel_step: tl.tensor,
    LINES: tl.constexpr,
) -> tl.tensor:
    """First element of rows below an index of the outer axis, int64; LINES: more than one line."""
    if LINES:
        start = (row // pixels).to(tl.int64) * line_step + (row % pixels).to(tl.int64) * pixel_step
    else:
        start = row.to(tl.int64) * pixel_step
    return start
