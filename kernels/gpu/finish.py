"""What becomes of a product's sums inside the kernel: floats or bits, or nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from bitfront.kernels.layout import require_int
from bitfront.kernels.packing import pack_bits

MAX_REQUANTISED_BITS: Final = 4
"""Widest code that thresholds make: 15 comparisons of each sum."""

_FLOATS: Final = (torch.bfloat16, torch.float32)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Affine:
    """Finish sums as floats, ``scale[n] * sum + shift[n]`` in float32, rounded once to `dtype`.

    Attributes:
        scale: float32 [N].
        shift: float32 [N].
        dtype: torch.bfloat16 or torch.float32.
    """

    scale: Tensor
    shift: Tensor
    dtype: torch.dtype = torch.bfloat16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Threshold:
    """Finish sums as bits, ``(sum >= threshold[n]) != flip[n]``: a batch norm and a sign.

    Attributes:
        threshold: int32 [N].
        flip: bool [N]; True where the batch norm's scale is negative.
    """

    threshold: Tensor
    flip: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Requantise:
    """Finish sums as codes of 1 to 4 bits: a batch norm and a quantizer of 2^k levels.

    ::

        passed = number of j with sum >= thresholds[j, n]
        code   = passed, or 2^k - 1 - passed where flip[n]

    Any rounding is such a staircase, so no float decides on which side a sum falls.

    Attributes:
        thresholds: int32 [2^k - 1, N].
        flip: bool [N]; True where the batch norm's scale is negative.
    """

    thresholds: Tensor
    flip: Tensor

    @property
    def bits(self) -> int:
        """Bits of a code, k."""
        return (self.thresholds.shape[0] + 1).bit_length() - 1


Finish = Affine | Threshold | Requantise


def check_finish(finish: Finish | None, outputs: int, device: torch.device) -> None:
    """Check that a finish has its values of the right dtype, for each output, on the device.

    Raises:
        TypeError: It is no finish, or has no tensors.
        ValueError: A tensor has another shape, dtype or device, or there is no such code.
    """
    rows: tuple[tuple[str, Tensor, torch.dtype, tuple[int, ...]], ...]
    if finish is None:
        return
    if isinstance(finish, Affine):
        if finish.dtype not in _FLOATS:
            raise ValueError(
                f"`dtype` must be {' or '.join(map(str, _FLOATS))}, but got {finish.dtype}."
            )
        rows = (
            ("scale", finish.scale, torch.float32, (outputs,)),
            ("shift", finish.shift, torch.float32, (outputs,)),
        )
    elif isinstance(finish, Threshold):
        rows = (
            ("threshold", finish.threshold, torch.int32, (outputs,)),
            ("flip", finish.flip, torch.bool, (outputs,)),
        )
    elif isinstance(finish, Requantise):
        if not isinstance(finish.thresholds, Tensor) or finish.thresholds.dim() != 2:
            raise ValueError(
                f"`thresholds` must be a tensor [2^k - 1, {outputs}], but got "
                f"{finish.thresholds!r}."
            )
        require_int("bits", finish.bits, 1, MAX_REQUANTISED_BITS)
        rows = (
            ("thresholds", finish.thresholds, torch.int32, (2**finish.bits - 1, outputs)),
            ("flip", finish.flip, torch.bool, (outputs,)),
        )
    else:
        raise TypeError(
            "`finish` must be an Affine, a Threshold, a Requantise or None, but got "
            f"{type(finish).__name__}."
        )
    for name, values, dtype, shape in rows:
        if not isinstance(values, Tensor):
            raise TypeError(f"`{name}` must be a tensor, but got {type(values).__name__}.")
        if values.dtype != dtype or values.shape != shape or values.device != device:
            raise ValueError(
                f"`{name}` must be {dtype} {list(shape)} on {device}, but got {values.dtype} "
                f"{list(values.shape)} on {values.device}."
            )


def finished(sums: Tensor, finish: Finish | None) -> Tensor:
    """Finish int32 sums [..., N] with torch: what a fused kernel must equal.

    Returns:
        The sums; floats [..., N]; int32 words [..., P'] of bits; or words [k, ..., P'] of codes.
    """
    if isinstance(finish, Affine):
        return (sums.float() * finish.scale + finish.shift).to(finish.dtype)
    if isinstance(finish, Threshold):
        return pack_bits((sums >= finish.threshold) != finish.flip)
    if isinstance(finish, Requantise):
        passed = torch.zeros_like(sums)
        for threshold_N in finish.thresholds:
            passed += sums >= threshold_N
        codes = torch.where(finish.flip, 2**finish.bits - 1 - passed, passed)
        return torch.stack([pack_bits((codes >> q & 1).bool()) for q in range(finish.bits)])
    return sums
