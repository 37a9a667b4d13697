"""Levels that are sums of a basis, fitted to what is quantised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from bitfront.spaces.graph import Domain, ParameterSpec, Role
from bitfront.spaces.quantizers.learned import Learned
from bitfront.spaces.quantizers.quantizer import (
    Quantizer,
    check_width,
    nearest_threshold,
    quantizers,
)

if TYPE_CHECKING:
    from torch import Tensor

MOMENTUM: Final = 0.9
"""How much of its basis a layer keeps in a step."""

RIDGE: Final = 1e-6
"""Pulls the fit towards the present basis, where the data leave it open."""

QUARTILE: Final = 0.6745
"""The upper quartile of N(0, 1), by which the basis starts."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Basis(Learned):
    """Levels ``v . b`` over all codes b of K bits; what weights and maps share.

    Class attributes:
        zero: The bit that is not 1: 0 or -1.
    """

    domain: ClassVar[Domain] = Domain.CODE
    zero: ClassVar[float] = 0.0
    width: int = 2

    def check(self) -> None:
        """1 to 4 bits: every level is tried."""
        check_width(self.width, low=1, high=4)

    @property
    def bits(self) -> int:
        """``width``."""
        return self.width

    def groups(self, x: Tensor) -> Tensor:
        """What shares a basis, as the rows of a matrix."""
        raise NotImplementedError

    def codes(self, basis: Tensor) -> Tensor:
        """Every code, ``(L, K)``; bit j of code i is that of the number i."""
        import torch

        numbers = torch.arange(2**self.width, device=basis.device)
        bits = (numbers[:, None] >> torch.arange(self.width, device=basis.device)) & 1
        return bits.to(basis.dtype) * (1 - self.zero) + self.zero

    def ascending(self, basis: Tensor) -> tuple[Tensor, Tensor]:
        """Levels of each group, ascending, and the numbers of their codes, both ``(G, L)``."""
        # not a matrix product: on a GPU that may round to TF32
        levels = (basis[:, None] * self.codes(basis)).sum(-1)
        sorted_ = levels.sort(dim=1, stable=True)
        return sorted_.values, sorted_.indices

    def numbers(self, rows: Tensor, levels: Tensor) -> Tensor:
        """The number of the nearest of its group's levels for each value."""
        import torch

        thresholds = (levels[:, 1:] + levels[:, :-1]) / 2
        return torch.searchsorted(thresholds, rows.to(levels.dtype).contiguous())

    def q(self, x: Tensor, *params: Tensor) -> Tensor:
        """Return the nearest level."""
        levels, _ = self.ascending(params[0])
        rows = self.groups(x)
        return levels.gather(1, self.numbers(rows, levels)).reshape(x.shape)

    def observe(self, x: Tensor, *params: Tensor) -> None:
        """One step of quantisation error minimisation: codes, least squares, moving average."""
        import torch

        (basis,) = params
        levels, order = self.ascending(basis)
        rows = self.groups(x)
        numbers = self.numbers(rows, levels)
        # values of one level share a code: sums per level are all that the fit needs
        at = [numbers == level for level in range(levels.shape[1])]
        share = torch.stack([m.double().mean(1) for m in at], dim=1)
        mean = torch.stack([(rows * m).double().mean(1) for m in at], dim=1)
        codes = self.codes(basis).double()[order]
        normal = torch.einsum("gl,glj,glk->gjk", share, codes, codes)
        right = torch.einsum("gl,glk->gk", mean, codes)
        ridge = RIDGE * torch.eye(self.width, dtype=torch.float64, device=basis.device)
        fitted = torch.linalg.solve(normal + ridge, right + RIDGE * basis.double())
        basis.copy_(MOMENTUM * basis + (1 - MOMENTUM) * fitted.to(basis.dtype))


@quantizers.register("lq_net")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LqNet(Basis):
    r"""K-bit activations with a basis per layer; as weights it is ``LqNetWeight``.

    ::

        levels = { v . b : b in {0, 1}^K },  v the basis
        q(x)   = the nearest level
        dq/dx  = 1 from the lowest to the highest level, else 0

    Each step of training fits the basis to what it quantises, b by the nearest level and v by
    least squares, and keeps a moving average: v is state, it has no gradient.

    Attributes:
        width: K, 1 to 4 bits.

    Examples:
        >>> import torch
        >>> x, v = torch.tensor([[-1.0, 0.6, 1.2, 1.9, 5.0]]), torch.tensor([[0.5, 1.5]])
        >>> LqNet().q(x, v).tolist()
        [[0.0, 0.5, 1.5, 2.0, 2.0]]
        >>> LqNet().gradients(torch.ones(1, 5), x, 1.0, v)[0].tolist()
        [[0.0, 1.0, 1.0, 1.0, 0.0]]

    References:
        Zhang et al. 2018, LQ-Nets (arXiv:1807.10029), Sec. 3, and the authors' code, whose
        activations have passed a ReLU, so that the lower cut is none there.
    """

    kind: ClassVar[str] = "lq_net"

    def as_weight(self) -> Quantizer:
        """A basis per filter, bits of -1 and +1."""
        return LqNetWeight(width=self.width)

    def groups(self, x: Tensor) -> Tensor:
        """One group."""
        return x.reshape(1, -1)

    def params(self, shape: tuple[int, ...]) -> tuple[ParameterSpec, ...]:
        """``basis``, (1, K)."""
        return (ParameterSpec("basis", (1, self.width), Role.LEVELS),)

    def initial(self, name: str, shape: tuple[int, ...], w: Tensor | None) -> Tensor:
        """Equally spaced levels, whose highest is twice a Gaussian's upper quartile."""
        import torch

        powers = torch.exp2(torch.arange(self.width, dtype=torch.float32))
        return powers[None] * (2 * QUARTILE / powers.sum())

    def gradients(
        self, grad: Tensor, x: Tensor, t_clip: float, *params: Tensor
    ) -> tuple[Tensor | None, ...]:
        """See the class."""
        levels, _ = self.ascending(params[0])
        return grad * ((x >= levels[0, 0]) & (x <= levels[0, -1])), None

    def margin(self, x: Tensor, *params: Tensor) -> Tensor:
        """Half way between two levels."""
        levels, _ = self.ascending(params[0])
        return nearest_threshold(x, (levels[0, 1:] + levels[0, :-1]) / 2)


@quantizers.register("lq_net_weight")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LqNetWeight(Basis):
    r"""K-bit weights with a basis per filter.

    ::

        levels_n = { v_n . b : b in {-1, +1}^K },  v_n the basis of filter n
        q(w)     = the nearest level,  dq/dw = 1

    Attributes:
        width: K, 1 to 4 bits.

    Examples:
        >>> import torch
        >>> w, v = torch.tensor([[-9.0, -0.1, 0.6]]), torch.tensor([[0.5, 1.0]])
        >>> LqNetWeight().q(w, v).tolist()
        [[-1.5, -0.5, 0.5]]

    References:
        Zhang et al. 2018, LQ-Nets (arXiv:1807.10029), Sec. 3.
    """

    kind: ClassVar[str] = "lq_net_weight"
    for_activations: ClassVar[bool] = False
    zero: ClassVar[float] = -1.0

    def groups(self, x: Tensor) -> Tensor:
        """A group per filter."""
        return x.flatten(1)

    def params(self, shape: tuple[int, ...]) -> tuple[ParameterSpec, ...]:
        """``basis``, (N, K)."""
        return (ParameterSpec("basis", (shape[0], self.width), Role.LEVELS),)

    def initial(self, name: str, shape: tuple[int, ...], w: Tensor | None) -> Tensor:
        """Equally spaced levels by the filter's spread."""
        import torch

        deviation = torch.ones(shape[0]) if w is None else w.flatten(1).square().mean(1).sqrt()
        powers = torch.exp2(torch.arange(1 - self.width, 1, dtype=torch.float32))
        return QUARTILE * deviation[:, None] * powers

    def gradients(
        self, grad: Tensor, x: Tensor, t_clip: float, *params: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Straight through."""
        return grad, None

    def table(self, w: Tensor, *params: Tensor) -> Tensor:
        """Levels per filter."""
        levels, _ = self.ascending(params[0])
        return levels.reshape(-1, *[1] * (w.dim() - 1), levels.shape[1])
