"""The operators: equal to the reference, described truly to torch, one node in a graph."""

import doctest
import gc
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bitfront.kernels import (
    BINARY,
    CodeFormat,
    PackedBits,
    PackedCodes,
    cpu,
    custom_ops,
    op_kernels,
    op_shapes,
    pack,
    pack_codes,
    reference,
    reused_weights,
)

CHANNELS = [1, 31, 32, 33, 63, 127, 1000]
FORMATS = [
    BINARY,
    CodeFormat(bits=2, coding="unsigned"),
    CodeFormat(bits=3, coding="signed"),
]


def signs(*shape: int, seed: int = 0) -> PackedBits:
    return pack(torch.randn(shape, generator=torch.Generator().manual_seed(seed)))


def codes(shape: tuple[int, ...], format: CodeFormat, seed: int = 0) -> PackedCodes:
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randint(0, 2**format.bits, shape, generator=generator)
    return pack_codes(format.low + format.step * numbers, format)


def cases() -> list[tuple[str, tuple[object, ...], dict[str, object]]]:
    """An operator, its arguments and its keywords."""
    two = FORMATS[1]
    x, weight = signs(2, 6, 7, 66).words, signs(35, 3, 3, 33, seed=1).words
    x_codes, w_codes = codes((2, 6, 7, 66), two).words, codes((35, 3, 3, 66), FORMATS[2], 1).words
    a, b = signs(5, 70).words, signs(35, 70, seed=1).words
    a_codes, b_codes = codes((5, 70), two).words, codes((35, 70), BINARY, 1).words
    return [
        ("pack", (torch.randn(2, 3, 40),), {}),
        ("pack", (torch.randn(2, 40, 3, 5).permute(0, 2, 3, 1),), {}),
        ("pack", (torch.randn(40, 3).double().T,), {}),
        ("xnor_gemm", (a, b, 70), {}),
        ("bitserial_gemm", (a_codes, b_codes, 70, "unsigned", "symmetric"), {}),
        ("xnor_conv2d", (x, weight[:34], 66), {"padding": 1, "groups": 2}),
        ("xnor_conv2d", (x, signs(3, 3, 2, 66).words, 66, [2, 1], [1, 2], [1, 2], 1, None), {}),
        ("bitserial_conv2d", (x_codes, w_codes, 66, "unsigned", "signed"), {"stride": 2}),
    ]


CASES = pytest.mark.parametrize("case", cases(), ids=lambda case: case[0])
Case = tuple[str, tuple[object, ...], dict[str, object]]


@CASES
def test_torch_finds_no_fault_with_an_operator(case: Case) -> None:
    name, arguments, keywords = case
    done = torch.library.opcheck(getattr(custom_ops, name), arguments, keywords)
    assert set(done.values()) == {"SUCCESS"}


@CASES
def test_tracing_foretells_shape_dtype_and_steps(case: Case) -> None:
    name, arguments, keywords = case
    op = getattr(torch.ops.bitfront, name)
    real = op(*arguments, **keywords)
    on_meta = [x.to("meta") if isinstance(x, Tensor) else x for x in arguments]
    traced = op(*on_meta, **keywords)
    if isinstance(real, Tensor):
        real, traced = (real,), (traced,)
    for value, shape in zip(real, traced, strict=True):
        assert shape.device.type == "meta"
        assert (shape.shape, shape.dtype) == (value.shape, value.dtype)
        assert shape.stride() == value.stride()


@pytest.mark.parametrize("channels", CHANNELS)
def test_pack_equals_the_reference(channels: int) -> None:
    x = torch.randn(3, 5, channels)
    for shaped in (x, x.double(), x.bfloat16(), (x * 100).to(torch.int8), x.permute(1, 0, 2)):
        words, popcount = custom_ops.pack(shaped)
        expected = pack(shaped)
        assert torch.equal(words, expected.words)
        assert torch.equal(popcount, expected.popcount)


@pytest.mark.parametrize("k", CHANNELS)
def test_gemm_equals_the_reference(k: int) -> None:
    a, b = signs(9, k), signs(35, k, seed=1)
    expected = reference.xnor_gemm(a.words, b.words, k)
    # twice: the second call finds the weight prepared
    for _ in range(2):
        assert torch.equal(custom_ops.xnor_gemm(a.words, b.words, k), expected)


@pytest.mark.parametrize("x_format", FORMATS, ids=repr)
@pytest.mark.parametrize("w_format", FORMATS, ids=repr)
def test_codes_equal_the_reference(x_format: CodeFormat, w_format: CodeFormat) -> None:
    a, b = codes((5, 70), x_format), codes((35, 70), w_format, 1)
    result = custom_ops.bitserial_gemm(a.words, b.words, 70, x_format.coding, w_format.coding)
    assert torch.equal(result, reference.bitserial_gemm(a, b))
    x, weight = codes((2, 5, 6, 40), x_format), codes((34, 3, 3, 20), w_format, 1)
    for fill in (0, x_format.low, x_format.high, None):
        result = custom_ops.bitserial_conv2d(
            x.words, weight.words, 40, x_format.coding, w_format.coding, 1, 1, 1, 2, fill
        )
        rule = "replicate" if fill is None else fill
        expected = reference.bitserial_conv2d(x, weight, padding=1, groups=2, fill=rule)
        assert torch.equal(result, expected)


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3])
def test_conv2d_equals_the_reference(kernel: int, stride: int, channels: int) -> None:
    x, weight = signs(2, 7, 5, channels), signs(33, kernel, kernel, channels, seed=1)
    for fill in (-1, 0, 1, None):
        rule = "replicate" if fill is None else fill
        window = {"stride": stride, "padding": kernel // 2}
        result = custom_ops.xnor_conv2d(x.words, weight.words, channels, fill=fill, **window)
        assert torch.equal(result, reference.xnor_conv2d(x, weight, fill=rule, **window))


@CASES
def test_without_the_library_the_reference_computes(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, arguments, keywords = case
    fast = getattr(custom_ops, name)(*arguments, **keywords)
    for module in (cpu.packer, cpu.product):
        monkeypatch.setattr(module, "load", lambda: None)
    monkeypatch.setattr(reused_weights, "_prepared", reused_weights._PerThread())
    slow = getattr(custom_ops, name)(*arguments, **keywords)
    if isinstance(fast, Tensor):
        fast, slow = (fast,), (slow,)
    assert all(torch.equal(x, y) for x, y in zip(fast, slow, strict=True))


@CASES
def test_on_a_device_without_kernels_the_reference_computes(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, arguments, keywords = case
    fast = getattr(custom_ops, name)(*arguments, **keywords)
    monkeypatch.setattr(op_kernels, "kernels_for", lambda device: None)
    # neither kernels nor what they prepared
    monkeypatch.setattr(custom_ops, "reused_product", None)
    slow = getattr(custom_ops, name)(*arguments, **keywords)
    if isinstance(fast, Tensor):
        fast, slow = (fast,), (slow,)
    assert all(torch.equal(x, y) for x, y in zip(fast, slow, strict=True))


def test_importing_loads_no_triton_and_a_call_on_the_cpu_no_gpu_kernels() -> None:
    # at a first call torch itself may load Triton
    code = (
        "import sys, torch; from bitfront.kernels import custom_ops; "
        "print('triton' in sys.modules); "
        "words, _ = custom_ops.pack(torch.ones(2, 3)); custom_ops.xnor_gemm(words, words, 3); "
        "print('bitfront.kernels.gpu' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"], done.stderr


def test_without_triton_a_cuda_device_has_no_kernels_and_one_warning_says_so() -> None:
    code = (
        "import sys, warnings, torch; sys.modules['triton'] = None; "
        "from bitfront.kernels import op_kernels; "
        "warnings.simplefilter('always'); "
        "print([op_kernels.kernels_for(torch.device('cuda', i)) for i in (0, 1, 0)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[None, None, None]", done.stderr
    assert done.stderr.count("RuntimeWarning") == 1
    assert "run on the exact reference" in done.stderr
    assert "pip install 'bitfront[gpu]'" in done.stderr


@pytest.fixture
def asked_anew() -> Iterator[None]:
    """Devices are asked, and warnings given, as in a fresh process."""
    for answers in (op_kernels._kernels_beyond_cpu, op_kernels._warn):
        answers.cache_clear()
    yield
    for answers in (op_kernels._kernels_beyond_cpu, op_kernels._warn):
        answers.cache_clear()


@pytest.mark.usefixtures("asked_anew")
def test_another_device_has_no_kernels_and_says_so_once() -> None:
    with pytest.warns(RuntimeWarning, match="exact reference.*'mps'.*to the CPU") as given:
        found = [op_kernels.kernels_for(torch.device("mps", index)) for index in (0, 1, 0)]
    assert found == [None] * 3
    assert len(given) == 1
    # another reason
    with pytest.warns(RuntimeWarning, match="'xpu'"):
        assert op_kernels.kernels_for(torch.device("xpu", 0)) is None


@pytest.mark.usefixtures("asked_anew")
def test_an_amd_device_has_no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "hip", "7.0")
    with pytest.warns(RuntimeWarning, match="NVIDIA"):
        assert op_kernels.kernels_for(torch.device("cuda", 0)) is None


def change_in_place(words: Tensor, other: Tensor) -> None:
    words.copy_(other)


def change_behind_autograd(words: Tensor, other: Tensor) -> None:
    words.data.copy_(other)


def change_through_numpy(words: Tensor, other: Tensor) -> None:
    words.numpy()[:] = other.numpy()


def change_storage(words: Tensor, other: Tensor) -> None:
    words.set_(other.clone())


@pytest.mark.parametrize(
    "change", [change_in_place, change_behind_autograd, change_through_numpy, change_storage]
)
def test_a_weight_that_was_written_to_is_prepared_anew(
    change: Callable[[Tensor, Tensor], None],
) -> None:
    x, first, other = signs(2, 5, 5, 40), signs(33, 3, 3, 40, seed=1), signs(33, 3, 3, 40, seed=2)
    words = first.words.clone()
    assert torch.equal(custom_ops.xnor_conv2d(x.words, words, 40), reference.xnor_conv2d(x, first))
    change(words, other.words)
    assert torch.equal(custom_ops.xnor_conv2d(x.words, words, 40), reference.xnor_conv2d(x, other))


def test_a_weight_is_prepared_once_for_all_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[int] = []
    prepare = cpu.prepare_weight
    monkeypatch.setattr(
        cpu, "prepare_weight", lambda codes, groups: prepared.append(1) or prepare(codes, groups)
    )
    weight = signs(33, 3, 3, 40, seed=1)
    for size in (5, 6, 7, 5):
        x = signs(1, size, 6, 40, seed=size)
        found = custom_ops.xnor_conv2d(x.words, weight.words, 40, padding=1)
        assert torch.equal(found, reference.xnor_conv2d(x, weight, padding=1))
    assert len(prepared) == 1
    weight.words.bitwise_xor_(1)
    custom_ops.xnor_conv2d(x.words, weight.words, 40, padding=1)
    assert len(prepared) == 2


def test_many_sizes_and_inference_mode_give_the_same() -> None:
    with torch.inference_mode():
        b = signs(33, 64, seed=1)
        for m in (*range(1, 30), 3, 1):
            a = signs(m, 64)
            expected = reference.xnor_gemm(a.words, b.words, 64)
            assert torch.equal(custom_ops.xnor_gemm(a.words, b.words, 64), expected)


def test_threads_share_a_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(op_kernels, "_WORK_OF_A_THREAD", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    x, weight = signs(2, 9, 9, 40), signs(33, 3, 3, 40, seed=1)
    result = custom_ops.xnor_conv2d(x.words, weight.words, 40, padding=1)
    assert torch.equal(result, reference.xnor_conv2d(x, weight, padding=1))


def test_two_callers_at_once_do_not_disturb_each_other() -> None:
    weight = signs(64, 3, 3, 64, seed=9)
    maps = [signs(2, 14, 14, 64, seed=seed) for seed in range(4)]
    wanted = [reference.xnor_conv2d(x, weight, padding=1) for x in maps]
    wrong = []

    def call(number: int) -> None:
        for _ in range(50):
            found = custom_ops.xnor_conv2d(maps[number].words, weight.words, 64, padding=1)
            if not torch.equal(found, wanted[number]):
                wrong.append(number)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_what_was_prepared_goes_with_its_weight() -> None:
    known = reused_weights._prepared.known
    gc.collect()
    before = len(known)
    weight = signs(33, 64).words
    custom_ops.xnor_gemm(weight[:2], weight, 64)
    assert len(known) == before + 1
    del weight
    gc.collect()
    assert len(known) == before


def stamp(version: int | None = 3) -> reused_weights.Stamp:
    return reused_weights.Stamp(version=version, address=64, shape=(4, 2), steps=(2, 1))


@pytest.mark.parametrize(
    ("prepared", "now", "has_sizes", "fault"),
    [
        (stamp(), stamp(), True, None),
        (None, stamp(), False, "not called it with this weight"),
        (stamp(), stamp(4), True, "written to since"),
        (stamp(), replace(stamp(), address=128), True, "written to since"),
        (stamp(), replace(stamp(), shape=(2, 4)), True, "written to since"),
        (stamp(), replace(stamp(), steps=(1, 4)), True, "written to since"),
        (stamp(None), stamp(None), True, "inference_mode"),
        (stamp(), stamp(), False, "not called it with these sizes"),
    ],
)
def test_what_a_capture_may_use(
    prepared: reused_weights.Stamp | None,
    now: reused_weights.Stamp,
    has_sizes: bool,
    fault: str | None,
) -> None:
    found = reused_weights.capture_fault(prepared, now, has_sizes=has_sizes)
    assert found is None if fault is None else fault in (found or "")


def test_a_stamp_tells_what_torch_counts() -> None:
    words = signs(4, 64).words
    before = reused_weights.Stamp.of(words)
    assert reused_weights.Stamp.of(words) == before
    words.bitwise_xor_(1)
    assert reused_weights.Stamp.of(words).version == 1 + (before.version or 0)
    words.data = words.clone()
    assert reused_weights.Stamp.of(words).address != before.address
    with torch.inference_mode():
        assert reused_weights.Stamp.of(signs(4, 64).words).version is None


def test_nothing_is_captured_on_the_cpu() -> None:
    for x in (torch.ones(2), torch.ones(2, device="meta"), None):
        assert not op_kernels.is_capturing(x)


@CASES
def test_the_reference_is_not_captured(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    name, arguments, keywords = case
    monkeypatch.setattr(op_kernels, "kernels_for", lambda device: None)
    monkeypatch.setattr(op_kernels, "is_capturing", lambda x: True)
    with pytest.raises(RuntimeError, match="must have kernels for its device"):
        getattr(custom_ops, name)(*arguments, **keywords)


def test_torch_compile_leaves_products_out_of_cuda_graphs() -> None:
    for name in ("xnor_gemm", "bitserial_gemm", "xnor_conv2d", "bitserial_conv2d"):
        assert torch.Tag.cudagraph_unsafe in getattr(torch.ops.bitfront, name).default.tags
    assert torch.Tag.cudagraph_unsafe not in torch.ops.bitfront.pack.default.tags


def test_shapes_are_checked_without_reading() -> None:
    a, b = signs(5, 40).words, signs(8, 40).words
    # not even padding bits
    op_shapes.require_real_operands(("a", a | 1 << 20, 40), ("b", b, 40), axes=2)
    for wrong, error, text in (
        (a[None], ValueError, "`a` must have 2 axes"),
        (None, TypeError, "`a` must be a torch.Tensor"),
        (a.long(), TypeError, "int32"),
        (a[:, :1], ValueError, "2 words"),
    ):
        with pytest.raises(error, match=text):
            op_shapes.require_real_operands(("a", wrong, 40), ("b", b, 40), axes=2)


class BinaryLayer(nn.Module):
    """Sign, binary convolution and batch norm of maps [B, H, W, C]."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.channels = channels
        weight = pack(torch.randn(outputs, 3, 3, channels))
        self.register_buffer("weight", weight.words)
        self.scale = nn.Parameter(torch.rand(outputs))
        self.shift = nn.Parameter(torch.randn(outputs))

    def forward(self, x: Tensor) -> Tensor:
        words, _ = custom_ops.pack(x)
        sums = custom_ops.xnor_conv2d(words, self.weight, self.channels, padding=1, fill=-1)
        return sums.float() * self.scale + self.shift


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(BinaryLayer(40, 33), BinaryLayer(33, 10))


def plain(layers: nn.Sequential, x: Tensor) -> Tensor:
    """The same by the reference."""
    for layer in layers:
        weight = PackedBits(
            words=layer.weight,
            channels=layer.channels,
            popcount=torch.zeros(layer.weight.shape[:-1], dtype=torch.int32),
        )
        sums = reference.xnor_conv2d(pack(x), weight, padding=1, fill=-1)
        x = sums.float() * layer.scale + layer.shift
    return x


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("dynamic", [False, True])
def test_a_layer_compiles_without_a_break(backend: str, dynamic: bool) -> None:
    layers = network()
    compiled = torch.compile(layers, fullgraph=True, backend=backend, dynamic=dynamic)
    for batch in (2, 3):
        x = torch.randn(batch, 6, 5, 40)
        assert torch.equal(compiled(x), plain(layers, x))


@pytest.mark.slow
def test_a_layer_compiles_to_machine_code() -> None:
    layers = network()
    compiled = torch.compile(layers, fullgraph=True)
    x = torch.randn(2, 6, 5, 40)
    with torch.no_grad():
        assert torch.equal(compiled(x), plain(layers, x))


def test_a_layer_is_exported_as_one_operator_a_step(tmp_path: Path) -> None:
    layers = network().eval()
    x = torch.randn(2, 6, 5, 40)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(layers, (x,), dynamic_shapes=({0: batch},))
    ours = [str(node.target) for node in program.graph.nodes if "bitfront" in str(node.target)]
    assert ours == ["bitfront.pack.default", "bitfront.xnor_conv2d.default"] * 2
    path = tmp_path / "layers.pt2"
    torch.export.save(program, path)
    loaded = torch.export.load(path).module()
    for size in (1, 5):
        other = torch.randn(size, 6, 5, 40)
        assert torch.equal(loaded(other), plain(layers, other))


@pytest.mark.slow
def test_a_program_is_loaded_where_the_operators_are_imported(tmp_path: Path) -> None:
    layers, x = network().eval(), torch.randn(2, 6, 5, 40)
    torch.export.save(torch.export.export(layers, (x,)), tmp_path / "layers.pt2")
    torch.save({"x": x, "y": plain(layers, x)}, tmp_path / "values.pt")
    code = (
        "import torch; from bitfront.kernels import custom_ops; "
        f"values = torch.load({str(tmp_path / 'values.pt')!r}); "
        f"program = torch.export.load({str(tmp_path / 'layers.pt2')!r}); "
        "assert torch.equal(program.module()(values['x']), values['y']); print('equal')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "equal", done.stderr


def test_sums_have_no_gradient() -> None:
    x = torch.randn(3, 40, requires_grad=True)
    words, popcount = custom_ops.pack(x)
    assert not words.requires_grad
    assert not popcount.requires_grad


def test_the_example_of_the_module_runs() -> None:
    assert doctest.testmod(custom_ops).failed == 0
    assert doctest.testmod(custom_ops).attempted > 0
