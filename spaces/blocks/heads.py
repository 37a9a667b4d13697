"""Heads: from the last feature map to the logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bitfront.spaces.blocks.block import (
    PRELU,
    Block,
    blocks,
    check_range,
    norm,
    quantize,
    relu,
)
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.graph import Builder
from bitfront.spaces.ops import Flatten, GlobalAvgPool, Linear
from bitfront.spaces.precision import FULL, Precision
from bitfront.spaces.quantizers import Scaled
from bitfront.spaces.value import added


@blocks.register("classifier")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Classifier(Block):
    """Optional batch norm and activation, global average pool, linear layer.

    Attributes:
        classes: Number of logits.
        norm: Whether a batch norm comes first.
        relu: Whether a ReLU follows.
        prelu: Whether a PReLU follows (BNext); not both.
        bias: Whether the linear layer has a bias.
        precision: Bits of the linear layer; 8-bit weights make it four times smaller.
    """

    kind: ClassVar[str] = "classifier"
    place: ClassVar[str] = "head"
    symbol: ClassVar[str] = "C"
    classes: int
    norm: bool = True
    relu: bool = True
    prelu: bool = added(False)
    bias: bool = added(True)
    precision: Precision = added(FULL)

    def check(self) -> None:
        """2 to 100,000 classes, one activation, weights without factors."""
        check_range("classes", self.classes, 2, 100_000)
        if self.relu and self.prelu:
            raise InvalidValue(
                "A head has at most one activation, but both relu and prelu are set."
            )
        if isinstance(self.precision.weight, Scaled):
            raise InvalidValue(
                "The weights of a classifier have no factors per filter, but the quantizer is "
                f"{self.precision.weight.kind!r}."
            )

    def build(self, b: Builder, x: int) -> int:
        """``(classes,)``."""
        if self.norm:
            x = norm(b, x)
        if self.relu:
            x = relu(b, x)
        if self.prelu:
            x = b.add(PRELU, x, name="prelu")
        x = b.add(Flatten(), b.add(GlobalAvgPool(), x, name="pool"), name="flatten")
        x = quantize(b, x, self.precision.input)
        op = Linear(out_features=self.classes, weight=self.precision.weight, bias=self.bias)
        return b.add(op, x, name="linear")
