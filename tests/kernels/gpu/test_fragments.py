"""Who holds which bit: the PTX tables, the compiler's layouts and our index functions agree."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from bitfront.kernels import pack, reference
from bitfront.kernels.gpu import fragments, tensor_core
from bitfront.kernels.gpu.emulation import emulate, mma_m16n8k256, run_instructions
from bitfront.kernels.gpu.fragments import WarpTile, column_of, row_of

TILE = WarpTile(m_tiles=2, n_tiles=8, m_warps=2, n_warps=2)
STAGES = (0, 3)
INSTRUCTION = fragments.instruction.fn("and", False)


def table_a(lane: int, bit: int) -> tuple[int, int]:
    """PTX ISA, .b1 operand A of m16n8k256: row and column of bit 0 .. 127 of a thread."""
    group, thread = lane >> 2, lane % 4
    row = group if bit < 32 or 64 <= bit < 96 else group + 8
    return row, thread * 32 + (bit & 0x1F) + (0 if bit < 64 else 128)


def table_b(lane: int, bit: int) -> tuple[int, int]:
    """Row and column of bit 0 .. 63 of a thread of operand B."""
    return (lane % 4) * 32 + (bit & 0x1F) + (0 if bit < 32 else 128), lane >> 2


def table_c(lane: int, number: int) -> tuple[int, int]:
    """Row and column of register 0 .. 3 of a thread of the accumulator."""
    return (lane >> 2) + (0 if number < 2 else 8), (lane % 4) * 2 + (number & 1)


@pytest.mark.parametrize("operator", ["and", "xor"])
def test_the_emulated_instruction_follows_the_tables_of_ptx(operator: str) -> None:
    random = np.random.default_rng(0)
    a, b, c = (
        random.integers(-(2**31), 2**31, (3, n, 32), dtype=np.int64).astype(np.int32)
        for n in (4, 2, 4)
    )
    c >>= 8
    result = mma_m16n8k256(operator, a, b, c)
    for warp in range(3):
        rows, columns = np.zeros((16, 256), int), np.zeros((256, 8), int)
        for lane in range(32):
            for bit in range(128):
                rows[table_a(lane, bit)] = a[warp, bit // 32, lane] >> (bit % 32) & 1
            for bit in range(64):
                columns[table_b(lane, bit)] = b[warp, bit // 32, lane] >> (bit % 32) & 1
        if operator == "and":
            counts = rows @ columns
        else:
            counts = rows @ (1 - columns) + (1 - rows) @ columns
        for lane in range(32):
            for number in range(4):
                expected = c[warp, number, lane] + counts[table_c(lane, number)]
                assert result[warp, number, lane] == expected


def test_a_step_multiplies_all_of_its_512_bits_once() -> None:
    operands = np.zeros((512, 16, 32), np.int32)
    g, t = 3, 2
    # warp k has one bit in row g, and one in row g + 8, of 32 * thread bits each
    for k in range(512):
        lane, register, bit = 4 * g + k // 128, k // 32 % 4, k % 32
        operands[k, 4 + register, lane] = np.array(1 << bit, np.uint32).view(np.int32)
    operands[:, 12:16, 4 * (2 * t + 1) : 4 * (2 * t + 1) + 4] = -1
    made = run_instructions(fragments.instruction("and", False), operands, 4)
    expected = np.zeros((512, 4, 32), np.int32)
    # column 2t + 1 is register 1 of thread t
    expected[:, 1, 4 * g + t] = 1
    assert np.array_equal(made, expected)


@pytest.mark.parametrize(("n_tiles", "m_warps", "n_warps"), [(4, 1, 1), (8, 2, 4), (8, 4, 1)])
def test_rows_and_columns_of_a_tile_are_read_once(n_tiles: int, m_warps: int, n_warps: int) -> None:
    tile = WarpTile(m_tiles=4, n_tiles=n_tiles, m_warps=m_warps, n_warps=n_warps)
    mt, wm, g = np.mgrid[:4, :m_warps, :8]
    low = row_of.fn(mt, wm, g, m_warps).ravel()
    assert sorted([*low, *(low + 8)]) == list(range(tile.rows))
    nt, wn, g = np.mgrid[:n_tiles, :n_warps, :8]
    columns = column_of.fn(nt, wn, g, n_tiles).ravel()
    assert sorted(columns) == list(range(tile.columns))


def registers(layout: Any, shape: list[int]) -> list[list[list[str]]]:
    """Elements by warp, lane and register, as the compiler reports them."""
    warps = layout.format_hardware_view(shape).split("Warp")[1:]
    by_register = [
        [line.split("), ") for line in warp.splitlines() if line.startswith("(")] for warp in warps
    ]
    return [
        [[row[lane].strip("() ") for row in rows] for lane in range(32)] for rows in by_register
    ]


def test_a_part_of_the_result_stays_in_its_threads() -> None:
    """Thread by thread, the layout of the result holds the accumulator's columns and rows."""
    WM, WN, NT = 2, 2, 8
    accumulator = registers(fragments.operand_layout(1, NT, WM, WN), [1, NT, WM, WN, 8, 16])
    result = registers(fragments.result_layout(NT, WM, WN), [16 * WM, 8 * NT * WN])
    for warp in range(WM * WN):
        for lane in range(32):
            held = set()
            for element in accumulator[warp][lane]:
                _, nt, wm, wn, g, k = map(int, element.split(","))
                t, number = divmod(k, 4)
                row, column = table_c(4 * g + t, number)
                # quad `column` of the columns' operand read this column of the matrix
                held.add(
                    (
                        row_of.fn(0, wm, 0, WM) + row,
                        int(column_of.fn(np.int64(nt), wn, np.int64(column), NT)),
                    )
                )
            there = {tuple(map(int, element.split(","))) for element in result[warp][lane]}
            assert there == held


def product(m: int, n: int, k: int, stages: int, eager: bool = False) -> bool:
    """Whether an emulated product equals the reference."""
    generator = torch.Generator().manual_seed(m + n + k)
    a, b = (pack(torch.randn(rows, k, generator=generator)) for rows in (m, n))
    row_words = -(-a.words.shape[1] // 16) * 16
    out = torch.full((m, n), 0x0BADF00D, dtype=torch.int32)
    x, w = (
        torch.nn.functional.pad(words, (0, row_words - words.shape[1]))
        for words in (a.words, b.words)
    )
    blocks = -(-m // TILE.rows) * -(-n // TILE.columns)
    arguments = {
        "x_ptr": x,
        "w_ptr": w,
        "ones_ptr": a.popcount,
        "beta_ptr": k - 2 * b.popcount,
        "out_ptr": out,
        "finish_ptr": None,
        "out_ones_ptr": None,
        "M": m,
        "N": n,
        "KW": row_words,
        "x_plane": 0,
        "w_plane": 0,
        "out_row": n,
        "out_plane": 0,
        "PAIRS": ((0, 0, 1),),
        "LAST": 4,
        "ROW_VALUES": (-2,),
        "FINISH": 0,
        "BITS": 1,
        "AFTER": 0,
        "MERGES": 0,
        "ONES": 0,
        "STAGES": stages,
        "OPERATOR": "and",
        **TILE.constants,
    }
    emulate(tensor_core.gemm_kernel, blocks, arguments, eager=eager)
    return torch.equal(out, reference.xnor_gemm(a.words, b.words, k))


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("stages", STAGES)
@pytest.mark.parametrize(
    ("m", "n", "k"), [(1, 1, 1), (64, 64, 512), (65, 67, 1023), (9, 130, 2049)]
)
def test_the_emulated_kernel_equals_the_reference(
    m: int, n: int, k: int, stages: int, eager: bool
) -> None:
    assert product(m, n, k, stages, eager)


def off_by_one(right: Any, number: int) -> Callable[..., Any]:
    """The function of a kernel with 1 added to an argument; below 0, to the result."""

    def wrong(*args: Any) -> Any:
        if number < 0:
            return right(*args) + 1
        return right(*(a + 1 if n == number else a for n, a in enumerate(args)))

    return wrong


def swapped(first: str, second: str) -> Callable[[str, bool], str]:
    """The instruction with two of its registers exchanged, in every place."""

    def wrong(operator: str, half: bool) -> str:
        return INSTRUCTION.replace(first, "$x").replace(second, first).replace("$x", second)

    return wrong


MUTANTS = [
    *(
        pytest.param("row_of", off_by_one(row_of.fn, n), STAGES, id=f"row_of {n}")
        for n in (-1, 0, 1, 2)
    ),
    *(
        pytest.param("column_of", off_by_one(column_of.fn, n), STAGES, id=f"column_of {n}")
        for n in (-1, 0, 1, 2, 3)
    ),
    pytest.param("staged_row", lambda s, WM: row_of.fn(s // 8, s % 8, 0, WM), (3,), id="staged"),
    pytest.param(
        "staged_column", off_by_one(lambda s, NT, WN: s, -1), (3,), id="staged_column in order"
    ),
    *(
        pytest.param("instruction", swapped(a, b), STAGES, id=f"{a} and {b}")
        for a, b in (
            ("$8", "$9"),
            ("$12", "$13"),
            ("$9", "$12"),
            ("$10", "$11"),
            ("$16", "$17"),
            ("$17", "$18"),
            ("$1,", "$2,"),
            ("$5", "$6"),
        )
    ),
]


@pytest.mark.parametrize(("name", "wrong", "stages"), MUTANTS)
def test_a_wrong_index_is_seen(
    name: str, wrong: Callable[..., Any], stages: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (fragments, tensor_core):
        if hasattr(module, name):
            monkeypatch.setattr(module, name, wrong)
    for each in stages:
        try:
            exact = product(65, 67, 1023, each)
        except (IndexError, ValueError):
            continue
        assert not exact
