"""Quantizers: what they emit, how the gradient passes, which bits they need.

A quantizer is a frozen value without torch; ``q`` and ``dq`` are written with operators that
torch tensors have, and import torch only when they are called.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.graph import Domain
from bitfront.spaces.registry import Registry
from bitfront.spaces.value import Value, decode

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Quantizer(Value):
    """A map from real values to few levels, with the derivative that training uses.

    Class attributes:
        domain: The domain of what it emits.
        for_weights: It may quantise weights.
        for_activations: It may quantise activations.
    """

    domain: ClassVar[Domain] = Domain.FLOAT
    for_weights: ClassVar[bool] = True
    for_activations: ClassVar[bool] = True

    @property
    def bits(self) -> int:
        """Bits of one emitted value."""
        raise NotImplementedError

    @property
    def slices(self) -> int:
        """How many maps it emits for one."""
        return 1

    def q(self, x: Tensor) -> Tensor:
        """The quantised values of ``x``, of the same shape."""
        raise NotImplementedError

    def dq(self, x: Tensor, t_clip: float) -> Tensor:
        """The factor that the incoming gradient is multiplied with.

        Args:
            x: What was quantised.
            t_clip: Where the recipe cuts the gradient of a sign.
        """
        raise NotImplementedError

    def levels(self) -> tuple[float, ...] | None:
        """All values it can emit, ascending; None if there is no finite list."""
        return None

    @staticmethod
    def from_json(data: Any, where: str) -> Quantizer:
        """Read any registered quantizer from JSON data.

        Raises:
            InvalidValue: If the kind is unknown or a field is wrong.
        """
        if not isinstance(data, dict) or not isinstance(data.get("kind"), str):
            raise InvalidValue(f"{where} must be an object with a 'kind'.")
        try:
            cls = quantizers[data["kind"]]
        except InvalidValue as error:
            raise InvalidValue(f"{where}: {error}") from None
        return decode(cls, data, where)


quantizers: Final[Registry[type[Quantizer]]] = Registry("quantizer")


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

    def dq(self, x: Tensor, t_clip: float) -> Tensor:
        """Return ones."""
        return x.new_ones(x.shape)


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
        return (x >= 0).to(x.dtype) * 2 - 1

    def dq(self, x: Tensor, t_clip: float) -> Tensor:
        """Return 0 or 1 for each value."""
        return (x.abs() <= t_clip).to(x.dtype) if self.clipped else x.new_ones(x.shape)

    def levels(self) -> tuple[float, ...]:
        """-1 and +1."""
        return (-1.0, 1.0)


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

        return torch.cat([x + s >= 0 for s in self.shifts()], dim=1).to(x.dtype) * 2 - 1

    def dq(self, x: Tensor, t_clip: float) -> Tensor:
        """One factor per slice, ``(N, k*C, H, W)``."""
        import torch

        return torch.cat([(x + s).abs() <= t_clip for s in self.shifts()], dim=1).to(x.dtype)

    def levels(self) -> tuple[float, ...]:
        """-1 and +1."""
        return (-1.0, 1.0)


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
        return (x - x.mean() + self.u * x.std() >= 0).to(x.dtype) * 2 - 1

    def dq(self, x: Tensor, t_clip: float) -> Tensor:
        """Return ones."""
        return x.new_ones(x.shape)

    def levels(self) -> tuple[float, ...]:
        """-1 and +1."""
        return (-1.0, 1.0)


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
        _check_width(self.width, low=1)

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
        _check_width(self.width, low=2)

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
        _check_width(self.width, low=2)
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


def _check_width(width: int, low: int) -> None:
    if not low <= width <= 8:
        raise InvalidValue(f"width must be {low} to 8 bits, but is {width}.")


IDENTITY: Final = Identity()
SIGN: Final = Sign()
SIGN_WEIGHT: Final = Sign(clipped=False)
_HALF: Final = Half()


def activation_quantizer(bits: int) -> Quantizer:
    """The quantizer of a layer's inputs: sign at 1 bit, DoReFa at 2 to 8, none at 32."""
    if bits == 1:
        return SIGN
    if bits <= 8:
        return DoReFa(width=bits)
    return _HALF if bits == 16 else IDENTITY


def weight_quantizer(bits: int) -> Quantizer:
    """The quantizer of a layer's weights: sign at 1 bit, DoReFa at 2 to 8, none at 32."""
    if bits == 1:
        return SIGN_WEIGHT
    if bits <= 8:
        return DoReFaWeight(width=bits)
    return _HALF if bits == 16 else IDENTITY


def storage_quantizer(bits: int) -> Quantizer:
    """The quantizer of a stored feature map: symmetric codes at 2 to 8 bits.

    Raises:
        InvalidValue: At 1 bit; a one-bit map is what ``MultiSign`` emits.
    """
    if bits <= 8:
        return Symmetric(width=bits, limit=4.0 if bits > 4 else 2.5)
    return _HALF if bits == 16 else IDENTITY
