"""What becomes of a product's sums: floats, bits or codes, or nothing.

Kernels of CPU and GPU do it before they store a sum, and equal `finished` bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from bitfront.kernels.layout import require_int
from bitfront.kernels.packing import pack_bits

MAX_REQUANTISED_BITS: Final = 4
"""Widest code that thresholds make: 15 comparisons of each sum."""

_FLOATS: Final = (torch.float32, torch.bfloat16)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Affine:
    """Finish sums as floats: a batch norm, and what may follow it.

    ::

        y = scale[n] * sum + shift[n]
        y = max(0, y)                             if it rectifies: a ReLU
        y = scale_after[n] * y + shift_after[n]   if it has them: a batch norm behind the ReLU
        out = y, or out + y                       if it merges: a shortcut

    Each product and each sum is rounded to float32, the result once more to `dtype`. Without a
    ReLU between them, two norms are one: fold them.

    >>> ones = torch.ones(2)
    >>> finish = Affine(
    ...     scale=ones, shift=-ones, rectifies=True, scale_after=2 * ones, shift_after=ones
    ... )
    >>> finished(torch.tensor([[3, -3]]), finish)
    tensor([[5., 1.]])

    Attributes:
        scale: float32 [N].
        shift: float32 [N].
        merges: Add to what is in the result already; a prepared product then needs its `out`.
        rectifies: Clamp at 0.
        scale_after: float32 [N], or None; with `shift_after`, and only where it rectifies.
        shift_after: As `scale_after`.
        dtype: Of the result: torch.float32, or torch.bfloat16 on a GPU.
    """

    scale: Tensor
    shift: Tensor
    merges: bool = False
    rectifies: bool = False
    scale_after: Tensor | None = None
    shift_after: Tensor | None = None
    dtype: torch.dtype = torch.float32


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
    """Finish sums as codes of 1 to 4 bits, on a GPU: a batch norm and a quantizer of 2^k levels.

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
    """Check that a finish has a value of the right dtype for each output, on the device.

    Raises:
        TypeError: If it is no finish, or a constant is no tensor.
        ValueError: If a constant has another dtype, shape, layout or device, or misses its pair; or
            if there is no such code or result.
    """
    if not (finish is None or isinstance(finish, Finish)):
        raise TypeError(
            "`finish` must be an Affine, a Threshold, a Requantise or None, but got "
            f"{type(finish).__name__}."
        )
    if isinstance(finish, Requantise):
        if not isinstance(finish.thresholds, Tensor) or finish.thresholds.dim() != 2:
            raise ValueError(
                f"`thresholds` must be a torch.Tensor [2^k - 1, {outputs}], but got "
                f"{finish.thresholds!r}."
            )
        require_int("bits", finish.bits, 1, MAX_REQUANTISED_BITS)
    named = constants_of(finish)
    for name, values in named.items():
        shape: tuple[int, ...] = (outputs,)
        if name == "thresholds" and isinstance(finish, Requantise):
            shape = (2**finish.bits - 1, outputs)
        _require_constant(name, values, shape, device)
    if isinstance(finish, Affine):
        if finish.dtype not in _FLOATS:
            raise ValueError(
                f"`dtype` must be {' or '.join(map(str, _FLOATS))}, but got {finish.dtype}."
            )
        after = [name for name in ("scale_after", "shift_after") if name in named]
        if len(after) == 1 or (after and not finish.rectifies):
            raise ValueError(
                "`scale_after` and `shift_after` must come together and follow `rectifies`, but "
                f"got {' and '.join(after)} with rectifies={finish.rectifies}."
            )


def _require_constant(
    name: str, values: Tensor, shape: tuple[int, ...], device: torch.device
) -> None:
    if not isinstance(values, Tensor):
        raise TypeError(f"`{name}` must be a torch.Tensor, but got {type(values).__name__}.")
    dtype = _DTYPES.get(name, torch.float32)
    here = values.device == device and values.layout == torch.strided
    if values.dtype != dtype or values.shape != shape or not here:
        raise ValueError(
            f"`{name}` must be {dtype} {list(shape)}, dense and on {device}, but got "
            f"{values.dtype} {list(values.shape)}, layout {values.layout}, on {values.device}."
        )


_DTYPES: Final = {"threshold": torch.int32, "thresholds": torch.int32, "flip": torch.bool}


def constants_of(finish: Finish | None) -> dict[str, Tensor]:
    """A finish's values of each output, by name."""
    if isinstance(finish, Threshold):
        return {"threshold": finish.threshold, "flip": finish.flip}
    if isinstance(finish, Requantise):
        return {"thresholds": finish.thresholds, "flip": finish.flip}
    if finish is None:
        return {}
    named = {"scale": finish.scale, "shift": finish.shift}
    after = {"scale_after": finish.scale_after, "shift_after": finish.shift_after}
    return named | {name: values for name, values in after.items() if values is not None}


def finished(sums: Tensor, finish: Finish | None) -> Tensor:
    """Finish int32 sums [..., N] with torch, where a kernel cannot.

    The caller merges: adds float32 to what is there, and rounds to another `dtype` after that.

    Returns:
        The sums; floats [..., N]; int32 words [..., P'] of bits; or words [k, ..., P'] of codes.
    """
    if isinstance(finish, Affine):
        y = sums.float() * finish.scale + finish.shift
        if finish.rectifies:
            y = y.clamp_min(0.0)
        if finish.scale_after is not None and finish.shift_after is not None:
            y = y * finish.scale_after + finish.shift_after
        return y.to(finish.dtype)
    if isinstance(finish, Threshold):
        return pack_bits((sums >= finish.threshold) != finish.flip)
    if isinstance(finish, Requantise):
        passed = torch.zeros_like(sums)
        for threshold_N in finish.thresholds:
            passed += sums >= threshold_N
        codes = torch.where(finish.flip, 2**finish.bits - 1 - passed, passed)
        return torch.stack([pack_bits((codes >> q & 1).bool()) for q in range(finish.bits)])
    return sums
