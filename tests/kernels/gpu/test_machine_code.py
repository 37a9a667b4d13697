"""What the kernels become for GPUs that are not there: instructions, widths, spills."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import triton
from triton import language as tl
from triton.backends.compiler import GPUTarget
from triton.experimental import gluon
from triton.experimental.gluon import language as gl

from bitfront.kernels import BINARY, CodeFormat, Conv2dGeometry, PackedCodes, pack
from bitfront.kernels.finish import Affine, Finish, Requantise, Threshold
from bitfront.kernels.gpu import product as gpu_product
from bitfront.kernels.gpu import tensor_core_product
from bitfront.kernels.gpu.fragments import WarpTile, operand_layout
from bitfront.kernels.gpu.int8 import int8_kernel
from bitfront.kernels.gpu.machine_code import (
    MachineCode,
    compile_kernel,
    compile_launch,
    opcodes,
)
from bitfront.kernels.gpu.popcount import popcount_kernel
from bitfront.kernels.gpu.tensor_core_product import (
    LARGE,
    SMALL,
    SQUARE,
    TALL,
    TILES,
    prepare_tensor_core_product,
)
from bitfront.kernels.gpu.weight import prepare_weight

U2 = CodeFormat(bits=2, coding="unsigned")
D2 = CodeFormat(bits=2, coding="symmetric")


@triton.jit
def add_kernel(x_ptr: tl.tensor, out_ptr: tl.tensor, size: tl.tensor, TILE: tl.constexpr) -> None:
    at = tl.program_id(0) * TILE + tl.arange(0, TILE)
    tl.store(out_ptr + at, tl.load(x_ptr + at, mask=at < size) + 1, mask=at < size)


@triton.jit
def heavy_kernel(x_ptr: tl.tensor, out_ptr: tl.tensor, TILE: tl.constexpr) -> None:
    """Too many values for the registers of a thread."""
    at = tl.arange(0, TILE)
    x = tl.load(x_ptr + at)
    tl.store(out_ptr + at, x * tl.sum(x, 0))


def test_opcodes_are_counted_with_their_modifiers() -> None:
    sass = """
        /*0000*/                   LDC R1, c[0x0][0x28] ;               /* 0x00000a00ff017b82 */
                                                                         /* 0x000e220000000800 */
        /*0010*/              @!P0 LDG.E.128 R4, desc[UR4][R2.64] ;
        /*0020*/              @UP1 ULDC UR6, c[0x0][0x220] ;
        /*0030*/                   LDG.E R8, desc[UR4][R2.64] ;
        /*1040*/                   BMMA.168256.AND.POPC R4, R8.ROW, R2.COL, R4 ;
    """
    found = opcodes(sass)
    assert found == {
        "LDC": 1,
        "LDG.E.128": 1,
        "ULDC": 1,
        "LDG.E": 1,
        "BMMA.168256.AND.POPC": 1,
    }
    code = MachineCode(capability=90, ptx="", sass=sass, registers=9, shared_bytes=0, stack_bytes=0)
    assert code.count("LDG") == 2
    assert code.count("LDG", "128") == 1
    assert code.count("AND", "BMMA") == 1
    assert code.count("BMMA", "XOR") == 0
    assert code.spills == 0


def test_what_a_launch_knows_of_its_arguments_counts() -> None:
    x = torch.zeros(4096, dtype=torch.int32)
    arguments = {"x_ptr": x, "out_ptr": x, "size": 4096, "TILE": 1024}
    wide = compile_launch(add_kernel, arguments, capability=80)
    assert wide.count("LDG", "128") == wide.count("STG", "128") == 2
    narrow = compile_launch(add_kernel, {**arguments, "x_ptr": x[1:]}, capability=80)
    assert narrow.count("LDG", "128") == 0
    assert narrow.count("LDG") == 8


def test_spilled_registers_are_seen() -> None:
    signature = {"x_ptr": "*i32:16", "out_ptr": "*i32:16"}
    code = compile_kernel(heavy_kernel, signature, {"TILE": 16384}, capability=90, warps=1)
    assert code.spills > 0
    assert code.stack_bytes > 0


def test_wrong_use_is_refused() -> None:
    with pytest.raises(ValueError, match="must name each of x_ptr, out_ptr, size, TILE once"):
        compile_kernel(add_kernel, {"x_ptr": "*i32"}, {"TILE": 1}, capability=80)
    with pytest.raises(TypeError, match="made by triton.jit"):
        compile_kernel(add_kernel.fn, {}, {}, capability=80)


Launch = tuple[Any, dict[str, Any], int]


def launch_of(
    monkeypatch: pytest.MonkeyPatch,
    *,
    channels: int = 512,
    outputs: int = 512,
    size: tuple[int, int, int] = (4, 32, 32),
    kernel: int = 1,
    formats: tuple[CodeFormat, CodeFormat] = (BINARY, BINARY),
    finish: Finish | None = None,
    packed: bool = False,
    tile: WarpTile | None = None,
    stages: int = 4,
    fill: int = 0,
) -> Launch:
    """What a product would launch on a device."""
    kept: list[Launch] = []
    monkeypatch.setattr(
        tensor_core_product,
        "launch",
        lambda kernel, count, arguments, warps: kept.append((kernel, arguments, warps)),
    )
    x_format, w_format = formats
    conv = Conv2dGeometry.of(
        image=(*size, channels), weight=(outputs, kernel, kernel, channels), padding=kernel // 2
    )
    words = torch.zeros(x_format.bits, *size, -(-channels // 32), dtype=torch.int32)
    ones = torch.zeros(words.shape[:-1], dtype=torch.int32)
    taps = torch.zeros(w_format.bits, outputs, kernel, kernel, words.shape[-1], dtype=torch.int32)
    weight = PackedCodes(
        words=taps, channels=channels, format=w_format, popcount=torch.zeros_like(taps[..., 0])
    )
    product = prepare_tensor_core_product(
        conv,
        x_format,
        prepare_weight(weight),
        finish=finish,
        tile=tile,
        stages=stages,
        fill=fill,
    )
    if packed:
        x = PackedCodes(words=words, channels=channels, format=x_format, popcount=ones)
        product.packed(x)
    elif isinstance(finish, Affine) and finish.merges:
        product(words, ones, torch.zeros(*size, outputs, dtype=finish.dtype))
    else:
        product(words, ones)
    return kept[0]


def machine_code(launch: Launch, capability: int) -> MachineCode:
    kernel, arguments, warps = launch
    return compile_launch(
        kernel, arguments, capability=capability, warps=warps, enable_fp_fusion=False
    )


class Hopper:
    """As much of a driver as a launch asks before it compiles."""

    def get_current_device(self) -> int:
        # no device's number, so that none finds what was compiled for this one
        return -1

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)


@pytest.mark.parametrize("channels", [64, 512])
def test_what_is_compiled_here_is_what_a_launch_compiles(
    channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = launch_of(
        monkeypatch,
        channels=channels,
        outputs=40,
        size=(1, 5, 7),
        kernel=1 if channels == 512 else 3,
        finish=finish_of("bits", 40),
        packed=True,
        tile=SMALL,
    )
    kernel, arguments, warps = launch
    monkeypatch.setattr(triton.runtime.driver, "_active", Hopper())
    launched = kernel.warmup(**arguments, grid=(1,), num_warps=warps, enable_fp_fusion=False)
    assert launched.asm["ptx"] == machine_code(launch, 90).ptx


@pytest.mark.parametrize("kind", ["sums", "norm bfloat16", "codes"])
@pytest.mark.parametrize("kernel", [popcount_kernel, int8_kernel], ids=["popcount", "int8"])
def test_what_a_launch_of_triton_compiles(
    kernel: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    class Recorder:
        def __getitem__(self, grid: tuple[int, ...]) -> Any:
            return lambda *arguments, **options: kept.append((arguments, options))

    name = kernel.fn.__name__
    monkeypatch.setattr(gpu_product, name, Recorder())
    conv = Conv2dGeometry.of(image=(2, 5, 6, 40), weight=(40, 3, 3, 40), padding=1)
    finish = finish_of(kind, 40)
    weight = prepare_weight(pack(torch.randn(40, 3, 3, 40)))
    method = "int8" if kernel is int8_kernel else "popcount"
    product = gpu_product.Product(conv, BINARY, weight, method, 0, finish, None)
    merges = isinstance(finish, Affine) and finish.merges
    out = torch.zeros(2, 5, 6, 40, dtype=torch.bfloat16) if merges else None
    product(torch.zeros(1, 2, 5, 6, 2, dtype=torch.int32), out)
    ((arguments, options),) = kept
    monkeypatch.setattr(triton.runtime.driver, "_active", Hopper())
    launched = kernel.warmup(*arguments, grid=(1,), **options)
    named = dict(zip(kernel.arg_names, arguments, strict=False))
    named |= {name: options[name] for name in kernel.arg_names if name in options}
    code = compile_launch(
        kernel,
        named,
        capability=90,
        warps=options["num_warps"],
        num_stages=options["num_stages"],
        enable_fp_fusion=False,
    )
    assert options["enable_fp_fusion"] is False
    assert launched.asm["ptx"] == code.ptx
    assert code.spills == 0


def finish_of(kind: str, outputs: int) -> Finish | None:
    flip = torch.zeros(outputs, dtype=torch.bool)
    floats = torch.ones(outputs)
    norm = Affine(
        scale=floats,
        shift=floats,
        rectifies=True,
        scale_after=floats,
        shift_after=floats,
        merges=True,
    )
    made: dict[str, Finish | None] = {
        "sums": None,
        "float32": Affine(scale=floats, shift=floats),
        "bfloat16": Affine(scale=floats, shift=floats, dtype=torch.bfloat16),
        "norm": norm,
        "norm bfloat16": replace(norm, dtype=torch.bfloat16),
        "bits": Threshold(threshold=torch.zeros(outputs, dtype=torch.int32), flip=flip),
        "codes": Requantise(thresholds=torch.zeros(3, outputs, dtype=torch.int32), flip=flip),
    }
    return made[kind]


def require_native(code: MachineCode, instructions: int | None = None) -> None:
    """So many 1-bit instructions, none emulated, nothing spilled."""
    if instructions is not None:
        assert code.count("BMMA", "AND", "POPC") == instructions
    assert code.count("BMMA") == code.count("BMMA", "AND", "POPC")
    # an emulated instruction is a routine that returns
    assert code.count("RET") == 0
    assert "xor.popc" not in code.ptx
    assert code.spills == code.stack_bytes == 0
    assert code.registers <= 255


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("tile", [SQUARE, LARGE], ids=repr)
def test_a_matrix_product_from_registers(
    tile: WarpTile, capability: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = machine_code(launch_of(monkeypatch, tile=tile, stages=0), capability)
    require_native(code, 64)
    # 16 of a step, 4 of the constants of 16 columns
    assert code.count("LDG", "128") == 16 + 4
    # a thread stores eight neighbours, and hands nothing to another
    assert code.count("STG", "128") == 32
    assert code.count("STG") == 32
    assert code.count("SHFL") == code.shared_bytes == 0


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("tile", [SQUARE, LARGE], ids=repr)
def test_a_matrix_product_from_shared_memory(
    tile: WarpTile, capability: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = machine_code(launch_of(monkeypatch, tile=tile), capability)
    require_native(code, 64)
    assert code.shared_bytes == 4 * (tile.rows + tile.columns) * 64
    # three steps ahead of the loop and one in it, 16 bytes each
    copies = 4 * (tile.rows + tile.columns) * 4 // (32 * tile.warps)
    assert code.count("LDGSTS", "128") == code.count("LDGSTS") == copies
    assert code.count("LDS", "128") == 16
    assert code.count("LDG", "128") == 4


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(
    ("channels", "tile", "instructions", "wide", "narrow"),
    [
        # 18 words: a step, in pairs of the 2 words of a pixel, and half a step
        (64, TALL, 64 + 32, 2, 4 * 4 + 4 * 4 + 2 * 2),
        # 36 words: 2 steps, and a third that the compiler expects in the loop; half a step
        (128, SQUARE, 64 + 32, 3 * (4 + 4), 2 * (4 + 4)),
        # 144 words: 9 steps, 3 of them before the loop
        (512, LARGE, 64, 4 * (2 + 4), 0),
    ],
)
def test_a_layer_of_packed_maps(
    channels: int,
    tile: WarpTile,
    instructions: int,
    wide: int,
    narrow: int,
    capability: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    launch = launch_of(
        monkeypatch,
        channels=channels,
        outputs=channels,
        size=(256, 28, 28),
        kernel=3,
        finish=finish_of("bits", channels),
        packed=True,
        tile=tile,
    )
    code = machine_code(launch, capability)
    require_native(code, instructions)
    # 16 bytes at a time, or 8 where no more lie together
    assert code.count("LDGSTS", "128") == wide
    assert code.count("LDGSTS", "64") == narrow
    assert code.count("LDGSTS") == wide + narrow


@gluon.jit
def conflict_kernel(
    MT: gl.constexpr, NT: gl.constexpr, WM: gl.constexpr, WN: gl.constexpr, WORDS: gl.constexpr
) -> None:
    layout: gl.constexpr = operand_layout(MT, NT, WM, WN)
    of_rows: gl.constexpr = gl.SliceLayout(1, gl.SliceLayout(3, layout))
    plain: gl.constexpr = gl.SwizzledSharedLayout(1, 1, 1, [1, 0])
    tile = gl.allocate_shared_memory(gl.int32, [8 * MT * WM, WORDS], plain)
    rows = tile.reshape([MT, WM, 8, WORDS])
    words = rows.load(of_rows)
    gl.static_assert(gl.bank_conflicts(words.type, rows.type) == 0)


def test_shared_memory_is_read_without_conflicts() -> None:
    compile_kernel(conflict_kernel, {}, {**SQUARE.constants, "WORDS": 16}, capability=90)
    with pytest.raises(triton.CompilationError):
        compile_kernel(conflict_kernel, {}, {**SQUARE.constants, "WORDS": 32}, capability=90)


def test_xor_is_emulated_on_hopper(monkeypatch: pytest.MonkeyPatch) -> None:
    """Why the kernels use AND: an XOR takes two instructions with AND from capability 9.0 on."""
    kernel, arguments, warps = launch_of(monkeypatch, tile=SQUARE, stages=0)
    launch = (kernel, {**arguments, "OPERATOR": "xor"}, warps)
    native, emulated = machine_code(launch, 80), machine_code(launch, 90)
    assert native.count("BMMA", "XOR") == 64
    assert emulated.count("BMMA", "XOR") == 0
    # each of the 64 calls a routine
    assert emulated.count("CALL") == 64
    assert emulated.count("RET") == 1
    assert emulated.count("BMMA", "AND") == 2


ENDS = [
    *((90, 3, kind) for kind in ("sums", "float32", "bfloat16", "norm", "bits", "codes")),
    *((90, 1, kind) for kind in ("bfloat16", "norm", "norm bfloat16", "bits", "codes")),
    *((80, 3, kind) for kind in ("norm bfloat16", "bits", "codes")),
]


@pytest.mark.parametrize("tile", TILES, ids=repr)
@pytest.mark.parametrize(("capability", "kernel", "kind"), ENDS)
def test_every_end_of_every_tile(
    capability: int, kernel: int, kind: str, tile: WarpTile, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = launch_of(
        monkeypatch,
        kernel=kernel,
        tile=tile,
        finish=finish_of(kind, 512),
        packed=kind in ("bits", "codes"),
    )
    code = machine_code(launch, capability)
    require_native(code, 2 * tile.m_tiles * tile.n_tiles)
    # what a block may have on the smallest of these GPUs
    assert code.shared_bytes <= 99 * 1024
    # torch rounds the product too, and keeps the smallest numbers
    assert code.count("FFMA") == 0
    assert ".ftz" not in code.ptx
    # what is added to is not what a cache that is never written holds
    assert "ld.global.nc" not in code.ptx
    if "norm" in kind:
        # 16 bytes of a row at a time: what is there, and what it becomes
        stores = 4 * tile.m_tiles * tile.n_tiles // (8 if "bfloat16" in kind else 4)
        assert code.count("STG", "128") == code.count("STG") == stores


@pytest.mark.parametrize("capability", [86, 89])
def test_the_devices_between(capability: int, monkeypatch: pytest.MonkeyPatch) -> None:
    launch = launch_of(monkeypatch, kernel=3, tile=LARGE, finish=finish_of("bits", 512))
    require_native(machine_code(launch, capability), 64)


@pytest.mark.parametrize("stages", [0, 4])
@pytest.mark.parametrize(
    "formats", [(U2, BINARY), (D2, D2), (CodeFormat(bits=4, coding="signed"), BINARY)], ids=repr
)
@pytest.mark.parametrize("kernel", [1, 3])
def test_planes_stay_on_the_tensor_cores(
    kernel: int,
    formats: tuple[CodeFormat, CodeFormat],
    stages: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    launch = launch_of(monkeypatch, kernel=kernel, formats=formats, tile=SQUARE, stages=stages)
    code = machine_code(launch, 90)
    require_native(code)
    # a loop of 64 for each pair; the compiler may write one twice
    loops, rest = divmod(code.count("BMMA", "AND", "POPC"), 64)
    assert loops >= formats[0].bits * formats[1].bits
    assert rest == 0


@pytest.mark.parametrize("channels", [1, 33, 96, 512])
@pytest.mark.parametrize(
    ("size", "kernel", "outputs"), [((1, 1, 1), 1, 1), ((1, 1, 1), 3, 1), ((1, 7, 1), 3, 33)]
)
def test_sizes_of_1_are_constants_of_a_launch(
    size: tuple[int, int, int],
    kernel: int,
    outputs: int,
    channels: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for kind in ("sums", "bits"):
        launch = launch_of(
            monkeypatch,
            channels=channels,
            outputs=outputs,
            size=size,
            kernel=kernel,
            finish=finish_of(kind, outputs),
            packed=kind == "bits",
            tile=SMALL,
        )
        # how many is left depends on what lies outside
        require_native(machine_code(launch, 90))
