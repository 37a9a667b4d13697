"""What launches of comparing, dealing out and unpacking become for an A100 and an H100."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from bitfront.kernels.gpu import comparing, rows, unpacking
from bitfront.kernels.gpu import interleave as dealing
from bitfront.kernels.gpu.comparing import Bounds, pack_compared, signs
from bitfront.kernels.gpu.interleave import interleave
from bitfront.kernels.gpu.machine_code import MachineCode, compile_launch
from bitfront.kernels.gpu.unpacking import unpack_signs
from bitfront.kernels.packing import pack_bits

Compile = Callable[..., MachineCode]
CAPABILITIES = [80, 90]


class Launched:
    """Keeps the arguments of a launch instead of launching."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self.arguments: dict[str, Any] = {}

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        def keep(*given: Any, **constants: Any) -> None:
            self.arguments = dict(zip(self.kernel.arg_names, given, strict=False)) | constants

        return keep


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Compile:
    """Compile what a call would launch on a GPU."""
    kernels = {
        pack_compared: (comparing, "compare_kernel"),
        interleave: (dealing, "interleave_kernel"),
        unpack_signs: (unpacking, "unpack_kernel"),
    }

    def run(
        function: Callable[..., Tensor],
        *given: Any,
        capability: int,
        changed: dict[str, int] | None = None,
        **named: Any,
    ) -> MachineCode:
        module, name = kernels[function]
        launched = Launched(getattr(module, name))
        with monkeypatch.context() as patch:
            patch.setattr(module, name, launched)
            patch.setattr(rows, "require_device", lambda *_: None)
            patch.setattr(comparing, "require_device", lambda *_: None)
            function(*given, **named)
        arguments = launched.arguments | (changed or {})
        return compile_launch(launched.kernel, arguments, capability=capability)

    return run


def words(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.int32)


def bounds_of(comparisons: int, planes: int, channels: int) -> Bounds:
    return Bounds(
        values=torch.zeros(comparisons, channels),
        flips=torch.zeros(comparisons, channels, dtype=torch.bool),
        changes=tuple((n ^ (n + 1)) % 2**planes for n in range(comparisons)),
        start=0,
        planes=planes,
    )


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("channels", [64, 96])
@pytest.mark.parametrize(("dtype", "bounds"), [(torch.float32, 4), (torch.bfloat16, 8)], ids=str)
def test_dense_channels_are_read_in_16_bytes(
    dtype: torch.dtype, bounds: int, channels: int, capability: int, compiled: Compile
) -> None:
    x = torch.zeros(8, 28, 28, channels, dtype=dtype)
    code = compiled(pack_compared, x, signs(channels, "cpu"), capability=capability)
    # 64 bytes of the map for each thread, its bounds, and as many flips at once
    assert code.count("LDG", "128") == 4 + bounds // 4
    assert code.count("LDG") == code.count("LDG", "128") + 1
    assert code.spills == 0
    # the smallest numbers are compared as they are
    assert ".ftz" not in code.ptx


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_a_bordered_map_and_a_flag_keep_wide_loads(capability: int, compiled: Compile) -> None:
    x, flag = torch.zeros(8, 28, 28, 64), words(1)
    out = words(1, 8, 30, 30, 2)[:, :, 1:-1, 1:-1]
    code = compiled(pack_compared, x, signs(64, "cpu"), nan=flag, out=out, capability=capability)
    assert code.count("LDG", "128") == 5
    # of the words, and of the flag once in a program
    assert code.count("STG") == 2
    assert code.spills == 0


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize(("comparisons", "planes"), [(3, 2), (31, 5)])
def test_many_comparisons_stay_in_registers(
    comparisons: int, planes: int, capability: int, compiled: Compile
) -> None:
    bounds = bounds_of(comparisons, planes, 256)
    x = torch.zeros(8, 14, 14, 256)
    code = compiled(pack_compared, x, bounds, nan=words(1), capability=capability)
    # each thread reads the bounds of its own channels: 4 floats at once, 4 flips at once
    assert code.count("LDG", "128") == 4 + comparisons
    assert code.count("LDG") == 4 + 2 * comparisons
    # one barrier or two for each plane and for the flag, none for bounds
    assert code.count("BAR") <= 2 * (planes + 1)
    assert code.spills == 0


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_channels_first_maps_are_read_along_pixels(capability: int, compiled: Compile) -> None:
    x = torch.zeros(8, 64, 28, 28).permute(0, 2, 3, 1)
    code = compiled(pack_compared, x, signs(64, "cpu"), capability=capability)
    assert code.count("LDG", "128") == 4
    assert code.spills == 0


@pytest.mark.parametrize(("dtype", "channels"), [(torch.float32, 40), (torch.float16, 1)], ids=str)
def test_channels_that_are_no_whole_vectors_compile(
    dtype: torch.dtype, channels: int, compiled: Compile
) -> None:
    x = torch.zeros(2, 3, 5, channels, dtype=dtype)
    code = compiled(pack_compared, x, signs(channels, "cpu"), nan=words(1), capability=90)
    assert code.count("LDG", "128") == code.spills == 0


def test_single_values_compile(compiled: Compile) -> None:
    """A launch makes an argument of 1 a constant, which the interpreter does not."""
    for out in (
        compiled(pack_compared, torch.zeros(1, 1, 1, 1), signs(1, "cpu"), capability=90),
        compiled(interleave, words(1), words(1), capability=90),
        compiled(unpack_signs, words(1, 1, 1, 1), 1, capability=90),
    ):
        assert out.count("STG") >= 1
        assert out.spills == 0


def test_steps_past_32_bits_compile(compiled: Compile) -> None:
    far = 2**33
    x, out = torch.zeros(2, 18, 18, 64), words(2, 2, 20, 20, 2)[:, :, 1:-1, 1:-1]
    code = compiled(
        pack_compared,
        x,
        bounds_of(3, 2, 64),
        out=out,
        capability=90,
        changed=dict.fromkeys(
            ("x_outer", "x_line", "x_pixel", "out_plane", "out_outer", "out_line", "value_step"),
            far,
        ),
    )
    assert code.spills == 0
    code = compiled(
        interleave,
        words(2, 20, 20, 2)[:, 1:-1, 1:-1],
        words(2, 18, 18, 2),
        capability=90,
        changed=dict.fromkeys(("first_outer", "second_line", "out_pixel"), far),
    )
    assert code.spills == 0
    code = compiled(
        unpack_signs,
        words(2, 20, 20, 2)[:, 1:-1, 1:-1],
        64,
        capability=90,
        changed=dict.fromkeys(("words_outer", "words_line", "words_pixel"), far),
    )
    assert code.spills == 0


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_words_are_dealt_out_in_16_bytes(capability: int, compiled: Compile) -> None:
    code = compiled(interleave, words(8, 28, 28, 16), words(8, 28, 28, 16), capability=capability)
    assert code.count("LDG", "128") == code.count("STG", "128") == 2
    assert code.count("LDG") == code.count("STG") == 2
    assert code.spills == 0


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize(("dtype", "stores"), [(torch.float32, 4), (torch.bfloat16, 2)], ids=str)
@pytest.mark.parametrize("channels", [32, 256])
def test_floats_are_written_in_16_bytes(
    channels: int, dtype: torch.dtype, stores: int, capability: int, compiled: Compile
) -> None:
    x = words(8, 28, 28, channels // 32)
    code = compiled(unpack_signs, x, channels, dtype, capability=capability)
    # one word is read for all values of a store
    assert code.count("STG", "128") == code.count("STG") == code.count("LDG") == stores
    assert code.spills == 0


def test_maps_on_the_cpu_are_refused() -> None:
    with pytest.raises(ValueError, match="`x_BHWC` must be on a CUDA device"):
        pack_compared(torch.zeros(1, 1, 1, 32), signs(32, "cpu"))
    with pytest.raises(ValueError, match="`first` must be on a CUDA device"):
        interleave(words(1), words(1))
    with pytest.raises(ValueError, match="`words_BHWP` must be on a CUDA device"):
        unpack_signs(words(1, 1, 1, 1), 32)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_graph_records_them() -> None:
    x = torch.randn(2, 14, 14, 128, device="cuda")
    bounds, flag = signs(128, "cuda"), torch.zeros(1, dtype=torch.int32, device="cuda")

    def run() -> tuple[Tensor, Tensor, Tensor]:
        packed = pack_compared(x, bounds, nan=flag)[0]
        return packed, interleave(*packed.chunk(2, dim=-1)), unpack_signs(packed, 128)

    run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        packed, dealt, floats = run()
    x.copy_(torch.randn(x.shape))
    graph.replay()
    bits = x >= 0
    halves = bits.view(2, 14, 14, 2, 64).transpose(-1, -2).flatten(-2)
    assert torch.equal(packed, pack_bits(bits))
    assert torch.equal(dealt, pack_bits(halves))
    assert torch.equal(floats, (2.0 * bits - 1).permute(0, 3, 1, 2))
    assert flag.item() == 0
