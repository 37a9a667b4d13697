"""What a block is, and the few moves that blocks share.

A block is a registered kind with its own frozen parameters and one function, ``build``, that
appends its ops to a graph. Adding one is one class here and one golden row in the tests.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any, ClassVar, Final, Self, TypeVar

from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.graph import Builder, Domain
from bitfront.spaces.ops import (
    AvgPool,
    BatchNorm,
    Conv2d,
    FilterScale,
    MaxPool,
    Prelu,
    Quantize,
    Relu,
    Shift,
)
from bitfront.spaces.precision import FULL, Precision
from bitfront.spaces.quantizers import (
    IDENTITY,
    SIGN,
    Quantizer,
    Scaled,
    storage_quantizer,
)
from bitfront.spaces.registry import Registry
from bitfront.spaces.value import Value, decode

B = TypeVar("B", bound="Block")
MAX_CHANNELS: Final = 16384
STORAGE_BITS: Final = (4, 8, 16, 32)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Block(Value):
    """A stem, a body block, a transition or a head.

    Class attributes:
        place: Where it may stand: "stem", "body", "transition" or "head".
        symbol: One or two letters for drawings.
    """

    place: ClassVar[str] = "body"
    symbol: ClassVar[str] = "?"

    def build(self, b: Builder, x: int) -> int:
        """Append the block's ops behind node ``x`` and return its last node.

        Raises:
            InfeasibleArchitecture: If ``x`` does not fit.
        """
        raise NotImplementedError

    def full(self) -> Self:
        """The same block at 32 bits: identity quantizers, 32-bit feature maps."""
        block: Self = _full(self)
        return block

    @staticmethod
    def from_json(data: Any, where: str) -> Block:
        """Read any registered block from JSON data.

        Raises:
            InvalidValue: If the kind is unknown or a field is wrong.
        """
        if not isinstance(data, dict) or not isinstance(data.get("kind"), str):
            raise InvalidValue(f"{where} must be an object with a 'kind'.")
        try:
            cls = blocks[data["kind"]]
        except InvalidValue as error:
            raise InvalidValue(f"{where}: {error}") from None
        return decode(cls, data, where)


@cache
def _full(block: B) -> B:
    changes: dict[str, Any] = {}
    for f in fields(block):
        if isinstance(getattr(block, f.name), Precision):
            changes[f.name] = FULL
        elif f.name in ("shortcut_bits", "out_bits"):
            changes[f.name] = 32
    return replace(block, **changes) if changes else block


blocks: Final[Registry[type[Block]]] = Registry("block")


def check_range(name: str, value: int, low: int, high: int) -> None:
    """Raise ``InvalidValue`` unless ``low <= value <= high``."""
    if not low <= value <= high:
        raise InvalidValue(f"{name} must be {low} to {high}, but is {value}.")


def check_channels(name: str, value: int) -> None:
    """Raise ``InvalidValue`` unless the value is a sane number of channels."""
    check_range(name, value, 1, MAX_CHANNELS)


def check_kernel(value: int) -> None:
    """Raise ``InvalidValue`` unless the kernel is odd, so that padding keeps the size."""
    if value not in (1, 3, 5, 7):
        raise InvalidValue(f"kernel_size must be 1, 3, 5 or 7, but is {value}.")


def check_storage(name: str, bits: int) -> None:
    """Raise ``InvalidValue`` unless a feature map can be stored with so many bits."""
    if bits not in STORAGE_BITS:
        accepted = ", ".join(map(str, STORAGE_BITS))
        raise InvalidValue(f"{name} must be one of {accepted}, but is {bits}.")


# Ops are values: building one costs more than looking it up, and a search builds millions.

RELU: Final = Relu()
PRELU: Final = Prelu()
NORM: Final = BatchNorm()
SHIFT: Final = Shift()


@cache
def quantize_op(quantizer: Quantizer) -> Quantize:
    """The op that applies a quantizer."""
    return Quantize(quantizer=quantizer)


@cache
def _storage(bits: int) -> Quantize:
    return Quantize(quantizer=storage_quantizer(bits))


@cache
def _conv(
    out_channels: int,
    kernel_size: int,
    stride: int,
    weight: Quantizer,
    padding_value: float,
    groups: int,
    dilation: int,
    replicate: bool,
    padding: int | None,
    bias: bool,
) -> Conv2d:
    return Conv2d(
        out_channels=out_channels,
        kernel_size=kernel_size,
        stride=stride,
        padding=dilation * (kernel_size - 1) // 2 if padding is None else padding,
        padding_value=padding_value,
        replicate=replicate,
        dilation=dilation,
        groups=groups,
        weight=weight,
        bias=bias,
    )


@cache
def filter_scale(quantizer: Scaled) -> FilterScale:
    """The op that multiplies a layer's sums by the factors of its filters."""
    return FilterScale(quantizer=quantizer)


def norm(b: Builder, x: int, name: str = "norm") -> int:
    """Batch norm."""
    return b.add(NORM, x, name=name)


def relu(b: Builder, x: int, name: str = "relu") -> int:
    """ReLU."""
    return b.add(RELU, x, name=name)


def quantize(b: Builder, x: int, quantizer: Quantizer = SIGN, name: str = "quantize") -> int:
    """Quantise the inputs of a layer; nothing at 32 bits."""
    return x if quantizer == IDENTITY else b.add(quantize_op(quantizer), x, name=name)


def conv(
    b: Builder,
    x: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    weight: Quantizer = IDENTITY,
    padding_value: float = 0.0,
    groups: int = 1,
    dilation: int = 1,
    replicate: bool = False,
    padding: int | None = None,
    bias: bool = False,
    name: str = "conv",
) -> int:
    """Convolution; without a given padding, it keeps the size at stride 1.

    Weights with a factor per filter give two nodes: the layer on codes, and the factors. A bias is
    part of a 32-bit layer, and one more node behind the sums of a quantised one.
    """
    # a padding value is only a level of one-bit inputs
    value = padding_value if b.nodes[x].facts.out.domain is Domain.BIPOLAR else 0.0
    codes = weight.codes if isinstance(weight, Scaled) else weight
    inside = bias and weight == IDENTITY
    op = _conv(
        out_channels,
        kernel_size,
        stride,
        codes,
        value,
        groups,
        dilation,
        replicate,
        padding,
        inside,
    )
    y = b.add(op, x, name=name)
    if isinstance(weight, Scaled):
        y = b.add(filter_scale(weight), y, name=f"{name}_scale", latent=y)
    return b.add(SHIFT, y, name=f"{name}_bias") if bias and not inside else y


@cache
def max_pool_op(kernel_size: int, stride: int, padding: int = 0) -> MaxPool:
    """The op of a max pool."""
    return MaxPool(kernel_size=kernel_size, stride=stride, padding=padding)


@cache
def avg_pool_op(kernel_size: int, stride: int) -> AvgPool:
    """The op of an average pool."""
    return AvgPool(kernel_size=kernel_size, stride=stride)


def max_pool(
    b: Builder, x: int, kernel_size: int, stride: int, padding: int = 0, name: str = "pool"
) -> int:
    """Max pool."""
    return b.add(max_pool_op(kernel_size, stride, padding), x, name=name)


def store(b: Builder, x: int, bits: int, *, normalised: bool, name: str = "store") -> int:
    """Bring a feature map to the width in which it is kept.

    32 bits keep it as it is and 16 round to half precision. Integer codes have a fixed range, so
    a map that is not ``normalised`` passes a batch norm first.
    """
    if bits == 32:
        return x
    if bits <= 8 and not normalised:
        x = b.add(NORM, x, name=f"{name}_norm")
    return b.add(_storage(bits), x, name=name)
