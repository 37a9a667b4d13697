"""Step functions in few passes over memory.

What they cost is not arithmetic but new tensors, so each makes one and changes it in place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def signs(x: Tensor) -> Tensor:
    """+1 where ``x >= 0``, at -0.0 too, else -1, at NaN too."""
    return x.clone().ge_(0).mul_(2).sub_(1)


def signs_above(x: Tensor, threshold: Tensor) -> Tensor:
    """+1 where ``x >= threshold``, else -1; the threshold broadcasts."""
    return x.clone().ge_(threshold).mul_(2).sub_(1)


def within(x: Tensor, limit: float) -> Tensor:
    """1 where ``|x| <= limit``, else 0, at NaN too."""
    return x.abs().le_(limit)
