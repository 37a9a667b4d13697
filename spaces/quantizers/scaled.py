"""Binary and ternary weights with one factor per filter.

A layer computes with the codes, so it stays exact on bits; the factors, which follow from the
latent weights, multiply its sums (``FilterScale``) and fold into the batch norm behind it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bitfront.spaces.quantizers.quantizer import Quantizer, quantizers
from bitfront.spaces.quantizers.sign import Sign
from bitfront.spaces.quantizers.ternary import Ternary

if TYPE_CHECKING:
    from torch import Tensor

_SIGN_WEIGHT = Sign(clipped=False)
_TWN = Ternary(threshold=0.7, relative=True, clipped=False)


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

    @staticmethod
    def spread(factors: Tensor, w: Tensor) -> Tensor:
        """Factors in a shape that broadcasts against weights."""
        return factors.reshape(-1, *[1] * (w.dim() - 1))

    def q(self, x: Tensor) -> Tensor:
        """Codes times factors."""
        return self.codes.q(x) * self.spread(self.factors(x), x)

    def dq(self, x: Tensor, t_clip: float) -> Tensor:
        """Derivative through the codes, the factors held constant."""
        return self.codes.dq(x, t_clip) * self.spread(self.factors(x), x)


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


@quantizers.register("xnor_sign")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class XnorSign(Scaled):
    r"""Sign of weights times their mean magnitude, which takes part in the gradient.

    ::

        a       = mean |w| of a filter of n weights
        q(w)    = a sign(w)
        dL/dw_i = a dL/dq_i + sign(w_i) / n * sum over j of sign(w_j) dL/dq_j

    ``dq`` alone is the first term. The gradient of |w| is 0 at w = 0, as torch has it.

    Examples:
        >>> import torch
        >>> XnorSign().q(torch.tensor([[-1.0, 3.0], [0.0, 0.5]])).tolist()
        [[-2.0, 2.0], [0.25, 0.25]]

    References:
        Rastegari et al. 2016, XNOR-Net (arXiv:1603.05279), Sec. 3.1.
    """

    kind: ClassVar[str] = "xnor_sign"
    detached: ClassVar[bool] = False

    @property
    def codes(self) -> Quantizer:
        """Signs."""
        return _SIGN_WEIGHT

    def factors(self, w: Tensor) -> Tensor:
        """Mean magnitude of each filter."""
        return w.abs().flatten(1).mean(1)


@quantizers.register("twn")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TernaryScaled(Scaled):
    r"""Ternary weights with one factor per filter.

    ::

        d     = 0.7 mean |w|,  a = mean of |w| where |w| > d    (per filter)
        q(w)  = a if w > d, -a if w < -d, else 0
        dq/dw = a    (d and a are held constant)

    Examples:
        >>> import torch
        >>> w = torch.tensor([[-1.0, 3.0, 0.2, 0.6], [0.0, 0.0, 0.0, 1.0]])
        >>> TernaryScaled().q(w).tolist()
        [[-2.0, 2.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
        >>> TernaryScaled().dq(w, t_clip=1.0)[:, 0].tolist()
        [2.0, 1.0]

    References:
        Li et al. 2016, Ternary Weight Networks (arXiv:1605.04711), Sec. 2.
    """

    kind: ClassVar[str] = "twn"

    @property
    def codes(self) -> Quantizer:
        """-1, 0, +1."""
        return _TWN

    def factors(self, w: Tensor) -> Tensor:
        """Mean magnitude of the weights of each filter that are not zeroed."""
        kept = self.codes.q(w).abs().flatten(1)
        return (w.abs().flatten(1) * kept).sum(1) / kept.sum(1).clamp_min(1)
