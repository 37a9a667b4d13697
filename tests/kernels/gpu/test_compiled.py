"""What the Triton kernels become for an A100 and an H100, compiled without either."""

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch

from bitfront.kernels import BINARY, CodeFormat, Conv2dGeometry
from bitfront.kernels.finish import Affine, Finish, Requantise, Threshold
from bitfront.kernels.gpu.int8 import int8_kernel
from bitfront.kernels.gpu.machine_code import MachineCode, compile_kernel
from bitfront.kernels.gpu.packing import TILE_ELEMENTS, TILE_WORDS, pack_kernel, regroup_kernel
from bitfront.kernels.gpu.popcount import popcount_kernel
from bitfront.kernels.gpu.product import Method, kernel_options
from bitfront.kernels.gpu.tiles import Tile, int8_tile, popcount_tile

CAPABILITIES = [80, 90]
KERNELS = {"popcount": popcount_kernel, "int8": int8_kernel}
WHOLE = {"outputs", "group_outputs", "x_plane", "w_plane", "out_row", "out_plane"}
U2 = CodeFormat(bits=2, coding="unsigned")
U4 = CodeFormat(bits=4, coding="unsigned")
S8 = CodeFormat(bits=8, coding="signed")
MATRIX = Conv2dGeometry.of(image=(1, 1, 4096, 4096), weight=(4096, 1, 1, 4096))
VECTOR = Conv2dGeometry.of(image=(1, 1, 1, 4096), weight=(4096, 1, 1, 4096))
CONV = Conv2dGeometry.of(image=(8, 28, 28, 128), weight=(128, 3, 3, 128), padding=1)
FLIPS = torch.zeros(128, dtype=torch.bool)
PACK_TILE = {"TILE_ROWS": TILE_ELEMENTS // (32 * TILE_WORDS), "TILE_WORDS": TILE_WORDS}
LEVELS = torch.zeros(3, 128, dtype=torch.int32)
NORM = Affine(
    scale=torch.zeros(128),
    shift=torch.zeros(128),
    merges=True,
    rectifies=True,
    scale_after=torch.zeros(128),
    shift_after=torch.zeros(128),
)


def pointers(finish: Finish | None) -> dict[str, str]:
    """Types of the pointers that depend on the finish."""
    if isinstance(finish, Affine):
        out = "*i16:16" if finish.dtype == torch.bfloat16 else "*fp32:16"
        return {"out_ptr": out, "finish_ptr": "*fp32:16"}
    return {}


def compile_product(
    kernel: Any, options: dict[str, Any], tile: Tile, capability: int, finish: Finish | None
) -> MachineCode:
    """Compile as a launch does, where all sizes but those in `options` are multiples of 16."""
    names = [name for name in kernel.arg_names if name not in options]
    sizes = {name: "i32:16" if name in WHOLE else "i32" for name in names}
    words = {name: "*i32:16" for name in names if name.endswith("_ptr")}
    return compile_kernel(
        kernel,
        {**sizes, **words, **pointers(finish)},
        options,
        capability=capability,
        warps=tile.warps,
        num_stages=tile.stages,
        enable_fp_fusion=False,
    )


@cache
def compiled(
    method: Method,
    conv: Conv2dGeometry,
    x_format: CodeFormat,
    w_format: CodeFormat,
    tile: Tile,
    capability: int,
    finish: Finish | None = None,
    classes: bool = False,
    fills: bool = False,
) -> MachineCode:
    options = kernel_options(
        conv, x_format, w_format, method, tile, finish=finish, classes=classes, fills=fills
    )
    return compile_product(KERNELS[method], options, tile, capability, finish)


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("conv", [MATRIX, CONV], ids=["gemm", "conv"])
def test_sums_of_fields_become_popc(conv: Conv2dGeometry, capability: int) -> None:
    tile = popcount_tile(conv.rows, conv.group_outputs, 128, False)
    code = compiled("popcount", conv, BINARY, BINARY, tile, capability, classes=conv is CONV)
    # 64 rows * 64 outputs * 4 words of a step, by 128 threads
    assert (tile.rows, tile.outputs, tile.words, tile.warps) == (64, 64, 4, 4)
    assert code.count("POPC") == 128
    assert "0x33333333" not in code.sass
    # two words for each thread, copied while others are counted; no sum crosses threads
    assert code.count("LDGSTS", "64") == 2 * tile.stages
    assert code.count("SHFL") == code.spills == 0


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_one_row_reads_its_weights_in_whole_lines(capability: int) -> None:
    tile = popcount_tile(1, 4096, 128, False)
    code = compiled("popcount", VECTOR, BINARY, BINARY, tile, capability)
    # 8 outputs * 128 words, by 128 threads
    assert code.count("POPC") == 8
    assert code.count("LDG", "128") + code.count("LDGSTS", "128") >= 2
    assert code.spills == 0


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("conv", [MATRIX, CONV], ids=["gemm", "conv"])
@pytest.mark.parametrize("formats", [(BINARY, BINARY), (U4, U2)], ids=["w1a1", "w2a4"])
def test_bits_become_bytes_in_registers(
    formats: tuple[CodeFormat, CodeFormat], conv: Conv2dGeometry, capability: int
) -> None:
    tile = int8_tile(conv.rows, conv.group_outputs, 128, False)
    code = compiled("int8", conv, *formats, tile, capability, classes=conv is CONV)
    # 128 rows * 128 outputs * 128 channels of a step, by 8 warps: m16n8k32, or m64n128k32 by four
    assert (tile.rows, tile.outputs, tile.words, tile.warps) == (128, 128, 4, 8)
    if capability == 80:
        assert code.count("IMMA", "S8") == 128**3 // (16 * 8 * 32) // 8
    else:
        assert code.count("IGMMA") == 128**3 // (64 * 128 * 32) // 2
    # four bytes are one word throughout: none is stored, or put into its word, by itself
    assert code.count("STS", "U8") == code.count("STG", "U8") == 0
    assert code.count("PRMT") < 32
    assert code.spills == 0


@pytest.mark.parametrize(
    "finish",
    [
        Affine(scale=torch.zeros(128), shift=torch.zeros(128), dtype=torch.bfloat16),
        Affine(scale=torch.zeros(128), shift=torch.zeros(128)),
        NORM,
        replace(NORM, dtype=torch.bfloat16),
        Threshold(threshold=LEVELS[0], flip=FLIPS),
        Requantise(thresholds=LEVELS, flip=FLIPS),
    ],
    ids=["bfloat16", "float32", "norm", "norm bfloat16", "bits", "codes"],
)
@pytest.mark.parametrize("method", KERNELS)
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_every_finish_compiles(method: Method, finish: Finish, capability: int) -> None:
    codes = isinstance(finish, Threshold | Requantise)
    choose = popcount_tile if method == "popcount" else int8_tile
    tile = choose(64, 128, 36, codes)
    code = compiled(method, CONV, U2, BINARY, tile, capability, finish=finish, fills=True)
    assert code.spills == 0
    # torch rounds the product too
    assert code.count("FFMA") == 0
    # and keeps the smallest numbers
    assert ".ftz" not in code.ptx
    # what is added to is not what a cache that is never written holds
    assert "ld.global.nc" not in code.ptx


@pytest.mark.parametrize("rows", [8, 31])
def test_signed_planes_compile(rows: int) -> None:
    s2 = CodeFormat(bits=2, coding="signed")
    tile = popcount_tile(rows, 4096, 128, False, passes=4)
    code = compiled("popcount", MATRIX, s2, s2, tile, 90)
    assert code.count("POPC") == 4 * tile.rows * tile.outputs * tile.words // 128
    assert "0x33333333" not in code.sass
    assert code.spills == 0


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_signed_bytes_and_few_rows_compile(capability: int) -> None:
    tile = int8_tile(1, 4096, 128, False)
    code = compiled("int8", VECTOR, S8, S8, tile, capability)
    assert code.count("IMMA") + code.count("IGMMA") > 0
    assert code.spills == 0


@pytest.mark.parametrize(
    ("dtype", "capability"), [("fp32", 80), ("fp32", 90), ("bf16", 80), ("fp64", 90), ("i8", 90)]
)
def test_packing_compiles(dtype: str, capability: int) -> None:
    signature = {
        "x_ptr": f"*{dtype}:16",
        "words_ptr": "*i32:16",
        "count_ptr": "*i32:16",
        "wrong_ptr": "*i32:16",
        **dict.fromkeys(("rows", "inner", "channels", "row_words"), "i32:16"),
        **dict.fromkeys(("outer_step", "inner_step"), "i32:16"),
    }
    constants = {"channel_step": 1, "BITS": 1, "SIGNS": True, "WIDEN": dtype in ("bf16", "fp16")}
    constants |= {"LOW": 0, "HIGH": 0, "OFFSET": 0, "STEP": 1, **PACK_TILE}
    code = compile_kernel(pack_kernel, signature, constants, capability=capability)
    assert code.spills == 0
    assert code.count("STG") >= 1


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_packing_of_codes_compiles(capability: int) -> None:
    signature = {
        "x_ptr": "*i32:16",
        "words_ptr": "*i32:16",
        "count_ptr": "*i32:16",
        "wrong_ptr": "*i32:16",
        **dict.fromkeys(("rows", "inner", "channels", "row_words"), "i32"),
        **dict.fromkeys(("outer_step", "inner_step", "channel_step"), "i32"),
    }
    constants = {"BITS": 4, "SIGNS": False, "WIDEN": True, "LOW": -15, "HIGH": 15, "OFFSET": -15}
    constants |= {"STEP": 2, **PACK_TILE}
    code = compile_kernel(pack_kernel, signature, constants, capability=capability)
    assert code.spills == 0


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_regrouping_compiles(capability: int) -> None:
    names = ("rows", "row_words", "group_channels", "out_words")
    code = compile_kernel(
        regroup_kernel,
        {"words_ptr": "*i32:16", "out_ptr": "*i32:16", **dict.fromkeys(names, "i32")},
        {"GROUP_WORDS": 2, "TILE_ROWS": 32, "TILE_WORDS": 64},
        capability=capability,
    )
    assert code.spills == 0


@pytest.mark.parametrize("method", ["popcount", "int8"])
@pytest.mark.parametrize("replicates", [False, True])
def test_sizes_of_1_compile(method: Method, replicates: bool) -> None:
    """A launch makes an argument of 1 a constant, which the interpreter does not."""
    conv = Conv2dGeometry.of(image=(1, 1, 1, 1), weight=(1, 3, 3, 1), padding=1)
    choose = popcount_tile if method == "popcount" else int8_tile
    tile = choose(1, 1, 9, True)
    finish = Threshold(threshold=LEVELS[0, :1], flip=FLIPS[:1])
    options = kernel_options(
        conv,
        CodeFormat(bits=2, coding="signed"),
        CodeFormat(bits=2, coding="signed"),
        method,
        tile,
        finish=finish,
        fills=not replicates,
        replicates=replicates,
        classes=True,
    )
    kernel = KERNELS[method]
    sizes = [name for name in kernel.arg_names if name.islower() and not name.endswith("_ptr")]
    code = compile_product(kernel, {**options, **dict.fromkeys(sizes, 1)}, tile, 90, finish)
    assert code.count("STG") >= 1


@pytest.mark.parametrize("kernel", [pack_kernel, regroup_kernel], ids=["pack", "regroup"])
def test_packing_of_sizes_of_1_compiles(kernel: Any) -> None:
    constants = {name: 1 for name in kernel.arg_names if not name.endswith("_ptr")}
    words = {name: "*i32:16" for name in kernel.arg_names if name.endswith("_ptr")}
    assert compile_kernel(kernel, words, constants, capability=90).count("STG") >= 1
