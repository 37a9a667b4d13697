"""How a product is cut into tiles, one for each block of threads.

The numbers follow from the kernels' registers. What was timed on a device goes before them:
`bitfront.kernels.gpu.tuning`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bitfront.kernels.gpu.launch import power_of_two
from bitfront.kernels.layout import WORD_BITS, require_int

FEW_ROWS: Final = 8
"""Up to so many rows a warp shares the words of a row."""

MAX_STAGES: Final = 8
"""Steps whose loads may be under way at once."""

SPLIT_WORDS: Final = 4
"""Words that a thread reads at once; a step of more rows has no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A tile of a product, and the threads that compute it.

    Attributes:
        rows: Rows of the result, a power of two.
        outputs: Outputs of one group, a power of two; 32 or more where codes are stored.
        words: Words of a row in one step, a power of two.
        warps: Of the block: 1, 2, 4, 8 or 16.
        stages: Steps whose loads are under way at once.

    Raises:
        TypeError: A number is no int.
        ValueError: A number is out of range or no power of two.
    """

    rows: int
    outputs: int
    words: int
    warps: int = 4
    stages: int = 3

    def __post_init__(self) -> None:
        for name, most in (("rows", 1024), ("outputs", 1024), ("words", 1024), ("warps", 16)):
            value = require_int(name, getattr(self, name), 1, most)
            if value != power_of_two(value):
                raise ValueError(f"`{name}` must be a power of two, but got {value}.")
        require_int("stages", self.stages, 1, MAX_STAGES)


def popcount_tile(
    rows: int, group_outputs: int, row_words: int, stores_codes: bool, passes: int = 1
) -> Tile:
    """A tile for counting bits of so many pairs of planes."""
    least = WORD_BITS if stores_codes else 1
    if rows <= FEW_ROWS:
        return Tile(
            rows=power_of_two(rows),
            outputs=max(least, min(8, power_of_two(group_outputs))),
            words=max(SPLIT_WORDS, min(128, power_of_two(row_words))),
        )
    # the words of all planes are held at once
    most_rows = 64 if passes == 1 else 32
    most_outputs = 64 if passes <= 4 else 32
    return Tile(
        rows=min(most_rows, power_of_two(rows)),
        outputs=max(least, min(most_outputs, power_of_two(group_outputs))),
        words=SPLIT_WORDS,
    )


def int8_tile(rows: int, group_outputs: int, row_words: int, stores_codes: bool) -> Tile:
    """A tile for int8 tensor cores, whose least is 16 x 16 x 32."""
    least = WORD_BITS if stores_codes else 16
    tile_rows = max(16, min(128, power_of_two(rows)))
    # fewer than a warp group's rows leave no room for more
    most = 128 if tile_rows >= 64 else 64
    tile_outputs = max(least, min(most, power_of_two(group_outputs)))
    return Tile(
        rows=tile_rows,
        outputs=tile_outputs,
        words=min(4, power_of_two(row_words)),
        # at most 64 sums for each thread
        warps=max(4, min(8, tile_rows * tile_outputs // 2048)),
    )
