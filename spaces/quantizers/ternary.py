"""Three levels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.graph import Domain
from bitfront.spaces.quantizers.quantizer import Quantizer, quantizers

if TYPE_CHECKING:
    from torch import Tensor


@quantizers.register("ternary")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ternary(Quantizer):
    r"""-1, 0 or +1 by a threshold.

    ::

        d     = threshold, or threshold * mean |x_n| of filter (or image) n if relative
        q(x)  = +1 if x > d, -1 if x < -d, else 0
        dq/dx =  1 if |x| <= t_clip else 0    (``clipped=False``: 1)

    Attributes:
        threshold: A value, or a share of the mean magnitude; 0.05 and 0.7 are usual.
        relative: Whether it is a share.
        clipped: Whether ``t_clip`` cuts the gradient; of weights it does not.

    Examples:
        >>> import torch
        >>> x = torch.tensor([[-2.0, -0.3, 0.05, 0.1, 0.8]])
        >>> Ternary().q(x).tolist()
        [[-1.0, -1.0, 0.0, 1.0, 1.0]]
        >>> Ternary(threshold=0.7, relative=True).q(x).tolist()
        [[-1.0, 0.0, 0.0, 0.0, 1.0]]
        >>> Ternary().dq(x, t_clip=1.0).tolist()
        [[0.0, 1.0, 1.0, 1.0, 1.0]]

    References:
        Wan et al. 2018, TBN (ECCV 2018), for ternary inputs; Li et al. 2016, TWN
        (arXiv:1605.04711), for 0.7 times the mean; larq ``SteTern`` for 0.05.
    """

    kind: ClassVar[str] = "ternary"
    domain: ClassVar[Domain] = Domain.CODE
    threshold: float = 0.05
    relative: bool = False
    clipped: bool = True

    def check(self) -> None:
        """A positive threshold."""
        if not self.threshold > 0:
            raise InvalidValue(f"threshold must be positive, but is {self.threshold}.")

    @property
    def bits(self) -> int:
        """2."""
        return 2

    def as_weight(self) -> Quantizer:
        """The gradient of weights is not cut."""
        return replace(self, clipped=False)

    def cut(self, x: Tensor) -> Tensor | float:
        """d, in a shape that broadcasts."""
        if not self.relative:
            return self.threshold
        mean = x.abs().flatten(1).mean(1)
        return self.threshold * mean.reshape(-1, *[1] * (x.dim() - 1))

    def q(self, x: Tensor) -> Tensor:
        """Return -1, 0 or +1 for each value."""
        d = self.cut(x)
        return (x > d).to(x.dtype) - (x < -d).to(x.dtype)

    def dq(self, x: Tensor, t_clip: float) -> Tensor:
        """Return 0 or 1 for each value."""
        return (x.abs() <= t_clip).to(x.dtype) if self.clipped else x.new_ones(x.shape)

    def levels(self) -> tuple[float, ...]:
        """-1, 0 and +1."""
        return (-1.0, 0.0, 1.0)

    def margin(self, x: Tensor) -> Tensor:
        """The thresholds are -d and d."""
        return (x.abs() - self.cut(x)).abs()
