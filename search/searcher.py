"""Between Ray Tune and us: a searcher, a scheduler and a callback over one session.

Tune keeps workers, GPUs and retries; what to train next, and what became of it, is ours. Ray's own
adapter for Optuna is not used: it tells trials that were stopped early as complete and cannot pass
constraints.

Facts about Tune 2.60 that shape this file:

* It calls searcher, scheduler and callbacks on the driver's main thread, one at a time.
* ``suggest`` returning None means "not now"; FINISHED is final.
* It pickles all of them at the start, for a restore that is never used: they pickle to nothing.
* A trial that a scheduler stopped and one that ended by itself look the same at the end, so the
  scheduler notes whom it stopped.
* An exception in a searcher is taken for the trial's, one in a callback ends the run with a text of
  Ray's: here the first one is kept, ends the run, and is raised by who started it.
* Stopped by its own means, Tune waits for the epochs under way, five seconds at most. ``Abandoned``
  goes past all its handlers; the end of Ray then ends the workers at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ray.tune import Callback
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from bitfront.search.record import CurvePoint
from bitfront.search.source import Source
from bitfront.search.stopping import Stop, StopReason
from bitfront.search.worker import Job

T = TypeVar("T")


class Session:
    """What the three adapters share during one run.

    Args:
        source: Of the jobs.
        stop: Ends the run.

    Attributes:
        error: The first exception of the source; the run ends with it.
    """

    def __init__(self, source: Source, stop: Stop) -> None:
        self.source = source
        self.stop = stop
        self.error: Exception | None = None
        self.jobs: dict[str, Job] = {}
        self.reports: dict[str, dict[str, Any]] = {}
        self.stopped: dict[str, int] = {}

    def guarded(self, call: Callable[[], T], otherwise: T) -> T:
        """Call the source; keep its exception and end the run."""
        if self.error is not None:
            return otherwise
        try:
            return call()
        except Exception as error:
            self.error = error
            self.stop.set(StopReason.ERROR)
            return otherwise


class Abandoned(BaseException):
    """Leaves Tune's loop; the jobs under way stay RUNNING in the store."""


class _Unpickled:
    """Pickles to nothing, and is its own copy."""

    def __reduce__(self) -> tuple[Any, ...]:
        return object, ()

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self


class JobSearcher(_Unpickled, Searcher):
    """Hands out jobs, and classifies their ends."""

    def __init__(self, session: Session) -> None:
        super().__init__(metric=None, mode=None)
        self._session = session

    def suggest(self, trial_id: str) -> Any:
        """The next job as a configuration, None for "not now", FINISHED for "never again"."""
        session = self._session
        if session.stop.is_set:
            # on "not now" with nothing under way, Tune would wait and ask again for minutes
            return Searcher.FINISHED
        job = session.guarded(session.source.next_job, None)
        if job is not None:
            session.jobs[trial_id] = job
            session.reports[trial_id] = {}
            return dict(job.config())
        return Searcher.FINISHED if session.guarded(self._is_over, True) else None

    def _is_over(self) -> bool:
        return self._session.source.is_over

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Book the end of a job."""
        session = self._session
        job = session.jobs.pop(trial_id, None)
        if job is None:
            return
        report = session.reports.pop(trial_id)
        epoch = int(report.get("epoch", 0))
        stopped = session.stopped.pop(trial_id, None)
        source = session.source

        def book() -> None:
            if "failure" in report:
                source.failed(job, str(report["failure"]))
            elif error:
                source.failed(job, "Its worker died again and again: killed, or out of memory.")
            elif epoch >= job.epochs and (not job.is_tested or "test_accuracy" in report):
                source.succeeded(job, report)
            elif stopped is not None:
                source.stopped(job, epoch)
            else:
                source.failed(job, f"Its training ended after {epoch} of {job.epochs} epochs.")

        session.guarded(book, None)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the store has everything."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, likewise."""


class JobScheduler(_Unpickled, FIFOScheduler):
    """First in, first out; stops what the source gives up."""

    def __init__(self, session: Session) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._session = session

    def on_trial_result(self, controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Let a job go on, or stop it and note that."""
        session = self._session
        job = session.jobs.get(trial.trial_id)
        epoch = int(result.get("epoch", 0))
        if job is None or epoch >= job.epochs:
            return str(TrialScheduler.CONTINUE)
        if session.guarded(lambda: session.source.should_stop(job, _points(result)), False):
            session.stopped[trial.trial_id] = epoch
            return str(TrialScheduler.STOP)
        return str(TrialScheduler.CONTINUE)


class JobCallback(_Unpickled, Callback):
    """Books what jobs report while they run; sees every result, that of a stop included."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Book the epochs and the checkpoint of a job."""
        session = self._session
        job = session.jobs.get(trial.trial_id)
        if job is None:
            return
        session.reports[trial.trial_id].update(result)
        if "pid" in result and "host" in result:
            session.guarded(lambda: session.source.started(job, result), None)
        if result.get("points"):
            session.guarded(
                lambda: session.source.progressed(job, _points(result), result.get("checkpoint")),
                None,
            )

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Let the source look around, about ten times per second.

        Raises:
            Abandoned: If the run shall end.
        """
        self._session.guarded(self._session.source.tick, None)
        if self._session.stop.is_set:
            raise Abandoned


def _points(result: Mapping[str, Any]) -> list[CurvePoint]:
    return [CurvePoint(**point) for point in result.get("points", ())]
