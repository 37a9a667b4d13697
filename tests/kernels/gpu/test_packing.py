"""Packing by Triton kernels against the reference: words, planes and popcounts are equal."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bitfront.kernels import CodeFormat, Conv2dGeometry, packing
from bitfront.kernels.gpu import pack, pack_codes, pack_nchw, regroup
from bitfront.kernels.gpu.packing import count_ones
from bitfront.kernels.operands import regroup as reference_regroup
from bitfront.kernels.packing import row_count

pytestmark = pytest.mark.usefixtures("poisoned")

CHANNELS = [1, 31, 32, 33, 63, 127, 1000]
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
FORMATS = [
    CodeFormat(bits=bits, coding=coding)
    for bits, coding in (
        (1, "symmetric"),
        (1, "unsigned"),
        (2, "unsigned"),
        (3, "signed"),
        (4, "symmetric"),
        (8, "unsigned"),
        (8, "signed"),
        (8, "symmetric"),
    )
]


def awkward_floats(*shape: int) -> Tensor:
    """Random numbers, and zeros of both signs, infinities and the smallest numbers among them."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    special = torch.tensor([0.0, -0.0, float("inf"), float("-inf"), 1e-45, -1e-45])
    x.view(-1)[: len(special)] = special[: x.numel()]
    return x


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize(
    "layout",
    [
        lambda x: x,
        lambda x: x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1),
        lambda x: x.repeat(1, 2, 1, 1)[:, ::2],
        lambda x: x[:, :, ::2, ::3],
        lambda x: x[:1].expand(3, *x.shape[1:]),
    ],
    ids=["contiguous", "nchw", "every other row", "scattered", "expanded"],
)
def test_pack_equals_the_reference(
    layout: Callable[[Tensor], Tensor], channels: int, device: torch.device
) -> None:
    x = layout(awkward_floats(2, 3, 4, channels).to(device))
    packed, expected = pack(x), packing.pack(x)
    assert packed.channels == expected.channels
    assert torch.equal(packed.words, expected.words)
    assert torch.equal(packed.popcount, expected.popcount)


@pytest.mark.parametrize(
    "dtype", [*FLOATS, torch.int8, torch.int16, torch.int32, torch.int64], ids=str
)
def test_pack_takes_every_signed_dtype(dtype: torch.dtype, device: torch.device) -> None:
    x = torch.randint(-3, 4, (5, 70), generator=torch.Generator().manual_seed(0))
    x = x.to(dtype).to(device)
    assert torch.equal(pack(x).words, packing.pack(x).words)


@pytest.mark.parametrize("shape", [(40,), (1, 40), (300, 40), (2, 1, 1, 3, 2, 33)], ids=str)
def test_pack_takes_any_number_of_axes(shape: tuple[int, ...], device: torch.device) -> None:
    x = awkward_floats(*shape).to(device)
    packed, expected = pack(x), packing.pack(x)
    assert torch.equal(packed.words, expected.words)
    assert torch.equal(packed.popcount, expected.popcount)


@pytest.mark.parametrize("channels", [1, 33, 64])
def test_pack_nchw_equals_the_reference(channels: int, device: torch.device) -> None:
    x = awkward_floats(2, channels, 3, 5).to(device)
    assert torch.equal(pack_nchw(x).words, packing.pack_nchw(x).words)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("position", [0, 31, 39])
def test_pack_refuses_a_nan_wherever_it_is(
    position: int, dtype: torch.dtype, device: torch.device
) -> None:
    x = torch.zeros(3, 40, dtype=dtype)
    x[1, position] = float("nan")
    x = x.to(device)
    with pytest.raises(ValueError, match="NaN"):
        pack(x)
    unchecked = pack(x, check=False)
    assert unchecked.popcount.tolist() == [40, 39, 40]


@pytest.mark.parametrize("channels", [1, 33, 64, 300])
@pytest.mark.parametrize("format", FORMATS, ids=repr)
def test_pack_codes_equals_the_reference(
    format: CodeFormat, channels: int, device: torch.device
) -> None:
    numbers = torch.randint(
        0, 2**format.bits, (3, 5, channels), generator=torch.Generator().manual_seed(1)
    )
    values = (format.low + format.step * numbers).to(device)
    values[0, 0], values[0, 1] = format.low, format.high
    packed, expected = pack_codes(values, format), packing.pack_codes(values, format)
    assert packed.format == format
    assert torch.equal(packed.words, expected.words)
    assert torch.equal(packed.popcount, expected.popcount)


@pytest.mark.parametrize(
    "dtype",
    [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64],
    ids=str,
)
def test_pack_codes_takes_every_integer_dtype(dtype: torch.dtype, device: torch.device) -> None:
    format = CodeFormat(bits=1, coding="unsigned")
    values = torch.randint(0, 2, (7, 45), generator=torch.Generator().manual_seed(2))
    values = values.to(dtype).to(device)
    assert torch.equal(pack_codes(values, format).words, packing.pack_codes(values, format).words)


@pytest.mark.parametrize(
    ("format", "value"),
    [
        (CodeFormat(bits=2, coding="unsigned"), 4),
        (CodeFormat(bits=2, coding="unsigned"), -1),
        (CodeFormat(bits=8, coding="signed"), -(2**31)),
        (CodeFormat(bits=2, coding="symmetric"), 2),
        (CodeFormat(bits=2, coding="symmetric"), 2**40 + 1),
    ],
    ids=str,
)
def test_pack_codes_refuses_what_is_no_value(
    format: CodeFormat, value: int, device: torch.device
) -> None:
    values = torch.full((2, 40), format.low)
    values[1, 39] = value
    with pytest.raises(ValueError, match="`values` must be"):
        pack_codes(values.to(device), format)


@pytest.mark.parametrize("group_channels", [1, 31, 32, 33, 63, 100])
@pytest.mark.parametrize("groups", [2, 3, 5])
def test_regroup_equals_the_reference(
    groups: int, group_channels: int, device: torch.device
) -> None:
    channels = groups * group_channels
    generator = torch.Generator().manual_seed(3)
    x = packing.pack(torch.randn(2, 3, 2, 5, channels, generator=generator).to(device))
    conv = Conv2dGeometry.of(
        image=(3, 2, 5, channels), weight=(groups, 1, 1, group_channels), groups=groups
    )
    expected = reference_regroup(x.words, conv).flatten(-2)
    assert torch.equal(regroup(x.words, conv), expected)


@pytest.mark.parametrize(("rows", "words"), [(1, 1), (37, 3), (5, 100), (130, 64)])
def test_ones_of_rows(rows, words, device, poisoned):
    seeded = torch.Generator().manual_seed(1)
    x = torch.randint(-(2**31), 2**31, (2, rows, words), generator=seeded).int()
    x[0, 0] = -1
    mine = count_ones(x.to(device))
    assert torch.equal(mine.cpu(), row_count(x))


def test_ones_of_what_is_no_row_of_words(device):
    with pytest.raises(TypeError, match=r"torch\.int32"):
        count_ones(torch.zeros(4, 4, device=device))
    with pytest.raises(ValueError, match="dense"):
        count_ones(torch.zeros(4, 4, dtype=torch.int32, device=device).T)
