"""Which kernel computes a product on which GPU.

Pure functions of what is known before anything runs, so that a cost table and a launch cannot
disagree. The bounds are those of a model of the hardware; what was timed on a device
(`bitfront.kernels.gpu.tuning`) goes before them.
"""

from __future__ import annotations

from typing import Final, Literal

from bitfront.kernels.layout import MAX_CODE_BITS, require_int

Route = Literal["popcount", "tensor_core", "int8"]
"""Counting bits on CUDA cores; 1-bit tensor cores, plane by plane; int8 tensor cores."""

LOWEST_CAPABILITY: Final = 80
"""Ten times the compute capability from which the kernels are made and tested."""

TENSOR_CORE_CAPABILITIES: Final = range(80, 100)
"""Where tensor cores take 1-bit operands with AND; from 100 on they are emulated."""

POPCOUNT_PASSES: Final = 64
"""Rows times pairs of planes below which reading the weights takes longer than counting bits."""

TENSOR_CORE_PASSES: Final = 4
"""Most pairs of planes for which 1-bit tensor cores are faster than int8 ones."""


def route(capability: int, rows: int, weight_bits: int, input_bits: int) -> Route:
    """The kernel for a product of `rows` rows.

    Args:
        capability: Ten times the compute capability: 80 is an A100, 90 an H100 or H200.
        rows: M; pixels of the result, for a convolution.
        weight_bits: Planes of the weight.
        input_bits: Planes of the maps.

    Raises:
        TypeError: An argument is no int.
        ValueError: An argument is out of range, or the device is too old.

    >>> route(90, 1, 1, 1), route(90, 4096, 1, 2), route(90, 4096, 4, 4), route(100, 4096, 1, 1)
    ('popcount', 'tensor_core', 'int8', 'int8')
    """
    require_supported(capability)
    require_int("rows", rows, 1)
    passes = require_int("weight_bits", weight_bits, 1, MAX_CODE_BITS) * require_int(
        "input_bits", input_bits, 1, MAX_CODE_BITS
    )
    if rows * passes < POPCOUNT_PASSES:
        return "popcount"
    if capability in TENSOR_CORE_CAPABILITIES and passes <= TENSOR_CORE_PASSES:
        return "tensor_core"
    return "int8"


def describe(capability: int, name: str = "This device") -> str:
    """One sentence: which units a device computes products on, or what computes them instead.

    Args:
        capability: Ten times the compute capability.
        name: Of the device.

    Raises:
        TypeError: `capability` is no int.
        ValueError: `capability` is negative.

    >>> describe(100, "NVIDIA B200").partition(":")[0]
    'NVIDIA B200 (10.0) has no 1-bit tensor cores'
    """
    require_int("capability", capability, 0)
    device = f"{name} ({capability / 10})"
    if capability < LOWEST_CAPABILITY:
        return (
            f"{device} is too old for the GPU kernels, which need {LOWEST_CAPABILITY / 10} or "
            "higher: bitfront.kernels.cpu computes the same on the CPU."
        )
    if capability not in TENSOR_CORE_CAPABILITIES:
        return (
            f"{device} has no 1-bit tensor cores: products run on int8 tensor cores, few rows by "
            "popcount."
        )
    return (
        f"{device} has 1-bit tensor cores: products of up to {TENSOR_CORE_PASSES} pairs of bit "
        "planes run on them, wider ones on int8 tensor cores, few rows by popcount."
    )


def require_supported(capability: int) -> None:
    """Check that the kernels run on a device.

    Raises:
        TypeError: `capability` is no int.
        ValueError: The device is too old.
    """
    require_int("capability", capability, 0)
    if capability < LOWEST_CAPABILITY:
        raise ValueError(
            f"The GPU kernels need compute capability {LOWEST_CAPABILITY / 10} or higher, but "
            f"this device has {capability / 10}. On the CPU bitfront.kernels.cpu computes the same."
        )
