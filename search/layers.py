"""Where a search has its layer times from: this machine, or a table that was measured elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import partial
from typing import Final, Protocol

from bitfront.evaluators.hardware.profile import HardwareProfile
from bitfront.evaluators.latency import (
    DEVICES,
    LayerTable,
    MissingLayers,
    find_table,
    layers_of,
)
from bitfront.evaluators.measurement import Measurement
from bitfront.evaluators.objective import cost_measurements
from bitfront.search.config import SearchConfig
from bitfront.search.front import Front
from bitfront.search.holding import held
from bitfront.search.record import StudyRecord, TrialPoint
from bitfront.search.stopping import Stop, StopReason
from bitfront.search.store import Store, StudyBusy
from bitfront.search.store.leases import host_id
from bitfront.spaces.architecture import Architecture
from bitfront.spaces.errors import InvalidValue

_log = logging.getLogger(__name__)
LATENCY: Final = "latency"


class LayerSource(Protocol):
    """What gives the layers of a candidate their times.

    Attributes:
        table: Of the layers that have one.
        trainings: Processes of this machine that are known to train.
    """

    table: LayerTable
    trainings: set[int]

    def ensure(self, architecture: Architecture) -> bool:
        """Time the layers of an architecture that the table lacks; False if that is impossible."""
        ...

    def whole(self, architecture: Architecture) -> Measurement | None:
        """Its latency end to end; None if that cannot be measured here."""
        ...


class RecordedLayers:
    """A table that was measured elsewhere: what it lacks has no latency.

    Args:
        table: As it was read.
    """

    def __init__(self, table: LayerTable) -> None:
        self.table = table
        self.trainings: set[int] = set()

    def ensure(self, architecture: Architecture) -> bool:
        """False: it has what it has."""
        return False

    def whole(self, architecture: Architecture) -> Measurement | None:
        """None: the machine is not this one."""
        return None


class MeasuredLayers:
    """Layers that are timed on this machine when a candidate first has them, and kept in SQL.

    Trainings on this machine are held meanwhile, for tenths of a second, whichever of its devices
    they use.

    Args:
        store: Where the times are kept.
        device: "cpu" or "cuda".

    Attributes:
        timed: Layers that were timed so far.
    """

    def __init__(self, store: Store, device: str = "cpu") -> None:
        # a search of other objectives shall not load torch
        from bitfront.evaluators.latency.measure import setting_here

        self._store = store
        self.trainings: set[int] = set()
        self.table = store.layer_table(setting_here(device))
        self.timed = 0

    def ensure(self, architecture: Architecture) -> bool:
        """Time the layers that the table lacks."""
        from bitfront.evaluators.latency.measure import time_layers

        missing = self.table.missing(layers_of(architecture.lower()))
        if not missing:
            return True
        alone = partial(held, self.trainings)
        times = time_layers(architecture, self.table.setting, set(missing), alone=alone)
        self._store.add_layer_times(self.table.setting, times)
        self.table.add(times)
        self.timed += len(times)
        return True

    def whole(self, architecture: Architecture) -> Measurement:
        """Its latency end to end."""
        from bitfront.evaluators.latency.measure import time_network

        alone = partial(held, self.trainings)
        return time_network(architecture, self.table.setting, alone=alone)


def measured_latency(point: TrialPoint) -> Measurement | None:
    """The latency of a trial end to end; None if it was not timed."""
    found = (m for m in point.measurements if m.objective == LATENCY and m.method == "measured")
    return next(found, None)


def latency_pairs(points: Iterable[TrialPoint]) -> list[tuple[float, float]]:
    """Per trial that has both: its latency by the table, and end to end, in ms."""
    pairs = []
    for point in points:
        summed, whole = point.measurement(LATENCY), measured_latency(point)
        if summed is not None and summed.method == "estimated" and whole is not None:
            pairs.append((summed.value, whole.value))
    return pairs


def costs_of(
    architecture: Architecture, hardware: HardwareProfile | None, source: LayerSource | None
) -> dict[str, Measurement]:
    """`cost_measurements`, with the latency where there is a source; missing layers are timed.

    Raises:
        InfeasibleArchitecture: If the network cannot be lowered.
        MissingLayers: If the source cannot time a layer that it lacks.
    """
    if source is None:
        return cost_measurements(architecture, hardware)
    try:
        return cost_measurements(architecture, hardware, source.table)
    except MissingLayers:
        if not source.ensure(architecture):
            raise
        return cost_measurements(architecture, hardware, source.table)


def recorded_layers(config: SearchConfig) -> RecordedLayers | None:
    """The table that a configuration names; None if it needs none, or times layers here.

    Raises:
        InvalidValue: If there is no such table, or no such device here that can be timed.
    """
    if not config.needs_latency:
        return None
    if config.latency in DEVICES:
        from bitfront.evaluators.latency.measure import setting_here

        setting_here(config.latency)
        return None
    return RecordedLayers(find_table(config.latency))


def layer_source(config: SearchConfig, store: Store) -> LayerSource | None:
    """The source that a configuration names; None if nothing in it needs a latency.

    Raises:
        InvalidValue: If there is no such table, or no such device here that can be timed.
        StudyBusy: If another study trains on this machine, beside which nothing can be timed.
    """
    if not config.needs_latency:
        return None
    recorded = recorded_layers(config)
    if recorded is not None:
        return recorded
    for study in store.list_studies():
        lease = store.driver(study.id) if study.name != config.name else None
        if lease is not None and lease.host_id == host_id():
            raise StudyBusy(
                f"Latencies cannot be measured while the study {study.name!r} trains on this "
                f"machine (process {lease.pid}): wait for it, or name a layer table with --latency."
            )
    return MeasuredLayers(store, config.latency)


def require_same_place(
    source: LayerSource | None, study: StudyRecord, trials: Iterable[TrialPoint]
) -> None:
    """Refuse to compare latencies of different machines.

    Raises:
        InvalidValue: If the study's trials were timed elsewhere.
    """
    if source is None:
        return
    setting = source.table.setting
    for trial in trials:
        known = trial.measurement(LATENCY)
        if known is None:
            continue
        if known.hardware != setting.place:
            raise InvalidValue(
                f"The study {study.name!r} has latencies of {known.hardware}, but this is "
                f"{setting.place}: they cannot be compared; give the new search another study name."
            )
        if known.versions != setting.versions:
            _log.warning(
                "Earlier latencies of this study were measured with %s, these are with %s.",
                known.versions,
                setting.versions,
            )
        return


def measure_front(
    store: Store, study: StudyRecord, front: Front, source: LayerSource, stop: Stop
) -> int:
    """Measure the front's members end to end, those that are not yet; at rest, after the trainings.

    Returns:
        How many were measured.
    """
    done = 0
    for member in front.members:
        if stop.reason in (StopReason.SIGNAL, StopReason.ERROR):
            break
        if measured_latency(member) is not None:
            continue
        candidate = store.trial(study.id, member.number).candidate
        measured = None if candidate is None else source.whole(candidate.architecture)
        if measured is not None:
            store.add_measurements(study.id, member.number, [measured])
            done += 1
    return done
