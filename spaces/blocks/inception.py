"""GoogLeNet's module: four branches side by side, joined along the channels.

Picture::

    x -+- 1x1 --------------+
       +- 1x1 --- 3x3 ------+- concat -
       +- 1x1 --- 5x5 ------+
       +- max pool --- 1x1 -+
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bitfront.spaces.blocks.block import Block, blocks, check_channels, conv, max_pool_op, norm
from bitfront.spaces.blocks.classic import activated, check_choice, quantized
from bitfront.spaces.blocks.dense import CONCAT
from bitfront.spaces.graph import Builder
from bitfront.spaces.precision import FULL, Precision


@blocks.register("inception")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inception(Block):
    """Four branches of different windows; each convolution has a ReLU.

    Attributes:
        one: Filters of the 1x1 branch.
        three_reduce: Filters of the 1x1 convolution before the 3x3.
        three: Filters of the 3x3 branch.
        five_reduce: Filters of the 1x1 convolution before the 5x5.
        five: Filters of the 5x5 branch.
        pool: Filters of the 1x1 convolution behind the max pool.
        norm: "after" each convolution, or "none": convolutions with a bias, as published.
        precision: Bits of all convolutions; not one-bit inputs, for a ReLU stands before them.

    References:
        Szegedy et al. 2015, Going deeper with convolutions (arXiv:1409.4842), Fig. 2b.
    """

    kind: ClassVar[str] = "inception"
    symbol: ClassVar[str] = "IN"
    one: int
    three_reduce: int
    three: int
    five_reduce: int
    five: int
    pool: int
    norm: str = "none"
    precision: Precision = FULL

    def check(self) -> None:
        """Sane numbers of channels."""
        for name in ("one", "three_reduce", "three", "five_reduce", "five", "pool"):
            check_channels(name, getattr(self, name))
        check_choice("norm", self.norm, ("after", "none"))

    def build(self, b: Builder, x: int) -> int:
        """The same size, ``one + three + five + pool`` channels."""
        pooled = b.add(max_pool_op(3, 1, 1), x, name="max_pool")
        x = quantized(b, x, self.precision.input)
        pooled = quantized(b, pooled, self.precision.input, "pool_quantize")
        branches = (
            self._convolved(b, x, self.one, 1, "one"),
            self._reduced(b, x, self.three_reduce, self.three, 3, "three"),
            self._reduced(b, x, self.five_reduce, self.five, 5, "five"),
            self._convolved(b, pooled, self.pool, 1, "pool"),
        )
        return b.add(CONCAT, *branches, name="concat")

    def _reduced(
        self, b: Builder, x: int, reduced: int, channels: int, kernel_size: int, name: str
    ) -> int:
        x = self._convolved(b, x, reduced, 1, f"{name}_reduce")
        x = quantized(b, x, self.precision.input, f"{name}_quantize")
        return self._convolved(b, x, channels, kernel_size, name)

    def _convolved(self, b: Builder, x: int, channels: int, kernel_size: int, name: str) -> int:
        plain = self.norm == "none"
        weight = self.precision.weight
        x = conv(b, x, channels, kernel_size, weight=weight, bias=plain, name=name)
        if not plain:
            x = norm(b, x, f"{name}_norm")
        return activated(b, x, "relu", f"{name}_relu")
