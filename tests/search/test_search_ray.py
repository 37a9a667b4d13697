"""A real search: Ray, two workers, small networks on digits; one of the workers is killed."""

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

pytest.importorskip("ray.tune")

from bitfront.evaluators.training import read_weights
from bitfront.search.config import read_settings
from bitfront.search.driving import Ledger
from bitfront.search.record import StudyState, TrialState
from bitfront.search.retraining import retrain_front
from bitfront.search.store import open_store
from bitfront.search.study import resolve, run_search
from bitfront.search.winner import trained_trial
from bitfront.spaces import build

pytestmark = pytest.mark.slow
TRIALS = 5
EPOCHS = 2


class Witness:
    """Watches a search from within: who trains when, and who listens where."""

    def __init__(self):
        self.workers = []
        self.victim = None
        self.seen = []
        self.listening = set()

    def begin(self, ledger, account, report):
        self.workers.append((account, report["pid"], time.time()))
        if self.victim is None:
            self.victim = account
            os.kill(report["pid"], signal.SIGKILL)

    def watch(self, progress):
        self.seen.append(progress)
        if progress.trainings and not self.listening:
            for process in psutil.Process().children(recursive=True):
                try:
                    sockets = process.net_connections(kind="inet")
                except psutil.Error:
                    continue
                self.listening |= {s.laddr.ip for s in sockets if s.status == psutil.CONN_LISTEN}


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A finished search: its configuration, its result and its witness."""
    folder = tmp_path_factory.mktemp("search")
    flags = {
        "store": str(folder / "a.db"),
        "study": "digits",
        "trials": TRIALS,
        "epochs": EPOCHS,
        "workers": 2,
        "constraints": ["ops<=120000"],
        "seed": 1,
    }
    config = resolve(read_settings(None, flags))
    witness = Witness()
    original = Ledger.begin
    with pytest.MonkeyPatch.context() as patch:

        def begin(ledger, account, report):
            original(ledger, account, report)
            witness.begin(ledger, account, report)

        patch.setattr(Ledger, "begin", begin)
        result = run_search(config, progress=witness.watch)
    return config, result, witness


@pytest.fixture
def store(searched):
    with open_store(searched[0].store, create=False) as opened:
        yield opened


def test_every_trial_has_ended_and_as_many_as_asked_are_complete(searched, store):
    config, result, _ = searched
    assert result.is_finished
    assert result.message == f"All {TRIALS} trials are finished."
    trials = store.trials(result.study.id)
    states = [t.state for t in trials]
    assert states.count(TrialState.COMPLETE) == TRIALS
    assert set(states) <= {TrialState.COMPLETE, TrialState.INFEASIBLE, TrialState.DUPLICATE}
    assert [t.number for t in trials] == list(range(len(trials)))
    for trial in trials:
        if trial.state is TrialState.COMPLETE:
            assert trial.fidelity == EPOCHS
            assert [p.epoch for p in trial.curve] == list(range(1, EPOCHS + 1))
            assert trial.value("accuracy") == trial.curve[-1].validation_accuracy
            assert trial.value("ops") <= 120_000
            assert trial.energy_kwh > 0
    assert len({t.candidate_digest for t in trials if t.state is TrialState.COMPLETE}) == TRIALS
    assert store.study(result.study.id).state is StudyState.FINISHED
    assert store.driver(result.study.id) is None


def test_the_front_is_what_nothing_dominates(searched, store):
    _, result, _ = searched
    complete = store.points(result.study.id, states=[TrialState.COMPLETE])

    def dominates(a, b):
        accuracy = a.value("accuracy") - b.value("accuracy")
        energy = b.value("energy") - a.value("energy")
        return min(accuracy, energy) >= 0 and max(accuracy, energy) > 0

    expected = {b.number for b in complete if not any(dominates(a, b) for a in complete)}
    assert {m.number for m in result.front.members} == expected
    assert result.front.hypervolume > 0


def test_workers_train_at_the_same_time(searched, store):
    _, result, witness = searched
    ends = {f"trial/{t.number}": t.finished_at for t in store.points(result.study.id)}
    spans = [(pid, begin, ends[account]) for account, pid, begin in witness.workers]
    assert any(
        a_pid != b_pid and a_begin < b_begin < a_end
        for a_pid, a_begin, a_end in spans
        for b_pid, b_begin, _ in spans
    )
    assert max(len(p.trainings) for p in witness.seen) == 2


def test_a_worker_that_is_killed_costs_no_trial(searched, store):
    _, result, witness = searched
    again = [pid for account, pid, _ in witness.workers if account == witness.victim]
    assert len(again) == 2
    assert again[0] != again[1]
    number = int(witness.victim.split("/")[1])
    assert store.trial(result.study.id, number).state is TrialState.COMPLETE


def test_nobody_outside_can_reach_it(searched):
    assert searched[2].listening
    assert searched[2].listening <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_it_tells_how_it_stands(searched):
    _, result, witness = searched
    phases = [p.phase for p in witness.seen]
    assert phases[0] == "starting"
    assert "searching" in phases
    assert phases[-1] == "ending"
    done = [p.done for p in witness.seen]
    assert done == sorted(done)
    assert (done[-1], witness.seen[-1].target) == (TRIALS, TRIALS)
    assert witness.seen[-1].message == result.message
    assert any(p.eta_s is not None for p in witness.seen)
    assert witness.seen[-1].front == result.front


def test_only_checkpoints_of_the_front_are_kept(searched, store):
    config, result, _ = searched
    folder = Path(config.store).parent / "bitfront-runs" / f"a-{result.study.id}"
    assert {f.name for f in folder.iterdir()} <= {"trials", "search.log", "retrained"}
    members = {m.number for m in result.front.members}
    kept = {int(f.name.split("-")[0]) for f in (folder / "trials").iterdir()}
    assert kept == members
    for trial in store.trials(result.study.id):
        assert (trial.checkpoint is not None) == (trial.number in members)


def test_nothing_is_left_running(searched):
    names = [p.name() for p in psutil.Process().children(recursive=True) if p.is_running()]
    assert not [name for name in names if "ray" in name or "gcs" in name]


def test_members_are_trained_again_in_parallel(searched, store):
    config, result, _ = searched
    members = [m.number for m in result.front.members][:2]
    seen = []
    again = retrain_front(config, seeds=(1, 2), trials=members, progress=seen.append)
    assert again.message == f"{2 * len(members)} of {2 * len(members)} retrainings are finished."
    assert [m.trial.number for m in again.members] == members
    assert not again.failures
    assert max(len(p.trainings) for p in seen) == 2
    runs = store.retrainings(result.study.id)
    assert {(r.trial, r.seed) for r in runs} == {(n, s) for n in members for s in (1, 2)}
    for member in again.members:
        kept = [run for run in member.runs if run.checkpoint is not None]
        assert kept == [member.best]
        assert 0 < member.test.low <= member.test.mean <= member.test.high <= 1
        trained = trained_trial(store, result.study, member.trial.number)
        assert str(trained.weights) == member.best.checkpoint
        network = build(trained.architecture, t_clip=trained.recipe.t_clip)
        network.load_state_dict(read_weights(trained.weights))
    # accuracies of the search stay what they were
    for member in result.front.members:
        assert store.trial(result.study.id, member.number).value("accuracy") == member.value(
            "accuracy"
        )
