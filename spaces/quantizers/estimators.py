"""Signs whose derivative is not the clipped one: the same values, other gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.graph import Domain
from bitfront.spaces.quantizers.quantizer import Quantizer, quantizers
from bitfront.spaces.quantizers.sign import Sign

if TYPE_CHECKING:
    from torch import Tensor


_SIGN = Sign()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Estimated(Quantizer):
    """A sign that differs from ``Sign`` in its derivative only."""

    domain: ClassVar[Domain] = Domain.BIPOLAR

    @property
    def bits(self) -> int:
        """1."""
        return 1

    def q(self, x: Tensor) -> Tensor:
        """Return -1 or +1 for each value."""
        return _SIGN.q(x)

    def levels(self) -> tuple[float, ...]:
        """-1 and +1."""
        return _SIGN.levels()


@quantizers.register("approx_sign")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ApproxSign(Estimated):
    r"""Sign with the derivative of a piecewise quadratic.

    ::

        q(x)  = +1 if x >= 0 else -1
        dq/dx = 2 - 2 |x| if |x| <= 1 else 0

    Examples:
        >>> import torch
        >>> x = torch.tensor([-1.5, -0.5, 0.0, 0.75])
        >>> ApproxSign().q(x).tolist()
        [-1.0, -1.0, 1.0, 1.0]
        >>> ApproxSign().dq(x, t_clip=1.0).tolist()
        [0.0, 1.0, 2.0, 0.5]

    References:
        Liu et al. 2018, Bi-Real Net (arXiv:1808.00278), Sec. 3.3.
    """

    kind: ClassVar[str] = "approx_sign"

    def dq(self, x: Tensor, t_clip: float) -> Tensor:
        """Return 0 to 2 for each value."""
        return (2 - 2 * x.abs()).clamp_min(0)


@quantizers.register("swish_sign")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SwishSign(Estimated):
    r"""Sign with the derivative of a scaled and shifted Swish function.

    ::

        q(x)  = +1 if x >= 0 else -1
        dq/dx = beta (2 - beta x tanh(beta x / 2)) / (1 + cosh(beta x))

    Attributes:
        beta: How steep the function is at zero.

    Examples:
        >>> import torch
        >>> x = torch.tensor([-2.0, -0.0, 0.2])
        >>> SwishSign().q(x).tolist()
        [-1.0, 1.0, 1.0]
        >>> [round(v, 4) for v in SwishSign().dq(x, t_clip=1.0).tolist()]
        [-0.0036, 5.0, 3.0237]

    References:
        Darabi et al. 2018, BNN+ (arXiv:1812.11800), Sec. 3.
    """

    kind: ClassVar[str] = "swish_sign"
    beta: float = 5.0

    def check(self) -> None:
        """A positive beta."""
        if not self.beta > 0:
            raise InvalidValue(f"beta must be positive, but is {self.beta}.")

    def dq(self, x: Tensor, t_clip: float) -> Tensor:
        """Return the derivative of the Swish function."""
        # cosh overflows; with e = exp(-beta |x|), 1 / (1 + cosh) = 2 e / (1 + e)^2
        scaled = self.beta * x.abs()
        e = (-scaled).exp()
        # beyond 80 the factor e is zero in float32; the bound keeps 0 * inf away
        inner = 2 - scaled.clamp_max(80.0) * (1 - e) / (1 + e)
        return self.beta * inner * 2 * e / (1 + e).square()


ESTIMATORS: Final[dict[str, Quantizer]] = {
    "sign": _SIGN,
    "approx_sign": ApproxSign(),
    "swish_sign": SwishSign(),
}
"""The derivatives that a recipe can choose for the signs of activations."""
