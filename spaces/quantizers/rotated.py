"""Signs of a filter that is turned: several filters from one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.graph import Domain
from bitfront.spaces.quantizers.quantizer import Quantizer, quantizers
from bitfront.spaces.quantizers.sign import Sign

if TYPE_CHECKING:
    from torch import Tensor

RING: Final = (0, 1, 2, 5, 8, 7, 6, 3)
"""The outer positions of a 3x3 filter, row by row numbered, clockwise from the upper left."""

_SIGN_WEIGHT = Sign(clipped=False)


@quantizers.register("rotated_sign")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RotatedSign(Quantizer):
    r"""Sign of weights after the ring of each 3x3 filter has been turned.

    ::

        q(w)  = sign(turned(w)),   dq/dw = 1, turned back

    The centre stays; other kernels have no ring and are only signed. Bits that are turned need no
    storage of their own: ``stored`` is the plain sign.

    Attributes:
        steps: Positions by which the ring moves clockwise, 0 to 7, each of 45 degrees.

    Examples:
        >>> import torch
        >>> w = torch.tensor([[[[-1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]]])
        >>> RotatedSign(steps=2).q(w)[0, 0].tolist()
        [[1.0, 1.0, -1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]

    References:
        Liu et al. 2019, Circulant Binary Convolutional Networks (arXiv:1910.10853).
    """

    kind: ClassVar[str] = "rotated_sign"
    domain: ClassVar[Domain] = Domain.BIPOLAR
    for_activations: ClassVar[bool] = False
    steps: int = 2

    def check(self) -> None:
        """0 to 7 steps."""
        if not 0 <= self.steps < len(RING):
            raise InvalidValue(f"steps must be 0 to 7, but is {self.steps}.")

    @property
    def bits(self) -> int:
        """1."""
        return 1

    @property
    def stored(self) -> Quantizer:
        """Plain signs."""
        return _SIGN_WEIGHT

    def turned(self, w: Tensor) -> Tensor:
        """The weights with each ring turned, ``(N, C, 3, 3)``; other shapes as they are."""
        if tuple(w.shape[-2:]) != (3, 3):
            return w
        source = list(range(9))
        for i, position in enumerate(RING):
            source[position] = RING[i - self.steps]
        return w.flatten(-2)[..., source].reshape(w.shape)

    def q(self, x: Tensor) -> Tensor:
        """Return -1 or +1 for each weight."""
        return _SIGN_WEIGHT.q(self.turned(x))

    def dq(self, x: Tensor, t_clip: float) -> Tensor:
        """Return ones."""
        return x.new_ones(x.shape)

    def levels(self) -> tuple[float, ...]:
        """-1 and +1."""
        return (-1.0, 1.0)
