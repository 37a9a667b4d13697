"""What is measured: the 3x3 convolutions of a ResNet's four stages, and matrix products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvCase:
    """A 3x3 convolution of stride 1 that keeps its size.

    Attributes:
        channels: C of input and output.
        size: Rows and columns.
        batch: Images.
    """

    channels: int
    size: int
    batch: int

    @property
    def name(self) -> str:
        """As in the tables: ``conv3x3 64x56x56 b1``."""
        return f"conv3x3 {self.channels}x{self.size}x{self.size} b{self.batch}"

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.batch * self.size**2 * self.channels**2 * 9


@dataclass(frozen=True, slots=True, kw_only=True)
class GemmCase:
    """A matrix product [M, K] x [N, K].

    Attributes:
        rows: M.
        outputs: N.
        depth: K.
    """

    rows: int
    outputs: int
    depth: int

    @property
    def name(self) -> str:
        """As in the tables: ``gemm 512x512x4608``."""
        return f"gemm {self.rows}x{self.outputs}x{self.depth}"

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.rows * self.outputs * self.depth


CASES: Final[tuple[ConvCase | GemmCase, ...]] = (
    *(
        ConvCase(channels=channels, size=size, batch=batch)
        for batch in (1, 8)
        for channels, size in ((64, 56), (128, 28), (256, 14), (512, 7))
    ),
    GemmCase(rows=512, outputs=512, depth=4608),
    GemmCase(rows=1024, outputs=1024, depth=1024),
    GemmCase(rows=8, outputs=512, depth=4608),
)
