"""Signs with learned thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.graph import Domain, ParameterSpec, Role
from bitfront.spaces.quantizers.estimators import ESTIMATORS
from bitfront.spaces.quantizers.learned import Learned
from bitfront.spaces.quantizers.quantizer import quantizers
from bitfront.spaces.quantizers.steps import signs_above

if TYPE_CHECKING:
    from torch import Tensor


@quantizers.register("rsign")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RSign(Learned):
    r"""Sign with one learned threshold per channel.

    ::

        q(x)  = +1 if x >= a_c else -1
        dq/dx = dq/dx of the estimator at x - a_c,  dq/da_c = -dq/dx

    Attributes:
        estimator: "sign" (1 if |x - a_c| <= t_clip else 0), "approx_sign" or "swish_sign". A
            recipe's estimator takes the place of "sign".

    Examples:
        >>> import torch
        >>> x = torch.tensor([[-1.0, 0.5, 2.0]]).T
        >>> RSign().q(x, torch.tensor([0.5])).T.tolist()
        [[-1.0, 1.0, 1.0]]
        >>> gx, ga = RSign().gradients(torch.ones(3, 1), x, 1.0, torch.tensor([0.5]))
        >>> gx.T.tolist(), ga.tolist()
        ([[0.0, 1.0, 0.0]], [-1.0])

    References:
        Liu et al. 2020, ReActNet (arXiv:2003.03488), Sec. 4.2.
    """

    kind: ClassVar[str] = "rsign"
    domain: ClassVar[Domain] = Domain.BIPOLAR
    for_weights: ClassVar[bool] = False
    estimator: str = "sign"

    def check(self) -> None:
        """A known estimator."""
        if self.estimator not in ESTIMATORS:
            raise InvalidValue(
                f"estimator must be one of {', '.join(ESTIMATORS)}, but is {self.estimator!r}."
            )

    @property
    def bits(self) -> int:
        """1."""
        return 1

    def levels(self) -> tuple[float, ...]:
        """-1 and +1."""
        return (-1.0, 1.0)

    def params(self, shape: tuple[int, ...]) -> tuple[ParameterSpec, ...]:
        """``threshold``, one per channel."""
        return (ParameterSpec("threshold", shape[:1], Role.BIAS),)

    def initial(self, name: str, shape: tuple[int, ...], w: Tensor | None) -> Tensor:
        """Zero: a plain sign."""
        import torch

        return torch.zeros(shape)

    def q(self, x: Tensor, *params: Tensor) -> Tensor:
        """Return -1 or +1 for each value of ``(N, C, ...)``."""
        return signs_above(x, _per_channel(params[0], x))

    def gradients(
        self, grad: Tensor, x: Tensor, t_clip: float, *params: Tensor
    ) -> tuple[Tensor | None, ...]:
        """See the class."""
        shifted = x - _per_channel(params[0], x)
        given = ESTIMATORS[self.estimator].gradient(grad, shifted, t_clip)
        return given, -given.sum([d for d in range(x.dim()) if d != 1])

    def margin(self, x: Tensor, *params: Tensor) -> Tensor:
        """The channel's threshold is the only one."""
        return (x - _per_channel(params[0], x)).abs()


def _per_channel(values: Tensor, x: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (x.dim() - 2))
