"""Floats to bit planes by bounds, against the formula in torch: words and flag are equal."""

import os
import random
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from bitfront.kernels import CodeFormat, pack, pack_codes
from bitfront.kernels.gpu.comparing import Bounds, pack_compared, signs
from bitfront.kernels.packing import pack_bits

pytestmark = pytest.mark.usefixtures("poisoned")

CHANNELS = [1, 3, 31, 32, 33, 64, 70, 100, 257]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
SPECIAL = [0.0, -0.0, float("inf"), float("-inf"), 1e-45, -1e-45, 65504.0]
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "dense": lambda x: x,
    "nchw": lambda x: x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1),
    "part of a wider map": lambda x: torch.cat([x, x, x], dim=-1)[..., : x.shape[-1]],
    "every other line": lambda x: x.repeat_interleave(2, dim=1)[:, ::2],
    "every third channel": lambda x: x.repeat_interleave(3, dim=3)[..., ::3],
    "turned": lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
}


def expected_planes(x_BHWC: Tensor, bounds: Bounds) -> Tensor:
    """The formula, plane by plane."""
    values = (
        bounds.values[:, :, None, None] if bounds.images else bounds.values[:, None, None, None]
    )
    passed = (x_BHWC.float() >= values) != bounds.flips[:, None, None, None]
    planes = []
    for q in range(bounds.planes):
        bits = torch.full(x_BHWC.shape, bool(bounds.start >> q & 1), device=x_BHWC.device)
        for s, change in enumerate(bounds.changes):
            if change >> q & 1:
                bits = bits ^ passed[s]
        planes.append(pack_bits(bits))
    return torch.stack(planes)


def random_map(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> Tensor:
    """Multiples of 1/4, so that many values meet a bound, and special numbers among them."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(-8, 9, shape, generator=generator) / 4
    where = torch.randint(0, x.numel(), (len(SPECIAL),), generator=generator)
    x.view(-1)[where] = torch.tensor(SPECIAL)
    return x.to(dtype)


def random_bounds(
    comparisons: int, planes: int, channels: int, images: int | None, seed: int
) -> Bounds:
    generator = torch.Generator().manual_seed(seed)
    shape = (comparisons, channels) if images is None else (comparisons, images, channels)
    values = torch.randint(-8, 9, shape, generator=generator) / 4
    where = torch.randint(0, values.numel(), (3,), generator=generator)
    values.view(-1)[where] = torch.tensor([float("-inf"), float("inf"), float("nan")])
    numbers = torch.randint(0, 2**planes, (comparisons + 1,), generator=generator).tolist()
    return Bounds(
        values=values,
        flips=torch.rand(comparisons, channels, generator=generator) < 0.5,
        changes=tuple(numbers[1:]),
        start=numbers[0],
        planes=planes,
    )


def moved(bounds: Bounds, device: torch.device) -> Bounds:
    return Bounds(
        values=bounds.values.to(device),
        flips=bounds.flips.to(device),
        changes=bounds.changes,
        start=bounds.start,
        planes=bounds.planes,
    )


@pytest.mark.parametrize("seed", range(30))
def test_planes_equal_the_formula(seed: int, device: torch.device) -> None:
    choose = random.Random(seed)
    images, height, width = choose.choice([(1, 1, 1), (2, 3, 5), (3, 1, 7), (5, 1, 1), (2, 4, 19)])
    channels, dtype = choose.choice(CHANNELS), choose.choice(DTYPES)
    x = random_map((images, height, width, channels), dtype, seed)
    has_nan = choose.random() < 0.5
    if has_nan:
        x[-1, -1, -1, choose.randrange(channels)] = float("nan")
    layout = choose.choice(list(LAYOUTS))
    x = LAYOUTS[layout](x.to(device))
    planes = choose.choice([1, 2, 4, 8])
    own = images if choose.random() < 0.4 else None
    bounds = moved(random_bounds(choose.choice([1, 2, 3, 7]), planes, channels, own, seed), device)
    flag = torch.zeros(1, dtype=torch.int32, device=device)
    words = pack_compared(x, bounds, nan=flag)
    assert words.dtype == torch.int32
    assert torch.equal(words, expected_planes(x, bounds))
    assert flag.tolist() == [int(has_nan)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [1, 40, 64])
@pytest.mark.parametrize("own", [False, True])
def test_every_layout_is_read(layout: str, channels: int, own: bool, device: torch.device) -> None:
    x = LAYOUTS[layout](random_map((2, 5, 18, channels), torch.float32, 0).to(device))
    bounds = moved(random_bounds(3, 2, channels, 2 if own else None, 1), device)
    assert torch.equal(pack_compared(x, bounds), expected_planes(x, bounds))


@pytest.mark.parametrize("channels", [1, 33, 100])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_signs_are_those_of_pack(dtype: torch.dtype, channels: int, device: torch.device) -> None:
    x = random_map((2, 3, 5, channels), dtype, 2).to(device)
    words = pack_compared(x, signs(channels, device))
    assert torch.equal(words[0], pack(x).words)


def test_codes_are_the_number_of_bounds_that_are_reached(device: torch.device) -> None:
    x = random_map((2, 3, 4, 45), torch.float32, 3).to(device)
    levels = torch.arange(-7, 8, device=device) / 4
    bounds = Bounds(
        values=levels[:, None].expand(15, 45),
        flips=torch.zeros(1, 1, dtype=torch.bool, device=device).expand(15, 45),
        changes=tuple(n ^ (n + 1) for n in range(15)),
        start=0,
        planes=4,
    )
    codes = (x[..., None] >= levels).sum(-1)
    expected = pack_codes(codes, CodeFormat(bits=4, coding="unsigned"))
    assert torch.equal(pack_compared(x, bounds), expected.words)


@pytest.mark.parametrize("planes", [1, 3])
@pytest.mark.parametrize(
    ("wide", "inside"),
    [
        ((2, 5, 20, 3), (slice(None), slice(1, -1), slice(1, -1))),
        ((2, 3, 18, 11), (slice(None), slice(None), slice(None), slice(4, 7))),
        ((4, 5, 22, 9), (slice(None, None, 2), slice(2, None), slice(2, -2), slice(1, 4))),
    ],
    ids=["inside of a border", "part of wider rows", "both"],
)
@pytest.mark.parametrize("own", [False, True])
def test_words_are_written_where_they_belong(
    wide: tuple[int, ...],
    inside: tuple[slice, ...],
    planes: int,
    own: bool,
    device: torch.device,
) -> None:
    x = random_map((2, 3, 18, 70), torch.float32, 4).to(device)
    bounds = moved(random_bounds(2, planes, 70, 2 if own else None, 5), device)
    whole = torch.full((planes, *wide), 0x0BADF00D, dtype=torch.int32, device=device)
    expected = whole.clone()
    out = whole[(slice(None), *inside)]
    expected[(slice(None), *inside)] = expected_planes(x, bounds)
    assert pack_compared(x, bounds, out=out) is out
    assert torch.equal(whole, expected)


def test_bounds_of_images_may_be_expanded(device: torch.device) -> None:
    x = random_map((3, 2, 4, 40), torch.float32, 6).to(device)
    cuts = torch.tensor([[-0.5, 0.0, 1.0], [0.5, float("nan"), 1.5]], device=device)
    bounds = Bounds(
        values=cuts[:, :, None].expand(2, 3, 40),
        flips=torch.zeros(2, 40, dtype=torch.bool, device=device),
        changes=(1, 3),
        start=2,
        planes=2,
    )
    assert torch.equal(pack_compared(x, bounds), expected_planes(x, bounds))


def test_bounds_may_have_any_steps(device: torch.device) -> None:
    x = random_map((2, 2, 3, 40), torch.float32, 7).to(device)
    bounds = moved(random_bounds(3, 2, 40, 2, 8), device)
    turned = Bounds(
        values=bounds.values.permute(2, 1, 0).contiguous().permute(2, 1, 0),
        flips=bounds.flips.T.contiguous().T,
        changes=bounds.changes,
        start=bounds.start,
        planes=2,
    )
    assert torch.equal(pack_compared(x, turned), expected_planes(x, bounds))


@pytest.mark.parametrize(("low", "high"), [(1e-45, 0.0), (1.0, 0.99999994), (-1e-45, -3e-45)])
def test_neighbouring_floats_are_told_apart(low: float, high: float, device: torch.device) -> None:
    bounds = Bounds(
        values=torch.tensor([[low, high]], device=device),
        flips=torch.zeros(1, 2, dtype=torch.bool, device=device),
        changes=(1,),
        start=0,
        planes=1,
    )
    x = torch.tensor([[low, low], [high, high]], device=device).reshape(1, 2, 1, 2)
    assert pack_compared(x, bounds).flatten().tolist() == [0b11, 0b10]


@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
def test_narrow_floats_are_compared_as_float32(dtype: torch.dtype, device: torch.device) -> None:
    x = torch.tensor([1.0, 1.0], dtype=dtype, device=device).reshape(1, 1, 1, 2)
    bounds = Bounds(
        # the first rounds to 1 in the dtype of x
        values=torch.tensor([[1.0001, 1.0]], device=device),
        flips=torch.zeros(1, 2, dtype=torch.bool, device=device),
        changes=(1,),
        start=0,
        planes=1,
    )
    assert pack_compared(x, bounds).item() == 0b10


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("place", [(0, 0, 0, 0), (1, 3, 2, 31), (2, 4, 6, 69)])
def test_a_nan_anywhere_sets_the_flag(
    place: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> None:
    x = random_map((3, 5, 7, 70), dtype, 9)
    x[place] = float("nan")
    x = x.to(device)
    bounds = signs(70, device)
    flag = torch.zeros(1, dtype=torch.int32, device=device)
    words = pack_compared(x, bounds, nan=flag)
    assert flag.item() == 1
    assert torch.equal(words, expected_planes(x, bounds))
    # it stays, and without a flag the words are the same
    pack_compared(torch.zeros_like(x), bounds, nan=flag)
    assert flag.item() == 1
    assert torch.equal(pack_compared(x, bounds), words)


def test_nan_next_to_the_map_is_not_read(device: torch.device) -> None:
    wide = torch.full((2, 5, 6, 96), float("nan"), device=device)
    wide[:, 1:-1, 1:-1, 32:72] = 0.0
    flag = torch.zeros(1, dtype=torch.int32, device=device)
    pack_compared(wide[:, 1:-1, 1:-1, 32:72], signs(40, device), nan=flag)
    assert flag.item() == 0


def test_most_comparisons_and_planes(device: torch.device) -> None:
    x = random_map((1, 2, 3, 33), torch.float32, 10).to(device)
    bounds = moved(random_bounds(31, 8, 33, None, 11), device)
    assert torch.equal(pack_compared(x, bounds), expected_planes(x, bounds))


Refusal = tuple[str, Callable[[], object], type[Exception], str]


def refusals() -> Iterator[Refusal]:
    x, bounds = torch.zeros(2, 3, 4, 40), signs(40, torch.get_default_device())
    values, flips = torch.zeros(3, 40), torch.zeros(3, 40, dtype=torch.bool)
    given = {"values": values, "flips": flips, "changes": (1, 2, 3), "start": 0, "planes": 2}

    def made(**changed: object) -> Bounds:
        return Bounds(**{**given, **changed})

    def words(*shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.int32)

    def out(given: object) -> Callable[[], Tensor]:
        return lambda: pack_compared(x, bounds, out=given)

    def flag(given: object) -> Callable[[], Tensor]:
        return lambda: pack_compared(x, bounds, nan=given)

    own = made(values=torch.zeros(3, 5, 40))
    yield "no tensor", lambda: pack_compared(3, bounds), TypeError, "`x_BHWC` must be a dense"
    yield "double", lambda: pack_compared(x.double(), bounds), TypeError, "float64"
    yield "integers", lambda: pack_compared(x.int(), bounds), TypeError, "int32"
    yield "three axes", lambda: pack_compared(x[0], bounds), ValueError, r"\[B, H, W, 40\]"
    yield "channels", lambda: pack_compared(x[..., 1:], bounds), ValueError, r"\[B, H, W, 40\]"
    yield "nothing", lambda: pack_compared(x[:0], bounds), ValueError, "not empty"
    yield "images", lambda: pack_compared(x, own), ValueError, "5 images"
    yield "device", lambda: pack_compared(x.to("meta"), bounds), ValueError, "CUDA device"
    yield "devices", lambda: pack_compared(x, signs(40, "meta")), ValueError, "one device"
    yield "bounds", lambda: pack_compared(x, values), TypeError, "Bounds"
    yield "flag's type", flag(True), TypeError, "`nan` must be a tensor of torch.int32"
    yield "flag's dtype", flag(torch.zeros(1)), TypeError, "`nan` must be a tensor of torch.int32"
    yield "flag's shape", flag(words(2)), ValueError, r"`nan` must be \[1\]"
    yield "flag's device", flag(words(1).to("meta")), ValueError, r"`nan` must be \[1\]"
    yield "out's type", out(3), TypeError, "`out` must be a dense tensor"
    yield "out's dtype", out(torch.zeros(1, 2, 3, 4, 2)), TypeError, "torch.int32 words"
    yield "out's planes", out(words(2, 2, 3, 4, 2)), ValueError, r"`out` must be \[1, 2, 3, 4, 2\]"
    yield "out's words", out(words(1, 2, 3, 4, 3)), ValueError, r"`out` must be \[1, 2, 3, 4, 2\]"
    yield "out's device", out(words(1, 2, 3, 4, 2).to("meta")), ValueError, "CUDA device"
    yield "out's last axis", out(words(1, 2, 3, 4, 4)[..., ::2]), ValueError, "dense last axis"
    yield "values' type", lambda: made(values=3), TypeError, "`values` must be"
    yield "values' dtype", lambda: made(values=values.double()), TypeError, "`values` must be"
    yield "flips' dtype", lambda: made(flips=flips.int()), TypeError, "`flips` must be"
    yield "values' axes", lambda: made(values=values[0]), ValueError, r"\[S, C\] or \[S, B, C\]"
    yield "flips' shape", lambda: made(flips=flips[:, 1:]), ValueError, r"`flips` \[S, C\]"
    yield "flips' device", lambda: made(flips=flips.to("meta")), ValueError, "one device"
    yield (
        "no values",
        lambda: made(values=values[:, :0], flips=flips[:, :0]),
        ValueError,
        "not empty",
    )
    yield "number of changes", lambda: made(changes=(1, 2)), ValueError, "3 comparisons"
    yield "changes' type", lambda: made(changes=[1, 2, 3]), ValueError, "`changes` must be a tuple"
    yield "change's type", lambda: made(changes=(1, 2, 3.0)), TypeError, "changes"
    yield "change", lambda: made(changes=(1, 2, 4)), ValueError, "changes"
    yield "start", lambda: made(start=4), ValueError, "start"
    yield "planes", lambda: made(planes=9), ValueError, "planes"
    yield "no planes", lambda: made(planes=0), ValueError, "planes"
    yield (
        "comparisons",
        lambda: made(values=values[:1].repeat(32, 1), flips=flips[:1].repeat(32, 1)),
        ValueError,
        "1 to 31 comparisons",
    )
    yield "no channels", lambda: signs(0, "cpu"), ValueError, "channels"


with torch.device("cuda" if os.environ["TRITON_INTERPRET"] == "0" else "cpu"):
    REFUSALS = list(refusals())


@pytest.mark.parametrize("case", REFUSALS, ids=lambda case: case[0])
def test_wrong_arguments_are_refused(case: Refusal, device: torch.device) -> None:
    _, call, error, text = case
    with device, pytest.raises(error, match=text):
        call()
