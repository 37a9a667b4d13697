"""Equally spaced levels, and rounding to floats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.graph import Domain
from bitfront.spaces.quantizers.quantizer import Quantizer, check_width, quantizers

if TYPE_CHECKING:
    from torch import Tensor


@quantizers.register("identity")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Identity(Quantizer):
    r"""No quantisation: 32-bit floats pass.

    q(x) = x, dq/dx = 1.
    """

    kind: ClassVar[str] = "identity"

    @property
    def bits(self) -> int:
        """32."""
        return 32

    def margin(self, x: Tensor) -> Tensor:
        """There is no threshold."""
        import torch

        return torch.full_like(x, torch.inf)

    def q(self, x: Tensor) -> Tensor:
        """Return ``x``."""
        return x

    def dq(self, x: Tensor, t_clip: float) -> Tensor:
        """Return ones."""
        return x.new_ones(x.shape)


@quantizers.register("half")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Half(Quantizer):
    r"""Round to the nearest IEEE half-precision float.

    q(x) = fp16(clip(x, -65504, 65504)), dq/dx = 1.
    """

    kind: ClassVar[str] = "half"

    @property
    def bits(self) -> int:
        """16."""
        return 16

    def q(self, x: Tensor) -> Tensor:
        """Round each value; the result keeps its dtype."""
        import torch

        return x.clamp(-65504.0, 65504.0).to(torch.float16).to(x.dtype)

    def margin(self, x: Tensor) -> Tensor:
        """A threshold lies between each two half-precision floats."""
        import torch

        value = x.double()
        rounded = value.clamp(-65504.0, 65504.0).to(torch.float16)
        ends = torch.tensor((-65504.0, 65504.0), dtype=torch.float16)
        beside = [torch.nextafter(rounded, end) for end in ends]
        return torch.stack(
            [(value - (rounded.double() + near.double()) / 2).abs() for near in beside]
        ).amin(0)

    def dq(self, x: Tensor, t_clip: float) -> Tensor:
        """Return ones."""
        return x.new_ones(x.shape)


@quantizers.register("dorefa")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DoReFa(Quantizer):
    r"""k-bit activations in [0, 1].

    ::

        n     = 2^k - 1
        q(x)  = round(n clip(x, 0, 1)) / n
        dq/dx = 1 if 0 <= x <= 1 else 0

    Attributes:
        width: k, 1 to 8 bits.

    Examples:
        >>> import torch
        >>> x = torch.tensor([-0.5, 0.1, 0.4, 1.5])
        >>> [round(v, 3) for v in DoReFa(width=2).q(x).tolist()]
        [0.0, 0.0, 0.333, 1.0]
        >>> DoReFa(width=2).dq(x, t_clip=1.0).tolist()
        [0.0, 1.0, 1.0, 0.0]

    References:
        Zhou et al. 2016, DoReFa-Net (arXiv:1606.06160), Eqs. (5) and (11).
    """

    kind: ClassVar[str] = "dorefa"
    domain: ClassVar[Domain] = Domain.CODE
    for_weights: ClassVar[bool] = False
    width: int

    def check(self) -> None:
        """1 to 8 bits."""
        check_width(self.width, low=1)

    @property
    def bits(self) -> int:
        """``width``."""
        return self.width

    def q(self, x: Tensor) -> Tensor:
        """Return the nearest of ``2^k`` levels of [0, 1]."""
        n: int = 2**self.width - 1
        return (x.clamp(0.0, 1.0) * n).round() / n

    def dq(self, x: Tensor, t_clip: float) -> Tensor:
        """Return 1 inside [0, 1], else 0."""
        return ((x >= 0) & (x <= 1)).to(x.dtype)

    def levels(self) -> tuple[float, ...]:
        """``i / n`` for i = 0 .. n."""
        n: int = 2**self.width - 1
        return tuple(i / n for i in range(n + 1))


@quantizers.register("dorefa_weight")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DoReFaWeight(Quantizer):
    r"""k-bit weights in [-1, 1].

    ::

        n     = 2^k - 1,  m = max |tanh(w)|  (held constant in the gradient)
        q(w)  = 2 round(n (tanh(w) / (2 m) + 1/2)) / n - 1
        dq/dw = (1 - tanh(w)^2) / m

    Attributes:
        width: k, 2 to 8 bits.

    References:
        Zhou et al. 2016, DoReFa-Net (arXiv:1606.06160), Eq. (9).
    """

    kind: ClassVar[str] = "dorefa_weight"
    domain: ClassVar[Domain] = Domain.CODE
    for_activations: ClassVar[bool] = False
    width: int

    def check(self) -> None:
        """2 to 8 bits."""
        check_width(self.width, low=2)

    @property
    def bits(self) -> int:
        """``width``."""
        return self.width

    def q(self, x: Tensor) -> Tensor:
        """Return the nearest of ``2^k`` levels of [-1, 1]."""
        n: int = 2**self.width - 1
        t = x.tanh()
        unit = t / (2 * t.abs().max().clamp_min(1e-12)) + 0.5
        return 2 * (unit * n).round() / n - 1

    def dq(self, x: Tensor, t_clip: float) -> Tensor:
        """Return the derivative with the rounding passed straight through."""
        t = x.tanh()
        return (1 - t * t) / t.abs().max().clamp_min(1e-12)

    def levels(self) -> tuple[float, ...]:
        """``2 i / n - 1`` for i = 0 .. n."""
        n: int = 2**self.width - 1
        return tuple(2 * i / n - 1 for i in range(n + 1))


@quantizers.register("symmetric")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Symmetric(Quantizer):
    r"""k-bit signed storage of a normalised feature map.

    ::

        n     = 2^(k-1) - 1
        q(x)  = L round(n clip(x / L, -1, 1)) / n
        dq/dx = 1 if |x| <= L else 0

    Attributes:
        width: k, 2 to 8 bits.
        limit: L, the largest magnitude that is kept, in standard deviations of the map.
    """

    kind: ClassVar[str] = "symmetric"
    domain: ClassVar[Domain] = Domain.CODE
    for_weights: ClassVar[bool] = False
    width: int
    limit: float = 4.0

    def check(self) -> None:
        """2 to 8 bits and a positive limit."""
        check_width(self.width, low=2)
        if not self.limit > 0:
            raise InvalidValue(f"limit must be positive, but is {self.limit}.")

    @property
    def bits(self) -> int:
        """``width``."""
        return self.width

    def q(self, x: Tensor) -> Tensor:
        """Return the nearest of ``2^k - 1`` levels of [-L, L]."""
        n: int = 2 ** (self.width - 1) - 1
        return (x / self.limit).clamp(-1.0, 1.0).mul(n).round() / n * self.limit

    def dq(self, x: Tensor, t_clip: float) -> Tensor:
        """Return 1 inside [-L, L], else 0."""
        return (x.abs() <= self.limit).to(x.dtype)

    def levels(self) -> tuple[float, ...]:
        """``L i / n`` for i = -n .. n."""
        n: int = 2 ** (self.width - 1) - 1
        return tuple(self.limit * i / n for i in range(-n, n + 1))
