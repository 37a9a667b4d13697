"""One run of a search: from the engine's proposals to jobs, from their reports to the store."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bitfront.evaluators.measurement import Measurement
from bitfront.search.config import SearchConfig
from bitfront.search.driving import WATCH_S, Ledger, LoadedData
from bitfront.search.engine import Engine
from bitfront.search.front import Front
from bitfront.search.layers import LayerSource
from bitfront.search.progress import Pace, Progress, Training, Watch
from bitfront.search.record import (
    CurvePoint,
    StudyRecord,
    StudyState,
    TrialRecord,
    TrialState,
    trial_account,
)
from bitfront.search.runs import RunFolder
from bitfront.search.stopping import Stop, StopReason
from bitfront.search.store import Store
from bitfront.search.store.leases import host_id
from bitfront.search.worker import Job

_log = logging.getLogger(__name__)
ENDED: Final = {
    StopReason.SIGNAL: "Interrupted",
    StopReason.TIME: "The time budget is used up",
    StopReason.ENERGY: "The energy budget is used up",
    StopReason.CARBON: "The carbon budget is used up",
    StopReason.ERROR: "Stopped by an error",
}


@dataclass(slots=True)
class _Live:
    """How far a training under way has come."""

    epoch: int
    epochs: int
    accuracy: float | None


class SearchRun:
    """Hands out the engine's trials as jobs; a ``Source`` for ``cluster.run_jobs``.

    Attributes:
        device: Where trainings run: "auto" or "cpu".
    """

    def __init__(
        self,
        store: Store,
        study: StudyRecord,
        config: SearchConfig,
        data: LoadedData,
        folder: RunFolder,
        ledger: Ledger,
        stop: Stop,
        watch: Watch,
        layers: LayerSource | None = None,
    ) -> None:
        self._store = store
        self._study = study
        self._config = config
        self._data = data
        self._folder = folder
        self._ledger = ledger
        self._stop = stop
        self._watch = watch
        self._engine = Engine(store, study, config, data.task, layers)
        self._layers = layers
        self._pids: dict[int, int] = {}
        self._live: dict[int, _Live] = {}
        self._pace = Pace()
        self._began = time.monotonic()
        self._told_at = 0.0
        self.device = "cpu"
        self._checkpoints = {
            trial.number: trial.checkpoint
            for trial in store.trials(study.id, states=[TrialState.COMPLETE, TrialState.RUNNING])
            if trial.checkpoint is not None
        }
        self._collect()
        folder.sweep(self._checkpoints.values())

    @property
    def front(self) -> Front:
        """Of the study, as it is now."""
        return self._engine.front

    @property
    def counts(self) -> dict[TrialState, int]:
        """Trials by state."""
        return {state: self._engine.counts[state] for state in TrialState}

    @property
    def is_over(self) -> bool:
        """Whether nothing is under way and nothing will be proposed."""
        return self._engine.is_over

    def begin(self) -> None:
        """The workers are ready."""
        self._pace = Pace(started_at=time.monotonic())
        self.tell("searching")

    def next_job(self) -> Job | None:
        """The next trial as a job; None if there is none now."""
        trial = self._engine.propose(lambda: not self._stop.is_set)
        if trial is None:
            return None
        last = trial.curve[-1] if trial.curve else None
        self._live[trial.number] = _Live(
            epoch=0 if last is None else last.epoch,
            epochs=trial.full_fidelity,
            accuracy=None if last is None else last.validation_accuracy,
        )
        directory = self._folder.trial(trial.number, trial.attempt)
        _log.info(
            "Trial %d starts%s.",
            trial.number,
            ""
            if trial.attempt == 1
            else f" again, attempt {trial.attempt}, at epoch {trial.fidelity}",
        )
        return Job(
            key=str(trial.number),
            name=directory.name,
            candidate=trial.candidate_json or "",
            epochs=trial.full_fidelity,
            seed=trial.seed,
            dataset=self._config.dataset,
            data_dir=str(Path(self._config.data_dir).expanduser().absolute()),
            data_digest=self._data.digest,
            device=self.device,
            threads=self._config.threads,
            directory=str(directory.absolute()),
            resume_from=trial.checkpoint,
            known_epochs=trial.fidelity,
        )

    def started(self, job: Job, report: Mapping[str, Any]) -> None:
        """A worker began: from now on its energy is the trial's."""
        self._ledger.begin(trial_account(int(job.key)), report)
        if report["host"] == host_id():
            self._pids[int(job.key)] = int(report["pid"])
            self._tell_layers()

    def progressed(self, job: Job, points: list[CurvePoint], checkpoint: str | None) -> None:
        """Write epochs and the path of a newer checkpoint."""
        number = int(job.key)
        self._store.append_curve(self._study.id, number, points)
        if checkpoint is not None and self._checkpoints.get(number) != checkpoint:
            self._folder.require(checkpoint)
            former = self._checkpoints.get(number)
            self._store.set_checkpoint(self._study.id, number, checkpoint)
            self._checkpoints[number] = checkpoint
            self._folder.collect(former)
        live = self._live[number]
        live.epoch, live.accuracy = points[-1].epoch, points[-1].validation_accuracy
        self._pace.epochs += len(points)

    def should_stop(self, job: Job, points: list[CurvePoint]) -> bool:
        """Never: every trial is trained to its end."""
        return False

    def succeeded(self, job: Job, report: Mapping[str, Any]) -> None:
        """The trial is COMPLETE, with the accuracy of its last epoch."""
        number = int(job.key)
        last = self._store.trial(self._study.id, number).curve[-1]
        accuracy = Measurement(
            objective="accuracy",
            value=last.validation_accuracy,
            unit="fraction",
            method="measured",
            hardware=str(report.get("device", "")),
            versions=f"torch {report['torch']}" if "torch" in report else "",
        )
        trial = self._end(number, TrialState.COMPLETE, measurements=[accuracy])
        _log.info("Trial %d is complete: accuracy %.4f.", number, last.validation_accuracy)
        if trial.checkpoint is not None:
            self._checkpoints[number] = trial.checkpoint
        self._collect()

    def stopped(self, job: Job, epoch: int) -> None:
        """The trial is PRUNED."""
        self._end(int(job.key), TrialState.PRUNED)
        self._collect()

    def failed(self, job: Job, reason: str) -> None:
        """The trial is FAILED."""
        _log.warning("Trial %s failed: %s", job.key, reason)
        self._end(int(job.key), TrialState.FAILED, error=reason)
        self._folder.collect(job.directory)
        self._collect()

    def tick(self) -> None:
        """Book energy, and tell the watcher now and then."""
        self._ledger.tick()
        if time.monotonic() - self._told_at >= WATCH_S:
            self.tell("searching")

    def end(self) -> tuple[StudyState, str]:
        """Where the study stands after this run, and one sentence for the user."""
        state, message = self._engine.verdict()
        reason = self._stop.reason
        if reason is not None and state is StudyState.OPEN:
            waiting = len(self._engine.under_way)
            under_way = f" and {waiting} under way" if waiting else ""
            message = (
                f"{ENDED[reason]}, with {self._engine.counted} of {self._config.trials} trials "
                f"finished{under_way}: the same command goes on from there."
            )
        self.tell("ending", message)
        return state, message

    def tell(self, phase: str, message: str = "") -> None:
        """Tell the watcher how it stands."""
        now = time.monotonic()
        self._told_at = now
        trainings = tuple(
            Training(trial=number, epoch=live.epoch, epochs=live.epochs, accuracy=live.accuracy)
            for number, live in sorted(self._live.items())
        )
        missing = max(0, self._config.trials - self._engine.counted)
        left = missing * self._config.epochs - sum(t.epoch for t in trainings)
        self._watch(
            Progress(
                study=self._study.name,
                phase=phase,
                done=self._engine.counted,
                target=self._config.trials,
                counts=self.counts,
                trainings=trainings,
                front=self.front,
                seconds=now - self._began,
                eta_s=self._pace.eta_s(now, max(0, left)),
                energy_kwh=self._ledger.run_kwh,
                message=message,
            )
        )

    def _end(
        self,
        number: int,
        state: TrialState,
        *,
        measurements: list[Measurement] | None = None,
        error: str = "",
    ) -> TrialRecord:
        energy = self._ledger.end(trial_account(number))
        trial = self._engine.finish(
            number, state, measurements=measurements or [], error=error, energy=energy
        )
        self._live.pop(number, None)
        self._pids.pop(number, None)
        self._tell_layers()
        return trial

    def _tell_layers(self) -> None:
        if self._layers is not None:
            self._layers.trainings = set(self._pids.values())

    def _collect(self) -> None:
        """Remove the checkpoints of all that is neither under way nor on the front."""
        kept = {member.number for member in self._engine.front.members} | self._engine.under_way
        for number in [n for n in self._checkpoints if n not in kept]:
            self._store.set_checkpoint(self._study.id, number, None)
            self._folder.collect(self._checkpoints.pop(number))
