"""What becomes of a search whose driver is killed, interrupted, or started twice."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

pytest.importorskip("ray.tune")

from bitfront.search.record import StudyState, TrialState
from bitfront.search.store import StudyBusy, open_store
from bitfront.search.study import resolve, run_search

pytestmark = pytest.mark.slow
TRIALS = 5
EPOCHS = 4
DRIVER = """
import json, sys
from bitfront.search.study import resolve, run_search
if __name__ == "__main__":
    result = run_search(resolve(json.loads(sys.argv[1])))
    print(result.message)
"""
PATIENCE_S = 90


@pytest.fixture
def settings(tmp_path):
    return {
        "store": str(tmp_path / "a.db"),
        "study": "s",
        "trials": TRIALS,
        "epochs": EPOCHS,
        "workers": 2,
        "constraints": ["ops<=120000"],
        "data_dir": str(tmp_path),
    }


@pytest.fixture
def start(settings, tmp_path):
    """Start the same command in a process group of its own, as a shell does."""
    import json

    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    started = []

    def run():
        process = subprocess.Popen(
            [sys.executable, str(script), json.dumps(settings)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def rows(settings):
    with open_store(settings["store"], create=False, read_only=True) as store:
        studies = store.list_studies()
        return (studies[0], store.trials(studies[0].id)) if studies else (None, ())


def wait_for(condition, process):
    """Wait until the stored trials are as wanted, while the driver lives."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"The driver ended early:\n{process.stdout.read()}")
        if os.path.exists(condition.settings["store"]):
            study, trials = rows(condition.settings)
            if condition(trials):
                return study, trials
        time.sleep(0.05)
    pytest.fail("The trials never were as wanted.")
    return None


class Done:
    """So many trials complete, and one under way that has a checkpoint."""

    def __init__(self, settings, complete):
        self.settings = settings
        self.complete = complete

    def __call__(self, trials):
        complete = [t for t in trials if t.state is TrialState.COMPLETE]
        return len(complete) >= self.complete and any(
            t.state is TrialState.RUNNING and t.checkpoint and t.fidelity >= 1 for t in trials
        )


def finished_rows(trials):
    return {
        t.number: (t.state, t.candidate_digest, t.curve, t.finished_at, t.value("accuracy"))
        for t in trials
        if t.state is not TrialState.RUNNING
    }


def test_killed_interrupted_and_gone_on_with(settings, start):
    # first run: killed in the middle
    driver = start()
    wait_for(Done(settings, 1), driver)
    with pytest.raises(StudyBusy, match=f"is being searched by process {driver.pid} on"):
        run_search(resolve(settings))
    driver.kill()
    driver.wait()
    study, killed = rows(settings)
    under_way = [t for t in killed if t.state is TrialState.RUNNING]
    assert under_way
    with open_store(settings["store"], create=False, read_only=True) as store:
        assert store.driver(study.id) is None

    # second run, the same command: interrupted as by Ctrl-C, which reaches the whole group
    driver = start()
    count = sum(t.state is TrialState.COMPLETE for t in killed)
    _, trials = wait_for(Done(settings, min(count + 1, TRIALS - 1)), driver)
    again = [t for t in trials if t.number in {u.number for u in under_way}]
    assert all(t.attempt == 2 for t in again)
    family = psutil.Process(driver.pid).children(recursive=True)
    assert len(family) > 3
    began = time.monotonic()
    os.killpg(driver.pid, signal.SIGINT)
    output, _ = driver.communicate(timeout=30)
    seconds = time.monotonic() - began
    assert driver.returncode == 0, output
    assert seconds < 6
    gone, alive = psutil.wait_procs(family, timeout=3)
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]
    _, stopped = rows(settings)
    waiting = [t for t in stopped if t.state is TrialState.RUNNING]
    assert waiting
    done = sum(t.state is TrialState.COMPLETE for t in stopped)
    assert output == (
        f"Interrupted, with {done} of {TRIALS} trials finished and {len(waiting)} under way: the "
        "same command goes on from there.\n"
    )

    # third run, the same command: to the end
    driver = start()
    output, _ = driver.communicate(timeout=PATIENCE_S)
    assert output == f"All {TRIALS} trials are finished.\n"
    study, trials = rows(settings)
    assert study.state is StudyState.FINISHED
    assert [t.number for t in trials] == list(range(len(trials)))
    complete = [t for t in trials if t.state is TrialState.COMPLETE]
    # as many as asked for, none lost, none repeated, none running
    assert len(complete) == TRIALS
    assert len({t.candidate_digest for t in complete}) == TRIALS
    assert not [t for t in trials if t.state is TrialState.RUNNING]
    final = finished_rows(trials)
    for before in (killed, stopped):
        for number, row in finished_rows(before).items():
            assert final[number] == row
    for trial in complete:
        assert [p.epoch for p in trial.curve] == list(range(1, EPOCHS + 1))
    # epochs whose checkpoint was there were not trained again
    for trial in under_way:
        kept = trial.curve[: trial.fidelity]
        now = {p.epoch: p for p in final[trial.number][2]}
        assert sum(now[p.epoch].validation_loss == p.validation_loss for p in kept) == len(kept)


def test_an_interrupt_while_ray_starts_ends_in_order(settings, start):
    driver = start()
    deadline = time.monotonic() + PATIENCE_S
    while not (family := psutil.Process(driver.pid).children(recursive=True)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(driver.pid, signal.SIGINT)
    output, _ = driver.communicate(timeout=40)
    assert driver.returncode == 0, output
    assert output == (
        f"Interrupted, with 0 of {TRIALS} trials finished: the same command goes on from there.\n"
    )
    _, alive = psutil.wait_procs(family, timeout=3)
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]
