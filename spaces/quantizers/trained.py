"""Ternary and binary weights whose levels are learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.graph import Domain, ParameterSpec, Role
from bitfront.spaces.quantizers.learned import Learned
from bitfront.spaces.quantizers.quantizer import check_width, quantizers

if TYPE_CHECKING:
    from torch import Tensor


def _check_threshold(threshold: float) -> None:
    if not 0 < threshold < 1:
        raise InvalidValue(f"threshold must lie between 0 and 1, but is {threshold}.")


@quantizers.register("ttq")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ttq(Learned):
    r"""Trained ternary weights: two learned levels per layer, p above zero and -n below it.

    ::

        d       = threshold * max |w|
        q(w)    = p if w > d, -n if w < -d, else 0
        dL/dw   = (p if w > d, n if w < -d, else 1) dL/dq
        dL/dp   = sum of dL/dq over w > d
        dL/dn   = -(sum of dL/dq over w < -d)

    The minus is the chain rule's, since the level is -n; the paper's Eq. (7) leaves it out, the
    authors' code has it. Training starts at p = n = 1, as that code does.

    Attributes:
        threshold: Share of the largest magnitude below which a weight is 0.

    Examples:
        >>> import torch
        >>> w, p, n = map(torch.tensor, ([2.0, 0.01, -1.0, -0.5], [3.0], [4.0]))
        >>> Ttq().q(w, p, n).tolist()
        [3.0, 0.0, -4.0, -4.0]
        >>> [g.tolist() for g in Ttq().gradients(torch.ones(4), w, 1.0, p, n)]
        [[3.0, 1.0, 4.0, 4.0], [1.0], [-2.0]]

    References:
        Zhu et al. 2017, Trained Ternary Quantization (arXiv:1612.01064), Eqs. (6) to (9).
    """

    kind: ClassVar[str] = "ttq"
    domain: ClassVar[Domain] = Domain.CODE
    for_activations: ClassVar[bool] = False
    threshold: float = 0.05

    def check(self) -> None:
        """The threshold is a share."""
        _check_threshold(self.threshold)

    @property
    def bits(self) -> int:
        """2."""
        return 2

    def params(self, shape: tuple[int, ...]) -> tuple[ParameterSpec, ...]:
        """``positive`` p and ``negative`` n, one each."""
        return (
            ParameterSpec("positive", (1,), Role.SCALE),
            ParameterSpec("negative", (1,), Role.SCALE),
        )

    def initial(self, name: str, shape: tuple[int, ...], w: Tensor | None) -> Tensor:
        """Ones."""
        import torch

        return torch.ones(shape)

    def _sides(self, x: Tensor) -> tuple[Tensor, Tensor]:
        d = self.threshold * x.abs().max()
        return x > d, x < -d

    def q(self, x: Tensor, *params: Tensor) -> Tensor:
        """Return p, 0 or -n for each weight."""
        above, below = self._sides(x)
        positive, negative = params
        return positive * above - negative * below

    def gradients(
        self, grad: Tensor, x: Tensor, t_clip: float, *params: Tensor
    ) -> tuple[Tensor | None, ...]:
        """See the class."""
        above, below = self._sides(x)
        positive, negative = params
        factor = positive * above + negative * below + ~(above | below)
        return grad * factor, (grad * above).sum().reshape(1), -(grad * below).sum().reshape(1)

    def table(self, w: Tensor, *params: Tensor) -> Tensor:
        """-n, 0 and p."""
        import torch

        positive, negative = params
        return torch.cat([-negative, torch.zeros_like(positive), positive]).sort().values


@quantizers.register("syq")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Syq(Learned):
    r"""Symmetric codes with one learned factor a_ij for each position of the kernel.

    ::

        d        = threshold * max |w|
        codes(w) = sign(w) at 1 bit; +1 if w > d, -1 if w < -d, else 0 at 2 bits
        q(w)     = a_ij codes(w)
        dL/dw    = a_ij dL/dq, but dL/dq where a code is 0
        dL/da_ij = sum of codes(w) dL/dq over all filters and channels at ij

    Training starts at a_ij = mean |w| at ij. A linear layer has one factor in all.

    Attributes:
        width: 1 for binary, 2 for ternary codes.
        threshold: Share of the largest magnitude below which a ternary weight is 0.

    Examples:
        >>> import torch
        >>> w = torch.tensor([[0.5, -1.0], [0.01, 2.0]]).reshape(2, 1, 1, 2)
        >>> a = torch.tensor([[3.0, 4.0]])
        >>> Syq().q(w, a).flatten().tolist()
        [3.0, -4.0, 0.0, 4.0]
        >>> [g.flatten().tolist() for g in Syq().gradients(torch.ones(2, 1, 1, 2), w, 1.0, a)]
        [[3.0, 4.0, 1.0, 4.0], [1.0, 0.0]]

    References:
        Faraone et al. 2018, SYQ (arXiv:1807.00301), Sec. 3, and the authors' code.
    """

    kind: ClassVar[str] = "syq"
    domain: ClassVar[Domain] = Domain.CODE
    for_activations: ClassVar[bool] = False
    width: int = 2
    threshold: float = 0.05

    def check(self) -> None:
        """1 or 2 bits; the threshold is a share."""
        check_width(self.width, low=1, high=2)
        _check_threshold(self.threshold)

    @property
    def bits(self) -> int:
        """``width``."""
        return self.width

    def params(self, shape: tuple[int, ...]) -> tuple[ParameterSpec, ...]:
        """``scale``, (kh, kw), or (1,) of a linear layer."""
        return (ParameterSpec("scale", shape[2:] or (1,), Role.SCALE),)

    def initial(self, name: str, shape: tuple[int, ...], w: Tensor | None) -> Tensor:
        """Mean magnitude at each position."""
        import torch

        if w is None:
            return torch.ones(shape)
        return w.abs().mean((0, 1)).reshape(shape)

    def codes(self, x: Tensor) -> Tensor:
        """-1, 0 and +1, or -1 and +1."""
        if self.width == 1:
            return (x >= 0).to(x.dtype) * 2 - 1
        d = self.threshold * x.abs().max()
        return (x > d).to(x.dtype) - (x < -d).to(x.dtype)

    def q(self, x: Tensor, *params: Tensor) -> Tensor:
        """Return codes times the factors of their positions."""
        return self.codes(x) * params[0]

    def gradients(
        self, grad: Tensor, x: Tensor, t_clip: float, *params: Tensor
    ) -> tuple[Tensor | None, ...]:
        """See the class."""
        import torch

        codes, (scale,) = self.codes(x), params
        factor = torch.where(codes == 0, 1, scale)
        return grad * factor, (grad * codes).sum((0, 1)).reshape(scale.shape)

    def table(self, w: Tensor, *params: Tensor) -> Tensor:
        """Levels per position, (1, 1, kh, kw, L), or those of a linear layer, (L,)."""
        import torch

        codes = (-1.0, 1.0) if self.width == 1 else (-1.0, 0.0, 1.0)
        (scale,) = params
        levels = scale[..., None] * torch.tensor(codes, device=scale.device)
        levels = levels.sort(-1).values
        return levels[None, None] if w.dim() == 4 else levels[0]
