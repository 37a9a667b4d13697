"""The integer reference against torch in float64 (exact on these integers); equality, no tolerance.

The oracle multiplies floats and never sees a bit; what it shares with the reference is the input.
"""

from collections.abc import Callable

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F  # noqa: N812, its usual name
from hypothesis import given, settings
from torch import Tensor

from bitfront.kernels import (
    BINARY,
    CodeFormat,
    Fill,
    PackedBits,
    PackedCodes,
    and_gemm,
    bitserial_conv2d,
    bitserial_gemm,
    pack,
    pack_codes,
    pack_nchw,
    xnor_conv2d,
    xnor_gemm,
)

CHANNELS = [1, 31, 32, 33, 63, 127, 1000]
FILLS: list[Fill] = [-1, 0, 1, "replicate"]
U1 = CodeFormat(bits=1, coding="unsigned")
U2 = CodeFormat(bits=2, coding="unsigned")
U4 = CodeFormat(bits=4, coding="unsigned")
S2 = CodeFormat(bits=2, coding="signed")
S3 = CodeFormat(bits=3, coding="signed")
D2 = CodeFormat(bits=2, coding="symmetric")
U8 = CodeFormat(bits=8, coding="unsigned")
S8 = CodeFormat(bits=8, coding="signed")


def random_levels(shape: tuple[int, ...], format: CodeFormat, seed: int) -> Tensor:
    codes = torch.randint(0, 2**format.bits, shape, generator=torch.Generator().manual_seed(seed))
    return format.low + format.step * codes


def random_signs(*shape: int, seed: int = 0) -> Tensor:
    return random_levels(shape, BINARY, seed)


def nhwc(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


def torch_conv2d(
    x: Tensor,
    weight: Tensor,
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    fill: Fill = 0,
) -> Tensor:
    """int32 [B, Y, X, N] of integer x [B, C, H, W] and weight [N, C / G, kh, kw]."""
    vertical, horizontal = (padding, padding) if isinstance(padding, int) else padding
    pads = (horizontal, horizontal, vertical, vertical)
    x = x.to(torch.float64)
    if fill == "replicate":
        x = F.pad(x, pads, mode="replicate")
    else:
        x = F.pad(x, pads, value=float(fill))
    y = F.conv2d(x, weight.to(torch.float64), None, stride, 0, dilation, groups)
    return nhwc(y).to(torch.int32)


def equal(result: Tensor, expected: Tensor) -> bool:
    return result.dtype == torch.int32 and torch.equal(result, expected)


# --- matrix products ------------------------------------------------------------------------------


@pytest.mark.parametrize("k", CHANNELS)
@pytest.mark.parametrize(("m", "n"), [(1, 1), (1, 33), (31, 2), (7, 64)])
def test_xnor_gemm_is_the_product_of_the_signs(m: int, n: int, k: int) -> None:
    a, b = random_signs(m, k, seed=m), random_signs(n, k, seed=n + 99)
    expected = (a.double() @ b.double().T).to(torch.int32)
    assert equal(xnor_gemm(pack(a).words, pack(b).words, k), expected)


@pytest.mark.parametrize("k", CHANNELS)
@pytest.mark.parametrize(("m", "n"), [(1, 1), (1, 33), (31, 2)])
def test_and_gemm_is_the_product_of_zeros_and_ones(m: int, n: int, k: int) -> None:
    a, b = random_levels((m, k), U1, m), random_levels((n, k), U1, n + 99)
    expected = (a.double() @ b.double().T).to(torch.int32)
    words = [pack_codes(x, U1).words[0] for x in (a, b)]
    assert equal(and_gemm(*words, k), expected)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 100), st.integers(0, 2**32))
def test_xnor_gemm_on_any_shape(m: int, n: int, k: int, seed: int) -> None:
    a, b = random_signs(m, k, seed=seed), random_signs(n, k, seed=seed + 1)
    result = xnor_gemm(pack(a).words, pack(b).words, k)
    assert equal(result, (a.double() @ b.double().T).to(torch.int32))
    # what can be emitted: K, K - 2, .., -K
    assert bool((result.abs() <= k).all())
    assert bool(((result - k) % 2 == 0).all())


def test_xnor_gemm_extremes() -> None:
    ones = pack(torch.ones(1, 1000)).words
    assert xnor_gemm(ones, ones, 1000).item() == 1000
    assert xnor_gemm(ones, pack(-torch.ones(1, 1000)).words, 1000).item() == -1000


def test_a_product_larger_than_one_chunk() -> None:
    a, b = random_signs(300, 2000, seed=1), random_signs(70, 2000, seed=2)
    expected = (a.double() @ b.double().T).to(torch.int32)
    assert equal(xnor_gemm(pack(a).words, pack(b).words, 2000), expected)


def test_strided_words_give_the_same_product() -> None:
    a, b = random_signs(6, 40, seed=1), random_signs(3, 40, seed=2)
    wide = torch.full((6, 2, 2), -1, dtype=torch.int32)
    wide[:, :, 1] = pack(a).words
    result = xnor_gemm(wide[::2, :, 1], pack(b).words, 40)
    assert equal(result, (a[::2].double() @ b.double().T).to(torch.int32))


@pytest.mark.parametrize("k", CHANNELS)
@pytest.mark.parametrize(
    ("a_format", "b_format"),
    [(U1, U1), (U2, S2), (U4, BINARY), (BINARY, D2), (D2, D2), (S3, U2), (U8, S8)],
    ids=lambda format: f"{format.coding}{format.bits}",
)
def test_bitserial_gemm_is_the_product_of_the_values(
    a_format: CodeFormat, b_format: CodeFormat, k: int
) -> None:
    a, b = random_levels((5, k), a_format, k), random_levels((4, k), b_format, k + 1)
    expected = (a.double() @ b.double().T).to(torch.int32)
    assert equal(bitserial_gemm(pack_codes(a, a_format), pack_codes(b, b_format)), expected)


def test_bitserial_and_xnor_are_two_ways_to_one_answer() -> None:
    a, b = random_signs(9, 77, seed=1), random_signs(5, 77, seed=2)
    serial = bitserial_gemm(pack_codes(a, BINARY), pack_codes(b, BINARY))
    assert equal(serial, xnor_gemm(pack(a).words, pack(b).words, 77))


def test_bitserial_gemm_holds_the_largest_sum_that_int32_holds() -> None:
    k = (2**31 - 1) // (255 * 255)
    a = torch.full((1, k), 255)
    packed = pack_codes(a, U8)
    assert bitserial_gemm(packed, packed).item() == k * 255 * 255
    larger = pack_codes(torch.full((1, k + 1), 255), U8)
    with pytest.raises(ValueError, match=r"K \* max\|a\| \* max\|b\| <= 2147483647"):
        bitserial_gemm(larger, larger)


# --- convolution ----------------------------------------------------------------------------------


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("kernel", "padding"), [(1, 0), (3, 0), (3, 1), (1, 1)])
@pytest.mark.parametrize("channels", CHANNELS)
def test_xnor_conv2d_is_torch_s(
    channels: int, kernel: int, padding: int, stride: int, fill: Fill
) -> None:
    x = random_signs(2, channels, 6, 5, seed=channels)
    weight = random_signs(4, channels, kernel, kernel, seed=kernel)
    result = xnor_conv2d(pack_nchw(x), pack_nchw(weight), stride=stride, padding=padding, fill=fill)
    expected = torch_conv2d(x, weight, stride=stride, padding=padding, fill=fill)
    assert equal(result, expected)


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize(
    ("channels", "outputs", "groups"),
    [(64, 4, 2), (66, 6, 3), (10, 10, 10), (96, 2, 2), (62, 4, 2)],
)
def test_groups_need_not_end_at_a_word(
    channels: int, outputs: int, groups: int, fill: Fill
) -> None:
    x = random_signs(2, channels, 5, 4, seed=1)
    weight = random_signs(outputs, channels // groups, 3, 3, seed=2)
    result = xnor_conv2d(
        pack_nchw(x), pack_nchw(weight), padding=1, stride=2, groups=groups, fill=fill
    )
    expected = torch_conv2d(x, weight, padding=1, stride=2, groups=groups, fill=fill)
    assert equal(result, expected)


@settings(deadline=None, max_examples=100)
@given(
    batch=st.integers(1, 2),
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    group_channels=st.integers(1, 40),
    group_outputs=st.integers(1, 3),
    groups=st.integers(1, 3),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    extra=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    fill=st.sampled_from(FILLS),
)
def test_xnor_conv2d_on_any_geometry(
    batch: int,
    size: tuple[int, int],
    group_channels: int,
    group_outputs: int,
    groups: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    extra: tuple[int, int],
    dilation: tuple[int, int],
    fill: Fill,
) -> None:
    # enough padding for the window, and `extra` beyond, so that windows lie wholly outside too
    lacking = [max(0, d * (t - 1) + 1 - s) for d, t, s in zip(dilation, kernel, size, strict=True)]
    padding = (-(-lacking[0] // 2) + extra[0], -(-lacking[1] // 2) + extra[1])
    x = random_signs(batch, groups * group_channels, *size, seed=1)
    weight = random_signs(groups * group_outputs, group_channels, *kernel, seed=2)
    arguments = {"stride": stride, "padding": padding, "dilation": dilation}
    result = xnor_conv2d(
        pack_nchw(x),
        pack_nchw(weight),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        fill=fill,
    )
    expected = torch_conv2d(
        x, weight, stride=stride, padding=padding, dilation=dilation, groups=groups, fill=fill
    )
    assert equal(result, expected), arguments


def test_a_batch_larger_than_one_chunk_gathers_every_image() -> None:
    # 2^20 words hold the windows of 64 of these images
    x = random_signs(70, 33, 31, 29, seed=1)
    weight = random_signs(1, 33, 3, 3, seed=2)
    result = xnor_conv2d(pack_nchw(x), pack_nchw(weight), padding=1)
    assert equal(result, torch_conv2d(x, weight, padding=1))


def test_fill_without_padding_changes_nothing() -> None:
    x, weight = pack_nchw(random_signs(1, 9, 4, 4)), pack_nchw(random_signs(2, 9, 3, 3))
    first, *others = [xnor_conv2d(x, weight, fill=fill) for fill in FILLS]
    assert all(equal(other, first) for other in others)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize(
    ("x_format", "w_format", "fill"),
    [
        (U1, U1, 0),
        (U1, BINARY, 1),
        (U2, BINARY, 0),
        (U2, S2, 3),
        (U4, S3, "replicate"),
        (S3, D2, 0),
        (S3, D2, -4),
        (D2, BINARY, 0),
        (D2, D2, -3),
        (BINARY, U2, 0),
    ],
)
def test_bitserial_conv2d_is_torch_s(
    x_format: CodeFormat, w_format: CodeFormat, fill: Fill, groups: int
) -> None:
    x = random_levels((2, 33, 5, 4), x_format, 1)
    weight = random_levels((6, 33 // groups, 3, 3), w_format, 2)
    result = bitserial_conv2d(
        pack_codes(nhwc(x), x_format),
        pack_codes(nhwc(weight), w_format),
        stride=2,
        padding=2,
        dilation=(1, 2),
        groups=groups,
        fill=fill,
    )
    expected = torch_conv2d(
        x, weight, stride=2, padding=2, dilation=(1, 2), groups=groups, fill=fill
    )
    assert equal(result, expected)


@pytest.mark.parametrize("fill", FILLS)
def test_bitserial_and_xnor_convolutions_are_two_ways_to_one_answer(fill: Fill) -> None:
    x, weight = random_signs(2, 40, 5, 5, seed=1), random_signs(3, 40, 3, 3, seed=2)
    serial = bitserial_conv2d(
        pack_codes(nhwc(x), BINARY), pack_codes(nhwc(weight), BINARY), padding=1, fill=fill
    )
    xnor = xnor_conv2d(pack_nchw(x), pack_nchw(weight), padding=1, fill=fill)
    assert equal(serial, xnor)


def test_a_one_by_one_convolution_is_a_matrix_product() -> None:
    x, weight = random_signs(2, 45, 3, 4, seed=1), random_signs(7, 45, 1, 1, seed=2)
    packed_x, packed_w = pack_nchw(x), pack_nchw(weight)
    product = xnor_gemm(packed_x.words.flatten(0, 2), packed_w.words.flatten(0, 2), 45)
    assert equal(xnor_conv2d(packed_x, packed_w), product.reshape(2, 3, 4, 7))


# --- a GPU ----------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_reference_gives_the_same_on_a_gpu() -> None:
    x, weight = random_signs(2, 66, 5, 4, seed=1), random_signs(4, 33, 3, 3, seed=2)
    a, b = random_levels((5, 127), U4, 3), random_levels((3, 127), D2, 4)
    for device in ("cpu", "cuda"):
        packed_x, packed_w = pack_nchw(x.to(device)), pack_nchw(weight.to(device))
        convolved = xnor_conv2d(packed_x, packed_w, padding=1, groups=2)
        assert equal(convolved.cpu(), torch_conv2d(x, weight, padding=1, groups=2))
        product = bitserial_gemm(pack_codes(a.to(device), U4), pack_codes(b.to(device), D2))
        assert product.device.type == device
        assert equal(product.cpu(), (a.double() @ b.double().T).to(torch.int32))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_two_devices_are_refused() -> None:
    on_cpu, on_gpu = int32(2, 1), int32(3, 1).cuda()
    with pytest.raises(ValueError, match="`a` and `b` must be on one device, but got cpu and cuda"):
        xnor_gemm(on_cpu, on_gpu, 32)
    with pytest.raises(ValueError, match="on their device"):
        PackedBits(words=on_gpu, channels=32, popcount=int32(3))


# --- wrong input ----------------------------------------------------------------------------------


def int32(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.int32)


def spread(rows: int, words: int = 1) -> Tensor:
    """A matrix of many rows in the memory of one word."""
    return torch.zeros(1, 1, dtype=torch.int32).expand(rows, words)


@pytest.mark.parametrize("gemm", [xnor_gemm, and_gemm], ids=lambda gemm: gemm.__name__)
@pytest.mark.parametrize(
    ("a", "b", "k", "error", "message"),
    [
        (torch.zeros(2, 2), int32(3, 2), 40, TypeError, "`a` must hold torch.int32 words"),
        (int32(2, 2), int32(3, 2).long(), 40, TypeError, "`b` must hold .*got torch.int64"),
        (int32(2, 2).numpy(), int32(3, 2), 40, TypeError, "`a` must be a torch.Tensor"),
        (int32(2, 2), int32(3, 3), 40, ValueError, r"`b` must end with .* = 2 words.*\(3, 3\)"),
        (int32(2, 2), int32(3, 2), 32, ValueError, "`a` must end with an axis of .* = 1 words"),
        (int32(2, 2), int32(3, 2), 65, ValueError, "= 3 words"),
        (int32(2, 2), int32(3, 2), 0, ValueError, "1 <= k <= 2147483647.*k=0"),
        (int32(2, 2), int32(3, 2), -40, ValueError, "k=-40"),
        (int32(2, 2), int32(3, 2), 40.0, TypeError, "`k` must be an int, but got 40.0"),
        (int32(2, 1), int32(3, 1), True, TypeError, "`k` must be an int, but got True"),
        (int32(0, 2), int32(3, 2), 40, ValueError, r"1 to 2147483647 elements.*\(0, 2\)"),
        (int32(2, 2), int32(3, 0), 40, ValueError, r"1 to 2147483647 elements.*\(3, 0\)"),
        (int32(2), int32(3, 2), 40, ValueError, r"`a` must be a matrix.*\(2,\)"),
        (int32(1, 2, 2), int32(3, 2), 40, ValueError, r"`a` must be a matrix.*\(1, 2, 2\)"),
        (spread(2**31), int32(3, 1), 32, ValueError, "1 to 2147483647 elements"),
        (spread(2**16), spread(2**15), 32, ValueError, r"M \* N <= 2147483647"),
        (int32(2, 1) + 8, int32(3, 1), 3, ValueError, "`a` must have 0 in bits 3 to 31"),
        (int32(2, 1), int32(3, 1) - 2**31, 31, ValueError, "`b` must have 0 in bits 31 to 31"),
    ],
)
def test_gemm_refuses(
    gemm: Callable[[object, object, object], Tensor],
    a: object,
    b: object,
    k: object,
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        gemm(a, b, k)


def test_bitserial_gemm_refuses() -> None:
    a = pack_codes(torch.ones(2, 40, dtype=torch.int64), U2)
    with pytest.raises(TypeError, match="`b` must be a bitfront.kernels.PackedCodes"):
        bitserial_gemm(a, a.words)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"a.channels == b.channels.*\(40, 41\)"):
        bitserial_gemm(a, pack_codes(torch.ones(2, 41, dtype=torch.int64), U2))
    with pytest.raises(ValueError, match=r"\[planes, rows, words\].*\(2, 2\)"):
        bitserial_gemm(pack_codes(torch.ones(40, dtype=torch.int64), U2), a)
    # only the second plane has a bit past the channels
    words = a.words.clone()
    words[1, 0, 1] |= 1 << 20
    dirty = PackedCodes(words=words, channels=40, format=U2, popcount=a.popcount)
    with pytest.raises(ValueError, match="`b` must have 0 in bits 8 to 31"):
        bitserial_gemm(a, dirty)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"stride": 0}, ValueError, "1 <= stride.*stride=0"),
        ({"stride": 1.5}, TypeError, "`stride` must be an int"),
        ({"stride": (1, 2, 3)}, ValueError, r"two ints \(vertical, horizontal\).*\(1, 2, 3\)"),
        ({"padding": -1}, ValueError, "0 <= padding.*padding=-1"),
        ({"padding": (1, "1")}, TypeError, "`padding` must be an int, but got '1'"),
        ({"padding": "same"}, TypeError, "`padding` must be an int, but got 'same'"),
        ({"dilation": 0}, ValueError, "1 <= dilation"),
        ({"dilation": 3}, ValueError, r"dilation \* \(kernel - 1\) \+ 1 <= input \+ 2 \* padding"),
        ({"groups": 0}, ValueError, "1 <= groups"),
        ({"groups": 4}, ValueError, r"channels % groups == 0.*channels=6, groups=4"),
        ({"groups": 3}, ValueError, r"outputs % groups == 0.*outputs=4, groups=3"),
        ({"groups": 2}, ValueError, "weight channels == input channels / groups"),
        ({"groups": True}, TypeError, "`groups` must be an int"),
        ({"fill": 2}, ValueError, '`fill` must be 0, a value of the input.*"replicate", but got 2'),
        ({"fill": "reflect"}, ValueError, "but got 'reflect'"),
        ({"fill": 0.0}, TypeError, "but got 0.0"),
        ({"fill": True}, TypeError, "but got True"),
        ({"padding": 2**20}, ValueError, "batch .* outputs <= 2147483647"),
    ],
)
def test_xnor_conv2d_refuses_arguments(
    arguments: dict[str, object], error: type[Exception], message: str
) -> None:
    x, weight = pack_nchw(random_signs(1, 6, 5, 5)), pack_nchw(random_signs(4, 6, 3, 3))
    with pytest.raises(error, match=message):
        xnor_conv2d(x, weight, **arguments)  # type: ignore[arg-type]


def test_xnor_conv2d_refuses_operands() -> None:
    x, weight = pack_nchw(random_signs(1, 6, 5, 5)), pack_nchw(random_signs(4, 6, 3, 3))
    with pytest.raises(
        TypeError, match="`x` must be a bitfront.kernels.PackedBits, but got Tensor"
    ):
        xnor_conv2d(x.words, weight)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="`weight` must be a bitfront.kernels.PackedBits"):
        xnor_conv2d(x, pack_codes(torch.ones(4, 3, 3, 6, dtype=torch.int64), U1))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\[N, kh, kw, words\].*\(4, 1\)"):
        xnor_conv2d(x, pack(random_signs(4, 6)))
    dirty = PackedBits(words=weight.words | 64, channels=6, popcount=weight.popcount)
    with pytest.raises(ValueError, match="`weight` must have 0 in bits 6 to 31"):
        xnor_conv2d(x, dirty)
    with pytest.raises(ValueError, match="`x` must have 0 in bits 6 to 31"):
        xnor_conv2d(PackedBits(words=~x.words, channels=6, popcount=x.popcount), weight)


def test_bitserial_conv2d_refuses() -> None:
    x = pack_codes(random_levels((1, 5, 5, 40), U2, 1), U2)
    weight = pack_codes(random_levels((4, 3, 3, 40), S2, 2), S2)
    with pytest.raises(ValueError, match=r"\(0 to 3 in steps of 1\).*but got 4"):
        bitserial_conv2d(x, weight, padding=1, fill=4)
    with pytest.raises(TypeError, match="`x` must be a bitfront.kernels.PackedCodes"):
        bitserial_conv2d(pack_nchw(random_signs(1, 40, 5, 5)), weight)  # type: ignore[arg-type]
    wide = pack_codes(torch.zeros(1, 3, 3, 4000, dtype=torch.int64), U8)
    with pytest.raises(ValueError, match="so that int32 holds every sum, but got 2340900000"):
        bitserial_conv2d(wide, wide)
