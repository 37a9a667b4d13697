"""Signs that training approaches step by step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final

from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.graph import Domain
from bitfront.spaces.quantizers.learned import Learned
from bitfront.spaces.quantizers.quantizer import Quantizer, quantizers
from bitfront.spaces.quantizers.steps import signs, within

if TYPE_CHECKING:
    from torch import Tensor

SIGN_BELOW: Final = 1e-7
"""The temperature below which the ramp is taken as the sign that it approaches."""


@quantizers.register("progressive_sign")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ProgressiveSign(Learned):
    r"""A ramp in training, whose width falls epoch by epoch; a sign in evaluation.

    ::

        q(x)  = clip(x / T, -1, 1)   in training, while T >= 1e-7
        q(x)  = +1 if x >= 0 else -1 else
        dq/dx = 1 if |x| <= t_clip else 0    for activations
        dq/dx = 1                            for weights (``clipped=False``)
        T     = alpha^(-beta e / E) in epoch e = 0 .. E - 1 of E; decay^e if there is a decay

    T follows from the epoch alone: it is no parameter and no state that a checkpoint keeps, and
    what is evaluated, counted and exported is the sign.

    Attributes:
        alpha: Base of the schedule.
        beta: Its exponent at the end.
        decay: Factor of every epoch instead, 0.965 in BoolNet, 0.9 in BNext; 0 for none.
        clipped: Whether ``t_clip`` cuts the gradient.

    Examples:
        >>> import torch
        >>> x = torch.tensor([-2.0, -0.25, 0.0, 0.25])
        >>> ProgressiveSign().q(x, torch.tensor(0.5)).tolist()
        [-1.0, -0.5, 0.0, 0.5]
        >>> ProgressiveSign().q(x).tolist()
        [-1.0, -1.0, 1.0, 1.0]
        >>> ProgressiveSign().dq(x, t_clip=1.0).tolist()
        [0.0, 1.0, 1.0, 1.0]
        >>> [ProgressiveSign(decay=0.5).temperature(e, 3) for e in range(3)]
        [1.0, 0.5, 0.25]

    References:
        Guo et al. 2021, BoolNet (arXiv:2106.06991), and Guo et al. 2022, BNext (arXiv:2211.12933),
        for weights; bitorch ``ProgressiveSign`` for the schedule.
    """

    kind: ClassVar[str] = "progressive_sign"
    domain: ClassVar[Domain] = Domain.BIPOLAR
    alpha: float = 4.0
    beta: float = 10.0
    decay: float = 0.0
    clipped: bool = True

    def check(self) -> None:
        """The temperature must fall."""
        if not self.alpha > 1:
            raise InvalidValue(f"alpha must be greater than 1, but is {self.alpha}.")
        if not self.beta > 0:
            raise InvalidValue(f"beta must be positive, but is {self.beta}.")
        if not 0 <= self.decay < 1:
            raise InvalidValue(f"decay must be at least 0 and below 1, but is {self.decay}.")

    @property
    def bits(self) -> int:
        """1."""
        return 1

    def as_weight(self) -> Quantizer:
        """The gradient of weights is not cut."""
        return replace(self, clipped=False)

    def temperature(self, epoch: int, epochs: int) -> float:
        """T in one epoch, counted from 0, of ``epochs``."""
        if self.decay:
            return float(self.decay**epoch)
        return float(self.alpha ** (-self.beta * epoch / epochs))

    def q(self, x: Tensor, *params: Tensor) -> Tensor:
        """The ramp if a temperature is given, else the signs."""
        import torch

        if not params:
            return signs(x)
        (temperature,) = params
        ramp = (x / temperature.clamp_min(SIGN_BELOW)).clamp(-1, 1)
        return torch.where(temperature < SIGN_BELOW, signs(x), ramp)

    def dq(self, x: Tensor, t_clip: float) -> Tensor:
        """Return 0 or 1 for each value."""
        return within(x, t_clip) if self.clipped else x.new_ones(x.shape)

    def gradients(
        self, grad: Tensor, x: Tensor, t_clip: float, *params: Tensor
    ) -> tuple[Tensor | None, ...]:
        """The same at every temperature."""
        given = within(x, t_clip).mul_(grad) if self.clipped else grad
        return (given, *[None for _ in params])

    def levels(self) -> tuple[float, ...]:
        """-1 and +1: the final signs."""
        return (-1.0, 1.0)

    def margin(self, x: Tensor, *params: Tensor) -> Tensor:
        """The threshold is 0."""
        return x.abs()
