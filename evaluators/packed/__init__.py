"""Packed inference: a trained network on the bitwise kernels of this CPU.

Which nodes run as one step (`grouping`), where maps lie (`places`) and what may be overwritten
(`overwriting`) follow from the graph alone; torch is loaded when a network is packed.

>>> import torch
>>> from bitfront.evaluators.packed import PackedNetwork
>>> from bitfront.spaces import build, zoo
>>> network = build(zoo.get("meliusnet22").architecture()).eval()
>>> packed = PackedNetwork(network)
>>> packed(torch.zeros(1, 3, 224, 224)).shape
torch.Size([1, 1000])
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from bitfront.evaluators.packed.network import PackedNetwork, StepTime

__all__ = ["PackedNetwork", "StepTime"]

_HOMES: Final = {"network": ("PackedNetwork", "StepTime")}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
