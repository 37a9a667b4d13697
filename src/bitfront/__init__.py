"""bitfront: search, cost and ship low-bit neural networks.

>>> import bitfront
>>> entry = bitfront.zoo.get("meliusnet22")
>>> bitfront.count(entry.architecture().lower(), "hpi").params
6944584
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from bitfront.dashboard import create_app
    from bitfront.evaluators.cost import count, estimate_energy, peak_memory_bytes
    from bitfront.evaluators.hardware.profile import load_profile
    from bitfront.evaluators.measurement import Measurement
    from bitfront.evaluators.training import Trainer, load_dataset
    from bitfront.search import SearchConfig, open_store, run_search
    from bitfront.spaces import Architecture, Candidate, Network, Recipe, Task, build, spaces, zoo
    from bitfront.spaces.plan import plan

__version__: Final = "0.1.0"

__all__ = [
    "Architecture",
    "Candidate",
    "Measurement",
    "Network",
    "Recipe",
    "SearchConfig",
    "Task",
    "Trainer",
    "__version__",
    "build",
    "count",
    "create_app",
    "estimate_energy",
    "load_dataset",
    "load_profile",
    "open_store",
    "peak_memory_bytes",
    "plan",
    "run_search",
    "spaces",
    "zoo",
]

# name -> module that has it; importing bitfront itself loads none of them
_HOMES: Final = {
    "bitfront.dashboard": ("create_app",),
    "bitfront.evaluators.cost": ("count", "estimate_energy", "peak_memory_bytes"),
    "bitfront.evaluators.hardware.profile": ("load_profile",),
    "bitfront.evaluators.measurement": ("Measurement",),
    "bitfront.evaluators.training": ("Trainer", "load_dataset"),
    "bitfront.search": ("SearchConfig", "open_store", "run_search"),
    "bitfront.spaces": (
        "Architecture",
        "Candidate",
        "Network",
        "Recipe",
        "Task",
        "build",
        "spaces",
        "zoo",
    ),
    "bitfront.spaces.plan": ("plan",),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
