"""Half-wave Gaussian quantisation: equally spaced levels that fit half of a Gaussian."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from bitfront.spaces.graph import Domain
from bitfront.spaces.quantizers.quantizer import (
    Quantizer,
    check_width,
    nearest_threshold,
    quantizers,
)

if TYPE_CHECKING:
    from torch import Tensor

STEPS: Final = {1: 0.798, 2: 0.538, 3: 0.322, 4: 0.184}
"""By width, the step of least mean squared error for the positive half of N(0, 1).

0.538 is the paper's; the others minimise the same integral. At 1 bit it is sqrt(2 / pi)."""


@quantizers.register("hwgq")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HalfWave(Quantizer):
    r"""k-bit activations for normalised maps: 0 for what is negative, else the nearest step.

    ::

        m     = 2^k - 1,  d = 0.798, 0.538, 0.322, 0.184 for k = 1, 2, 3, 4
        q(x)  = 0 if x <= 0, else d min(max(ceil(x / d - 1/2), 1), m)
        dq/dx = 1 if 0 < x <= m d else 0         (a clipped ReLU's)

    Attributes:
        width: k, 1 to 4 bits.

    Examples:
        >>> import torch
        >>> x = torch.tensor([-1.0, 0.1, 1.0, 1.5, 9.0])
        >>> [round(v, 3) for v in HalfWave().q(x).tolist()]
        [0.0, 0.538, 1.076, 1.614, 1.614]
        >>> HalfWave().dq(x, t_clip=1.0).tolist()
        [0.0, 1.0, 1.0, 1.0, 0.0]

    References:
        Cai et al. 2017, HWGQ (arXiv:1702.00953), and the authors' code for the thresholds.
    """

    kind: ClassVar[str] = "hwgq"
    domain: ClassVar[Domain] = Domain.CODE
    for_weights: ClassVar[bool] = False
    width: int = 2

    def check(self) -> None:
        """1 to 4 bits."""
        check_width(self.width, low=1, high=4)

    @property
    def bits(self) -> int:
        """``width``."""
        return self.width

    @property
    def step(self) -> float:
        """D."""
        return STEPS[self.width]

    @property
    def top(self) -> int:
        """m, the number of the highest level."""
        return int(2**self.width - 1)

    def q(self, x: Tensor) -> Tensor:
        """Return 0 or one of m positive levels."""
        number = (x / self.step - 0.5).ceil().clamp(1, self.top)
        return number * self.step * (x > 0)

    def dq(self, x: Tensor, t_clip: float) -> Tensor:
        """Return 1 up to the highest level, else 0."""
        return ((x > 0) & (x <= self.top * self.step)).to(x.dtype)

    def levels(self) -> tuple[float, ...]:
        """``i d`` for i = 0 .. m."""
        return tuple(i * self.step for i in range(self.top + 1))

    def margin(self, x: Tensor) -> Tensor:
        """The lowest threshold is 0, the others lie half way between two levels."""
        import torch

        inner = [(i + 0.5) * self.step for i in range(1, self.top)]
        return nearest_threshold(x, torch.tensor([0.0, *inner], dtype=torch.float64))
