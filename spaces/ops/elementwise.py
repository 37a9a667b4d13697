"""Element-wise ops: activations, sums, products, logic, learned factors and offsets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from bitfront.spaces.errors import InfeasibleArchitecture
from bitfront.spaces.graph import Domain, Facts, Op, ParameterSpec, Role, TensorType, Work
from bitfront.spaces.ops.op import ops
from bitfront.spaces.quantizers import Scaled


class Elementwise(Op):
    """One evaluation per element of a float result of the first input's shape.

    Class attributes:
        broadcast: A later input may hold one value per channel, ``(C, 1, 1)``, or per pixel,
            ``(1, H, W)``.
        function: Name of its element-wise work; its kind if empty.
    """

    __slots__ = ()
    fusable: ClassVar[bool] = True
    broadcast: ClassVar[bool] = False
    function: ClassVar[str] = ""

    def params(self, x: TensorType) -> tuple[ParameterSpec, ...]:
        """Parameters it declares for an input of this type."""
        return ()

    def infer(self, *inputs: TensorType) -> Facts:
        """All inputs must have one shape."""
        x = inputs[0]
        for other in inputs[1:]:
            fits = other.shape == x.shape or (self.broadcast and _broadcasts(other, x))
            if other.slices != x.slices or not fits:
                raise InfeasibleArchitecture(
                    f"{self.kind} needs equal shapes and slices, but got {x.shape} x {x.slices} "
                    f"and {other.shape} x {other.slices}."
                )
        out = self.result(*inputs)
        return Facts(
            out=out,
            params=self.params(x),
            work=(Work(self.function or self.kind, self.bits(*inputs), out.elements),),
        )

    def result(self, *inputs: TensorType) -> TensorType:
        """Type of the result: a float map."""
        return TensorType(shape=inputs[0].shape, slices=inputs[0].slices)

    def bits(self, *inputs: TensorType) -> int:
        """Bits of the values it works on."""
        return max(x.stored_bits for x in inputs)


def _broadcasts(y: TensorType, x: TensorType) -> bool:
    """Whether y has one value for a channel or for a pixel of x."""
    return y.shape == (x.shape[0], 1, 1) or (y.shape == (1, *x.shape[1:]) and x.slices == 1)


@ops.register("relu")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Relu(Elementwise):
    """``max(x, 0)``."""

    kind: ClassVar[str] = "relu"


@ops.register("prelu")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prelu(Elementwise):
    """``x`` where positive, else ``slope * x``, one slope per channel."""

    kind: ClassVar[str] = "prelu"

    def params(self, x: TensorType) -> tuple[ParameterSpec, ...]:
        """One slope per channel."""
        return (ParameterSpec("weight", (x.torch_shape[0],), Role.SLOPE),)


@ops.register("sigmoid")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sigmoid(Elementwise):
    """``1 / (1 + exp(-x))``."""

    kind: ClassVar[str] = "sigmoid"


@ops.register("add")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Add(Elementwise):
    """``x + y``."""

    kind: ClassVar[str] = "add"

    def result(self, *inputs: TensorType) -> TensorType:
        """Integers stay integers; anything else is a float map."""
        x = inputs[0]
        integers = all(t.domain in (Domain.ACCUMULATOR, Domain.BIPOLAR) for t in inputs)
        domain = Domain.ACCUMULATOR if integers else Domain.FLOAT
        return TensorType(shape=x.shape, slices=x.slices, domain=domain)


@ops.register("mul")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mul(Elementwise):
    """``x * y``; y may hold one factor per channel, ``(C, 1, 1)``, or per pixel, ``(1, H, W)``."""

    kind: ClassVar[str] = "mul"
    broadcast: ClassVar[bool] = True


@ops.register("xnor")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Xnor(Elementwise):
    """Logical XNOR of bipolar maps: their product."""

    kind: ClassVar[str] = "xnor"

    def result(self, *inputs: TensorType) -> TensorType:
        """A bipolar map."""
        return _bipolar(self.kind, *inputs)


@ops.register("or")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Or(Elementwise):
    """Logical OR of bipolar maps: their maximum."""

    kind: ClassVar[str] = "or"

    def result(self, *inputs: TensorType) -> TensorType:
        """A bipolar map."""
        return _bipolar(self.kind, *inputs)


def _bipolar(kind: str, *inputs: TensorType) -> TensorType:
    if any(x.domain is not Domain.BIPOLAR for x in inputs):
        raise InfeasibleArchitecture(
            f"{kind} needs bipolar inputs, but got {', '.join(x.domain for x in inputs)}."
        )
    x = inputs[0]
    return TensorType(shape=x.shape, domain=Domain.BIPOLAR, slices=x.slices, stored_bits=1)


@ops.register("scale")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scale(Elementwise):
    """``a * x`` with one learned factor per channel, or one in all."""

    kind: ClassVar[str] = "scale"
    per_channel: bool = True

    def params(self, x: TensorType) -> tuple[ParameterSpec, ...]:
        """The factors."""
        count = x.torch_shape[0] if self.per_channel else 1
        return (ParameterSpec("weight", (count,), Role.SCALE),)


@ops.register("blend")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Blend(Elementwise):
    """``a * x + (1 - a) * y`` with a learned share, ``0 <= a <= 1``, first 0.5.

    Attributes:
        per_channel: One share per channel (BNext), or one in all (Group-Net's soft gate).
    """

    kind: ClassVar[str] = "blend"
    per_channel: bool = True

    def params(self, x: TensorType) -> tuple[ParameterSpec, ...]:
        """The shares of the first input."""
        count = x.torch_shape[0] if self.per_channel else 1
        return (ParameterSpec("weight", (count,), Role.SCALE),)

    def infer(self, *inputs: TensorType) -> Facts:
        """Two multiplications and one addition per element; ``1 - a`` is a constant."""
        facts = Elementwise.infer(self, *inputs)
        bits, count = self.bits(*inputs), facts.out.elements
        return replace(facts, work=(Work("scale", bits, 2 * count), Work("add", bits, count)))


@ops.register("shift")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shift(Elementwise):
    """``x + b`` with one learned offset per channel; training starts at ``b = initial``."""

    kind: ClassVar[str] = "shift"
    initial: float = 0.0

    def params(self, x: TensorType) -> tuple[ParameterSpec, ...]:
        """The offsets."""
        return (ParameterSpec("bias", (x.torch_shape[0],), Role.BIAS),)


@ops.register("filter_scale")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FilterScale(Elementwise):
    """The sums of a layer times one factor per filter that follows from its latent weights.

    It stands right behind the layer and names it as its ``latent`` node, so it has no parameters
    of its own: at inference the factors are constants, and fold into a batch norm.

    Attributes:
        quantizer: Gives the factors.
    """

    kind: ClassVar[str] = "filter_scale"
    function: ClassVar[str] = "scale"
    quantizer: Scaled
