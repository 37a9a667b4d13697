"""A finish as the CPU kernels take it: in the order of their panels, of popcounts where it can."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from bitfront.kernels import finish as shared
from bitfront.kernels.cpu.weight import by_panel
from bitfront.kernels.finish import Affine, Finish, Requantise, Threshold, constants_of
from bitfront.kernels.geometry import Conv2dGeometry
from bitfront.kernels.packing import pack_bits


def check_finish(finish: Finish | None, conv: Conv2dGeometry) -> None:
    """Check that a finish fits the outputs of a geometry and is one that CPU kernels make.

    Raises:
        TypeError: As `bitfront.kernels.finish.check_finish`.
        ValueError: As there; or if it makes codes of several bits, or floats other than float32.
    """
    shared.check_finish(finish, conv.outputs, torch.device("cpu"))
    if isinstance(finish, Requantise):
        raise ValueError(
            "`finish` must be an Affine, a Threshold or None on the CPU, whose kernels store no "
            "codes of several bits, but got a Requantise."
        )
    if isinstance(finish, Affine) and finish.dtype != torch.float32:
        raise ValueError(f"`dtype` must be torch.float32 on the CPU, but got {finish.dtype}.")


def of_multiples(finish: Finish, factor: int) -> Finish | None:
    """A finish g with ``g(n) == finish(factor * n)`` for all sums n; None if there is none.

    Args:
        finish: Of sums, an `Affine` or a `Threshold`.
        factor: A power of two or its negative, so that no product is rounded differently.
    """
    if isinstance(finish, Requantise):
        return None
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
        for name, values in constants_of(finish).items()
    }
    if "flip" in panels:
        panels["flip"] = pack_bits(panels["flip"])
    return panels
