"""Products of bytes: equal to the reference, whether or not this CPU adds bytes up exactly."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from bitfront.kernels import CodeFormat, Conv2dGeometry, Fill, pack_codes, reference
from bitfront.kernels.cpu import Affine, int8
from bitfront.kernels.cpu.int8 import Int8Product, largest_product, prepare_int8
from bitfront.kernels.finish import finished

X_FORMATS = [
    CodeFormat(bits=8, coding="unsigned"),
    CodeFormat(bits=3, coding="unsigned"),
    CodeFormat(bits=8, coding="signed"),
    CodeFormat(bits=2, coding="signed"),
    CodeFormat(bits=1, coding="symmetric"),
]
W_FORMATS = [
    CodeFormat(bits=8, coding="signed"),
    CodeFormat(bits=8, coding="symmetric"),
    CodeFormat(bits=7, coding="symmetric"),
    CodeFormat(bits=1, coding="symmetric"),
]
# channels, outputs, kernel, stride, padding, dilation, groups, fill
GEOMETRIES: list[tuple[int, int, int, int, int, int, int, Fill]] = [
    (33, 7, 3, 1, 1, 1, 1, 0),
    (64, 32, 3, 2, 2, 2, 2, 1),
    (127, 1, 1, 2, 0, 1, 1, 0),
    (12, 24, 3, 1, 1, 1, 4, "replicate"),
    (9, 9, 5, 1, 2, 1, 9, 1),
    (1, 3, 2, 1, 1, 1, 1, 0),
]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def values(format: CodeFormat, shape: tuple[int, ...], seed: int) -> Tensor:
    """Random values, the largest and the smallest in whole rows among them."""
    numbers = torch.randint(0, 2**format.bits, shape, generator=generator(seed))
    numbers[0, :1] = 2**format.bits - 1
    numbers[-1, -1:] = 0
    return format.low + format.step * numbers


def affine(outputs: int, *, plain: bool = False, **arguments: Any) -> Affine:
    if plain:
        return Affine(scale=torch.ones(outputs), shift=torch.zeros(outputs))
    g = generator(5)
    scale, shift = torch.randn(outputs, generator=g), torch.randn(outputs, generator=g)
    scale[::5] = 0.0
    return Affine(scale=scale, shift=shift, **arguments)


def prepared(
    x_format: CodeFormat,
    w_format: CodeFormat,
    geometry: tuple[int, int, int, int, int, int, int, Fill],
    finish: Affine | None = None,
) -> tuple[Int8Product, Tensor]:
    """A product with its map written, and the sums of the reference."""
    channels, outputs, kernel, stride, padding, dilation, groups, fill = geometry
    x = values(x_format, (2, 9, 8, channels), 1)
    weight = values(w_format, (outputs, kernel, kernel, channels // groups), 2)
    conv = Conv2dGeometry.of(
        image=tuple(x.shape),
        weight=tuple(weight.shape),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    finish = finish or affine(outputs, plain=True)
    product = prepare_int8(conv, x_format, weight, finish, fill=fill)
    product.map.copy_(x - x_format.low)
    sums = reference.bitserial_conv2d(
        pack_codes(x, x_format),
        pack_codes(weight, w_format),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        fill=fill,
    )
    return product, sums


@pytest.fixture(params=["as it is", "narrow", "floats"])
def limit(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """This CPU; one whose bytes saturate from 8 bits on; one without oneDNN."""
    if request.param != "as it is":
        largest = {"narrow": 127 * 127, "floats": 0}[request.param]
        monkeypatch.setattr(int8, "largest_product", lambda: largest)


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=repr)
@pytest.mark.parametrize("w_format", W_FORMATS, ids=repr)
@pytest.mark.parametrize("x_format", X_FORMATS, ids=repr)
def test_sums_equal_the_reference(x_format, w_format, geometry):
    product, sums = prepared(x_format, w_format, geometry)
    finish = affine(product.conv.outputs, plain=True)
    assert torch.equal(product(), finished(sums, finish))
    # a second call finds nothing of the first
    assert torch.equal(product(), finished(sums, finish))


@pytest.mark.usefixtures("limit")
def test_sums_past_what_floats_hold_are_rounded_once():
    conv = Conv2dGeometry.of(image=(1, 4, 4, 1000), weight=(3, 3, 3, 1000))
    format = CodeFormat(bits=8, coding="unsigned")
    product = prepare_int8(conv, format, torch.full((3, 3, 3, 1000), 127), affine(3, plain=True))
    product.map.fill_(255)
    total = 9 * 1000 * 255 * 127
    assert total != int(torch.tensor(float(total)))
    assert torch.equal(product(), torch.full((1, 2, 2, 3), float(total)))


AFTER = {"scale_after": torch.linspace(-1, 2, 32), "shift_after": torch.linspace(-3, 1, 32)}


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize("more", [{}, {"rectifies": True}, {"rectifies": True, **AFTER}])
@pytest.mark.parametrize("x_format", [X_FORMATS[0], X_FORMATS[3]], ids=repr)
def test_finish(x_format, more):
    finish = affine(32, **more)
    product, sums = prepared(x_format, W_FORMATS[2], GEOMETRIES[1], finish)
    expected = finished(sums, finish)
    assert torch.equal(product(), expected)
    # channels of a larger map
    room = torch.full((*expected.shape[:-1], 40), 7.0)
    product(room[..., 4:36])
    assert torch.equal(room[..., 4:36], expected)
    assert (room[..., :4] == 7.0).all()
    assert (room[..., 36:] == 7.0).all()


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize("more", [{}, {"rectifies": True, **AFTER}])
def test_merging_finish(more):
    finish = affine(32, merges=True, **more)
    product, sums = prepared(X_FORMATS[0], W_FORMATS[0], GEOMETRIES[1], finish)
    shortcut = torch.randn(sums.shape, generator=generator(3))
    expected = shortcut + finished(sums, finish)
    product(shortcut)
    assert torch.equal(shortcut, expected)
    with pytest.raises(ValueError, match="needs `out`"):
        product()


SCRIPT = """
import torch
from bitfront.kernels import CodeFormat, Conv2dGeometry
from bitfront.kernels.cpu import Affine
from bitfront.kernels.cpu.int8 import largest_product, prepare_int8
conv = Conv2dGeometry.of(image=(1, 4, 4, 64), weight=(32, 3, 3, 64), padding=1)
finish = Affine(scale=torch.ones(32), shift=torch.zeros(32))
format = CodeFormat(bits=8, coding="unsigned")
product = prepare_int8(conv, format, torch.full((32, 3, 3, 64), 127), finish)
product.map.fill_(255)
print(largest_product(), int(product()[0, 1, 1, 0]))
"""


@pytest.mark.parametrize("instructions", ["SSE41", "AVX2", "AVX512_CORE"])
def test_instructions_that_saturate_are_not_used(instructions):
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": instructions},
        capture_output=True,
        text=True,
        check=True,
    )
    largest, total = map(int, result.stdout.split())
    # the setting is unknown on other processors
    assert largest in (0, 127 * 127, 255 * 128)
    assert total == 9 * 64 * 255 * 127


def test_this_cpu_adds_some_bytes_up():
    assert largest_product() in (0, 127 * 127, 255 * 128)


def geometry(**changes: object) -> Conv2dGeometry:
    arguments = {"image": (1, 4, 4, 8), "weight": (4, 3, 3, 8), "padding": 1, **changes}
    return Conv2dGeometry.of(**arguments)


@pytest.mark.parametrize(
    ("changes", "error", "parts"),
    [
        ({"weight_NhwC": torch.ones(4, 3, 3, 8)}, TypeError, ["weight", "float32"]),
        (
            {"weight_NhwC": torch.ones(4, 3, 3, 7).int()},
            ValueError,
            ["(4, 3, 3, 8)", "(4, 3, 3, 7)"],
        ),
        ({"weight_NhwC": torch.full((4, 3, 3, 8), 128)}, ValueError, ["-128", "127", "odd", "128"]),
        ({"weight_NhwC": torch.full((4, 3, 3, 8), 257)}, ValueError, ["255", "257"]),
        ({"x_format": CodeFormat(bits=8, coding="symmetric")}, ValueError, ["256 steps"]),
        ({"x_format": 8}, TypeError, ["CodeFormat", "int"]),
        ({"fill": 9}, ValueError, ["0 to 7", "9"]),
        ({"fill": "edge"}, ValueError, ["replicate", "edge"]),
        ({"finish": Affine(scale=torch.ones(3), shift=torch.ones(4))}, ValueError, ["[4]", "[3]"]),
        (
            {"finish": affine(4, scale_after=torch.ones(4))},
            ValueError,
            ["scale_after", "rectifies"],
        ),
        (
            {
                "conv": geometry(image=(1, 9, 9, 8000), weight=(4, 3, 3, 8000)),
                "weight_NhwC": torch.full((4, 3, 3, 8000), 255),
                "x_format": CodeFormat(bits=8, coding="unsigned"),
            },
            ValueError,
            ["2147483647", str(9 * 8000 * 255 * 255)],
        ),
    ],
)
def test_wrong_arguments(changes, error, parts):
    arguments = {
        "conv": geometry(),
        "x_format": CodeFormat(bits=3, coding="unsigned"),
        "weight_NhwC": torch.ones(4, 3, 3, 8).int(),
        "finish": affine(4),
        **changes,
    }
    with pytest.raises(error) as raised:
        prepare_int8(**arguments)
    for part in parts:
        assert part in str(raised.value)


@pytest.mark.parametrize("out", [torch.zeros(2, 9, 8, 6), torch.zeros(2, 9, 8, 7).double()])
def test_wrong_results(out):
    product, _ = prepared(X_FORMATS[1], W_FORMATS[2], GEOMETRIES[0])
    with pytest.raises(ValueError, match=r"float32 \[2, 9, 8, 7\]"):
        product(out)
