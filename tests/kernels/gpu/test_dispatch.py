"""Which kernel runs where; what is said where none does. No kernel is run."""

import re
import subprocess
import sys
from itertools import product

import pytest
import torch

from bitfront.kernels import CodeFormat, Conv2dGeometry, pack
from bitfront.kernels.gpu import choose, prepare_product, prepare_weight, route
from bitfront.kernels.gpu import pack as gpu_pack
from bitfront.kernels.gpu.dispatch import describe


@pytest.mark.parametrize(
    ("capability", "rows", "weight_bits", "input_bits", "expected"),
    [
        (90, 1, 1, 1, "popcount"),
        (90, 63, 1, 1, "popcount"),
        (90, 64, 1, 1, "tensor_core"),
        (80, 4096, 1, 1, "tensor_core"),
        (86, 4096, 1, 2, "tensor_core"),
        (89, 4096, 2, 2, "tensor_core"),
        (90, 4096, 1, 4, "tensor_core"),
        (90, 4096, 1, 5, "int8"),
        (90, 4096, 2, 3, "int8"),
        (90, 4096, 8, 8, "int8"),
        (90, 1, 8, 8, "int8"),
        (90, 1, 4, 4, "popcount"),
        (100, 4096, 1, 1, "int8"),
        (120, 4096, 2, 2, "int8"),
        (100, 8, 1, 1, "popcount"),
    ],
)
def test_route(
    capability: int, rows: int, weight_bits: int, input_bits: int, expected: str
) -> None:
    assert route(capability, rows, weight_bits, input_bits) == expected


def test_tensor_cores_have_one_bit_operands_only_up_to_capability_9() -> None:
    bits = range(1, 9)
    for capability, rows, weight_bits, input_bits in product(
        (80, 86, 87, 89, 90, 100, 103, 110, 120), (1, 8, 64, 10**6), bits, bits
    ):
        chosen = route(capability, rows, weight_bits, input_bits)
        if chosen == "tensor_core":
            assert capability <= 90
            assert weight_bits * input_bits <= 4
        if chosen == "popcount":
            assert rows * weight_bits * input_bits < 64


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((75, 1, 1, 1), ValueError, r"8\.0 or higher, but this device has 7\.5.*kernels\.cpu"),
        ((9.0, 1, 1, 1), TypeError, "capability"),
        ((90, 0, 1, 1), ValueError, "1 <= rows"),
        ((90, 1, 9, 1), ValueError, "weight_bits"),
        ((90, 1, 1, 0), ValueError, "input_bits"),
    ],
)
def test_what_has_no_route_is_refused(
    arguments: tuple[int, ...], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        route(*arguments)


@pytest.mark.parametrize(
    ("capability", "says"),
    [
        (75, r"\(7\.5\) is too old .* need 8\.0 or higher: bitfront\.kernels\.cpu computes"),
        (80, r"\(8\.0\) has 1-bit tensor cores: products of up to 4 pairs .* few rows by popcount"),
        (90, r"\(9\.0\) has 1-bit tensor cores"),
        (100, r"\(10\.0\) has no 1-bit tensor cores: products run on int8 tensor cores, few rows"),
        (121, r"\(12\.1\) has no 1-bit tensor cores"),
    ],
)
def test_a_device_says_which_units_compute(capability: int, says: str) -> None:
    text = describe(capability, "NVIDIA X")
    assert re.search(says, text)
    assert text.startswith("NVIDIA X (")
    assert text.count(". ") == 0
    assert text.endswith(".")
    # what is said is what is done
    routes = {
        route(capability, rows, bits, bits)
        for rows in (1, 10**6)
        for bits in (1, 8)
        if capability >= 80
    }
    units = {"popcount": "few rows by popcount", "int8": "int8 tensor cores"}
    for name in routes - {"tensor_core"}:
        assert units[name] in text
    assert ("has 1-bit" in text) == ("tensor_core" in routes)


def test_a_capability_is_ten_times_that_of_the_device() -> None:
    with pytest.raises(TypeError, match="capability"):
        describe(9.0)
    assert describe(90).startswith("This device (9.0)")


def test_a_tensor_on_the_cpu_is_refused() -> None:
    with pytest.raises(ValueError, match="must be on a CUDA device, but is on cpu"):
        gpu_pack(torch.zeros(3))
    conv = Conv2dGeometry.of(image=(1, 1, 1, 3), weight=(2, 1, 1, 3))
    with pytest.raises(ValueError, match="`weight` must be on a CUDA device"):
        prepare_product(
            conv,
            CodeFormat(bits=1, coding="symmetric"),
            prepare_weight(pack(torch.zeros(2, 3))),
            method="int8",
        )


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        # neither torch nor Triton is loaded before a name is used
        (
            "import sys, bitfront.kernels.gpu; "
            "print(sorted({'torch', 'triton'} & set(sys.modules)))",
            "[]",
        ),
        (
            "import sys; sys.modules['triton'] = None\n"
            "try:\n    from bitfront.kernels.gpu import conv2d\n"
            "except ModuleNotFoundError as error: print(error)",
            "`bitfront.kernels.gpu.conv2d` needs Triton, which is not installed: "
            "pip install 'bitfront[gpu]'.",
        ),
        # what needs no kernel needs no Triton
        (
            "import sys; sys.modules['triton'] = None\n"
            "from bitfront.kernels.gpu import prepare_weight, route, Affine\n"
            "print(route(90, 1, 1, 1))",
            "popcount",
        ),
        (
            "import bitfront.kernels.gpu as gpu\n"
            "try: gpu.nothing\nexcept AttributeError as error: print(error)",
            "module 'bitfront.kernels.gpu' has no attribute 'nothing'",
        ),
    ],
    ids=["lazy", "no triton", "no kernel", "unknown"],
)
def test_triton_is_loaded_only_where_a_kernel_is_used(code: str, expected: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == expected, done.stderr


def geometry(rows: int, kernel: int, channels: int) -> Conv2dGeometry:
    return Conv2dGeometry.of(
        image=(1, rows + kernel - 1, kernel, channels), weight=(64, kernel, kernel, channels)
    )


@pytest.mark.parametrize(
    ("conv", "bits", "expected"),
    [
        (geometry(1, 1, 64), 1, "popcount"),
        (geometry(64, 3, 64), 1, "tensor_core"),
        # one bit of an int32 for each tap
        (geometry(64, 5, 64), 1, "tensor_core"),
        (geometry(64, 7, 64), 1, "int8"),
        (geometry(64, 1, 64), 7, "int8"),
        # int32 holds the sum, but not with the padding of the last words
        (geometry(64, 1, (2**31 - 1) // 127**2), 7, "popcount"),
    ],
)
def test_what_a_kernel_cannot_do_goes_to_the_next(
    conv: Conv2dGeometry, bits: int, expected: str
) -> None:
    format = CodeFormat(bits=bits, coding="symmetric")
    assert choose(90, conv, format, format) == expected
