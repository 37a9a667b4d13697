"""Which thread of a block holds which word: tiles of the 1-bit tensor cores over plain rows.

A dot product does not mind the order of its terms. So thread t of a quad takes words 4t .. 4t + 3
of every 16 of a row, of both operands: packed rows are read as they are, 16 bytes at a time, and
two ``mma.m16n8k256`` take the 512 bits of such a step.

A block of ``WM x WN`` warps makes a tile of ``16 MT WM`` rows and ``8 NT WN`` columns. Its
accumulator, and the words of a step, are tensors of six axes in one layout::

    [MT, NT, WM, WN, 8, 16]
      |   |   |   |  |   |
      |   |   |   |  |   thread t of the quad, four registers each
      |   |   |   |  quad g
      |   |   warps
      registers

=================  ============================================================
register           holds
=================  ============================================================
words of rows      word 4t + r of row g; another such tensor has row g + 8
words of columns   word 4t + r of the column that quad g stands for
accumulator        row ``g + 8 (r // 2)``, column ``2t + r % 2`` of a 16 x 8 tile
=================  ============================================================

Which column of the matrix a quad stands for is free, and so chosen that a thread ends with eight
neighbouring columns: a tile of 32 columns is one word of bits, and 16 bytes of bfloat16.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from triton.experimental import gluon
from triton.experimental.gluon import language as gl

# Triton 3.6 has it under another name
if not hasattr(gl, "barrier"):
    gl.barrier = gl.thread_barrier

STEP_WORDS: Final = 16
"""Words of a row that one step takes: two instructions of 256 bits."""

AXES: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class WarpTile:
    """What a block of threads makes.

    Attributes:
        m_tiles: MT, 16-row tiles of a warp.
        n_tiles: NT, 8-column tiles of a warp, a multiple of 4.
        m_warps: WM, warps along the rows.
        n_warps: WN, warps along the columns.
    """

    m_tiles: int
    n_tiles: int
    m_warps: int
    n_warps: int

    @property
    def rows(self) -> int:
        """Rows of the matrix."""
        return 16 * self.m_tiles * self.m_warps

    @property
    def columns(self) -> int:
        """Columns of the matrix."""
        return 8 * self.n_tiles * self.n_warps

    @property
    def warps(self) -> int:
        """Warps of the block."""
        return self.m_warps * self.n_warps

    @property
    def constants(self) -> dict[str, int]:
        """As a kernel names them."""
        return {"MT": self.m_tiles, "NT": self.n_tiles, "WM": self.m_warps, "WN": self.n_warps}


@gluon.constexpr_function
def instruction(operator: str, half: bool) -> str:
    """PTX of one step: ``$0..3 = $4..7 + popcount(rows op columns)``, 512 bits deep.

    $8..11 are the words of row g, $12..15 those of row g + 8, $16..19 those of column g. Half a
    step takes the first two of each four.
    """
    mma = f"mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.{operator}.popc"
    if half:
        return f"{mma} {{$0, $1, $2, $3}}, {{$8, $12, $9, $13}}, {{$16, $17}}, {{$4, $5, $6, $7}};"
    return f"""{{
.reg .b32 d<4>;
{mma} {{d0, d1, d2, d3}}, {{$8, $12, $9, $13}}, {{$16, $17}}, {{$4, $5, $6, $7}};
{mma} {{$0, $1, $2, $3}}, {{$10, $14, $11, $15}}, {{$18, $19}}, {{d0, d1, d2, d3}};
}}"""


@gluon.constexpr_function
def constraints() -> str:
    """Four results in registers, sixteen operands in registers."""
    return "=r,=r,=r,=r," + "r,r,r,r," * 3 + "r,r,r,r"


@gluon.constexpr_function
def operand_layout(MT: int, NT: int, WM: int, WN: int) -> Any:
    """Layout of the accumulator and of the words of a step, [MT, NT, WM, WN, 8, 16]."""
    return gl.BlockedLayout(
        [MT, NT, 1, 1, 1, 4], [1, 1, 1, 1, 8, 4], [1, 1, WM, WN, 1, 1], [5, 4, 3, 2, 1, 0]
    )


@gluon.constexpr_function
def axis_layout(parent: Any, axis: int) -> Any:
    """Layout of a vector along one axis of the six."""
    layout = parent
    for other in reversed(range(AXES)):
        if other != axis:
            layout = gl.SliceLayout(other, layout)
    return layout


@gluon.constexpr_function
def result_layout(NT: int, WM: int, WN: int) -> Any:
    """Layout of a part of the result, [16 WM, 8 NT WN]: no value leaves its thread to get there."""

    def powers(count: int, step: int, axis: int) -> list[list[int]]:
        steps = [step << n for n in range(count.bit_length() - 1)]
        return [[step, 0] if axis == 0 else [0, step] for step in steps]

    return gl.DistributedLinearLayout(
        reg_bases=[*powers(8, 1, 1), *powers(NT // 4, 32, 1), [8, 0]],
        lane_bases=[*powers(4, 8, 1), *powers(8, 1, 0)],
        warp_bases=[*powers(WN, 8 * NT, 1), *powers(WM, 16, 0)],
        block_bases=[],
        shape=[16 * WM, 8 * NT * WN],
    )


@gluon.constexpr_function
def parts_layout(MT: int, NT: int, WM: int, WN: int) -> Any:
    """Layout of a number for each row, [16 WM, MT]: where `result_layout` has the rows."""
    rows = result_layout(NT, WM, WN)

    def kept(bases: list[list[int]]) -> list[list[int]]:
        return [[base[0], 0] for base in bases]

    return gl.DistributedLinearLayout(
        reg_bases=[[0, 1 << n] for n in range(MT.bit_length() - 1)] + [[8, 0]],
        lane_bases=kept(rows.lane_bases),
        warp_bases=kept(rows.warp_bases),
        block_bases=[],
        shape=[16 * WM, MT],
    )


@gluon.jit
def along(size: gl.constexpr, axis: gl.constexpr, parent: gl.constexpr) -> gl.tensor:
    """0 .. size - 1 along one of the six axes."""
    x = gl.arange(0, size, layout=axis_layout(parent, axis))
    for other in gl.static_range(6):
        if other != axis:
            x = gl.expand_dims(x, other)
    return x


@gluon.jit
def half_word(k: gl.tensor) -> gl.tensor:
    """Of each of the 16 words of a step, the one of half a step: two for each thread of a quad.

    What a thread holds besides, ``k % 4 >= 2``, it does not use.
    """
    return k // 4 * 2 + k % 4


@gluon.jit
def row_of(mt: gl.tensor, wm: gl.tensor, g: gl.tensor, WM: gl.constexpr) -> gl.tensor:
    """Row of the tile whose words quad g reads first; the other is 8 further."""
    return (mt * WM + wm) * 16 + g


@gluon.jit
def column_of(nt: gl.tensor, wn: gl.tensor, g: gl.tensor, NT: gl.constexpr) -> gl.tensor:
    """Column of the tile whose words quad g reads."""
    return wn * (8 * NT) + (nt // 4) * 32 + (g // 2) * 8 + (nt % 4) * 2 + g % 2


@gluon.jit
def part_of(
    x: gl.tensor, part: gl.constexpr, SHAPE: gl.constexpr, PARTS: gl.constexpr
) -> gl.tensor:
    """Number ``part`` along the last axis of [*SHAPE, PARTS], which lies in registers."""
    for bit in gl.static_range(PARTS.bit_length() - 1):
        even, odd = gl.split(gl.reshape(x, SHAPE + [PARTS >> (bit + 1), 2]))
        x = even if (part >> bit) % 2 == 0 else odd
    return gl.reshape(x, SHAPE)


@gluon.jit
def matrix_part(
    acc: gl.tensor,
    mt: gl.constexpr,
    MT: gl.constexpr,
    NT: gl.constexpr,
    WM: gl.constexpr,
    WN: gl.constexpr,
) -> gl.tensor:
    """Rows ``16 WM mt`` and on of the accumulator, [16 WM, 8 NT WN] in `result_layout`.

    A part at a time, so that what the end of a kernel loads for each value finds registers.
    """
    last = gl.permute(acc, (1, 2, 3, 4, 5, 0))
    part = part_of(last, mt, [NT, WM, WN, 8, 16], MT)
    # 32 columns, nt, wm, wn, g, t, row + 8, column
    axes = gl.reshape(part, [NT // 4, 4, WM, WN, 8, 4, 2, 2])
    # wm, row + 8, g are a row; wn, 32 columns, t, nt, column are a column
    matrix = gl.reshape(gl.permute(axes, (2, 6, 4, 3, 0, 5, 1, 7)), [16 * WM, 8 * NT * WN])
    return gl.convert_layout(matrix, result_layout(NT, WM, WN))


@gluon.jit
def multiply(
    acc: gl.tensor,
    low: gl.tensor,
    high: gl.tensor,
    columns: gl.tensor,
    OPERATOR: gl.constexpr,
    HALF: gl.constexpr,
) -> gl.tensor:
    """One step: 512 bits of rows and columns; half a step takes 256."""
    return gl.inline_asm_elementwise(
        instruction(OPERATOR, HALF),
        constraints(),
        [acc, low, high, columns],
        dtype=gl.int32,
        is_pure=True,
        pack=4,
    )


@gluon.jit
def staged_row(s: gl.tensor, WM: gl.constexpr) -> gl.tensor:
    """Row of the tile at row ``s`` of shared memory: in the order in which `multiply_staged` reads.

    A second such part of shared memory holds the rows 8 further.
    """
    return row_of(s // (8 * WM), (s // 8) % WM, s % 8, WM)


@gluon.jit
def staged_column(s: gl.tensor, NT: gl.constexpr, WN: gl.constexpr) -> gl.tensor:
    """Column of the tile at row ``s`` of shared memory."""
    return column_of(s // (8 * WN), (s // 8) % WN, s % 8, NT)


@gluon.jit
def multiply_staged(
    acc: gl.tensor,
    tiles: gl.tuple,
    slot: gl.tensor,
    OPERATOR: gl.constexpr,
    HALF: gl.constexpr,
    MT: gl.constexpr,
    NT: gl.constexpr,
    WM: gl.constexpr,
    WN: gl.constexpr,
) -> gl.tensor:
    """One step from shared memory."""
    layout: gl.constexpr = operand_layout(MT, NT, WM, WN)
    of_rows: gl.constexpr = gl.SliceLayout(1, gl.SliceLayout(3, layout))
    of_columns: gl.constexpr = gl.SliceLayout(0, gl.SliceLayout(2, layout))
    low = tiles[0].index(slot).reshape([MT, WM, 8, 16]).load(of_rows)
    high = tiles[1].index(slot).reshape([MT, WM, 8, 16]).load(of_rows)
    columns = tiles[2].index(slot).reshape([NT, WN, 8, 16]).load(of_columns)
    return multiply(
        acc,
        gl.expand_dims(gl.expand_dims(low, 1), 3),
        gl.expand_dims(gl.expand_dims(high, 1), 3),
        gl.expand_dims(gl.expand_dims(columns, 0), 2),
        OPERATOR,
        HALF,
    )
