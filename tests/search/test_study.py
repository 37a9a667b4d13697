"""Starting and going on with a study, as far as it needs no workers; driving and its ledger."""

import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from bitfront.evaluators.training import DataMissing
from bitfront.search.config import SearchConfig
from bitfront.search.counters import PowerModel
from bitfront.search.driving import Ledger, driving, load_task
from bitfront.search.front import reference_point
from bitfront.search.meter import NodeEnergyMeter
from bitfront.search.record import (
    OVERHEAD,
    CurvePoint,
    EnergyEntry,
    Retraining,
    StudyState,
    TrialState,
    trial_account,
)
from bitfront.search.reference import worst_costs
from bitfront.search.retrained import best_run, retrained, spread_of
from bitfront.search.retraining import retrain_front
from bitfront.search.stopping import Stop, StopReason
from bitfront.search.store import LeaseLost, StudyBusy, UnknownRecord, open_store
from bitfront.search.store.leases import host_id
from bitfront.search.study import resolve, resume_settings, run_search
from bitfront.search.winner import trained_trial
from bitfront.spaces.errors import InvalidValue


@pytest.fixture
def config(tmp_path):
    return SearchConfig(store=str(tmp_path / "a.db"), study="s", trials=2, epochs=3)


@pytest.fixture
def begun(config, run_trial):
    """A store with the study of the configuration; two of its trials are complete."""
    data = load_task(config)
    objectives = config.study_objectives
    with open_store(config.store, create=True) as store:
        study = store.create_study(
            config.name,
            config=config.stored(),
            objectives=objectives,
            reference_point=reference_point(objectives, worst_costs(config, data.task)),
            dataset=data.name,
            dataset_digest=data.digest,
            seed=config.seed,
        )
        run_trial(store, study.id, 0, accuracy=0.5, energy=0.001)
        run_trial(store, study.id, 1, accuracy=0.4, energy=0.002)
        for number in (0, 1):
            _give_attributes(store, study.id, number)
        yield store, study


def _give_attributes(store, study_id, number):
    """What the asker of the engine needs; the shared factory knows nothing of samplers."""
    from sqlalchemy import text

    empty = '{"parameters":{},"distributions":{},"system":{},"study":{}}'
    with store._engine.begin() as connection:
        connection.execute(
            text("UPDATE trials SET attributes = :a WHERE study_id = :s AND number = :n"),
            {"a": empty, "s": study_id, "n": number},
        )


def test_nothing_is_written_before_the_data_are_there(config, tmp_path):
    broken = replace(config, dataset=f"folder:{tmp_path}/none")
    with pytest.raises(DataMissing):
        run_search(broken)
    assert list(tmp_path.iterdir()) == []


def test_settings_lie_over_what_the_study_was_started_with(begun, config):
    settings = {"store": config.store, "study": "s", "trials": 9, "workers": 2}
    assert resolve(settings) == replace(config, trials=9, workers=2)
    with pytest.raises(InvalidValue, match="has epochs 3, but got 4"):
        resolve({**settings, "epochs": 4})


def test_a_new_study_takes_the_defaults(begun, config, tmp_path):
    assert resolve({"store": config.store, "study": "t"}).epochs == SearchConfig().epochs
    nowhere = {"store": str(tmp_path / "b.db"), "seed": 3}
    data_dir = str(Path("data").absolute())
    assert resolve(nowhere) == SearchConfig(store=nowhere["store"], seed=3, data_dir=data_dir)
    assert not (tmp_path / "b.db").exists()


def test_a_name_by_default_is_found_again(tmp_path, config):
    plain = replace(config, study="")
    with open_store(config.store, create=True) as store:
        store.create_study(
            plain.name,
            config=plain.stored(),
            objectives=plain.study_objectives,
            reference_point={"accuracy": 0.0, "energy": 1.0},
            dataset="digits",
            dataset_digest="d" * 64,
            seed=0,
        )
    assert resolve({"store": config.store}).epochs == 3


def test_resuming_takes_everything_from_the_study(begun, config):
    _, study = begun
    settings = resume_settings(config.store, study)
    assert resolve(settings) == config


def test_a_finished_study_ends_at_once(begun, config):
    store, study = begun
    seen = []
    result = run_search(config, progress=seen.append)
    assert result.is_finished
    assert result.message == "All 2 trials are finished."
    assert result.reason is None
    assert result.counts[TrialState.COMPLETE] == 2
    assert [m.number for m in result.front.members] == [0]
    assert store.study(study.id).state is StudyState.FINISHED
    assert store.driver(study.id) is None
    assert [p.phase for p in seen] == ["ending"]


def test_a_later_run_may_have_another_budget(begun, config):
    store, study = begun
    stopped = Stop()
    stopped.set(StopReason.SIGNAL)
    result = run_search(replace(config, trials=5), stop=stopped)
    assert result.reason is StopReason.SIGNAL
    assert result.message == (
        "Interrupted, with 2 of 5 trials finished: the same command goes on from there."
    )
    assert store.study(study.id).config["trials"] == 5
    assert store.study(study.id).state is StudyState.OPEN


def test_other_data_under_the_same_name_are_refused(begun, config, monkeypatch):
    from bitfront.search import study as study_module

    monkeypatch.setattr(
        study_module, "load_task", lambda config: replace(load_task(config), digest="e" * 64)
    )
    with pytest.raises(InvalidValue, match="its accuracies could not be compared"):
        run_search(config)


def test_a_second_driver_is_refused(begun, config):
    store, study = begun
    with (
        driving(store, study, Stop()),
        pytest.raises(StudyBusy, match="is being searched by process"),
    ):
        run_search(config)
    assert run_search(config).is_finished


def test_a_lease_that_is_lost_ends_the_run(begun, config, monkeypatch):
    from bitfront.search import driving as driving_module

    store, study = begun
    monkeypatch.setattr(driving_module, "RENEW_S", 0.01)
    stop = Stop()

    def lost(lease):
        raise LeaseLost("Another driver has taken it.")

    monkeypatch.setattr(store, "renew_lease", lost)
    with driving(store, study, stop):
        time.sleep(0.1)
        assert stop.reason is StopReason.ERROR


class Watts:
    """A machine of one processor that draws 3600 W: one watt-hour per second."""

    def __init__(self):
        self.seconds = 0.0
        self.used = 0.0

    def count(self):
        return 1

    def busy_s(self):
        return self.used

    def process_s(self, pid):
        return self.used

    def clock(self):
        return self.seconds

    def work(self, seconds):
        self.seconds += seconds
        self.used += seconds

    def meter(self):
        model = PowerModel("cpu", idle_w=3600, full_w=3600)
        return NodeEnergyMeter([model], times=self, clock=self.clock, interval_s=3600)


def test_the_energy_of_a_run_is_booked(begun, config):
    store, study = begun
    machine = Watts()
    ledger = Ledger(store, study, config, Stop(), machine.meter())
    report = {"host": host_id(), "pid": 1, "gpus": []}
    with ledger.running():
        machine.seconds += 1
        ledger.begin(trial_account(0), report)
        machine.work(2)
        booked = ledger.end(trial_account(0))
        store.add_energy(study.id, booked)
        ledger.begin(trial_account(1), {**report, "host": "another machine"})
        machine.work(4)
    by_account = {entry.account: entry.kwh for entry in store.energy(study.id)}
    assert by_account == {OVERHEAD: pytest.approx(0.005), "trial/0": pytest.approx(0.002)}
    assert store.trial(study.id, 0).energy_kwh == pytest.approx(0.002)
    assert ledger.run_kwh == pytest.approx(0.007)


@pytest.mark.parametrize(
    ("budget", "reason"),
    [
        ({"budget_kwh": 0.010}, StopReason.ENERGY),
        # 0.010 kWh x 2 x 100 g/kWh
        ({"budget_co2_g": 2.0, "grid": "100", "pue": 2.0}, StopReason.CARBON),
    ],
)
def test_budgets_hold_over_all_runs_of_a_study(begun, config, budget, reason):
    store, study = begun
    store.add_energy(study.id, [EnergyEntry(account=OVERHEAD, kwh=0.006, method="estimated")])
    machine, stop = Watts(), Stop()
    ledger = Ledger(store, study, replace(config, **budget), stop, machine.meter())
    with ledger.running():
        machine.work(3)
        ledger.book()
        ledger.tick()
        assert stop.reason is None
        machine.work(1.1)
        ledger.book()
        ledger.tick()
        assert stop.reason is reason


def retraining(trial, seed, validation, test, checkpoint=None):
    return Retraining(
        trial=trial,
        seed=seed,
        epochs=3,
        validation_accuracy=validation,
        test_accuracy=test,
        created_at=1.0,
        checkpoint=checkpoint,
    )


def test_the_best_run_is_chosen_by_validation_never_by_test():
    runs = [retraining(0, 1, 0.7, 0.9), retraining(0, 2, 0.8, 0.6), retraining(0, 3, 0.8, 0.95)]
    assert best_run(runs).seed == 2


def test_spreads():
    spread = spread_of([0.7, 0.8, 0.9])
    assert spread.mean == pytest.approx(0.8)
    assert spread.deviation == pytest.approx(0.1)
    assert (spread.low, spread.high, spread.count) == (0.7, 0.9, 3)
    assert spread_of([0.5]).deviation is None


def checkpoint_at(path):
    path.mkdir()
    (path / "checkpoint.json").write_text("{}")
    return str(path)


def test_a_trial_is_handed_on_with_the_weights_of_its_best_retraining(begun, tmp_path):
    store, study = begun
    searched, again = checkpoint_at(tmp_path / "searched"), checkpoint_at(tmp_path / "again")
    store.set_checkpoint(study.id, 0, searched)
    first = trained_trial(store, study, 0)
    assert str(first.weights) == searched
    assert first.provenance["retrained"] is False
    assert {m.objective: m.value for m in first.measurements} == {"accuracy": 0.5, "energy": 0.001}
    for run in (retraining(0, 1, 0.61, 0.6), retraining(0, 2, 0.7, 0.62, again)):
        store.add_retraining(study.id, run)
    second = trained_trial(store, study, 0)
    assert str(second.weights) == again
    assert second.provenance["seed"] == 2
    found = {m.objective: m for m in second.measurements}
    assert (found["accuracy"].value, found["accuracy"].low) == (0.7, 0.61)
    assert (found["test_accuracy"].value, found["test_accuracy"].repeats) == (0.62, 2)
    assert second.architecture.digest == store.trial(study.id, 0).architecture_digest
    assert [m.trial.number for m in retrained(store, study, store.points(study.id))] == [0]


def test_a_trial_without_weights_says_how_to_get_them(begun, tmp_path):
    store, study = begun
    with pytest.raises(UnknownRecord, match="bitfront train s/1"):
        trained_trial(store, study, 1)
    store.set_checkpoint(study.id, 1, str(tmp_path / "gone"))
    with pytest.raises(UnknownRecord, match="should lie in .*gone, but do not"):
        trained_trial(store, study, 1)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"seeds": ()}, "seeds must be distinct"),
        ({"seeds": (1, 1)}, "seeds must be distinct"),
        ({"seeds": (-1,)}, "seeds must be distinct"),
        ({"trials": [1]}, "Trial 1 is not on the front; its members are the trials 0"),
    ],
)
def test_what_cannot_be_retrained_is_one_sentence(begun, config, arguments, says):
    with pytest.raises(InvalidValue, match=says):
        retrain_front(config, **arguments)


def test_what_is_retrained_already_is_not_trained_again(begun, config):
    store, study = begun
    for seed in (1, 2):
        store.add_retraining(study.id, retraining(0, seed, 0.5 + seed / 10, 0.6))
    result = retrain_front(config, seeds=(1, 2))
    assert result.message == "2 of 2 retrainings are finished."
    assert [m.best.seed for m in result.members] == [2]


def test_a_search_writes_a_log_beside_its_files(begun, config, tmp_path):
    run_search(config)
    text = (tmp_path / "bitfront-runs" / "a-1" / "search.log").read_text()
    assert "Searching 's'" in text
    assert "All 2 trials are finished." in text


def test_leftover_checkpoints_are_swept(begun, config, tmp_path):
    store, study = begun
    trials = tmp_path / "bitfront-runs" / "a-1" / "trials"
    trials.mkdir(parents=True)
    paths = [checkpoint_at(trials / name) for name in ("00000-1", "00001-1", "00009-1")]
    for number in (0, 1):
        store.set_checkpoint(study.id, number, paths[number])
    run_search(config)
    # trial 0 is the front; trial 1 is dominated; nobody knows a trial 9
    assert [path.name for path in trials.iterdir()] == ["00000-1"]
    assert store.trial(study.id, 0).checkpoint == paths[0]
    assert store.trial(study.id, 1).checkpoint is None


def test_an_exception_leaves_no_lease_behind(begun, config, monkeypatch):
    from bitfront.search import study as study_module

    store, study = begun

    def broken(*arguments):
        raise OSError("no room")

    monkeypatch.setattr(study_module, "train_all", broken)
    with ExitStack() as stack:
        stack.enter_context(pytest.raises(OSError, match="no room"))
        run_search(replace(config, trials=3))
    assert store.driver(study.id) is None


def test_curves_of_retrainings_do_not_touch_the_trial(begun):
    store, study = begun
    store.add_retraining(study.id, retraining(0, 1, 0.7, 0.6))
    trial = store.trial(study.id, 0)
    assert trial.value("accuracy") == 0.5
    assert all(isinstance(point, CurvePoint) for point in trial.curve)
    assert trial.curve[-1].validation_accuracy == 0.5
