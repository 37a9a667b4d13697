"""Heads: from the last feature map to the logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bitfront.spaces.blocks.block import Block, blocks, check_range, norm, relu
from bitfront.spaces.graph import Builder
from bitfront.spaces.ops import Flatten, GlobalAvgPool, Linear


@blocks.register("classifier")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Classifier(Block):
    """Optional batch norm and ReLU, global average pool, 32-bit linear layer with bias.

    Attributes:
        classes: Number of logits.
        norm: Whether a batch norm comes first.
        relu: Whether a ReLU follows.
    """

    kind: ClassVar[str] = "classifier"
    place: ClassVar[str] = "head"
    symbol: ClassVar[str] = "C"
    classes: int
    norm: bool = True
    relu: bool = True

    def check(self) -> None:
        """2 to 100,000 classes."""
        check_range("classes", self.classes, 2, 100_000)

    def build(self, b: Builder, x: int) -> int:
        """``(classes,)``."""
        if self.norm:
            x = norm(b, x)
        if self.relu:
            x = relu(b, x)
        x = b.add(Flatten(), b.add(GlobalAvgPool(), x, name="pool"), name="flatten")
        return b.add(Linear(out_features=self.classes), x, name="linear")
