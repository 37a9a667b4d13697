"""The search: which candidate to try next, and the record of what was tried.

Names are loaded when they are first used, so that importing this package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bitfront.search.carbon import carbon_g as carbon_g
    from bitfront.search.front import Front as Front
    from bitfront.search.front import front_of as front_of
    from bitfront.search.front import hypervolume_history as hypervolume_history
    from bitfront.search.front import knee as knee
    from bitfront.search.front import reference_point as reference_point
    from bitfront.search.meter import NodeEnergyMeter as NodeEnergyMeter
    from bitfront.search.pareto import hypervolume as hypervolume
    from bitfront.search.pareto import non_dominated as non_dominated
    from bitfront.search.record import StudyRecord as StudyRecord
    from bitfront.search.record import TrialRecord as TrialRecord
    from bitfront.search.record import TrialState as TrialState
    from bitfront.search.store import Store as Store
    from bitfront.search.store import StoreError as StoreError
    from bitfront.search.store import open_store as open_store

_HOMES = {
    "Front": "front",
    "NodeEnergyMeter": "meter",
    "Store": "store",
    "StoreError": "store",
    "StudyRecord": "record",
    "TrialRecord": "record",
    "TrialState": "record",
    "carbon_g": "carbon",
    "front_of": "front",
    "hypervolume": "pareto",
    "hypervolume_history": "front",
    "knee": "front",
    "non_dominated": "pareto",
    "open_store": "store",
    "reference_point": "front",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
