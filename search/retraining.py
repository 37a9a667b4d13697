"""Training the members of a front again, from scratch, with several seeds, in parallel.

A search picks by the validation accuracy of one training, so its winners are lucky ones. What is
reported of a member is the mean and the spread over new seeds, on the test split, which no decision
has ever read. The weights that are kept, for export, are those of the best *validation* accuracy.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from bitfront.search.cluster import train_all
from bitfront.search.config import SearchConfig
from bitfront.search.driving import WATCH_S, Ledger, LoadedData, driving, load_task
from bitfront.search.front import Front, front_of
from bitfront.search.progress import Pace, Progress, Training, Watch, unwatched
from bitfront.search.record import (
    CurvePoint,
    Retraining,
    StudyRecord,
    TrialPoint,
    TrialRecord,
    TrialState,
)
from bitfront.search.retrained import Retrained, best_run, retrained
from bitfront.search.runs import RunFolder, run_folder
from bitfront.search.searching import ENDED
from bitfront.search.stopping import Signals, Stop, StopReason
from bitfront.search.store import Store, open_store
from bitfront.search.worker import Job
from bitfront.spaces.errors import InvalidValue

_log = logging.getLogger(__name__)
SEEDS: Final = (1, 2, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainResult:
    """How a retraining ended.

    Attributes:
        members: What is retrained by now, in the order of the front.
        failures: Why trainings failed, by (trial, seed).
        reason: Why it ended early; None if it ended by itself.
        message: One sentence for the user.
        seconds: Of this run.
        energy_kwh: That this run used on this machine.
    """

    members: tuple[Retrained, ...]
    failures: Mapping[tuple[int, int], str]
    reason: StopReason | None
    message: str
    seconds: float
    energy_kwh: float


def retrain_front(
    config: SearchConfig,
    *,
    seeds: Sequence[int] = SEEDS,
    trials: Sequence[int] | None = None,
    progress: Watch = unwatched,
    stop: Stop | None = None,
) -> RetrainResult:
    """Train every member of a study's front with every seed, unless the store has that already.

    Args:
        config: From ``study.resolve``, for a study that exists.
        seeds: Distinct.
        trials: Only these members; None means all.
        progress: Told a few times per second how it stands.
        stop: Ends the run from outside; SIGINT and SIGTERM set it too.

    Raises:
        InvalidValue: If a trial is not on the front, or seeds are not distinct or negative.
        StoreError: If the store cannot be used or lacks the study; ``StudyBusy`` if a driver is at
            work.
        ClusterError: If Ray cannot be used.
    """
    if not seeds or len(set(seeds)) != len(seeds) or min(seeds) < 0:
        raise InvalidValue(f"seeds must be distinct numbers from 0, but are {list(seeds)}.")
    began = time.monotonic()
    stop = stop or Stop(config.time_budget_s)
    with ExitStack() as stack:
        stack.enter_context(Signals(stop).caught())
        store = stack.enter_context(open_store(config.store, create=False))
        study = store.load_study(config.name)
        config.require_same_study(study.config)
        stack.enter_context(driving(store, study, stop))
        points = store.points(study.id, states=[TrialState.COMPLETE])
        front = front_of(points, study.objectives, study.reference_point)
        chosen = _chosen(front, trials)
        data = load_task(config)
        if data.digest != study.dataset_digest:
            raise InvalidValue(
                f"The data set {study.dataset!r} has changed since the search: its digest was "
                f"{study.dataset_digest[:12]} and is {data.digest[:12]} now."
            )
        folder = run_folder(config, study)
        stack.enter_context(folder.logged())
        ledger = Ledger(store, study, config, stop)
        run = RetrainRun(store, study, config, data, folder, ledger, progress, front)
        run.plan([store.trial(study.id, member.number) for member in chosen], seeds)
        if not run.is_over and not stop.is_set:
            with ledger.running():
                train_all(run, config, folder, stop)
        message = run.message(stop.reason)
        run.tell("ending", message)
        return RetrainResult(
            members=tuple(retrained(store, study, chosen)),
            failures=run.failures,
            reason=None if run.is_done else stop.reason,
            message=message,
            seconds=time.monotonic() - began,
            energy_kwh=ledger.run_kwh,
        )


def _chosen(front: Front, trials: Sequence[int] | None) -> list[TrialPoint]:
    members = {member.number: member for member in front.members}
    for number in trials or ():
        if number not in members:
            shown = ", ".join(map(str, sorted(members))) or "none"
            raise InvalidValue(
                f"Trial {number} is not on the front; its members are the trials {shown}."
            )
    return [m for m in front.members if trials is None or m.number in trials]


class RetrainRun:
    """Hands out (trial, seed) pairs as jobs; a ``Source`` for ``cluster.run_jobs``.

    Attributes:
        device: Where trainings run: "auto" or "cpu".
        failures: Why trainings failed, by (trial, seed).
    """

    def __init__(
        self,
        store: Store,
        study: StudyRecord,
        config: SearchConfig,
        data: LoadedData,
        folder: RunFolder,
        ledger: Ledger,
        watch: Watch,
        front: Front,
    ) -> None:
        self._store = store
        self._study = study
        self._config = config
        self._data = data
        self._folder = folder
        self._ledger = ledger
        self._watch = watch
        self._front = front
        self._counts = store.counts()[study.id]
        self._queue: deque[tuple[TrialRecord, int]] = deque()
        self._live: dict[str, Training] = {}
        self._epochs: dict[str, int] = {}
        self._done = self._target = 0
        self._pace = Pace()
        self._began = time.monotonic()
        self._told_at = 0.0
        self.device = "cpu"
        self.failures: dict[tuple[int, int], str] = {}

    def plan(self, trials: Sequence[TrialRecord], seeds: Sequence[int]) -> None:
        """Queue what the store does not have."""
        known = {(run.trial, run.seed) for run in self._store.retrainings(self._study.id)}
        pairs = [(trial, seed) for trial in trials for seed in seeds]
        self._target = len(pairs)
        self._queue.extend(pair for pair in pairs if (pair[0].number, pair[1]) not in known)
        self._done = self._target - len(self._queue)

    @property
    def is_over(self) -> bool:
        """Whether nothing is queued or under way."""
        return not self._queue and not self._live

    @property
    def is_done(self) -> bool:
        """Whether all pairs are in the store."""
        return self._done >= self._target

    def begin(self) -> None:
        """The workers are ready."""
        self._pace = Pace(started_at=time.monotonic())
        self.tell("retraining")

    def next_job(self) -> Job | None:
        """The next pair as a job."""
        if not self._queue:
            return None
        trial, seed = self._queue.popleft()
        directory = self._folder.retraining(trial.number, seed)
        key = _account(trial.number, seed)
        self._live[key] = Training(
            trial=trial.number, epoch=0, epochs=trial.full_fidelity, seed=seed
        )
        return Job(
            key=key,
            name=directory.name,
            candidate=trial.candidate_json or "",
            epochs=trial.full_fidelity,
            seed=seed,
            dataset=self._config.dataset,
            data_dir=str(Path(self._config.data_dir).expanduser().absolute()),
            data_digest=self._data.digest,
            device=self.device,
            threads=self._config.threads,
            directory=str(directory.absolute()),
            is_tested=True,
        )

    def started(self, job: Job, report: Mapping[str, Any]) -> None:
        """A worker began."""
        self._ledger.begin(job.key, report)

    def progressed(self, job: Job, points: list[CurvePoint], checkpoint: str | None) -> None:
        """Note how far it is; nothing of it is stored before the end."""
        if checkpoint is not None:
            self._folder.require(checkpoint)
        last = points[-1]
        self._live[job.key] = replace(
            self._live[job.key], epoch=last.epoch, accuracy=last.validation_accuracy
        )
        self._pace.epochs += len(points)

    def should_stop(self, job: Job, points: list[CurvePoint]) -> bool:
        """Never: a retraining is for the record."""
        return False

    def succeeded(self, job: Job, report: Mapping[str, Any]) -> None:
        """Store the accuracies; of a trial's seeds only the best one's weights are kept."""
        training = self._end(job)
        number = training.trial
        self._store.add_retraining(
            self._study.id,
            Retraining(
                trial=number,
                seed=job.seed,
                epochs=job.epochs,
                validation_accuracy=float(report["validation_accuracy"]),
                test_accuracy=float(report["test_accuracy"]),
                created_at=time.time(),
                checkpoint=job.directory,
            ),
        )
        self._done += 1
        runs = [run for run in self._store.retrainings(self._study.id) if run.trial == number]
        best = best_run(runs)
        for run in runs:
            if run.seed != best.seed and run.checkpoint is not None:
                self._store.add_retraining(self._study.id, replace(run, checkpoint=None))
                self._folder.collect(run.checkpoint)
        _log.info("Trial %d is retrained with seed %d.", number, job.seed)

    def stopped(self, job: Job, epoch: int) -> None:
        """Never happens."""
        self.failed(job, "It was stopped.")

    def failed(self, job: Job, reason: str) -> None:
        """Note why, and go on with the others."""
        training = self._end(job)
        self.failures[training.trial, job.seed] = reason
        self._folder.collect(job.directory)
        _log.warning("Retraining of trial %d, seed %d: %s", training.trial, job.seed, reason)

    def tick(self) -> None:
        """Book energy, and tell the watcher now and then."""
        self._ledger.tick()
        if time.monotonic() - self._told_at >= WATCH_S:
            self.tell("retraining")

    def message(self, reason: StopReason | None) -> str:
        """One sentence on how it ended."""
        done = f"{self._done} of {self._target} retrainings are finished"
        if reason is not None and not self.is_done:
            return f"{ENDED[reason]}: {done}; the same command goes on from there."
        if self.failures:
            (trial, seed), text = next(iter(self.failures.items()))
            return f"{done}, {len(self.failures)} failed; trial {trial}, seed {seed}: {text}"
        return f"{done}."

    def tell(self, phase: str, message: str = "") -> None:
        """Tell the watcher how it stands."""
        now = time.monotonic()
        self._told_at = now
        trainings = tuple(self._live.values())
        left = sum(t.epochs - t.epoch for t in trainings)
        left += sum(trial.full_fidelity for trial, _ in self._queue)
        self._watch(
            Progress(
                study=self._study.name,
                phase=phase,
                done=self._done,
                target=self._target,
                counts=self._counts,
                trainings=trainings,
                front=self._front,
                seconds=now - self._began,
                eta_s=self._pace.eta_s(now, left),
                energy_kwh=self._ledger.run_kwh,
                message=message,
            )
        )

    def _end(self, job: Job) -> Training:
        energy = self._ledger.end(job.key)
        if energy:
            self._store.add_energy(self._study.id, energy)
        return self._live.pop(job.key)


def _account(trial: int, seed: int) -> str:
    """Name of the energy account of a retraining; the search's own trials keep theirs."""
    return f"retraining/{trial}/{seed}"
