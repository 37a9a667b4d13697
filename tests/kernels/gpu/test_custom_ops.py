"""The operators' CUDA forms against the operators on the CPU."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bitfront.kernels import BINARY, CodeFormat, PackedBits, PackedCodes, custom_ops, reference
from bitfront.kernels.gpu import custom_ops as on_gpu

pytestmark = pytest.mark.usefixtures("poisoned")

OPERATORS = ["pack", "xnor_gemm", "bitserial_gemm", "xnor_conv2d", "bitserial_conv2d"]
TWO = CodeFormat(bits=2, coding="unsigned")
THREE = CodeFormat(bits=3, coding="signed")


@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_has_a_form_for_cuda(name: str) -> None:
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"bitfront::{name}", "CUDA")


@pytest.mark.parametrize("nchw", [False, True])
def test_pack_equals_the_operator_on_the_cpu(nchw: bool, device: torch.device) -> None:
    x = torch.randn(2, 40, 3, 5, generator=torch.Generator().manual_seed(0))
    x = x.permute(0, 2, 3, 1) if nchw else x
    for found, expected in zip(on_gpu.pack(x.to(device)), custom_ops.pack(x), strict=True):
        assert torch.equal(found.cpu(), expected)
        assert found.is_contiguous()


def test_products_equal_the_operators_on_the_cpu(
    signs: Callable[..., PackedBits], codes: Callable[..., PackedCodes]
) -> None:
    x, weight = signs(2, 4, 5, 66).words, signs(34, 3, 3, 33, seed=1).words
    x_codes, w_codes = codes((2, 4, 5, 66), TWO).words, codes((3, 3, 3, 66), THREE, 1).words
    a, b = signs(5, 70).words, signs(35, 70, seed=1).words
    a_codes, b_codes = codes((5, 70), TWO).words, codes((35, 70), BINARY, 1).words
    cases: list[tuple[str, tuple[object, ...], dict[str, object]]] = [
        ("xnor_gemm", (a, b, 70), {}),
        ("bitserial_gemm", (a_codes, b_codes, 70, "unsigned", "symmetric"), {}),
        ("xnor_conv2d", (x, weight, 66), {"padding": [1, 1], "groups": 2}),
        ("xnor_conv2d", (x, weight, 66, [2, 1], [1, 2], [1, 1], 2, None), {}),
        ("bitserial_conv2d", (x_codes, w_codes, 66, "unsigned", "signed"), {"stride": [2, 2]}),
    ]
    for name, arguments, keywords in cases:
        found = getattr(on_gpu, name)(*arguments, **keywords)
        on_cpu = [x.cpu() if isinstance(x, Tensor) else x for x in arguments]
        assert torch.equal(found.cpu(), getattr(custom_ops, name)(*on_cpu, **keywords)), name


def test_a_weight_is_prepared_once_and_anew_where_it_was_written_to(
    signs: Callable[..., PackedBits], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared: list[Tensor] = []
    prepare = on_gpu.prepare_weight

    def counted(codes: PackedCodes, groups: int) -> object:
        prepared.append(codes.words)
        return prepare(codes, groups)

    monkeypatch.setattr(on_gpu, "prepare_weight", counted)
    a, b = signs(5, 70).words, signs(35, 70, seed=1).words
    for _ in range(2):
        assert torch.equal(on_gpu.xnor_gemm(a, b, 70), reference.xnor_gemm(a, b, 70))
    # other rows, the same weight
    on_gpu.xnor_gemm(a[:2], b, 70)
    assert len(prepared) == 1
    b.data.bitwise_xor_(1)
    assert torch.equal(on_gpu.xnor_gemm(a, b, 70), reference.xnor_gemm(a, b, 70))
    assert len(prepared) == 2


def test_only_the_latest_sizes_of_a_weight_are_kept(signs: Callable[..., PackedBits]) -> None:
    a, b = signs(20, 40).words, signs(3, 40, seed=1).words
    for rows in range(1, 21):
        on_gpu.xnor_gemm(a[:rows], b, 40)
    assert len(on_gpu._prepared[b].products) == on_gpu._SIZES_OF_A_WEIGHT


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda a: on_gpu.xnor_gemm(a, a, 97), "4 words"),
        (lambda a: on_gpu.xnor_gemm(a, a[None], 70), "matrix"),
        (lambda a: on_gpu.xnor_gemm(a | (1 << 30), a, 70), "have 0 in bits"),
        (lambda a: on_gpu.bitserial_gemm(a, a, 70, "unsigned", "unsigned"), "3 axes"),
        (lambda a: on_gpu.bitserial_gemm(a[None], a[None], 70, "unsigned", "odd"), "coding"),
        (lambda a: on_gpu.xnor_conv2d(a[None, None], a[:, None, None], 70, [1]), "stride"),
        (lambda a: on_gpu.xnor_conv2d(a[None, None], a[:, None, None], 70, groups=3), "groups"),
        (
            lambda a: on_gpu.xnor_conv2d(a[None, None], a[:, None, None], 70, fill=3),
            "fill",
        ),
    ],
)
def test_wrong_words_are_refused(
    call: Callable[[Tensor], object], text: str, signs: Callable[..., PackedBits]
) -> None:
    with pytest.raises(ValueError, match=text):
        call(signs(5, 70).words)
