"""Latency in a search: layers timed when they are new, kept in SQL, trainings held meanwhile."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch

from bitfront.evaluators.latency import (
    Latency,
    LatencySetting,
    LayerTable,
    LayerTime,
    layers_of,
    measure,
    write_table,
)
from bitfront.evaluators.latency.cuda import setting_of
from bitfront.evaluators.measurement import Measurement
from bitfront.search import engine as engine_module
from bitfront.search import reference
from bitfront.search.config import SearchConfig, read_settings
from bitfront.search.front import front_of
from bitfront.search.holding import held
from bitfront.search.layers import (
    latency_pairs,
    layer_source,
    measure_front,
    measured_latency,
    recorded_layers,
    require_same_place,
)
from bitfront.search.record import TrialState
from bitfront.search.stopping import Interrupted, Stop, StopReason
from bitfront.search.store import StudyBusy, open_store
from bitfront.spaces import RandomChoose, spaces
from bitfront.spaces.errors import InvalidValue

_spec = importlib.util.spec_from_file_location("toy", Path(__file__).with_name("toy.py"))
toy = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(toy)
SETTING = LatencySetting(device="cpu", machine="m", kernels="avx2", versions="torch 2")
TIME = Latency(0.5, 0.4, 0.6, 0.3, 20, 1)


@pytest.fixture
def few_samples(monkeypatch):
    """A reference of four candidates: these tests time real layers."""
    monkeypatch.setattr(reference, "SAMPLES", 4)


@pytest.fixture
def make(store, few_samples):
    def build(**settings):
        given = {"sampler": "random", "objectives": ["accuracy", "latency"], **settings}
        return toy.ToyStudy(store, **given)

    return build


# SQL


def test_times_are_read_back_from_sql(store):
    times = [LayerTime(f'{{"n":{n}}}', TIME._replace(redone=n % 3), float(n)) for n in range(900)]
    assert len(store.layer_table(SETTING)) == 0
    assert store.layer_tables() == ()
    store.add_layer_times(SETTING, times)
    assert list(store.layer_table(SETTING)) == times
    newer = LayerTime(times[3].layer, TIME._replace(median_ms=9.0), 1e4)
    store.add_layer_times(SETTING, [newer])
    table = store.layer_table(SETTING)
    assert (len(table), table[newer.layer]) == (900, newer)
    other = LatencySetting(device="cpu", machine="n", kernels="avx2", versions="torch 2")
    store.add_layer_times(other, times[:1])
    assert [(t.setting, len(t)) for t in store.layer_tables()] == [(SETTING, 900), (other, 1)]


def test_drivers_add_to_one_table_at_the_same_time(store, store_url):
    def add(n):
        with open_store(store_url, create=False) as own:
            for k in range(5):
                own.add_layer_times(
                    SETTING, [LayerTime(f'{{"n":{i}}}', TIME, float(n)) for i in range(k, k + 9)]
                )

    threads = [threading.Thread(target=add, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (table,) = store.layer_tables()
    assert len(table) == 13


# proposals


def test_a_search_times_what_it_has_not_seen_and_keeps_it(make):
    study = make(trials=3)
    source, known = study.layers, len(study.layers.table)
    assert known > 20
    trial = study.engine.propose()
    found = trial.measurement("latency")
    layers = layers_of(trial.candidate.architecture.lower())
    assert found == source.table.latency(layers)
    assert (found.method, found.unit) == ("estimated", "ms")
    stored = study.store.layer_table(source.table.setting)
    assert not stored.missing(layers)
    # what is known is not timed again
    timed = source.timed
    assert source.ensure(trial.candidate.architecture)
    assert source.timed == timed
    again = layer_source(study.config, study.store)
    assert list(again.table) == list(stored)


def test_an_interruption_before_the_study_is_one_sentence(make):
    study = make()
    with pytest.raises(Interrupted, match="the same command goes on from there") as error:
        reference.worst_costs(study.config, study.task, study.layers, keep_on=lambda: False)
    assert error.value.exit_status == 1


def test_the_reference_is_beyond_the_sampled_latencies(make):
    study = make()
    table, task = study.layers.table, study.task
    sampled = []
    for index in range(4):
        choose = RandomChoose(f"0:reference:{index}")
        graph = spaces["melius"](choose, task).architecture.lower()
        sampled.append(table.latency(layers_of(graph)).value)
    assert study.study.reference_point["latency"] == pytest.approx(1.1 * max(sampled))


def test_a_bound_on_the_latency(make):
    study = make(constraints=["latency<=1e-6"], trials=2)
    monkey = engine_module.MAX_REFUSED
    try:
        engine_module.MAX_REFUSED = 3
        assert study.engine.propose() is None
        assert "latency<=1e-06 cannot be met" in study.engine.verdict()[1]
        assert "ms" in study.engine.verdict()[1]
    finally:
        engine_module.MAX_REFUSED = monkey


def test_energy_and_latency_together(make):
    study = make(objectives=["accuracy", "energy", "latency"], trials=1)
    trial = study.engine.propose()
    assert trial.value("energy") > 0
    assert trial.value("latency") > 0
    assert study.study.reference_point.keys() == {"accuracy", "energy", "latency"}


def test_searches_without_latency_time_nothing(make, store):
    study = make(objectives=["accuracy", "energy"])
    assert study.layers is None
    assert study.engine.propose().measurement("latency") is None
    assert store.layer_tables() == ()


# a GPU


def test_a_gpu_that_is_not_there_is_refused_before_a_study_is(make, store, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InvalidValue, match="needs a CUDA device"):
        make(latency="cuda")
    assert store.list_studies() == ()
    config = read_settings(None, {"objectives": "accuracy,latency", "latency": "cuda"})
    with pytest.raises(InvalidValue, match="needs a CUDA device"):
        recorded_layers(SearchConfig.resolve(config))
    # who does not ask for a latency needs none
    config["objectives"] = ["accuracy", "energy"]
    assert recorded_layers(SearchConfig.resolve(config)) is None


def test_layers_are_timed_on_the_device_that_is_named(store, monkeypatch):
    """Where and which; nothing is timed here."""
    gpu = setting_of("A GPU", (9, 0), {"torch": "2"})
    monkeypatch.setattr(measure, "setting_here", {"cpu": SETTING, "cuda": gpu}.__getitem__)
    store.add_layer_times(gpu, [LayerTime('{"n":0}', TIME, 0.0)])
    for device, setting, known in (("cuda", gpu, 1), ("cpu", SETTING, 0)):
        config = SearchConfig(objectives=("accuracy", "latency"), latency=device)
        assert recorded_layers(config) is None
        table = layer_source(config, store).table
        assert (table.setting, len(table)) == (setting, known)


# a table of elsewhere


@pytest.fixture
def recorded(tmp_path):
    """The file of a table with the layers of some candidates."""

    def write(study, numbers):
        path = tmp_path / "t.latency.json"
        times = [
            LayerTime(layer, TIME, 0.0)
            for number in numbers
            for layer in layers_of(
                spaces["melius"](RandomChoose(number), study.task).architecture.lower()
            )
        ]
        write_table(LayerTable(SETTING, times), path)
        return str(path)

    return write


def test_a_table_of_elsewhere_is_used_and_never_stretched(make, recorded, monkeypatch):
    from bitfront.spaces import Candidate

    study = make(objectives=["accuracy", "energy"])
    path = recorded(study, range(4))

    def space(choose, task) -> Candidate:
        return spaces["melius"](RandomChoose(choose.option("which", range(8))), task)

    monkeypatch.setitem(spaces._things, "small", space)
    found = make(study="other", space="small", latency=path, trials=30)
    seen = set()
    while len(seen) < 2:
        trial = found.engine._ask()
        seen.add(trial.state if trial.state is TrialState.INFEASIBLE else "known")
        number = trial.decisions["which"]
        if trial.state is TrialState.INFEASIBLE:
            assert number >= 4
            assert "has no time for" in trial.error
            assert trial.constraints == {"layer table": 1.0}
        else:
            layers = layers_of(trial.candidate.architecture.lower())
            assert trial.value("latency") == pytest.approx(0.5 * len(layers))
            assert trial.measurement("latency").hardware == "m, avx2, 1 thread, batch 1"
    assert found.store.layer_tables() == ()
    assert found.layers.whole(None) is None


def test_a_table_that_fits_nothing_is_refused(make, recorded):
    study = make(objectives=["accuracy", "energy"])
    with pytest.raises(InvalidValue, match="has no time for"):
        make(study="other", latency=recorded(study, []))
    with pytest.raises(InvalidValue, match="is 'no-such-table'"):
        make(study="third", latency="no-such-table")


# other machines, other studies


def test_latencies_of_another_machine_are_not_compared(make):
    study = make(trials=1)
    trial = study.engine.propose()
    points = study.store.points(study.study.id)
    require_same_place(study.layers, study.study, points)
    table = LayerTable(SETTING)
    study.layers.table = table
    place = re.escape(trial.measurement("latency").hardware)
    with pytest.raises(InvalidValue, match=f"has latencies of {place}, but this is m, avx2"):
        require_same_place(study.layers, study.study, points)


def test_nothing_is_timed_beside_another_study(make, store):
    first = make(objectives=["accuracy", "energy"])
    lease = store.acquire_lease(first.study.id)
    with pytest.raises(StudyBusy, match="while the study 'digits-melius' trains"):
        make(study="second")
    store.release_lease(lease)
    assert make(study="second").layers is not None


# the front, end to end


def test_the_front_is_timed_end_to_end_once(make):
    study = make(trials=3)
    for _ in range(3):
        number = study.engine.propose().number
        study.train(number)
    stop = Stop()
    assert measure_front(study.store, study.study, study.engine.front, study.layers, stop) == len(
        study.engine.front.members
    )
    points = study.store.points(study.study.id, states=[TrialState.COMPLETE])
    front = front_of(points, study.study.objectives, study.study.reference_point)
    assert {m.number for m in front.members} == {m.number for m in study.engine.front.members}
    for member in front.members:
        assert member.measurement("latency").method == "estimated"
        assert measured_latency(member).value > 0
    assert len(latency_pairs(front.members)) == len(front.members)
    assert measure_front(study.store, study.study, front, study.layers, stop) == 0
    stop.set(StopReason.SIGNAL)
    assert measure_front(study.store, study.study, study.engine.front, study.layers, stop) == 0


def test_pairs_need_both_kinds():
    def point(*measurements):
        trial = type("Point", (), {"measurements": measurements})()
        trial.measurement = lambda name: next(iter(measurements), None)
        return trial

    def latency(method, value):
        return Measurement(objective="latency", value=value, unit="ms", method=method)

    both = point(latency("estimated", 1.0), latency("measured", 2.0))
    assert latency_pairs([point(latency("estimated", 1.0)), both, point()]) == [(1.0, 2.0)]


# holding


@pytest.fixture
def worker(tmp_path):
    """A process that looks like a worker of Ray and is busy."""
    script = tmp_path / "default_worker.py"
    script.write_text("while True: pass\n")
    with subprocess.Popen([sys.executable, str(script)]) as process:
        yield psutil.Process(process.pid)
        process.kill()


def await_status(process, stopped):
    deadline = time.monotonic() + 10
    while (process.status() == psutil.STATUS_STOPPED) != stopped:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_trainings_are_held_and_go_on(worker):
    with held() as count:
        assert count == 1
        assert worker.status() == psutil.STATUS_STOPPED
        before = worker.cpu_times().user
        time.sleep(0.1)
        assert worker.cpu_times().user == before
    await_status(worker, stopped=False)
    with pytest.raises(ValueError, match="inside"), held():
        raise ValueError("inside")
    await_status(worker, stopped=False)


def test_processes_that_were_reported_are_held_too(tmp_path):
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        with held([process.pid, 2**22 + 1]) as count:
            assert count == 1
            assert psutil.Process(process.pid).status() == psutil.STATUS_STOPPED
        await_status(psutil.Process(process.pid), stopped=False)
        process.kill()
    with held() as count:
        assert count == 0


def test_a_killed_driver_leaves_nobody_held(tmp_path, worker):
    code = (
        "import sys, time\n"
        "from bitfront.search.holding import held\n"
        f"with held([{worker.pid}]):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as driver:
        assert driver.stdout.readline() == b"held\n"
        assert worker.status() == psutil.STATUS_STOPPED
        os.kill(driver.pid, signal.SIGKILL)
    await_status(worker, stopped=False)


def test_the_latency_of_a_study_is_kept(make, store):
    study = make()
    with pytest.raises(InvalidValue, match="has latency 'cpu', but got 'x.json'"):
        study.config.resolve({**study.config.json(), "latency": "x.json"}, study.study.config)
    # a study of an earlier bitfront has no such setting
    older = {k: v for k, v in study.study.config.items() if k != "latency"}
    assert study.config.resolve({"study": study.config.name}, older).latency == "cpu"
