"""What becomes of a product's sums: floats or bits, fused into the kernels where it can be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from bitfront.kernels.cpu.checks import require_dense
from bitfront.kernels.cpu.weight import by_panel
from bitfront.kernels.geometry import Conv2dGeometry
from bitfront.kernels.packing import pack_bits


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Affine:
    """Finish sums as floats: a batch norm, and what may follow it.

    ::

        y = scale[n] * sum + shift[n]
        y = max(0, y)                             if it rectifies: a ReLU
        y = scale_after[n] * y + shift_after[n]   if it has them: a batch norm behind the ReLU
        out = y, or out + y                       if it merges: a shortcut

    Each product and each sum is rounded to float32. Without a ReLU between them, two norms are
    one: fold them.

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
    """

    scale: Tensor
    shift: Tensor
    merges: bool = False
    rectifies: bool = False
    scale_after: Tensor | None = None
    shift_after: Tensor | None = None


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
    """Check that a finish has a value of the right dtype for each output, on the CPU.

    Raises:
        TypeError: If it is no finish, or a constant is no tensor.
        ValueError: If a constant has another dtype, shape or device, or misses its pair.
    """
    if not (finish is None or isinstance(finish, (Affine, Threshold))):
        raise TypeError(
            f"`finish` must be None, an Affine or a Threshold, but got {type(finish).__name__}."
        )
    for name, values in _constants(finish).items():
        require_dense(name, values, _DTYPES.get(name, torch.float32), (conv.outputs,))
    if isinstance(finish, Affine):
        after = [name for name in ("scale_after", "shift_after") if name in _constants(finish)]
        if len(after) == 1 or (after and not finish.rectifies):
            raise ValueError(
                "`scale_after` and `shift_after` must come together and follow `rectifies`, but "
                f"got {' and '.join(after)} with rectifies={finish.rectifies}."
            )


_DTYPES: Final = {"threshold": torch.int32, "flip": torch.bool}


def _constants(finish: Finish | None) -> dict[str, Tensor]:
    """A finish's values per output, by name."""
    if isinstance(finish, Threshold):
        return {"threshold": finish.threshold, "flip": finish.flip}
    if finish is None:
        return {}
    named = {"scale": finish.scale, "shift": finish.shift}
    after = {"scale_after": finish.scale_after, "shift_after": finish.shift_after}
    return named | {name: values for name, values in after.items() if values is not None}


def finished(sums: Tensor, finish: Finish | None) -> Tensor:
    """Finish int32 sums [..., N] with torch, where a kernel cannot; the caller merges."""
    if isinstance(finish, Affine):
        y = sums.float() * finish.scale + finish.shift
        if finish.rectifies:
            y = y.clamp_min(0.0)
        if finish.scale_after is not None and finish.shift_after is not None:
            y = y * finish.scale_after + finish.shift_after
        return y
    if isinstance(finish, Threshold):
        return pack_bits((sums >= finish.threshold) != finish.flip)
    return sums


def of_multiples(finish: Finish, factor: int) -> Finish | None:
    """A finish g with ``g(n) == finish(factor * n)`` for all sums n; None if there is none.

    Args:
        finish: Of sums.
        factor: A power of two or its negative, so that no product is rounded differently.
    """
    if isinstance(finish, Threshold):
        reached = finish.threshold.to(torch.int64)
        flip = finish.flip
        if factor > 0:
            reached = -(-reached // factor)
        else:
            # factor * n >= t means n <= floor(t / factor), not n >= that + 1
            reached, flip = torch.div(reached, factor, rounding_mode="floor") + 1, ~flip
        if not torch.equal(reached, reached.to(torch.int32).to(torch.int64)):
            return None
        return Threshold(threshold=reached.to(torch.int32), flip=flip)
    scale = finish.scale * factor
    if not torch.equal(scale.isfinite(), finish.scale.isfinite()):
        return None
    return replace(finish, scale=scale)


def by_output(finish: Finish | None, groups: int) -> dict[str, Tensor]:
    """A finish's constants in the order of the panels, by the names of a job's fields."""
    panels = {
        name: by_panel(values[None], groups).contiguous()
        for name, values in _constants(finish).items()
    }
    if "flip" in panels:
        panels["flip"] = pack_bits(panels["flip"])
    return panels
