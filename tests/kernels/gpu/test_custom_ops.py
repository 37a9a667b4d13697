"""The operators by the GPU kernels: equal to the reference, in a capture too."""

import gc
import threading
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bitfront.kernels import (
    BINARY,
    CodeFormat,
    PackedBits,
    PackedCodes,
    custom_ops,
    gpu,
    op_kernels,
    packing,
    reference,
    reused_weights,
)

pytestmark = pytest.mark.usefixtures("poisoned", "gpu_kernels")

TWO = CodeFormat(bits=2, coding="unsigned")
THREE = CodeFormat(bits=3, coding="signed")


@pytest.fixture
def gpu_kernels(monkeypatch: pytest.MonkeyPatch, device: torch.device) -> op_kernels.DeviceKernels:
    """The kernels of the device; interpreted, those of a GPU are taken for CPU tensors."""
    if device.type == "cpu":
        kernels = op_kernels.GpuKernels()
        monkeypatch.setattr(op_kernels, "kernels_for", lambda device: kernels)
    found = op_kernels.kernels_for(torch.empty(1, device=device).device)
    assert isinstance(found, op_kernels.GpuKernels)
    return found


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """One entry for each product that is prepared by the GPU kernels."""
    prepared: list[object] = []
    prepare = gpu.prepare_product

    def counted(*arguments: object, **keywords: object) -> object:
        prepared.append(arguments[0])
        return prepare(*arguments, **keywords)

    monkeypatch.setattr(gpu, "prepare_product", counted)
    return prepared


@pytest.fixture
def capturing(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Begins what the operators take for a capture; to wait for the device is an error then."""

    def refuse(*arguments: object) -> object:
        raise AssertionError("waits for the device")

    def begin() -> None:
        monkeypatch.setattr(op_kernels, "is_capturing", lambda x: True)
        monkeypatch.setattr(torch, "equal", refuse)
        for name in ("__bool__", "item", "tolist"):
            monkeypatch.setattr(Tensor, name, refuse)

    return begin


@pytest.mark.parametrize("nchw", [False, True])
def test_pack_equals_the_reference(nchw: bool, device: torch.device) -> None:
    x = torch.randn(2, 40, 3, 5, generator=torch.Generator().manual_seed(0))
    x = x.permute(0, 2, 3, 1) if nchw else x
    words, popcount = custom_ops.pack(x.to(device))
    expected = packing.pack(x)
    assert torch.equal(words.cpu(), expected.words)
    assert torch.equal(popcount.cpu(), expected.popcount)
    assert words.is_contiguous()


def test_a_sign_of_nan_is_refused(device: torch.device) -> None:
    x = torch.ones(2, 40, device=device)
    x[1, 3] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        custom_ops.pack(x)


def test_matrix_products_equal_the_reference(
    signs: Callable[..., PackedBits],
    codes: Callable[..., PackedCodes],
    launches: list[object],
) -> None:
    a, b = signs(5, 70).words, signs(35, 70, seed=1).words
    assert torch.equal(custom_ops.xnor_gemm(a, b, 70), reference.xnor_gemm(a, b, 70))
    x, w = codes((5, 70), TWO), codes((35, 70), BINARY, 1)
    found = custom_ops.bitserial_gemm(x.words, w.words, 70, "unsigned", "symmetric")
    assert torch.equal(found, reference.bitserial_gemm(x, w))
    assert len(launches) == 2


def test_convolutions_equal_the_reference(
    signs: Callable[..., PackedBits],
    codes: Callable[..., PackedCodes],
    launches: list[object],
) -> None:
    x, w = signs(2, 4, 5, 66), signs(34, 3, 3, 33, seed=1)
    found = custom_ops.xnor_conv2d(x.words, w.words, 66, padding=1, groups=2)
    assert torch.equal(found, reference.xnor_conv2d(x, w, padding=1, groups=2))
    found = custom_ops.xnor_conv2d(x.words, w.words, 66, [2, 1], [1, 2], [1, 1], 2, None)
    window = {"stride": (2, 1), "padding": (1, 2), "groups": 2}
    assert torch.equal(found, reference.xnor_conv2d(x, w, **window, fill="replicate"))
    x, w = codes((2, 4, 5, 66), TWO), codes((3, 3, 3, 66), THREE, 1)
    found = custom_ops.bitserial_conv2d(x.words, w.words, 66, "unsigned", "signed", stride=2)
    assert torch.equal(found, reference.bitserial_conv2d(x, w, stride=2))
    assert len(launches) == 3


def test_torch_finds_no_fault_with_a_product(signs: Callable[..., PackedBits]) -> None:
    a, b = signs(5, 70).words, signs(35, 70, seed=1).words
    done = torch.library.opcheck(custom_ops.xnor_gemm, (a, b, 70))
    assert set(done.values()) == {"SUCCESS"}


def test_a_weight_is_prepared_once_and_anew_where_it_was_written_to(
    signs: Callable[..., PackedBits], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared: list[Tensor] = []
    prepare = gpu.prepare_weight

    def counted(codes: PackedCodes, groups: int) -> object:
        prepared.append(codes.words)
        return prepare(codes, groups)

    monkeypatch.setattr(gpu, "prepare_weight", counted)
    a, b = signs(5, 70).words, signs(35, 70, seed=1).words
    for _ in range(2):
        assert torch.equal(custom_ops.xnor_gemm(a, b, 70), reference.xnor_gemm(a, b, 70))
    # other rows, the same weight
    assert torch.equal(custom_ops.xnor_gemm(a[:2], b, 70), reference.xnor_gemm(a[:2], b, 70))
    assert len(prepared) == 1
    # a write that torch does not count
    b.data.bitwise_xor_(1)
    assert torch.equal(custom_ops.xnor_gemm(a, b, 70), reference.xnor_gemm(a, b, 70))
    assert len(prepared) == 2


def test_a_weight_that_moved_to_another_device_is_prepared_anew(
    signs: Callable[..., PackedBits],
    device: torch.device,
    launches: list[object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    a, b = signs(5, 70).words, signs(35, 70, seed=1).words
    expected = reference.xnor_gemm(a, b, 70)
    with monkeypatch.context() as on_cpu:
        on_cpu.setattr(op_kernels, "kernels_for", lambda device: op_kernels._CPU)
        b.data = b.data.cpu()
        assert torch.equal(custom_ops.xnor_gemm(a.cpu(), b, 70), expected.cpu())
    assert launches == []
    b.data = b.data.to(device)
    assert torch.equal(custom_ops.xnor_gemm(a, b, 70), expected)
    assert len(launches) == 1


def test_only_the_latest_sizes_of_a_weight_are_kept(signs: Callable[..., PackedBits]) -> None:
    a, b = signs(20, 40).words, signs(3, 40, seed=1).words
    for rows in range(1, 21):
        custom_ops.xnor_gemm(a[:rows], b, 40)
    known = reused_weights._prepared.known[b]
    assert len(known.products) == reused_weights._SIZES_OF_A_WEIGHT


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda a: custom_ops.xnor_gemm(a, a, 97), "4 words"),
        (lambda a: custom_ops.xnor_gemm(a, a[None], 70), "matrix"),
        (lambda a: custom_ops.xnor_gemm(a | (1 << 30), a, 70), "have 0 in bits"),
        (lambda a: custom_ops.bitserial_gemm(a, a, 70, "unsigned", "unsigned"), "3 axes"),
        (lambda a: custom_ops.bitserial_gemm(a[None], a[None], 70, "unsigned", "odd"), "coding"),
        (lambda a: custom_ops.xnor_conv2d(a[None, None], a[:, None, None], 70, 0), "stride"),
        (lambda a: custom_ops.xnor_conv2d(a[None, None], a[:, None, None], 70, groups=3), "groups"),
        (lambda a: custom_ops.xnor_conv2d(a[None, None], a[:, None, None], 70, fill=3), "fill"),
    ],
)
def test_wrong_words_are_refused(
    call: Callable[[Tensor], object], text: str, signs: Callable[..., PackedBits]
) -> None:
    with pytest.raises(ValueError, match=text):
        call(signs(5, 70).words)


def test_a_capture_computes_what_one_call_prepared(
    signs: Callable[..., PackedBits],
    codes: Callable[..., PackedCodes],
    capturing: Callable[[], None],
) -> None:
    a, b = signs(5, 70).words, signs(35, 70, seed=1).words
    x, weight = signs(2, 4, 5, 66), signs(34, 3, 3, 33, seed=1)
    p, q = codes((5, 70), TWO), codes((35, 70), BINARY, 1)
    maps, w_codes = codes((2, 4, 5, 40), TWO), codes((3, 3, 3, 40), THREE, 1)
    floats = torch.randn(3, 40, device=a.device)

    def run() -> list[Tensor]:
        return [
            custom_ops.pack(floats)[0],
            custom_ops.xnor_gemm(a, b, 70),
            custom_ops.bitserial_gemm(p.words, q.words, 70, "unsigned", "symmetric"),
            custom_ops.xnor_conv2d(x.words, weight.words, 66, padding=1, groups=2, fill=-1),
            custom_ops.bitserial_conv2d(maps.words, w_codes.words, 40, "unsigned", "signed"),
        ]

    run()
    # other maps, the same weights
    for words in (a, x.words, p.words, maps.words):
        words.copy_(words.flip(-2))
    expected = [
        packing.pack(floats).words,
        reference.xnor_gemm(a, b, 70),
        reference.bitserial_gemm(p, q),
        reference.xnor_conv2d(x, weight, padding=1, groups=2, fill=-1),
        reference.bitserial_conv2d(maps, w_codes),
    ]
    equal = torch.equal
    capturing()
    found = run()
    assert all(equal(y, z) for y, z in zip(found, expected, strict=True))


def test_a_capture_refuses_a_weight_that_was_not_prepared(
    signs: Callable[..., PackedBits], capturing: Callable[[], None]
) -> None:
    a, b = signs(5, 70).words, signs(35, 70, seed=1).words
    x, weight = signs(2, 4, 5, 66).words, signs(34, 3, 3, 66, seed=1).words
    custom_ops.xnor_gemm(a, b, 70)
    capturing()
    with pytest.raises(RuntimeError, match=r"not called it with this weight\. Prepare it by one c"):
        custom_ops.xnor_conv2d(x, weight, 66)
    with pytest.raises(RuntimeError, match="not called it with these sizes"):
        custom_ops.xnor_gemm(a[:3], b, 70)
    custom_ops.xnor_gemm(a, b, 70)
    b.copy_(b.clone())
    with pytest.raises(RuntimeError, match="written to since"):
        custom_ops.xnor_gemm(a, b, 70)


def test_after_a_write_one_call_makes_a_weight_ready_again(
    signs: Callable[..., PackedBits], capturing: Callable[[], None]
) -> None:
    a, b = signs(5, 70).words, signs(35, 70, seed=1).words
    custom_ops.xnor_gemm(a, b, 70)
    # the same words: nothing is prepared anew
    b.copy_(b.clone())
    b.data = b.data.clone()
    expected = custom_ops.xnor_gemm(a, b, 70)
    equal = torch.equal
    capturing()
    assert equal(custom_ops.xnor_gemm(a, b, 70), expected)


def test_words_in_another_place_do_not_pass_for_those_that_were_prepared(
    signs: Callable[..., PackedBits],
) -> None:
    a, b = signs(5, 70).words, signs(35, 70, seed=1).words
    custom_ops.xnor_gemm(a, b, 70)
    address = b.data_ptr()
    # torch counts no write, and new words could lie where the first were freed
    b.data = b.data.clone()
    storage = reused_weights._prepared.known[b].storage
    assert storage is not None
    assert storage.data_ptr() == address


def test_a_capture_refuses_what_another_thread_prepared(
    signs: Callable[..., PackedBits], capturing: Callable[[], None]
) -> None:
    a, b = signs(5, 70).words, signs(35, 70, seed=1).words
    caller = threading.Thread(target=custom_ops.xnor_gemm, args=(a, b, 70))
    caller.start()
    caller.join()
    capturing()
    with pytest.raises(RuntimeError, match="this thread has not called"):
        custom_ops.xnor_gemm(a, b, 70)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda a: custom_ops.xnor_gemm(None, a, 70), TypeError, "must be a torch.Tensor"),
        (lambda a: custom_ops.xnor_gemm(a, a, 97), ValueError, "4 words"),
        (lambda a: custom_ops.xnor_gemm(a[None], a, 70), ValueError, "2 axes"),
        (lambda a: custom_ops.bitserial_gemm(a[None], a, 70, "signed", "signed"), ValueError, "3 "),
        (
            lambda a: custom_ops.xnor_conv2d(a, a[:, None, None], 70),
            ValueError,
            r"\[B, H, W, words",
        ),
        (lambda a: custom_ops.xnor_gemm(a.long(), a, 70), TypeError, "int32"),
    ],
)
def test_a_capture_refuses_wrong_shapes(
    call: Callable[[Tensor], object],
    error: type[Exception],
    text: str,
    signs: Callable[..., PackedBits],
    capturing: Callable[[], None],
) -> None:
    a = signs(5, 70).words
    capturing()
    with pytest.raises(error, match=text):
        call(a)


def test_what_was_captured_is_kept_as_long_as_its_weight(
    signs: Callable[..., PackedBits], capturing: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = signs(20, 40).words, signs(3, 40, seed=1).words
    custom_ops.xnor_gemm(a, b, 40)
    (product,) = (weakref.ref(p) for p in reused_weights._prepared.known[b].products.values())
    with monkeypatch.context() as patched:
        patched.setattr(op_kernels, "is_capturing", lambda x: True)
        for _ in range(2):
            custom_ops.xnor_gemm(a, b, 40)
    assert len(reused_weights._captured[b]) == 1
    for rows in range(1, 12):
        custom_ops.xnor_gemm(a[:rows], b, 40)
    b.bitwise_xor_(1)
    custom_ops.xnor_gemm(a, b, 40)
    gc.collect()
    assert product() is not None
    del b
    gc.collect()
    assert product() is None


def test_a_devices_kernels_stay_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    op_kernels._kernels_beyond_cpu.cache_clear()
    try:
        first, second = (op_kernels._kernels_beyond_cpu(torch.device("cuda", i)) for i in (0, 1))
        assert first is op_kernels._kernels_beyond_cpu(torch.device("cuda", 0))
        assert isinstance(first, op_kernels.GpuKernels)
        # so that a weight which moves from one to the other is prepared anew
        assert first is not second
    finally:
        op_kernels._kernels_beyond_cpu.cache_clear()


def test_an_old_device_has_no_kernels_and_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    op_kernels._kernels_beyond_cpu.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match=r"exact reference.*8\.0 or higher.*7\.5") as given:
            found = [op_kernels._kernels_beyond_cpu(torch.device("cuda", i)) for i in (0, 1, 0)]
        assert found == [None] * 3
        assert len(given) == 1
    finally:
        op_kernels._kernels_beyond_cpu.cache_clear()
        op_kernels._warn.cache_clear()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_graph_computes_with_new_maps(
    signs: Callable[..., PackedBits], device: torch.device
) -> None:
    weight = signs(64, 3, 3, 64, seed=1)
    x = torch.randn(2, 9, 9, 64, device=device)

    def layer() -> Tensor:
        words, _ = custom_ops.pack(x)
        return custom_ops.xnor_conv2d(words, weight.words, 64, padding=1, fill=-1)

    layer()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = layer()
    for _ in range(2):
        x.normal_()
        graph.replay()
        expected = reference.xnor_conv2d(packing.pack(x), weight, padding=1, fill=-1)
        assert torch.equal(found, expected)
