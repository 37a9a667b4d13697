"""Shares of a machine, Ray's environment, run folders, and the flag that ends a run."""

import os
import signal
import sys
import threading
import time
from dataclasses import replace

import pytest

from bitfront.search import cluster
from bitfront.search.cluster import ClusterError, _capacity, _environment
from bitfront.search.config import SearchConfig
from bitfront.search.record import StudyObjective, StudyRecord
from bitfront.search.runs import RunFolder, run_folder
from bitfront.search.stopping import Signals, Stop, StopReason
from bitfront.spaces.errors import InvalidValue

STUDY = StudyRecord(
    id=3,
    name="x",
    config={},
    objectives=(StudyObjective(name="accuracy", unit="fraction", direction="maximize"),),
    reference_point={"accuracy": 0.0},
    dataset="digits",
    dataset_digest="d" * 64,
    seed=0,
    created_at=0.0,
)


@pytest.mark.parametrize(
    ("cpus", "gpus", "settings", "slots", "each"),
    [
        (8, 0, {}, 8, 0.0),
        (8, 0, {"workers": 3}, 3, 0.0),
        (8, 1, {}, 4, 0.25),
        (8, 1, {"workers": 3}, 3, 0.3333),
        (8, 2, {"workers": 5}, 5, 0.3333),
        (8, 4, {"workers": 2}, 2, 2.0),
        (8, 2, {"gpus_per_trial": 0.5}, 4, 0.5),
        (8, 2, {"gpus_per_trial": 0.5, "workers": 2}, 2, 0.5),
        (8, 4, {"gpus_per_trial": 2.0}, 2, 2.0),
        (8, 0, {"gpus_per_trial": 0.0}, 8, 0.0),
        (8, 0, {"address": "auto", "threads": 4}, 2, 0.0),
    ],
)
def test_what_ray_has_is_shared_out(cpus, gpus, settings, slots, each):
    found = _capacity({"CPU": cpus, "GPU": gpus}, SearchConfig(**settings))
    assert (found.slots, found.gpus) == (slots, each)
    assert found.device == ("auto" if each else "cpu")


@pytest.mark.parametrize("settings", [{"gpus_per_trial": 1.0}, {"address": "auto", "threads": 9}])
def test_a_training_that_does_not_fit_is_one_sentence(settings):
    with pytest.raises(ClusterError, match=r"One training takes .*, but Ray has 8 CPUs and 0 GPUs"):
        _capacity({"CPU": 8.0}, SearchConfig(**settings))


def test_the_environment_is_set_inside_only_and_the_users_own_stays(monkeypatch):
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    monkeypatch.delenv("RAY_AIR_NEW_OUTPUT", raising=False)
    with _environment(cluster.ENVIRONMENT):
        assert os.environ["RAY_AIR_NEW_OUTPUT"] == "0"
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "1"
    assert "RAY_AIR_NEW_OUTPUT" not in os.environ
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "1"


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(ClusterError, match=r"pip install 'bitfront\[cluster\]'"),
        cluster.started(SearchConfig(), Signals(Stop())),
    ):
        pass


def test_folders_of_killed_drivers_are_swept(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "_short_folder", lambda: str(tmp_path))
    dead = tmp_path / f"{cluster._prefix(2**22 + 1)}x"
    own = tmp_path / f"{cluster._prefix(os.getpid())}x"
    other = tmp_path / "bf-something-else"
    for folder in (dead, own, other):
        folder.mkdir()
    cluster._sweep()
    assert {f.name for f in tmp_path.iterdir()} == {own.name, other.name}


def test_the_package_is_gathered_from_wherever_it_is(tmp_path):
    whole = cluster._package(tmp_path)
    parts = ("__init__.py", "spaces/ops/op.py", "search/worker.py", "evaluators/measurement.py")
    for part in parts:
        assert (whole / part).is_file()


def test_run_files_lie_beside_the_store(tmp_path, monkeypatch):
    config = SearchConfig(store=str(tmp_path / "a.db"))
    assert run_folder(config, STUDY).root == tmp_path / "bitfront-runs" / "a-3"
    moved = replace(config, run_dir=str(tmp_path / "else"))
    assert run_folder(moved, STUDY).root == tmp_path / "else" / "a-3"
    monkeypatch.chdir(tmp_path)
    server = replace(config, store="postgresql://ann@host/bits")
    assert run_folder(server, STUDY).root == tmp_path / "bitfront-runs" / "bits-3"


def test_only_our_own_checkpoints_are_collected(tmp_path):
    folder = RunFolder(tmp_path / "a-3")
    kept, lost = folder.trial(1, 1), folder.trial(2, 1)
    weights = folder.retraining(1, 7)
    stranger = tmp_path / "weights"
    for path in (kept, lost, weights, stranger):
        path.mkdir(parents=True)
    folder.collect(stranger)
    folder.collect(None)
    folder.collect(str(folder.root))
    assert stranger.is_dir()
    assert kept.is_dir()
    folder.sweep([str(kept)])
    assert kept.is_dir()
    assert not lost.exists()
    assert weights.is_dir()
    folder.collect(str(weights))
    assert not weights.exists()
    folder.remove()
    assert not folder.root.exists()


def test_a_folder_that_is_not_shared_is_one_sentence(tmp_path):
    folder = RunFolder(tmp_path / "a-3")
    folder.require(str(tmp_path))
    with pytest.raises(InvalidValue, match="run_dir must be a folder that all of them share"):
        folder.require(str(folder.trial(1, 1)))


@pytest.mark.parametrize(
    ("address", "says"),
    [("127.0.0.1:1", "connection refused"), ("nowhere.invalid:6379", "cannot be joined")],
)
def test_a_cluster_that_is_not_there_is_told_at_once(address, says):
    began = time.monotonic()
    with (
        pytest.raises(ClusterError, match=says),
        cluster.started(SearchConfig(address=address), Signals(Stop())),
    ):
        pass
    assert time.monotonic() - began < 20


def test_the_first_reason_to_stop_stays():
    stop = Stop()
    assert not stop.is_set
    stop.set(StopReason.SIGNAL)
    stop.set(StopReason.ENERGY)
    assert stop.reason is StopReason.SIGNAL


def test_time_runs_out():
    stop = Stop(0.02)
    assert stop.reason is None
    time.sleep(0.03)
    assert stop.reason is StopReason.TIME


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_set_the_flag_and_handlers_come_back(number):
    stop = Stop()
    former = signal.getsignal(number)
    with Signals(stop).caught():
        signal.raise_signal(number)
        signal.raise_signal(number)
        assert stop.reason is StopReason.SIGNAL
    assert signal.getsignal(number) is former


def test_who_insists_is_heard():
    with Signals(Stop()).caught():
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_run_on_another_thread_takes_no_signals():
    seen = []

    def run():
        with Signals(Stop()).caught():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]
