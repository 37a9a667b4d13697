"""What a quantizer is, and the registry that the families fill."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.graph import Domain, ParameterSpec
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

    @property
    def stored(self) -> Quantizer:
        """The quantizer whose codes a file must hold to know these: itself, as a rule."""
        return self

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

    def gradient(self, grad: Tensor, x: Tensor, t_clip: float) -> Tensor:
        """Gradient of what was quantised: ``grad * dq(x)``, summed over the slices.

        Args:
            grad: Gradient of what was emitted.
            x: What was quantised.
            t_clip: Where the recipe cuts the gradient of a sign.
        """
        return grad * self.dq(x, t_clip)

    def levels(self) -> tuple[float, ...] | None:
        """All values it can emit, ascending; None if there is no fixed, finite list."""
        return None

    def margin(self, x: Tensor) -> Tensor:
        """How far each value is from the nearest threshold, where what is emitted changes.

        It is half way between two levels, unless a quantizer says otherwise.

        Args:
            x: What is quantised.

        Returns:
            Of the shape of what it emits, in the units of ``x``.
        """
        import torch

        levels = self.levels()
        if levels is None:
            raise NotImplementedError(f"The thresholds of {self.kind!r} are not known.")
        ascending = torch.tensor(levels, dtype=torch.float64)
        return nearest_threshold(x, (ascending[1:] + ascending[:-1]) / 2)

    def params(self, shape: tuple[int, ...]) -> tuple[ParameterSpec, ...]:
        """Parameters and state that it has where it stands; see ``Learned``.

        Args:
            shape: Of the weights, or of one sample's feature map as torch sees it.
        """
        return ()

    def as_weight(self) -> Quantizer:
        """What it is for weights, where the same method treats them otherwise."""
        return self

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


def check_width(width: int, low: int, high: int = 8) -> None:
    """Raise ``InvalidValue`` unless ``low <= width <= high``."""
    if not low <= width <= high:
        raise InvalidValue(f"width must be {low} to {high} bits, but is {width}.")


def nearest_threshold(x: Tensor, thresholds: Tensor) -> Tensor:
    """Distance of each value to the nearest of ascending thresholds."""
    import torch

    thresholds = thresholds.to(torch.float64)
    above = torch.bucketize(x.double(), thresholds).clamp_max(len(thresholds) - 1)
    below = (above - 1).clamp_min(0)
    return torch.minimum((x - thresholds[above]).abs(), (x - thresholds[below]).abs())
