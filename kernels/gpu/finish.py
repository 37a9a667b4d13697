"""How a product on a GPU ends: what its kernel makes of the sums, and where it stores them."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from bitfront.kernels.finish import Affine, Finish, Requantise, Threshold, constants_of, finished
from bitfront.kernels.geometry import Conv2dGeometry
from bitfront.kernels.gpu.rows import joined_axes
from bitfront.kernels.layout import MAX_ELEMENTS, WORD_BITS, word_count

SUMS: Final = 0
FLOAT32: Final = 1
BFLOAT16: Final = 2
CODES: Final = 3


class Ending:
    """The end of a product on one device.

    Attributes:
        finish: What becomes of the sums.
        fused: What of it the kernel does: all or, None, nothing. Torch then finishes the sums.
        options: What the kernel is compiled for: `finish_options` of what it does.
        values: What the kernel reads of it: `finish_values`.
    """

    def __init__(self, conv: Conv2dGeometry, finish: Finish | None, device: torch.device) -> None:
        # codes of several groups fill a row of words only where each group fills its own
        whole = conv.groups == 1 or conv.group_outputs % WORD_BITS == 0
        self.finish = finish
        self.fused = finish if whole or isinstance(finish, Affine) else None
        self.options = finish_options(self.fused)
        self.values = finish_values(self.fused)
        self._conv = conv
        self._device = device

    @property
    def stores_codes(self) -> bool:
        """Whether the kernel stores words of codes."""
        return isinstance(self.fused, Threshold | Requantise)

    def written(self, out: Tensor | None) -> Tensor:
        """Where the kernel writes: `out` itself, if there is one and the kernel does all.

        Raises:
            TypeError: If `out` is no tensor.
            ValueError: If it does not fit, or a finish that merges has none.
        """
        if out is not None:
            require_out(out, *self._result_of(self.finish), self._device)
            if self.fused is self.finish:
                return out
        elif isinstance(self.finish, Affine) and self.finish.merges:
            raise ValueError("A finish that merges needs `out`, which it adds to.")
        shape, dtype = self._result_of(self.fused)
        return torch.empty(shape, dtype=dtype, device=self._device)

    def result(self, written: Tensor, out: Tensor | None) -> Tensor:
        """The finished result of what the kernel wrote."""
        if self.fused is self.finish:
            return written
        done = finished(written, self.finish)
        return done if out is None else out.copy_(done)

    def _result_of(self, finish: Finish | None) -> tuple[tuple[int, ...], torch.dtype]:
        """Shape and dtype."""
        conv = self._conv
        shape: tuple[int, ...] = (conv.batch, conv.out_height, conv.out_width, conv.outputs)
        if isinstance(finish, Affine):
            return shape, finish.dtype
        if isinstance(finish, Threshold | Requantise):
            shape = (*shape[:-1], word_count(conv.outputs))
        if isinstance(finish, Requantise):
            shape = (finish.bits, *shape)
        return shape, torch.int32


def finish_options(finish: Finish | None) -> dict[str, int]:
    """What a kernel is compiled for, as `bitfront.kernels.gpu.epilogue` names it."""
    options = {"FINISH": SUMS, "BITS": 1, "AFTER": 0, "MERGES": 0}
    if isinstance(finish, Affine):
        options["FINISH"] = BFLOAT16 if finish.dtype == torch.bfloat16 else FLOAT32
        options["AFTER"] = int(finish.rectifies) + (finish.scale_after is not None)
        options["MERGES"] = int(finish.merges)
    elif finish is not None:
        options["FINISH"] = CODES
        options["BITS"] = finish.bits if isinstance(finish, Requantise) else 1
    return options


def finish_values(finish: Finish | None) -> Tensor | None:
    """What a kernel reads of a finish.

    Returns:
        float32 [2, N] of scale and shift, or [4, N] with those after a ReLU; int32 [2^k, N] of
        thresholds, then flips; or None.
    """
    if finish is None:
        return None
    dtype = torch.float32 if isinstance(finish, Affine) else torch.int32
    outputs = finish.scale.shape[0] if isinstance(finish, Affine) else finish.flip.shape[0]
    rows = [x.to(dtype).reshape(-1, outputs) for x in constants_of(finish).values()]
    return torch.cat(rows).detach()


def require_out(
    out: Tensor, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> None:
    """Check where a result goes.

    Raises:
        TypeError: If it is no tensor.
        ValueError: If it has another shape, dtype or device, or its rows no common distance.
    """
    if not isinstance(out, Tensor):
        raise TypeError(f"`out` must be a torch.Tensor, but got {type(out).__name__}.")
    if out.shape != shape or out.dtype != dtype or out.device != device:
        raise ValueError(
            f"`out` must be {dtype} {list(shape)} on {device}, but got {out.dtype} "
            f"{list(out.shape)} on {out.device}."
        )
    row_pitch(out)


def row_pitch(out: Tensor) -> int:
    """Elements from a row of a result [..., N] to the next, the same between any two of a plane.

    A run of channels of a larger map has one, which is then more than N.

    Raises:
        ValueError: If there is none, elements meet, or some lie 2^31 elements on.
    """
    last = out.shape[-1]
    axes = joined_axes(out.shape[-4:-1], out.stride()[-4:-1]) or [(1, (last,))]
    rows, (pitch,) = axes[-1]
    dense = len(axes) == 1 and (out.stride(-1) == 1 or last == 1)
    plane = rows * pitch
    apart, reach = True, plane
    if out.dim() == 5:
        apart = out.shape[0] == 1 or out.stride(0) >= plane
        reach += (out.shape[0] - 1) * out.stride(0)
    if not (dense and apart and pitch >= last and reach <= MAX_ELEMENTS):
        raise ValueError(
            "`out` must be dense in its last axis and have one distance from each row to the next, "
            f"at least {last} and in all at most {MAX_ELEMENTS}, as a run of channels of a larger "
            f"map has, but got {list(out.shape)} with steps {out.stride()}."
        )
    return pitch


def plane_pitch(out: Tensor) -> int:
    """Words from a bit plane of a result [k, ..., P'] to the next."""
    return out.stride(0) if out.dim() == 5 else 0
