"""Codes up to a learned limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.graph import Domain, ParameterSpec, Role
from bitfront.spaces.quantizers.learned import MIN_STEP, Learned
from bitfront.spaces.quantizers.quantizer import check_width, nearest_threshold, quantizers

if TYPE_CHECKING:
    from torch import Tensor


@quantizers.register("pact")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pact(Learned):
    r"""k-bit activations in [0, alpha] with a learned alpha.

    ::

        s         = alpha / (2^k - 1)
        q(x)      = s round(clip(x, 0, alpha) / s)
        dq/dx     = 1 if 0 <= x < alpha else 0
        dq/dalpha = 1 if x >= alpha else 0

    Attributes:
        width: k, 1 to 8 bits.
        initial_alpha: Where training starts. The paper starts at 10 and lets weight decay pull
            alpha down; here scales have no decay and the maps are normalised, so that 10 standard
            deviations would put nearly all values below the first threshold, and none above alpha,
            where alone it has a gradient.

    Examples:
        >>> import torch
        >>> x, alpha = torch.tensor([-1.0, 0.8, 1.7, 4.0]), torch.tensor([3.0])
        >>> Pact(width=2).q(x, alpha).tolist()
        [0.0, 1.0, 2.0, 3.0]
        >>> gx, galpha = Pact(width=2).gradients(torch.ones(4), x, 1.0, alpha)
        >>> gx.tolist(), galpha.tolist()
        ([0.0, 1.0, 1.0, 0.0], [1.0])

    References:
        Choi et al. 2018, PACT (arXiv:1805.06085), Eqs. (1) to (3).
    """

    kind: ClassVar[str] = "pact"
    domain: ClassVar[Domain] = Domain.CODE
    for_weights: ClassVar[bool] = False
    width: int = 4
    initial_alpha: float = 3.0

    def check(self) -> None:
        """1 to 8 bits and a positive start."""
        check_width(self.width, low=1)
        if not self.initial_alpha > 0:
            raise InvalidValue(f"initial_alpha must be positive, but is {self.initial_alpha}.")

    @property
    def bits(self) -> int:
        """``width``."""
        return self.width

    def params(self, shape: tuple[int, ...]) -> tuple[ParameterSpec, ...]:
        """``alpha``, one in all."""
        return (ParameterSpec("alpha", (1,), Role.SCALE),)

    def initial(self, name: str, shape: tuple[int, ...], w: Tensor | None) -> Tensor:
        """``initial_alpha``."""
        import torch

        return torch.full(shape, self.initial_alpha)

    def scale(self, alpha: Tensor) -> tuple[Tensor, Tensor]:
        """The limit and the step between two levels."""
        limit = alpha.clamp_min(MIN_STEP)
        return limit, limit / (2**self.width - 1)

    def q(self, x: Tensor, *params: Tensor) -> Tensor:
        """Return the nearest of ``2^k`` levels of [0, alpha]."""
        limit, step = self.scale(params[0])
        return (x.clamp_min(0).minimum(limit) / step).round() * step

    def gradients(
        self, grad: Tensor, x: Tensor, t_clip: float, *params: Tensor
    ) -> tuple[Tensor | None, ...]:
        """See the class."""
        limit, _ = self.scale(params[0])
        above = x >= limit
        return grad * ((x >= 0) & ~above), (grad * above).sum().reshape(1)

    def margin(self, x: Tensor, *params: Tensor) -> Tensor:
        """Half way between two levels."""
        import torch

        _, step = self.scale(params[0])
        numbers = torch.arange(2**self.width - 1, dtype=torch.float64)
        return nearest_threshold(x, (numbers + 0.5) * step.double())
