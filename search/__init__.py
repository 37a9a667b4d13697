"""The search: which candidate to try next, and the record of what was tried.

Names are loaded when they are first used, so that importing this package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bitfront.search.carbon import carbon_g as carbon_g
    from bitfront.search.config import SearchConfig as SearchConfig
    from bitfront.search.config import read_settings as read_settings
    from bitfront.search.front import Front as Front
    from bitfront.search.front import front_of as front_of
    from bitfront.search.front import hypervolume_history as hypervolume_history
    from bitfront.search.front import knee as knee
    from bitfront.search.front import reference_point as reference_point
    from bitfront.search.meter import NodeEnergyMeter as NodeEnergyMeter
    from bitfront.search.pareto import hypervolume as hypervolume
    from bitfront.search.pareto import non_dominated as non_dominated
    from bitfront.search.progress import Progress as Progress
    from bitfront.search.record import StudyRecord as StudyRecord
    from bitfront.search.record import TrialRecord as TrialRecord
    from bitfront.search.record import TrialState as TrialState
    from bitfront.search.retraining import RetrainResult as RetrainResult
    from bitfront.search.retraining import retrain_front as retrain_front
    from bitfront.search.samplers import samplers as samplers
    from bitfront.search.stopping import Stop as Stop
    from bitfront.search.stopping import StopReason as StopReason
    from bitfront.search.store import Store as Store
    from bitfront.search.store import StoreError as StoreError
    from bitfront.search.store import open_store as open_store
    from bitfront.search.study import StudyResult as StudyResult
    from bitfront.search.study import resolve as resolve
    from bitfront.search.study import run_search as run_search
    from bitfront.search.winner import TrainedTrial as TrainedTrial
    from bitfront.search.winner import trained_trial as trained_trial

_HOMES = {
    "Front": "front",
    "NodeEnergyMeter": "meter",
    "Progress": "progress",
    "RetrainResult": "retraining",
    "SearchConfig": "config",
    "Stop": "stopping",
    "StopReason": "stopping",
    "Store": "store",
    "StoreError": "store",
    "StudyRecord": "record",
    "StudyResult": "study",
    "TrainedTrial": "winner",
    "TrialRecord": "record",
    "TrialState": "record",
    "carbon_g": "carbon",
    "front_of": "front",
    "hypervolume": "pareto",
    "hypervolume_history": "front",
    "knee": "front",
    "non_dominated": "pareto",
    "open_store": "store",
    "read_settings": "config",
    "reference_point": "front",
    "resolve": "study",
    "retrain_front": "retraining",
    "run_search": "study",
    "samplers": "samplers",
    "trained_trial": "winner",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
