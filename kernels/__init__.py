"""Exact low-bit arithmetic: one bit layout, an integer reference, and the kernels that equal it.

`bitfront.kernels.layout` has the picture of the layout. Importing this package does not load torch:
the layout needs none, and the arithmetic is loaded where one of its names is first used.

    >>> import torch
    >>> from bitfront.kernels import pack, xnor_gemm
    >>> a = pack(torch.tensor([[1.0, -2.0, 0.0]]))
    >>> b = pack(torch.tensor([[3.0, 1.0, 1.0], [-1.0, -1.0, -1.0]]))
    >>> xnor_gemm(a.words, b.words, 3)
    tensor([[ 1, -1]], dtype=torch.int32)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from bitfront.kernels.geometry import Conv2dGeometry, Fill, Pair
from bitfront.kernels.layout import (
    BINARY,
    BIT_ORDER,
    MAX_CODE_BITS,
    MAX_ELEMENTS,
    SIGN_OF_ZERO,
    WORD_BITS,
    CodeFormat,
    Coding,
    PackedBits,
    PackedCodes,
    word_count,
)

if TYPE_CHECKING:
    from bitfront.kernels.packing import (
        pack,
        pack_codes,
        pack_nchw,
        popcount,
        unpack,
        unpack_codes,
    )
    from bitfront.kernels.reference import (
        and_gemm,
        bitserial_conv2d,
        bitserial_gemm,
        xnor_conv2d,
        xnor_gemm,
    )

__all__ = [
    "BINARY",
    "BIT_ORDER",
    "MAX_CODE_BITS",
    "MAX_ELEMENTS",
    "SIGN_OF_ZERO",
    "WORD_BITS",
    "CodeFormat",
    "Coding",
    "Conv2dGeometry",
    "Fill",
    "PackedBits",
    "PackedCodes",
    "Pair",
    "and_gemm",
    "bitserial_conv2d",
    "bitserial_gemm",
    "pack",
    "pack_codes",
    "pack_nchw",
    "popcount",
    "unpack",
    "unpack_codes",
    "word_count",
    "xnor_conv2d",
    "xnor_gemm",
]

_NEED_TORCH = {
    "packing": ("pack", "pack_codes", "pack_nchw", "popcount", "unpack", "unpack_codes"),
    "reference": ("and_gemm", "bitserial_conv2d", "bitserial_gemm", "xnor_conv2d", "xnor_gemm"),
}


def __getattr__(name: str) -> object:
    for module, names in _NEED_TORCH.items():
        if name in names:
            value: object = getattr(import_module(f"{__name__}.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
