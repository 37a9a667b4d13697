"""A head with hidden layers: AlexNet's and VGG's fully connected layers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from bitfront.spaces.blocks.block import (
    SHIFT,
    Block,
    blocks,
    check_channels,
    check_range,
    filter_scale,
    norm,
    relu,
)
from bitfront.spaces.blocks.classic import NORMS, check_choice, quantized
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.graph import Builder
from bitfront.spaces.ops import Dropout, Flatten, GlobalAvgPool, Linear
from bitfront.spaces.precision import FULL, Precision
from bitfront.spaces.quantizers import IDENTITY, Quantizer, Scaled


@blocks.register("mlp_classifier")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MlpClassifier(Block):
    """Hidden layers with ReLU and dropout, then a 32-bit linear layer with bias.

    Attributes:
        classes: Number of logits.
        hidden: Features of the hidden layers; with none, dropout precedes the last layer alone.
        dropout: Probability of a value to be dropped; 0 for no dropout.
        pool: Average over all pixels first; otherwise the features follow from the image's size.
        norm: "after" or "before" each hidden layer, or "none": with a bias.
        precision: Bits of the hidden layers; one-bit inputs need the norm before.
    """

    kind: ClassVar[str] = "mlp_classifier"
    place: ClassVar[str] = "head"
    symbol: ClassVar[str] = "MC"
    classes: int
    hidden: tuple[int, ...] = (4096, 4096)
    dropout: float = 0.5
    pool: bool = False
    norm: str = "none"
    precision: Precision = FULL

    def check(self) -> None:
        """2 to 100,000 classes, sane features, a probability below 1."""
        check_range("classes", self.classes, 2, 100_000)
        for features in self.hidden:
            check_channels("hidden", features)
        if not 0.0 <= self.dropout < 1.0:
            raise InvalidValue(f"dropout must be at least 0 and below 1, but is {self.dropout}.")
        check_choice("norm", self.norm, NORMS)

    def build(self, b: Builder, x: int) -> int:
        """``(classes,)``."""
        if self.pool:
            x = b.add(GlobalAvgPool(), x, name="pool")
        x = b.add(Flatten(), x, name="flatten")
        for i, features in enumerate(self.hidden, start=1):
            if self.norm == "before":
                x = norm(b, x, f"norm{i}")
            x = quantized(b, x, self.precision.input, f"quantize{i}")
            bias = self.norm == "none"
            x = _linear(b, x, features, self.precision.weight, bias, f"linear{i}")
            if self.norm == "after":
                x = norm(b, x, f"norm{i}")
            x = self._dropped(b, relu(b, x, f"relu{i}"), f"dropout{i}")
        if not self.hidden:
            x = self._dropped(b, x, "dropout")
        return b.add(Linear(out_features=self.classes), x, name="linear")

    def _dropped(self, b: Builder, x: int, name: str) -> int:
        return b.add(_dropout_op(self.dropout), x, name=name) if self.dropout else x


@cache
def _dropout_op(probability: float) -> Dropout:
    return Dropout(probability=probability)


def _linear(b: Builder, x: int, features: int, weight: Quantizer, bias: bool, name: str) -> int:
    """A linear layer; factors and bias of a quantised one stand behind its sums."""
    inside = bias and weight == IDENTITY
    codes = weight.codes if isinstance(weight, Scaled) else weight
    y = b.add(Linear(out_features=features, weight=codes, bias=inside), x, name=name)
    if isinstance(weight, Scaled):
        y = b.add(filter_scale(weight), y, name=f"{name}_scale", latent=y)
    return b.add(SHIFT, y, name=f"{name}_bias") if bias and not inside else y
