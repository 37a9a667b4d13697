"""Signs: one bit, -1 and +1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.graph import Domain
from bitfront.spaces.quantizers.quantizer import Quantizer, quantizers
from bitfront.spaces.quantizers.steps import signs, within

if TYPE_CHECKING:
    from torch import Tensor


@quantizers.register("sign")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sign(Quantizer):
    r"""Sign with the clipped straight-through estimator.

    ::

        q(x)  = +1 if x >= 0 else -1          (sign(0) = +1)
        dq/dx =  1 if |x| <= t_clip else 0    for activations
        dq/dx =  1                            for weights (``clipped=False``)

    Attributes:
        clipped: Whether ``t_clip`` cuts the gradient.

    Examples:
        >>> import torch
        >>> x = torch.tensor([-2.0, -0.5, 0.0, 1.25, 1.5])
        >>> Sign().q(x).tolist()
        [-1.0, -1.0, 1.0, 1.0, 1.0]
        >>> Sign().dq(x, t_clip=1.3).tolist()
        [0.0, 1.0, 1.0, 1.0, 0.0]

    References:
        Bethge et al. 2019, "Back to Simplicity" (arXiv:1906.08637), for ``t_clip`` 1.3.
    """

    kind: ClassVar[str] = "sign"
    domain: ClassVar[Domain] = Domain.BIPOLAR
    clipped: bool = True

    @property
    def bits(self) -> int:
        """1."""
        return 1

    def q(self, x: Tensor) -> Tensor:
        """Return -1 or +1 for each value."""
        return signs(x)

    def dq(self, x: Tensor, t_clip: float) -> Tensor:
        """Return 0 or 1 for each value."""
        return within(x, t_clip) if self.clipped else x.new_ones(x.shape)

    def gradient(self, grad: Tensor, x: Tensor, t_clip: float) -> Tensor:
        """The gradient as it is, or cut."""
        return within(x, t_clip).mul_(grad) if self.clipped else grad

    def levels(self) -> tuple[float, ...]:
        """-1 and +1."""
        return (-1.0, 1.0)


@quantizers.register("heaviside")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Heaviside(Quantizer):
    r"""Step function with the clipped straight-through estimator.

    ::

        q(x)  = 1 if x >= 0 else 0
        dq/dx = 1 if |x| <= t_clip else 0

    It is 1 at zero, as all signs here are +1 there; larq's has 0.

    Examples:
        >>> import torch
        >>> x = torch.tensor([-1.5, -0.5, 0.0, 1.0])
        >>> Heaviside().q(x).tolist()
        [0.0, 0.0, 1.0, 1.0]
        >>> Heaviside().dq(x, t_clip=1.0).tolist()
        [0.0, 1.0, 1.0, 1.0]

    References:
        larq ``ste_heaviside`` for the 0/1 pair; Courbariaux et al. 2016, BinaryNet
        (arXiv:1602.02830), Eq. (4), for the estimator.
    """

    kind: ClassVar[str] = "heaviside"
    domain: ClassVar[Domain] = Domain.BOOLEAN

    @property
    def bits(self) -> int:
        """1."""
        return 1

    def q(self, x: Tensor) -> Tensor:
        """Return 0 or 1 for each value."""
        return (x >= 0).to(x.dtype)

    def dq(self, x: Tensor, t_clip: float) -> Tensor:
        """Return 0 or 1 for each value."""
        return within(x, t_clip)

    def levels(self) -> tuple[float, ...]:
        """0 and 1."""
        return (0.0, 1.0)

    def margin(self, x: Tensor) -> Tensor:
        """The threshold is 0."""
        return x.abs()


@quantizers.register("multi_sign")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MultiSign(Quantizer):
    r"""``k`` shifted signs: one real map becomes ``k`` boolean slices.

    ::

        q_j(x) = sign(x + s_j),  s_j = j / (k/2 + 1),  j in {-k/2 .. k/2} without 0
        dq/dx  = 1 if |x + s_j| <= t_clip else 0, slice by slice; a network sums over j

    Attributes:
        k: Number of slices: 1 (no shift) or an even number.

    References:
        Guo et al. 2021, BoolNet (arXiv:2106.06991).
    """

    kind: ClassVar[str] = "multi_sign"
    domain: ClassVar[Domain] = Domain.BIPOLAR
    for_weights: ClassVar[bool] = False
    k: int = 4

    def check(self) -> None:
        """``k`` is 1 or even, at most 16."""
        if self.k != 1 and (self.k < 1 or self.k > 16 or self.k % 2):
            raise InvalidValue(f"k must be 1 or an even number up to 16, but is {self.k}.")

    @property
    def bits(self) -> int:
        """1: each slice is boolean."""
        return 1

    @property
    def slices(self) -> int:
        """``k``."""
        return self.k

    def shifts(self) -> tuple[float, ...]:
        """The fixed shifts, ascending."""
        if self.k == 1:
            return (0.0,)
        half = self.k // 2
        return tuple(j / (half + 1) for j in range(-half, half + 1) if j != 0)

    def q(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` to ``(N, k*C, H, W)``, slice after slice."""
        import torch

        slices = torch.cat([x] * self.k, dim=1)
        for part, s in zip(slices.chunk(self.k, dim=1), self.shifts(), strict=True):
            part.add_(s).ge_(0)
        return slices.mul_(2).sub_(1)

    def dq(self, x: Tensor, t_clip: float) -> Tensor:
        """One factor per slice, ``(N, k*C, H, W)``."""
        import torch

        return torch.cat([within(x + s, t_clip) for s in self.shifts()], dim=1)

    def gradient(self, grad: Tensor, x: Tensor, t_clip: float) -> Tensor:
        """The sum over the slices, one slice after the other."""
        first, *others = zip(grad.chunk(self.k, dim=1), self.shifts(), strict=True)
        total = (x + first[1]).abs_().le_(t_clip).mul_(first[0])
        for part, s in others:
            total.addcmul_((x + s).abs_().le_(t_clip), part)
        return total

    def levels(self) -> tuple[float, ...]:
        """-1 and +1."""
        return (-1.0, 1.0)

    def margin(self, x: Tensor) -> Tensor:
        """Each slice has its own threshold."""
        import torch

        return torch.cat([(x + s).abs() for s in self.shifts()], dim=1)


@quantizers.register("shifted_sign")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShiftedSign(Quantizer):
    r"""One binary base of a latent weight tensor.

    ::

        q(w)  = sign(w - mean(w) + u * std(w)),   dq/dw = 1

    Attributes:
        u: Shift in standard deviations; base i of M has u = -1 + 2 (i - 1)/(M - 1).

    References:
        Lin et al. 2017, ABC-Net (arXiv:1711.11294), Eqs. (3) and (4).
    """

    kind: ClassVar[str] = "shifted_sign"
    domain: ClassVar[Domain] = Domain.BIPOLAR
    for_activations: ClassVar[bool] = False
    u: float = 0.0

    @property
    def bits(self) -> int:
        """1."""
        return 1

    def q(self, x: Tensor) -> Tensor:
        """Return -1 or +1 for each weight."""
        return signs(x - x.mean() + self.u * x.std())

    def dq(self, x: Tensor, t_clip: float) -> Tensor:
        """Return ones."""
        return x.new_ones(x.shape)

    def gradient(self, grad: Tensor, x: Tensor, t_clip: float) -> Tensor:
        """The gradient as it is."""
        return grad

    def levels(self) -> tuple[float, ...]:
        """-1 and +1."""
        return (-1.0, 1.0)
