"""Low-bit products on a GPU by Triton kernels, equal to the reference bit for bit.

The algebra is that of `bitfront.kernels.cpu`, the layout that of `bitfront.kernels.layout`: words
are packed on either device and read on the other. Importing this package loads neither torch nor
Triton; its names are loaded where they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bitfront.kernels.finish import Affine, Finish, Requantise, Threshold
    from bitfront.kernels.gpu.conv import conv2d, gemm
    from bitfront.kernels.gpu.dispatch import Route, route
    from bitfront.kernels.gpu.packing import pack, pack_codes, pack_nchw, regroup
    from bitfront.kernels.gpu.prepare import choose, prepare_product
    from bitfront.kernels.gpu.product import Product
    from bitfront.kernels.gpu.tensor_core_product import TensorCoreProduct
    from bitfront.kernels.gpu.tiles import Tile
    from bitfront.kernels.gpu.weight import GpuWeight, prepare_weight
    from bitfront.kernels.operands import Packed

__all__ = [
    "Affine",
    "Finish",
    "GpuWeight",
    "Packed",
    "Product",
    "Requantise",
    "Route",
    "TensorCoreProduct",
    "Threshold",
    "Tile",
    "choose",
    "conv2d",
    "gemm",
    "pack",
    "pack_codes",
    "pack_nchw",
    "prepare_product",
    "prepare_weight",
    "regroup",
    "route",
]

_MODULES = {
    ".conv": ("conv2d", "gemm"),
    ".dispatch": ("Route", "route"),
    "..finish": ("Affine", "Finish", "Requantise", "Threshold"),
    ".packing": ("pack", "pack_codes", "pack_nchw", "regroup"),
    ".prepare": ("choose", "prepare_product"),
    ".product": ("Product",),
    ".tensor_core_product": ("TensorCoreProduct",),
    ".tiles": ("Tile",),
    ".weight": ("GpuWeight", "Packed", "prepare_weight"),
}


def __getattr__(name: str) -> object:
    for module, names in _MODULES.items():
        if name in names:
            try:
                value: object = getattr(import_module(module, __name__), name)
            except ModuleNotFoundError as missing:
                if missing.name is None or missing.name.partition(".")[0] != "triton":
                    raise
                raise ModuleNotFoundError(
                    f"`{__name__}.{name}` needs Triton, which is not installed: "
                    "pip install 'bitfront[gpu]'.",
                    name="triton",
                ) from None
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
