"""What becomes of a product's sums: floats or bits, fused into the kernels where it can be."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bitfront.kernels.cpu.weight import by_panel
from bitfront.kernels.geometry import Conv2dGeometry
from bitfront.kernels.packing import pack_bits


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Affine:
    """Finish sums as floats, ``scale[n] * sum + shift[n]``: a batch norm.

    Attributes:
        scale: float32 [N].
        shift: float32 [N].
        merges: Add to what is in the result already: a shortcut.
    """

    scale: Tensor
    shift: Tensor
    merges: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Threshold:
    """Finish sums as bits, ``(sum >= threshold[n]) != flip[n]``: a batch norm and a sign.

    Attributes:
        threshold: int32 [N].
        flip: bool [N]; True where the batch norm's scale is negative.
    """

    threshold: Tensor
    flip: Tensor


Finish = Affine | Threshold


def check_finish(finish: Finish | None, conv: Conv2dGeometry) -> None:
    """Raise ``ValueError`` unless a finish has a value of the right dtype for each output."""
    if finish is None:
        return
    pairs = (
        (("scale", finish.scale, torch.float32), ("shift", finish.shift, torch.float32))
        if isinstance(finish, Affine)
        else (("threshold", finish.threshold, torch.int32), ("flip", finish.flip, torch.bool))
    )
    for name, values, dtype in pairs:
        if values.dtype != dtype or values.shape != (conv.outputs,):
            raise ValueError(
                f"`{name}` must be {dtype} [{conv.outputs}], but got {values.dtype} "
                f"{list(values.shape)}."
            )


def finished(sums: Tensor, finish: Finish | None) -> Tensor:
    """Finish int32 sums [..., N] with torch, where a kernel cannot."""
    if isinstance(finish, Affine):
        return sums.float() * finish.scale + finish.shift
    if isinstance(finish, Threshold):
        return pack_bits((sums >= finish.threshold) != finish.flip)
    return sums


def by_output(finish: Finish | None, groups: int) -> tuple[Tensor, ...]:
    """A finish's constants in the order of the panels."""
    if isinstance(finish, Affine):
        return by_panel(finish.scale[None], groups), by_panel(finish.shift[None], groups)
    if isinstance(finish, Threshold):
        flips = pack_bits(by_panel(finish.flip[None], groups))
        return by_panel(finish.threshold[None], groups), flips
    return ()
