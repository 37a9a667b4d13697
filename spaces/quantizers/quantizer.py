"""What a quantizer is, and the registry that the families fill."""

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


def check_width(width: int, low: int) -> None:
    """Raise ``InvalidValue`` unless ``low <= width <= 8``."""
    if not low <= width <= 8:
        raise InvalidValue(f"width must be {low} to 8 bits, but is {width}.")
