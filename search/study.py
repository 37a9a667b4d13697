"""Searching: create a study or go on with it, train in parallel, keep the front.

Whatever happens to this process, the same call goes on where it ended: every trial is a row before
it is trained, every epoch is in the store, every checkpoint whole. Trials under way when a run ends
early stay RUNNING, with their checkpoint; the next run trains them first.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from bitfront.search.cluster import train_all
from bitfront.search.config import SearchConfig, default_name
from bitfront.search.driving import Ledger, LoadedData, driving, load_task
from bitfront.search.front import Front, front_of, reference_point
from bitfront.search.layers import (
    LayerSource,
    layer_source,
    measure_front,
    recorded_layers,
    require_same_place,
)
from bitfront.search.progress import Progress, Watch, unwatched
from bitfront.search.record import StudyRecord, StudyState, TrialState
from bitfront.search.runs import run_folder
from bitfront.search.searching import SearchRun
from bitfront.search.stopping import Signals, Stop, StopReason
from bitfront.search.store import (
    Store,
    StoreConflict,
    StoreError,
    UnknownRecord,
    masked,
    open_store,
)
from bitfront.search.store.location import locate
from bitfront.spaces.errors import InvalidValue

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyResult:
    """How a run of a search ended.

    Attributes:
        study: As it is stored now.
        front: Of the study.
        counts: Trials by state; every state has a number.
        reason: Why the run ended early; None if it ended by itself.
        message: One sentence for the user.
        seconds: Of this run.
        energy_kwh: That this run used on this machine.
    """

    study: StudyRecord
    front: Front
    counts: Mapping[TrialState, int]
    reason: StopReason | None
    message: str
    seconds: float
    energy_kwh: float

    @property
    def is_finished(self) -> bool:
        """Whether all trials that were asked for are finished."""
        return self.study.state is StudyState.FINISHED


def resolve(settings: Mapping[str, Any]) -> SearchConfig:
    """The configuration that settings mean: for a study that exists, over what it was started with.

    Nothing is written.

    Args:
        settings: From ``read_settings``.

    Raises:
        InvalidValue: If a setting breaks a rule, or differs from what the study keeps.
        StoreError: If there is something at the store's place that cannot be opened.
    """
    study = _find(settings)
    return SearchConfig.resolve(settings, None if study is None else study.config)


def resume_settings(store: str, study: StudyRecord) -> dict[str, Any]:
    """The settings that go on with a study as it was."""
    return {**study.config, "store": store, "study": study.name}


def _find(settings: Mapping[str, Any]) -> StudyRecord | None:
    """The study that settings name, in whatever state they are; None if there is none yet."""
    given = {**SearchConfig().json(), **settings}
    url, study = given["store"], given["study"]
    if not isinstance(url, str) or not isinstance(study, str):
        return None
    path = locate(url).path
    if path is not None and not path.exists():
        return None
    try:
        with open_store(url, create=False, read_only=True) as store:
            return store.load_study(study or default_name(given["dataset"], given["space"]))
    except UnknownRecord:
        return None
    except StoreError:
        if path is not None:
            raise
        # a server without our tables: the run makes them, or says what is wrong
        return None


def run_search(
    config: SearchConfig, *, progress: Watch = unwatched, stop: Stop | None = None
) -> StudyResult:
    """Create a study, or go on with it, until its trials are finished.

    Args:
        config: From ``resolve``.
        progress: Told a few times per second how it stands.
        stop: Ends the run from outside; SIGINT and SIGTERM set it too.

    Returns:
        How it ended; ended early is no error.

    Raises:
        InvalidValue: If the configuration does not fit the data set or the study.
        DataMissing: If the data set is not there.
        StoreError: If the store cannot be used; ``StudyBusy`` if another driver is at work.
        ClusterError: If Ray cannot be used.
    """
    began = time.monotonic()
    stop = stop or Stop(config.time_budget_s)
    data = load_task(config)
    # a table that is not there is refused before a store is made
    recorded = recorded_layers(config)
    with ExitStack() as stack:
        stack.enter_context(Signals(stop).caught())
        store = stack.enter_context(open_store(config.store, create=True))
        layers = layer_source(config, store) if recorded is None else recorded
        if layers is not None:
            progress(_before(config, began))
        study = _open_study(store, config, data, layers, stop)
        require_same_place(layers, study, store.points(study.id))
        stack.enter_context(driving(store, study, stop))
        if study.config != config.stored():
            store.set_study_config(study.id, config.stored())
        folder = run_folder(config, study)
        stack.enter_context(folder.logged())
        _log.info("Searching %r in %s.", study.name, masked(config.store))
        ledger = Ledger(store, study, config, stop)
        run = SearchRun(store, study, config, data, folder, ledger, stop, progress, layers)
        if not run.is_over and not stop.is_set:
            with ledger.running():
                train_all(run, config, folder, stop)
        front = run.front
        if layers is not None:
            run.tell("timing the front")
            measure_front(store, study, front, layers, stop)
            front = front_of(store.points(study.id), study.objectives, study.reference_point)
        state, message = run.end()
        store.set_study_state(study.id, state, message)
        _log.info("%s", message)
        return StudyResult(
            study=store.study(study.id),
            front=front,
            counts=run.counts,
            reason=stop.reason if state is StudyState.OPEN else None,
            message=message,
            seconds=time.monotonic() - began,
            energy_kwh=ledger.run_kwh,
        )


def _open_study(
    store: Store, config: SearchConfig, data: LoadedData, layers: LayerSource | None, stop: Stop
) -> StudyRecord:
    """Load the study, or create it.

    Raises:
        InvalidValue: If it was started with other settings or other data.
    """
    try:
        study = store.load_study(config.name)
    except UnknownRecord:
        try:
            return _create(store, config, data, layers, stop)
        except StoreConflict:
            # another process was faster
            study = store.load_study(config.name)
    config.require_same_study(study.config)
    if study.dataset_digest != data.digest:
        raise InvalidValue(
            f"The study {study.name!r} was started with the data set {study.dataset!r} of digest "
            f"{study.dataset_digest[:12]}, but it is {data.digest[:12]} now: its accuracies could "
            "not be compared; give the new search another study name."
        )
    return study


def _create(
    store: Store, config: SearchConfig, data: LoadedData, layers: LayerSource | None, stop: Stop
) -> StudyRecord:
    from bitfront.search.reference import worst_costs

    objectives = config.study_objectives
    worst = worst_costs(
        config, data.task, layers, keep_on=lambda: stop.reason is not StopReason.SIGNAL
    )
    return store.create_study(
        config.name,
        config=config.stored(),
        objectives=objectives,
        reference_point=reference_point(objectives, worst),
        dataset=data.name,
        dataset_digest=data.digest,
        seed=config.seed,
    )


def _before(config: SearchConfig, began: float) -> Progress:
    """What is told while layers are timed for the reference point of a new study."""
    nothing = Front(
        objectives=config.study_objectives, members=(), reference_point={}, hypervolume=0.0
    )
    return Progress(
        study=config.name,
        phase="timing layers",
        done=0,
        target=config.trials,
        counts=dict.fromkeys(TrialState, 0),
        trainings=(),
        front=nothing,
        seconds=time.monotonic() - began,
    )
