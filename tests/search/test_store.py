"""The store, on SQLite and on PostgreSQL alike."""

import subprocess
import sys
import threading
import time

import psutil
import pytest
from sqlalchemy import event, update

from bitfront.evaluators.measurement import Measurement
from bitfront.search.record import (
    CurvePoint,
    EnergyEntry,
    ExportRecord,
    Retraining,
    StudyState,
    TrialState,
    trial_account,
)
from bitfront.search.store import (
    LeaseLost,
    StoreConflict,
    StoreError,
    StudyBusy,
    UnknownRecord,
    check,
    open_store,
)
from bitfront.search.store.schema import leases
from bitfront.spaces.errors import InvalidValue

STRANGE_NAMES = [
    "<script>alert('x')</script> & \"quotes\"",
    "Ünïcode ✓ 漢字 🙂",
    "a/b\\c; DROP TABLE studies; --",
    "%s {0} :name ?",
    " leading and trailing ",
    "x" * 200,
]


# studies


@pytest.mark.parametrize("name", STRANGE_NAMES)
def test_names_are_kept_verbatim(store, make_study, name):
    study = make_study(store, name)
    assert store.load_study(name) == study == store.study(study.id)
    assert [s.name for s in store.list_studies()] == [name]


@pytest.mark.parametrize("name", ["", "x" * 201, "a\nb", "a\x00b", "\x7f", "\ud800"])
def test_wrong_names_are_refused(store, make_study, name):
    with pytest.raises(InvalidValue, match="A study name must"):
        make_study(store, name)
    study = make_study(store, "right")
    with pytest.raises(InvalidValue, match="A study name must"):
        store.rename_study(study.id, name)
    assert [s.name for s in store.list_studies()] == ["right"]


def test_a_study_comes_back_as_it_was(store, store_url, make_study):
    config = {"version": 1, "trials": 20, "nested": {"list": [1, 2.5, None, True, "ü\x00"]}}
    study = make_study(store, config=config, seed=2**63 - 1)
    with open_store(store_url, create=False) as again:
        assert again.load_study("first") == study
    assert study.config == config
    assert study.state is StudyState.OPEN


def test_a_name_is_given_once(store, make_study):
    first, second = make_study(store, "one"), make_study(store, "two")
    with pytest.raises(StoreConflict, match="has a study 'one' already"):
        make_study(store, "one")
    with pytest.raises(StoreConflict, match="has a study 'one' already"):
        store.rename_study(second.id, "one")
    assert store.rename_study(first.id, "one").name == "one"
    assert store.rename_study(second.id, "three").id == second.id
    assert [s.name for s in store.list_studies()] == ["one", "three"]


def test_an_unknown_study_is_named_with_the_nearest(store, make_study):
    make_study(store, "digits-nsga")
    with pytest.raises(UnknownRecord, match=r"no study 'digit-nsga'.*Did you mean 'digits-nsga'"):
        store.load_study("digit-nsga")
    for call in (store.study, store.points, store.changes_since, store.energy, store.driver):
        with pytest.raises(UnknownRecord, match="no study of id 99"):
            call(99)
    with pytest.raises(UnknownRecord, match="no study of id 99"):
        store.delete_study(99)


def test_deleting_a_study_leaves_nothing_of_it(store, store_url, make_study, run_trial):
    kept, gone = make_study(store, "kept"), make_study(store, "gone")
    for study in (kept, gone):
        run_trial(store, study.id, 0)
        store.add_energy(study.id, [EnergyEntry(account="overhead", kwh=1.0, method="measured")])
        store.add_retraining(study.id, retraining(0, 1))
        store.add_export(study.id, export(0))
    store.delete_study(gone.id)
    assert [s.name for s in store.list_studies()] == ["kept"]
    assert len(store.trials(kept.id)) == len(store.energy(kept.id)) == 1
    assert check(store_url).problems == ()
    assert check(store_url).trials == 1


def test_the_state_of_a_study(store, make_study):
    study = make_study(store)
    store.set_study_state(study.id, StudyState.EXHAUSTED, "200 proposals were refused in a row.")
    now = store.study(study.id)
    assert (now.state, now.message) == (
        StudyState.EXHAUSTED,
        "200 proposals were refused in a row.",
    )
    assert now.revision > study.revision


# trials


def test_a_trial_comes_back_as_it_was(store, make_study, make_trial):
    study = make_study(store)
    trial = make_trial(0, constraints={"energy": -0.5})
    store.add_trial(study.id, trial)
    back = store.trial(study.id, 0)
    assert back.revision == 1
    for name in trial.__slots__:
        assert getattr(back, name) == getattr(trial, name), name
    assert list(back.decisions) == list(trial.decisions), "the order of the questions is kept"
    assert back.candidate == trial.candidate
    assert back.candidate.digest == back.candidate_digest


def test_a_number_is_given_once(store, make_study, make_trial):
    study, other = make_study(store), make_study(store, "other")
    store.add_trial(study.id, make_trial(0))
    store.add_trial(other.id, make_trial(0))
    with pytest.raises(StoreConflict, match="has a trial 0 already"):
        store.add_trial(study.id, make_trial(0))
    assert len(store.points(study.id)) == 1


def test_finishing_keeps_everything(store, make_study, make_trial):
    study = make_study(store)
    store.add_trial(study.id, make_trial(0, energy=2.5, constraints={"energy": -1.0}))
    store.append_curve(study.id, 0, curve_of(3))
    store.set_checkpoint(study.id, 0, "/runs/0/last")
    done = store.finish_trial(
        study.id,
        0,
        state=TrialState.COMPLETE,
        measurements=[accuracy(0.75)],
        constraints={"accuracy": 0.05},
        attributes={"params": {"a": 1}, "system": {"generation": 3}},
        energy=[EnergyEntry(account=trial_account(0), kwh=0.25, method="measured")],
    )
    assert done == store.trial(study.id, 0)
    assert done.state is TrialState.COMPLETE
    assert (done.fidelity, done.energy_kwh, done.checkpoint) == (3, 0.25, "/runs/0/last")
    assert [m.objective for m in done.measurements] == ["energy", "accuracy"]
    assert (done.value("energy"), done.value("accuracy"), done.value("ops")) == (2.5, 0.75, None)
    assert done.constraints == {"energy": -1.0, "accuracy": 0.05}
    assert not done.is_feasible
    assert not done.is_eligible
    assert done.attributes == {"params": {"a": 1}, "system": {"generation": 3}}
    assert done.finished_at >= done.started_at
    assert [p.epoch for p in done.curve] == [1, 2, 3]
    assert store.energy(study.id) == (EnergyEntry(account="trial/0", kwh=0.25, method="measured"),)


def test_a_trial_is_finished_once(store, make_study, run_trial):
    study = make_study(store)
    before = run_trial(store, study.id, 0)
    for state in (TrialState.COMPLETE, TrialState.FAILED):
        with pytest.raises(StoreConflict, match="Trial 0 is COMPLETE and cannot be finished"):
            store.finish_trial(study.id, 0, state=state)
    with pytest.raises(StoreConflict, match="cannot be queued again"):
        store.requeue(study.id, 0)
    assert store.trial(study.id, 0) == before


def test_complete_means_fully_trained_and_measured(store, make_study, make_trial):
    study = make_study(store)
    store.add_trial(study.id, make_trial(0))
    store.append_curve(study.id, 0, curve_of(2))
    before = store.trial(study.id, 0)
    with pytest.raises(StoreConflict, match="has every objective and 3 epochs"):
        store.finish_trial(study.id, 0, state=TrialState.COMPLETE, measurements=[accuracy(0.5)])
    with pytest.raises(StoreConflict, match="lacks accuracy"):
        store.finish_trial(study.id, 0, state=TrialState.COMPLETE, fidelity=3)
    for state in (TrialState.RUNNING, TrialState.DUPLICATE):
        with pytest.raises(StoreConflict, match="A trial ends as one of"):
            store.finish_trial(study.id, 0, state=state)
    assert store.trial(study.id, 0) == before, "a refused finish changes nothing"


def test_a_failed_trial_keeps_its_reason_and_its_curve(store, make_study, make_trial):
    study = make_study(store)
    store.add_trial(study.id, make_trial(0))
    store.append_curve(study.id, 0, curve_of(2))
    # neither database takes a NUL or half a surrogate pair; an error's text may hold both
    done = store.finish_trial(study.id, 0, state=TrialState.FAILED, error="loss is nan\x00\ud800 ü")
    assert (done.state, done.fidelity, len(done.curve)) == (TrialState.FAILED, 2, 2)
    assert done.error == "loss is nan\ufffd? ü"


def test_requeueing_raises_the_attempt_only(store, make_study, make_trial):
    study = make_study(store)
    store.add_trial(study.id, make_trial(0))
    store.append_curve(study.id, 0, curve_of(2))
    store.set_checkpoint(study.id, 0, "/runs/0")
    again = store.requeue(study.id, 0)
    assert (again.attempt, again.state, again.checkpoint) == (2, TrialState.RUNNING, "/runs/0")
    assert (again.fidelity, len(again.curve)) == (2, 2)
    store.set_checkpoint(study.id, 0, None)
    assert store.requeue(study.id, 0).attempt == 3
    assert store.trial(study.id, 0).checkpoint is None


def test_an_epoch_trained_again_replaces_the_former(store, make_study, make_trial):
    study = make_study(store)
    store.add_trial(study.id, make_trial(0))
    store.append_curve(study.id, 0, curve_of(3))
    newer = CurvePoint(
        epoch=2, train_loss=9.0, validation_loss=9.0, validation_accuracy=0.9, seconds=9.0
    )
    store.append_curve(study.id, 0, [newer])
    store.append_curve(study.id, 0, [])
    trial = store.trial(study.id, 0)
    assert [p.epoch for p in trial.curve] == [1, 2, 3]
    assert trial.curve[1] == newer
    assert trial.fidelity == 3


def test_measurements_of_one_source_are_replaced(store, make_study, run_trial):
    study = make_study(store)
    run_trial(store, study.id, 0, energy=2.0)
    other = Measurement(
        objective="energy", value=5.0, unit="mJ", method="estimated", hardware="rpi4",
        low=4.0, high=7.5, repeats=3, versions="x 1",
    )  # fmt: skip
    store.add_measurements(study.id, 0, [other])
    store.add_measurements(study.id, 0, [accuracy(0.6)])
    trial = store.trial(study.id, 0)
    assert [m.objective for m in trial.measurements] == ["energy", "accuracy", "energy"]
    assert trial.measurements[2] == other
    assert (trial.value("energy"), trial.value("accuracy")) == (2.0, 0.6)


def test_documents_must_be_json(store, make_study, make_trial):
    study = make_study(store)
    for wrong in ({"x": float("nan")}, {"x": object()}, {"x": {1, 2}}):
        with pytest.raises(InvalidValue, match="must be JSON data"):
            store.add_trial(study.id, make_trial(0, attributes=wrong))
    assert store.points(study.id) == ()


def test_trials_are_chosen_by_state_and_by_page(store, make_study, make_trial, run_trial):
    study = make_study(store)
    for number in range(6):
        run_trial(store, study.id, number, epochs=3 if number % 2 else 1)
    store.add_trial(study.id, make_trial(6))
    store.add_trial(study.id, make_trial(7, TrialState.INFEASIBLE, constraints={"energy": 3.0}))
    store.add_trial(study.id, make_trial(8, TrialState.DUPLICATE, duplicate_of=1))

    def numbers(**selection):
        return [t.number for t in store.trials(study.id, **selection)]

    assert numbers() == list(range(9))
    assert numbers(states=[TrialState.COMPLETE]) == [1, 3, 5]
    assert numbers(states=[]) == []
    assert numbers(after=3, limit=3) == [4, 5, 6]
    assert numbers(after=8) == []
    assert numbers(states=[TrialState.PRUNED], after=0, limit=1) == [2]
    assert store.trials(study.id, after=3, limit=1)[0] == store.trial(study.id, 4)
    assert store.counts() == {
        study.id: {
            TrialState.RUNNING: 1,
            TrialState.COMPLETE: 3,
            TrialState.PRUNED: 3,
            TrialState.INFEASIBLE: 1,
            TrialState.DUPLICATE: 1,
            TrialState.FAILED: 0,
        }
    }
    points = store.points(study.id)
    for point, trial in zip(points, store.trials(study.id), strict=True):
        assert all(getattr(point, name) == getattr(trial, name) for name in point.__slots__)
    assert points[8].duplicate_of == 1


def test_reading_takes_a_constant_number_of_statements(store, make_study, run_trial):
    study = make_study(store)
    statements = []
    event.listen(store._engine, "before_cursor_execute", lambda *args: statements.append(args[2]))

    def count(read):
        statements.clear()
        read()
        return len(statements)

    reads = [
        lambda: store.trials(study.id),
        lambda: store.points(study.id),
        lambda: store.changes_since(study.id),
        lambda: store.curves(study.id),
        lambda: store.trials(study.id, limit=2),
    ]
    run_trial(store, study.id, 0)
    few = [count(read) for read in reads]
    for number in range(1, 8):
        run_trial(store, study.id, number)
    assert [count(read) for read in reads] == few
    assert max(few) <= 5


# what the dashboard follows


def test_changes_are_seen_once(store, make_study, make_trial, run_trial):
    study = make_study(store)
    first = store.changes_since(study.id)
    assert (first.trials, first.cursor) == ((), 0)
    run_trial(store, study.id, 0)
    store.add_trial(study.id, make_trial(1))
    second = store.changes_since(study.id, first.cursor)
    assert [t.number for t in second.trials] == [0, 1]
    assert store.changes_since(study.id, second.cursor).trials == ()

    store.append_curve(study.id, 1, curve_of(1))
    third = store.changes_since(study.id, second.cursor)
    assert [(t.number, t.fidelity) for t in third.trials] == [(1, 1)]
    assert list(store.curves(study.id, since=second.cursor)) == [1]
    assert {n: len(c) for n, c in store.curves(study.id).items()} == {0: 3, 1: 1}

    store.rename_study(study.id, "renamed")
    fourth = store.changes_since(study.id, third.cursor)
    assert (fourth.study.name, fourth.trials) == ("renamed", ())
    for change in (
        lambda: store.set_checkpoint(study.id, 1, "x"),
        lambda: store.add_export(study.id, export(0)),
        lambda: store.add_retraining(study.id, retraining(0, 3)),
        lambda: store.add_energy(
            study.id, [EnergyEntry(account="trial/0", kwh=1, method="measured")]
        ),
    ):
        cursor = store.study(study.id).revision
        change()
        assert len(store.changes_since(study.id, cursor).trials) == 1


def test_a_reader_never_misses_a_change_of_several_writers(
    store, store_url, make_study, make_trial
):
    study = make_study(store)
    for number in range(4):
        store.add_trial(study.id, make_trial(number))
    failures = []

    def write(number):
        try:
            with open_store(store_url, create=False) as own:
                for epoch in range(1, 6):
                    own.append_curve(study.id, number, curve_of(epoch)[-1:])
        except Exception as error:
            failures.append(error)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    cursor, seen = 0, {}
    while any(writer.is_alive() for writer in writers) or cursor < store.study(study.id).revision:
        changes = store.changes_since(study.id, cursor)
        assert changes.cursor >= cursor
        cursor = changes.cursor
        seen.update({t.number: t for t in changes.trials})
    assert failures == []
    assert {n: t.fidelity for n, t in seen.items()} == dict.fromkeys(range(4), 5)
    assert tuple(seen[n] for n in sorted(seen)) == store.points(study.id)
    assert cursor == 4 + 4 * 5


# retrainings, exports, energy


def test_retrainings_and_exports(store, make_study, run_trial):
    study = make_study(store)
    for number in (0, 1):
        run_trial(store, study.id, number)
    rows = [retraining(1, 5), retraining(0, 4), retraining(0, 3)]
    for row in rows:
        store.add_retraining(study.id, row)
    newer = Retraining(
        trial=0, seed=4, epochs=9, validation_accuracy=0.7, test_accuracy=0.6, created_at=2.0
    )
    store.add_retraining(study.id, newer)
    assert store.retrainings(study.id) == (rows[2], newer, rows[0])

    store.add_export(study.id, export(1))
    bad = ExportRecord(
        trial=1, format="onnx", path="/out/net", verified=False, flips=2, images=10, created_at=9.0
    )
    store.add_export(study.id, bad)
    assert store.exports(study.id) == (bad,)
    store.add_export(study.id, export(1, format="json"))
    assert [e.format for e in store.exports(study.id)] == ["json", "onnx"]
    with pytest.raises(UnknownRecord, match="The study 'first' has no trial 7"):
        store.add_export(study.id, export(7))
    with pytest.raises(UnknownRecord, match="The study 'first' has no trial 7"):
        store.add_retraining(study.id, retraining(7, 0))


def test_the_energy_ledger_adds_up(store, store_url, make_study, run_trial):
    study = make_study(store)
    for number in (0, 1, 10):
        run_trial(store, study.id, number)
    for _ in range(3):
        store.add_energy(
            study.id,
            [
                EnergyEntry(account="overhead", kwh=0.5, method="estimated"),
                EnergyEntry(account=trial_account(10), kwh=0.25, method="measured"),
                EnergyEntry(account=trial_account(1), kwh=0.125, method="estimated"),
                EnergyEntry(account=trial_account(1), kwh=0.0625, method="measured"),
            ],
        )
    assert [(e.account, e.method, e.kwh) for e in store.energy(study.id)] == [
        ("overhead", "estimated", 1.5),
        ("trial/1", "estimated", 0.375),
        ("trial/1", "measured", 0.1875),
        ("trial/10", "measured", 0.75),
    ]
    assert [t.energy_kwh for t in store.points(study.id)] == [0.0, 0.5625, 0.75]
    with pytest.raises(UnknownRecord, match="no trial 5"):
        store.add_energy(study.id, [EnergyEntry(account="trial/5", kwh=1, method="measured")])
    assert len(store.energy(study.id)) == 4, "a refused entry leaves nothing"
    assert check(store_url).problems == ()


# the lease


def test_one_driver_at_a_time(store, store_url, make_study, make_trial):
    study = make_study(store)
    assert store.driver(study.id) is None
    lease = store.acquire_lease(study.id)
    assert store.driver(study.id) == lease
    with open_store(store_url, create=False) as second:
        with pytest.raises(StudyBusy, match=rf"'first' is being searched by process {lease.pid}"):
            second.acquire_lease(study.id)
        with pytest.raises(StudyBusy):
            second.delete_study(study.id)
        store.renew_lease(lease)
        store.add_trial(study.id, make_trial(0))
        store.release_lease(lease)
        assert second.driver(study.id) is None
        later = second.acquire_lease(study.id)
        with pytest.raises(LeaseLost):
            store.renew_lease(lease)
        store.release_lease(lease)
        assert second.driver(study.id) == later


def test_a_dead_process_drives_nothing(store, make_study, make_trial):
    study = make_study(store)
    lease = store.acquire_lease(study.id)
    ended = subprocess.Popen([sys.executable, "-c", "pass"])
    ended.wait()
    set_lease(store, pid=ended.pid)
    assert store.driver(study.id) is None
    # a living process of that number that started at another time is another one
    set_lease(store, pid=lease.pid, process_started_at=lease.process_started_at - 100)
    assert store.driver(study.id) is None
    other = psutil.Process().parent()
    set_lease(store, pid=other.pid, process_started_at=other.create_time())
    assert store.driver(study.id).pid == other.pid


def test_a_driver_elsewhere_is_alive_for_a_minute(store, make_study, make_trial):
    study = make_study(store)
    lease = store.acquire_lease(study.id)
    set_lease(store, host="far", host_id="far/boot/space", pid=1, renewed_at=time.time() - 50)
    with pytest.raises(StudyBusy, match="process 1 on far"):
        store.acquire_lease(study.id)
    set_lease(store, renewed_at=time.time() - 70)
    newer = store.acquire_lease(study.id)
    assert newer.token != lease.token


def test_who_lost_the_lease_writes_nothing_more(store, store_url, make_study, make_trial):
    study = make_study(store)
    store.acquire_lease(study.id)
    store.add_trial(study.id, make_trial(0))
    set_lease(store, host_id="far/boot/space", renewed_at=0.0)
    with open_store(store_url, create=False) as second:
        second.acquire_lease(study.id)
        for write in (
            lambda: store.add_trial(study.id, make_trial(1)),
            lambda: store.append_curve(study.id, 0, curve_of(1)),
            lambda: store.finish_trial(study.id, 0, state=TrialState.FAILED),
        ):
            with pytest.raises(LeaseLost, match="Another driver has taken"):
                write()
        assert [(t.number, t.fidelity) for t in second.points(study.id)] == [(0, 0)]
        second.add_trial(study.id, make_trial(1))


# opening


def test_reading_only(store, store_url, make_study, run_trial):
    study = make_study(store)
    run_trial(store, study.id, 0)
    with open_store(store_url, create=False, read_only=True) as reader:
        assert reader.trials(study.id) == store.trials(study.id)
        with pytest.raises(StoreError, match="open for reading only"):
            reader.delete_study(study.id)
        # the database refuses too, should a method forget to
        with (
            pytest.raises(StoreError, match="cannot be written: it is read-only"),
            reader._reading() as connection,
        ):
            connection.execute(update(leases).values(pid=1))
        run_trial(store, study.id, 1)
        assert len(reader.points(study.id)) == 2


@pytest.mark.slow
def test_several_processes_create_one_store(store_url):
    code = (
        "import sys; from bitfront.search.store import open_store\n"
        "open_store(sys.argv[1], create=True).close()"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, store_url], stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert [process.communicate()[1] for process in started] == [""] * 3
    assert check(store_url).problems == ()


# pieces


def set_lease(store, **values):
    with store._writing() as connection:
        connection.execute(update(leases).values(**values))


def accuracy(value):
    return Measurement(objective="accuracy", value=value, unit="fraction", method="measured")


def curve_of(epochs):
    return [
        CurvePoint(
            epoch=epoch, train_loss=1.0, validation_loss=1.0, validation_accuracy=0.1, seconds=0.5
        )
        for epoch in range(1, epochs + 1)
    ]


def retraining(trial, seed):
    return Retraining(
        trial=trial,
        seed=seed,
        epochs=3,
        validation_accuracy=0.5,
        test_accuracy=0.4,
        created_at=1.0,
        checkpoint="/runs/re",
    )


def export(trial, format="onnx"):
    return ExportRecord(
        trial=trial,
        format=format,
        path="/out/net",
        verified=True,
        flips=0,
        images=10,
        created_at=1.0,
    )
