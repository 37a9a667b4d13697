"""A worker's job, run in this process: real trainings of a small network on digits."""

import json
import shutil
from dataclasses import replace

import pytest

from bitfront.evaluators.training import load_dataset
from bitfront.search.worker import Job, _load, reason_of, results, train
from bitfront.spaces import RandomChoose, Replay, Task, spaces
from bitfront.spaces.errors import InvalidValue

SMALL = {
    "stages": 2,
    "stem.channels": 16,
    "shortcut_bits": 8,
    "bits": "mixed",
    "stage0.units": 2,
    "stage1.units": 1,
    "stage0.pattern": "DI",
    "stage1.pattern": "DI",
    "stage0.growth": 8,
    "stage1.growth": 8,
    "stage0.kernel_size": 1,
    "stage1.kernel_size": 1,
    "stage0.reduction": 3.0,
    "learning_rate": 0.01,
    "t_clip": 1.3,
}


@pytest.fixture(scope="module")
def digest():
    return load_dataset("digits", data_dir="data").digest


@pytest.fixture
def make(tmp_path, digest):
    """A factory of jobs."""

    def build(epochs=2, **changes):
        task = Task(input=(1, 8, 8), classes=10, epochs=epochs)
        candidate = spaces["melius"](Replay(SMALL, RandomChoose(0)), task)
        values = {
            "key": "7",
            "name": "00007-1",
            "candidate": json.dumps(candidate.json()),
            "epochs": epochs,
            "seed": 3,
            "dataset": "digits",
            "data_dir": "data",
            "data_digest": digest,
            "device": "cpu",
            "threads": 1,
            "directory": str(tmp_path / "00007-1"),
        }
        return Job(**{**values, **changes})

    return build


def curve(reports):
    return [point for report in reports for point in report.get("points", ())]


def without_seconds(points):
    return [{k: v for k, v in point.items() if k != "seconds"} for point in points]


def test_a_job_travels_as_text(make):
    job = make(resume_from="/x", known_epochs=1, is_tested=True)
    assert Job.from_config(job.config()) == job
    assert list(job.config()) == ["job"]


@pytest.mark.slow
def test_a_job_reports_every_epoch_and_keeps_a_checkpoint(make):
    job = make(epochs=3, is_tested=True)
    first, *between, last = results(job)
    assert first["epoch"] == 0
    assert first["device"] == "cpu"
    assert first["gpus"] == []
    points = curve(between)
    assert [p["epoch"] for p in points] == [1, 2, 3]
    assert between[-1]["checkpoint"] == job.directory
    assert last["epoch"] == 3
    assert last["validation_accuracy"] == points[-1]["validation_accuracy"]
    assert 0.2 < last["test_accuracy"] <= 1


@pytest.mark.slow
def test_a_job_whose_worker_died_goes_on_from_its_checkpoint(make, tmp_path):
    whole = without_seconds(curve(results(make(epochs=3, directory=str(tmp_path / "whole")))))
    job = make(epochs=3)
    dying = results(job)
    while not curve([next(dying)]):
        pass
    dying.close()
    # the same attempt in a new process, which reports what the driver does not know
    first, *rest = results(job)
    assert first["epoch"] >= 1
    assert without_seconds(curve(rest)) == whole
    # another attempt has a folder of its own, and starts from the former one
    again = replace(
        job, directory=str(tmp_path / "00007-2"), resume_from=job.directory, known_epochs=3
    )
    first, *rest = results(again)
    assert first["epoch"] == 3
    assert curve(rest) == []
    assert (tmp_path / "00007-2" / "checkpoint.json").is_file()


@pytest.mark.slow
def test_an_attempt_that_finds_a_damaged_checkpoint_starts_over(make, tmp_path):
    job = make(epochs=1)
    expected = without_seconds(curve(results(job)))
    broken = tmp_path / "broken"
    shutil.copytree(job.directory, broken)
    next(broken.glob("tensors-*")).write_bytes(b"")
    again = replace(job, directory=str(tmp_path / "00007-2"), resume_from=str(broken))
    first, *rest = results(again)
    assert first["epoch"] == 0
    assert without_seconds(curve(rest)) == expected


def test_what_fails_is_reported_not_raised(make, monkeypatch):
    tune = pytest.importorskip("ray.tune")
    reports = []
    monkeypatch.setattr(tune, "report", reports.append)
    train(make(data_digest="0" * 64).config())
    train(make(candidate="{}").config())
    assert [list(report) for report in reports] == [["failure"], ["failure"]]
    assert "as on the driver" in reports[0]["failure"]
    assert reports[1]["failure"] == "candidate lacks the field 'architecture'."


def test_other_data_than_the_drivers_are_refused(make):
    with pytest.raises(InvalidValue, match="as on the driver"):
        next(results(make(data_digest="0" * 64)))


def test_data_are_loaded_once_per_process(make):
    _load.cache_clear()
    job = make()
    next(results(job))
    next(results(job))
    assert _load.cache_info().hits == 1


def test_reasons_are_one_line():
    assert reason_of(InvalidValue("It is so.")) == "It is so."
    try:
        raise RuntimeError("two\nlines")
    except RuntimeError as error:
        reason = reason_of(error)
    assert reason.startswith("RuntimeError: two lines (test_worker.py:")
