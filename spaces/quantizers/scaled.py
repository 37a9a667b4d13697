"""Binary and ternary weights with one factor per filter.

A layer computes with the codes, so it stays exact on bits; the factors, which follow from the
latent weights, multiply its sums (``FilterScale``) and fold into the batch norm behind it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bitfront.spaces.quantizers.quantizer import Quantizer, quantizers
from bitfront.spaces.quantizers.sign import Sign

if TYPE_CHECKING:
    from torch import Tensor

_SIGN_WEIGHT = Sign(clipped=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scaled(Quantizer):
    r"""Codes times a factor per filter: ``q(w)_n = a_n(w) codes(w)_n``.

    Class attributes:
        detached: The factors are constants in the gradient.
    """

    for_activations: ClassVar[bool] = False
    detached: ClassVar[bool] = True

    @property
    def codes(self) -> Quantizer:
        """What the layer computes with."""
        raise NotImplementedError

    @property
    def bits(self) -> int:
        """Bits of one code; the factors are no weights."""
        return self.codes.bits

    def factors(self, w: Tensor) -> Tensor:
        """One factor per filter of weights ``(N, ...)``, shape ``(N,)``."""
        raise NotImplementedError

    def q(self, x: Tensor) -> Tensor:
        """Codes times factors."""
        factors = self.factors(x).reshape(-1, *[1] * (x.dim() - 1))
        return self.codes.q(x) * factors

    def dq(self, x: Tensor, t_clip: float) -> Tensor:
        """Derivative through the codes, the factors held constant."""
        factors = self.factors(x).reshape(-1, *[1] * (x.dim() - 1))
        return self.codes.dq(x, t_clip) * factors


@quantizers.register("magnitude_sign")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MagnitudeSign(Scaled):
    r"""Magnitude-aware sign of weights.

    ::

        a     = mean |w| of a filter  (held constant in the gradient)
        q(w)  = a sign(w)
        dq/dw = a

    Examples:
        >>> import torch
        >>> w = torch.tensor([[-1.0, 3.0], [0.0, 0.5]])
        >>> MagnitudeSign().q(w).tolist()
        [[-2.0, 2.0], [0.25, 0.25]]
        >>> MagnitudeSign().dq(w, t_clip=1.0).tolist()
        [[2.0, 2.0], [0.25, 0.25]]

    References:
        Liu et al. 2018, Bi-Real Net (arXiv:1808.00278), Sec. 3.3.
    """

    kind: ClassVar[str] = "magnitude_sign"

    @property
    def codes(self) -> Quantizer:
        """Signs."""
        return _SIGN_WEIGHT

    def factors(self, w: Tensor) -> Tensor:
        """Mean magnitude of each filter."""
        return w.abs().flatten(1).mean(1)
