"""The adapters to Ray Tune, called as Tune calls them; no cluster."""

import pickle
from types import SimpleNamespace

import pytest

pytest.importorskip("ray.tune")

from ray import cloudpickle
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from bitfront.search.searcher import Abandoned, JobCallback, JobScheduler, JobSearcher, Session
from bitfront.search.stopping import Stop, StopReason
from bitfront.search.worker import Job

POINT = {
    "epoch": 1,
    "train_loss": 1.0,
    "validation_loss": 1.0,
    "validation_accuracy": 0.5,
    "seconds": 0.1,
}


def job(number, **changes):
    values = {
        "key": str(number),
        "name": f"{number}-1",
        "candidate": "{}",
        "epochs": 3,
        "seed": 0,
        "dataset": "digits",
        "data_dir": "data",
        "data_digest": "d",
        "device": "cpu",
        "threads": 1,
        "directory": "/x",
    }
    return Job(**{**values, **changes})


class Recorder:
    """A source that notes what it is told."""

    def __init__(self, jobs):
        self.jobs = list(jobs)
        self.told = []
        self.gives_up = False
        self.is_over = False

    def next_job(self):
        return self.jobs.pop(0) if self.jobs else None

    def should_stop(self, job, points):
        self.told.append(("asked", job.key, [p.epoch for p in points]))
        return self.gives_up

    def started(self, job, report):
        self.told.append(("started", job.key, report["pid"]))

    def progressed(self, job, points, checkpoint):
        self.told.append(("progressed", job.key, [p.epoch for p in points], checkpoint))

    def succeeded(self, job, report):
        self.told.append(("succeeded", job.key, report.get("test_accuracy")))

    def stopped(self, job, epoch):
        self.told.append(("stopped", job.key, epoch))

    def failed(self, job, reason):
        self.told.append(("failed", job.key, reason))

    def tick(self):
        self.told.append(("tick",))


class Run:
    """What Tune does with the adapters, in its order."""

    def __init__(self, *jobs):
        self.source = Recorder(jobs)
        self.stop = Stop()
        self.session = Session(self.source, self.stop)
        self.searcher = JobSearcher(self.session)
        self.scheduler = JobScheduler(self.session)
        self.callback = JobCallback(self.session)

    def report(self, name, **result):
        trial = SimpleNamespace(trial_id=name)
        decision = self.scheduler.on_trial_result(None, trial, result)
        self.callback.on_trial_result(0, [], trial, result)
        if decision == TrialScheduler.STOP:
            self.searcher.on_trial_complete(name, {**result, "done": True})
        return decision


def test_a_job_is_handed_out_and_its_end_is_booked():
    run = Run(job(0))
    assert Job.from_config(run.searcher.suggest("a")) == job(0)
    run.report("a", epoch=0, pid=5, host="h")
    run.report("a", epoch=1, points=[POINT], checkpoint="/c")
    run.report("a", epoch=3, points=[{**POINT, "epoch": 2}, {**POINT, "epoch": 3}], checkpoint=None)
    run.searcher.on_trial_complete("a", {"epoch": 3, "done": True})
    told = [entry for entry in run.source.told if entry[0] != "asked"]
    assert told == [
        ("started", "0", 5),
        ("progressed", "0", [1], "/c"),
        ("progressed", "0", [2, 3], None),
        ("succeeded", "0", None),
    ]


def test_none_now_and_never_again_are_told_apart():
    run = Run()
    assert run.searcher.suggest("a") is None
    run.source.is_over = True
    assert run.searcher.suggest("a") == Searcher.FINISHED


def test_an_early_return_is_a_failure():
    run = Run(job(0))
    run.searcher.suggest("a")
    run.report("a", epoch=1, points=[POINT])
    run.searcher.on_trial_complete("a", {"epoch": 1, "done": True})
    assert run.source.told[-1] == ("failed", "0", "Its training ended after 1 of 3 epochs.")


def test_a_return_without_any_report_is_a_failure():
    run = Run(job(0))
    run.searcher.suggest("a")
    run.searcher.on_trial_complete("a", {"done": True})
    assert run.source.told == [("failed", "0", "Its training ended after 0 of 3 epochs.")]


def test_a_reported_failure_has_its_reason():
    run = Run(job(0))
    run.searcher.suggest("a")
    run.report("a", failure="It diverged.")
    run.searcher.on_trial_complete("a", {"failure": "It diverged.", "done": True})
    assert run.source.told[-1] == ("failed", "0", "It diverged.")


def test_a_worker_that_dies_again_and_again_is_a_failure():
    run = Run(job(0))
    run.searcher.suggest("a")
    run.searcher.on_trial_complete("a", None, error=True)
    assert run.source.told[0][:2] == ("failed", "0")
    assert "worker died" in run.source.told[0][2]


def test_what_is_given_up_is_stopped_with_its_epoch():
    run = Run(job(0))
    run.source.gives_up = True
    run.searcher.suggest("a")
    assert run.report("a", epoch=1, points=[POINT]) == TrialScheduler.STOP
    assert run.source.told == [
        ("asked", "0", [1]),
        ("progressed", "0", [1], None),
        ("stopped", "0", 1),
    ]


def test_a_finished_job_is_never_given_up():
    run = Run(job(0))
    run.source.gives_up = True
    run.searcher.suggest("a")
    assert run.report("a", epoch=3) == TrialScheduler.CONTINUE
    run.searcher.on_trial_complete("a", {"epoch": 3, "done": True})
    assert run.source.told == [("succeeded", "0", None)]


def test_a_job_that_shall_be_tested_needs_its_test():
    run = Run(job(0, is_tested=True), job(1, is_tested=True))
    run.searcher.suggest("a")
    run.searcher.suggest("b")
    run.report("a", epoch=3)
    run.searcher.on_trial_complete("a", {"epoch": 3})
    run.report("b", epoch=3)
    run.report("b", epoch=3, test_accuracy=0.75)
    run.searcher.on_trial_complete("b", {"epoch": 3})
    assert [entry[:2] for entry in run.source.told] == [("failed", "0"), ("succeeded", "1")]
    assert run.source.told[-1][2] == 0.75


@pytest.mark.parametrize("where", ["next_job", "succeeded", "progressed", "tick"])
def test_the_sources_exception_ends_the_run_and_is_kept(where):
    run = Run(job(0), job(1))

    def broken(*arguments):
        raise LookupError("gone")

    setattr(run.source, where, broken)
    run.searcher.suggest("a")
    run.report("a", epoch=3, points=[{**POINT, "epoch": 3}])
    run.searcher.on_trial_complete("a", {"epoch": 3})
    with pytest.raises(Abandoned):
        run.callback.on_step_end(0, [])
    assert isinstance(run.session.error, LookupError)
    assert run.stop.reason is StopReason.ERROR
    assert run.searcher.suggest("b") == Searcher.FINISHED


def test_nothing_is_handed_out_once_the_flag_is_set():
    run = Run(job(0))
    run.callback.on_step_end(0, [])
    run.stop.set(StopReason.SIGNAL)
    # "not now" with nothing under way would make Tune wait for minutes
    assert run.searcher.suggest("a") == Searcher.FINISHED
    with pytest.raises(Abandoned):
        run.callback.on_step_end(0, [])
    assert not issubclass(Abandoned, Exception)


def test_adapters_pickle_to_nothing():
    run = Run()
    run.source.connection = lambda: None
    for adapter in (run.searcher, run.scheduler, run.callback):
        assert type(pickle.loads(cloudpickle.dumps(adapter))) is object
    assert run.searcher.save("/nowhere") is None
