"""The engine: what is proposed, refused and booked, and how it goes on after a crash."""

import importlib.util
from pathlib import Path

import pytest

from bitfront.evaluators.measurement import Measurement
from bitfront.search import engine as engine_module
from bitfront.search.front import front_of
from bitfront.search.record import StudyState, TrialState
from bitfront.search.store import StoreConflict, open_store
from bitfront.spaces import Candidate, InfeasibleArchitecture, RandomChoose, spaces

_spec = importlib.util.spec_from_file_location("toy", Path(__file__).with_name("toy.py"))
toy = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(toy)


@pytest.fixture
def make(tmp_path):
    """A factory of toy studies on a SQLite store."""
    with open_store(str(tmp_path / "a.db"), create=True) as store:

        def build(**settings):
            return toy.ToyStudy(store, **{"sampler": "random", **settings})

        yield build


def states(study):
    return [trial.state for trial in study.store.points(study.study.id)]


def small_space(kinds):
    """A space with one question; each answer is one candidate, or infeasible."""

    def space(choose, task):
        answer = choose.option("which", kinds)
        if answer < 0:
            raise InfeasibleArchitecture(f"Nothing can be built from {answer}.")
        return spaces["melius"](RandomChoose(answer), task)

    return space


@pytest.fixture
def use_space(monkeypatch):
    """Register a small space; 40 refusals in a row are enough to find it exhausted."""

    def use(kinds):
        monkeypatch.setattr(engine_module, "MAX_REFUSED", 40)
        monkeypatch.setitem(spaces._things, "small", small_space(kinds))
        return "small"

    return use


def test_an_accepted_trial_is_a_row_before_it_is_handed_out(make):
    study = make()
    trial = study.engine.propose()
    stored = study.store.trial(study.study.id, trial.number)
    assert stored.state is TrialState.RUNNING
    assert stored.candidate == Candidate.from_json(stored.candidate.json())
    assert {m.objective for m in stored.measurements} == {
        "energy",
        "ops",
        "params",
        "size_mib",
        "memory",
    }
    assert stored.full_fidelity == study.config.epochs
    assert stored.attributes["parameters"].keys() == stored.decisions.keys()


def test_no_more_is_handed_out_than_the_budget(make):
    study = make(trials=3)
    live = [study.engine.propose() for _ in range(3)]
    assert study.engine.propose() is None
    assert not study.engine.is_over
    for trial in live:
        study.complete(trial.number)
    assert study.engine.propose() is None
    assert study.engine.is_over
    assert study.engine.verdict() == (StudyState.FINISHED, "All 3 trials are finished.")


def test_pruned_counts_and_failed_does_not(make):
    study = make(trials=2)
    first, second = study.engine.propose(), study.engine.propose()
    study.train(first.number, epochs=1)
    study.engine.finish(first.number, TrialState.PRUNED)
    study.engine.finish(second.number, TrialState.FAILED, error="It diverged.")
    assert study.engine.counted == 1
    third = study.engine.propose()
    study.complete(third.number)
    assert study.engine.is_over
    assert sorted(states(study)) == ["COMPLETE", "FAILED", "PRUNED"]
    assert study.store.trial(study.study.id, second.number).error == "It diverged."
    assert study.store.trial(study.study.id, first.number).fidelity == 1


def test_only_full_fidelity_is_complete(make):
    study = make()
    trial = study.engine.propose()
    measured = study.train(trial.number, epochs=1)
    with pytest.raises(StoreConflict, match="2 epochs"):
        study.engine.finish(trial.number, TrialState.COMPLETE, measurements=[measured])
    assert trial.number in study.engine.live


def test_what_violates_a_constraint_is_never_handed_out(make):
    study = make(trials=12, constraints=["size_mib<=0.05", "ops > 60000"])
    study.run()
    assert states(study).count("INFEASIBLE") > 5
    for trial in study.store.points(study.study.id):
        broken = trial.value("size_mib") > 0.05 or trial.value("ops") <= 60_000
        assert (trial.state is TrialState.INFEASIBLE) == broken
        assert trial.is_feasible == (not broken)
        assert set(trial.constraints) == {"size_mib<=0.05", "ops>60000.0"}
        assert trial.finished_at is not None


def test_a_bound_on_the_accuracy_keeps_a_trial_off_the_front(make):
    study = make(trials=8, constraints=["accuracy>=0.5"])
    engine = study.run()
    trials = study.store.points(study.study.id)
    assert {t.state for t in trials} == {TrialState.COMPLETE}
    poor = {t.number for t in trials if t.value("accuracy") < 0.5}
    assert poor
    assert len(poor) < 8
    assert all(not t.is_feasible for t in trials if t.number in poor)
    assert not poor & {m.number for m in engine.front.members}
    # a rebuilt engine knows the violations as well
    assert study.reopen().front == engine.front


def test_duplicates_are_never_trained_again(make, use_space):
    study = make(space=use_space((1, 2, 3)), trials=50)
    study.run(workers=2)
    trials = study.store.points(study.study.id)
    complete = [t for t in trials if t.state is TrialState.COMPLETE]
    assert len(complete) == 3
    assert len({t.candidate_digest for t in complete}) == 3
    duplicates = [t for t in trials if t.state is TrialState.DUPLICATE]
    assert len(duplicates) == len(trials) - 3
    by_number = {t.number: t for t in trials}
    for trial in duplicates:
        assert by_number[trial.duplicate_of].candidate_digest == trial.candidate_digest


def test_a_candidate_under_way_is_a_duplicate_too(make, use_space):
    study = make(space=use_space((1,)), trials=5)
    first = study.engine.propose()
    assert study.engine.propose(patience_s=30) is None
    assert set(states(study)[1:]) == {"DUPLICATE"}
    assert not study.engine.is_over
    study.complete(first.number)
    assert study.engine.is_over


def test_a_failed_candidate_may_be_tried_again(make, use_space):
    study = make(space=use_space((1,)), trials=5)
    first = study.engine.propose()
    study.engine.finish(first.number, TrialState.FAILED, error="Its worker died.")
    again = study.engine.propose()
    assert again.candidate_digest == first.candidate_digest
    assert again.seed != first.seed


def test_an_exhausted_space_ends_the_search_and_says_so(make, use_space):
    study = make(space=use_space((1, 2)), trials=9)
    study.run()
    state, message = study.engine.verdict()
    assert state is StudyState.EXHAUSTED
    assert message == (
        "2 of 9 trials are finished; the space is exhausted, the last 40 proposals were "
        "evaluated before."
    )
    assert states(study)[-40:] == ["DUPLICATE"] * 40


def test_a_constraint_that_cannot_be_met_ends_the_search_and_says_so(make):
    study = make(constraints=["size_mib<=0.001"])
    assert study.engine.propose() is None
    assert study.engine.is_over
    state, message = study.engine.verdict()
    assert state is StudyState.EXHAUSTED
    assert "0 of 20 trials are finished; size_mib<=0.001 cannot be met" in message
    assert states(study) == ["INFEASIBLE"] * 200
    nearest = min(t.value("size_mib") for t in study.store.points(study.study.id))
    assert f"has size_mib {nearest:.4g} MiB" in message


def test_what_cannot_be_built_is_infeasible(make, use_space):
    study = make(space=use_space((1, -1)), trials=1)
    study.run()
    refused = [t for t in study.store.trials(study.study.id) if t.state is TrialState.INFEASIBLE]
    for trial in refused:
        assert trial.error == "Nothing can be built from -1."
        assert trial.candidate_json is None
        assert trial.constraints == {"architecture": 1.0}


def test_refusals_of_both_kinds_are_told_apart(make, use_space):
    study = make(space=use_space((1, -1)), trials=2)
    study.run()
    assert study.engine.verdict()[1].startswith("1 of 2 trials are finished; of the last 40 ")


def test_a_search_in_which_everything_fails_ends(make):
    study = make(trials=500)
    while (trial := study.engine.propose()) is not None:
        study.engine.finish(trial.number, TrialState.FAILED, error="No luck.")
    assert study.engine.is_over
    state, message = study.engine.verdict()
    assert state is StudyState.OPEN
    assert message.endswith("and the last 20 failed; trial 19: No luck.")


def test_refusing_takes_turns_with_trials_under_way(make, use_space):
    study = make(space=use_space((1,)), trials=5)
    study.engine.propose()
    assert study.engine.propose(patience_s=0.05) is None
    assert 2 <= len(states(study)) < 200
    assert not study.engine.is_stuck


def test_asking_ends_when_the_caller_says_so(make):
    study = make(constraints=["size_mib<=0.001"])
    calls = iter([True, True, False])
    assert study.engine.propose(lambda: next(calls)) is None
    assert len(states(study)) == 2
    assert not study.engine.is_over


def test_a_new_engine_hands_out_what_was_under_way_first(make):
    study = make(trials=4)
    first, second = study.engine.propose(), study.engine.propose()
    study.store.append_curve(study.study.id, second.number, study_curve(study, second.number))
    study.store.set_checkpoint(study.study.id, second.number, "/somewhere")
    engine = study.reopen()
    assert engine.under_way == {first.number, second.number}
    assert not engine.is_over
    again = [engine.propose(), engine.propose()]
    assert [(t.number, t.attempt) for t in again] == [(first.number, 2), (second.number, 2)]
    assert again[0].candidate_digest == first.candidate_digest
    assert again[1].checkpoint == "/somewhere"
    assert again[1].fidelity == 1
    third = engine.propose()
    assert third.number > second.number


def study_curve(study, number):
    study.train(number, epochs=1)
    return study.store.trial(study.study.id, number).curve


def test_what_was_under_way_is_finished_even_past_the_budget(make):
    study = make(trials=3)
    for _ in range(3):
        study.engine.propose()
    study.config = study.config.resolve({"trials": 1}, study.config.stored())
    engine = study.reopen()
    numbers = [engine.propose().number for _ in range(3)]
    assert engine.propose() is None
    for number in numbers:
        study.complete(number)
    assert engine.is_over
    assert set(states(study)) == {"COMPLETE"}


def test_the_front_is_that_of_the_store(make):
    study = make(trials=15)
    engine = study.run(workers=3)
    points = study.store.points(study.study.id)
    front = front_of(points, study.study.objectives, study.study.reference_point)
    assert [m.number for m in engine.front.members] == [m.number for m in front.members]
    assert engine.front.hypervolume == front.hypervolume
    for member in front.members:
        assert not any(
            p.value("accuracy") >= member.value("accuracy")
            and p.value("energy") < member.value("energy")
            for p in points
        )


def test_the_reference_is_beyond_most_candidates_and_within_a_bound(make):
    free = make(study="free").study.reference_point
    bound = make(study="bound", constraints=["energy<=0.01"]).study.reference_point
    assert free["accuracy"] == 0.0
    assert bound["energy"] == pytest.approx(0.011)
    assert free["energy"] > 2 * bound["energy"]
    assert make(study="again").study.reference_point == free
    assert make(study="other", seed=1).study.reference_point != free


def test_an_end_that_is_booked_twice_is_refused(make):
    study = make()
    trial = study.engine.propose()
    study.complete(trial.number)
    measured = Measurement(objective="accuracy", value=0.5, unit="fraction", method="measured")
    with pytest.raises(StoreConflict, match="cannot be finished"):
        study.engine.finish(trial.number, TrialState.COMPLETE, measurements=[measured])
    assert engine_module.COUNTED == (TrialState.COMPLETE, TrialState.PRUNED)
