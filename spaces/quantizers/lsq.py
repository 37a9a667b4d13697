"""Learned step size quantisation."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, ClassVar

from bitfront.spaces.graph import Domain, ParameterSpec, Role
from bitfront.spaces.quantizers.learned import MIN_STEP, Learned
from bitfront.spaces.quantizers.quantizer import (
    Quantizer,
    check_width,
    nearest_threshold,
    quantizers,
)

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stepped(Learned):
    """Integer codes ``-low .. high`` times one learned step; what weights and maps share."""

    domain: ClassVar[Domain] = Domain.CODE
    width: int = 2

    @property
    def bits(self) -> int:
        """``width``."""
        return self.width

    @property
    def low(self) -> int:
        """Q_N: the lowest code is ``-low``."""
        raise NotImplementedError

    @property
    def high(self) -> int:
        """Q_P: the highest code."""
        raise NotImplementedError

    def first(self, x: Tensor) -> Tensor:
        """The step that training starts with, ``2 mean |x| / sqrt(Q_P)``."""
        mean: Tensor = x.abs().mean().clamp_min(MIN_STEP)
        return 2 * mean / sqrt(self.high)

    def count(self, x: Tensor) -> int:
        """N, the values that share the step: of the weights, or of one sample's map."""
        raise NotImplementedError

    def q(self, x: Tensor, *params: Tensor) -> Tensor:
        """Return the nearest level."""
        step = params[0].clamp_min(MIN_STEP)
        return (x / step).clamp(-self.low, self.high).round() * step

    def gradients(
        self, grad: Tensor, x: Tensor, t_clip: float, *params: Tensor
    ) -> tuple[Tensor | None, ...]:
        """See ``Lsq``; state has none."""
        import torch

        v = x / params[0].clamp_min(MIN_STEP)
        below, above = v <= -self.low, v >= self.high
        inside = ~(below | above)
        slope = torch.where(inside, v.round() - v, 0) + self.high * above - self.low * below
        share = 1 / sqrt(self.count(x) * self.high)
        of_step = (grad * slope).sum().reshape(1) * share
        return (grad * inside, of_step, *[None for _ in params[1:]])

    def margin(self, x: Tensor, *params: Tensor) -> Tensor:
        """Half way between two levels."""
        import torch

        step = params[0].clamp_min(MIN_STEP)
        numbers = torch.arange(-self.low, self.high, dtype=torch.float64)
        return nearest_threshold(x, (numbers + 0.5) * step.double())

    def table(self, w: Tensor, *params: Tensor) -> Tensor:
        """All codes times the step."""
        import torch

        step = params[0].clamp_min(MIN_STEP)
        return torch.arange(-self.low, self.high + 1, device=step.device) * step


@quantizers.register("lsq")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lsq(Stepped):
    r"""k-bit codes with one learned step s, for activations; as weights it is ``LsqWeight``.

    ::

        Q_N, Q_P = 0, 2^k - 1      (``signed``: 2^(k-1), 2^(k-1) - 1)
        q(x)  = s round(clip(x / s, -Q_N, Q_P))
        dq/dx = 1 if -Q_N < x / s < Q_P else 0
        dq/ds = g * (-Q_N if x / s <= -Q_N, Q_P if x / s >= Q_P, else round(x / s) - x / s)
        g     = 1 / sqrt(N Q_P),  N = C H W of one sample

    The first batch of training sets s to ``2 mean |x| / sqrt(Q_P)``; until then it is 1.

    Attributes:
        width: k, 1 to 8 bits; 2 to 8 if signed.
        signed: Whether there are levels below zero.

    Examples:
        >>> import torch
        >>> x = torch.tensor([[-1.0, 0.3, 0.9, 4.0]])
        >>> params = torch.tensor([0.5]), torch.ones(1)
        >>> Lsq(width=2).q(x, *params).tolist()
        [[0.0, 0.5, 1.0, 1.5]]
        >>> gx, gs, _ = Lsq(width=2).gradients(torch.ones(1, 4), x, 1.0, *params)
        >>> gx.tolist(), round(gs.item() * 12**0.5, 6)
        ([[0.0, 1.0, 1.0, 0.0]], 3.6)

    References:
        Esser et al. 2019, LSQ (arXiv:1902.08153), Eqs. (1) to (5) and Sec. 2.2.
    """

    kind: ClassVar[str] = "lsq"
    signed: bool = False

    def check(self) -> None:
        """Enough bits for a positive code."""
        check_width(self.width, low=2 if self.signed else 1)

    @property
    def low(self) -> int:
        """Q_N."""
        return int(2 ** (self.width - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        """Q_P."""
        return int(2 ** (self.width - 1) if self.signed else 2**self.width) - 1

    def as_weight(self) -> Quantizer:
        """Signed, with the step from the initial weights."""
        return LsqWeight(width=self.width)

    def params(self, shape: tuple[int, ...]) -> tuple[ParameterSpec, ...]:
        """``step``, and ``started``: 1 once a batch has set it."""
        return (
            ParameterSpec("step", (1,), Role.SCALE),
            ParameterSpec("started", (1,), Role.BUFFER),
        )

    def initial(self, name: str, shape: tuple[int, ...], w: Tensor | None) -> Tensor:
        """A step of 1, not started."""
        import torch

        return torch.full(shape, 1.0 if name == "step" else 0.0)

    def observe(self, x: Tensor, *params: Tensor) -> None:
        """Set the step by the first batch."""
        import torch

        step, started = params
        # not a branch: reading a flag would wait for a GPU in every step
        step.copy_(torch.where(started > 0, step, self.first(x)))
        started.fill_(1)

    def count(self, x: Tensor) -> int:
        """``C H W``."""
        return x[0].numel()


@quantizers.register("lsq_weight")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LsqWeight(Stepped):
    r"""k-bit weights with one learned step s per layer.

    As ``Lsq``, with Q_N = 2^(k-1), Q_P = 2^(k-1) - 1, and N the number of weights. The initial
    weights set s to ``2 mean |w| / sqrt(Q_P)``.

    Attributes:
        width: k, 2 to 8 bits.

    Examples:
        >>> import torch
        >>> LsqWeight().q(torch.tensor([-3.0, -0.3, 0.2, 9.0]), torch.tensor([0.5])).tolist()
        [-1.0, -0.5, 0.0, 0.5]
        >>> LsqWeight().initial("step", (1,), torch.tensor([0.5, -0.5])).tolist()
        [1.0]

    References:
        Esser et al. 2019, LSQ (arXiv:1902.08153), Sec. 2.
    """

    kind: ClassVar[str] = "lsq_weight"
    for_activations: ClassVar[bool] = False

    def check(self) -> None:
        """2 to 8 bits."""
        check_width(self.width, low=2)

    @property
    def low(self) -> int:
        """Q_N."""
        return int(2 ** (self.width - 1))

    @property
    def high(self) -> int:
        """Q_P."""
        return int(2 ** (self.width - 1)) - 1

    def params(self, shape: tuple[int, ...]) -> tuple[ParameterSpec, ...]:
        """``step``, one in all."""
        return (ParameterSpec("step", (1,), Role.SCALE),)

    def initial(self, name: str, shape: tuple[int, ...], w: Tensor | None) -> Tensor:
        """From the initial weights."""
        import torch

        return torch.ones(shape) if w is None else self.first(w).reshape(shape)

    def count(self, x: Tensor) -> int:
        """The number of weights."""
        return x.numel()
