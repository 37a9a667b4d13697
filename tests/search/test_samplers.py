"""What every registered sampler keeps: determinism, resumption, constraints, and being worth it."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bitfront.search.asking import Asker
from bitfront.search.record import StudyObjective, TrialState
from bitfront.search.samplers import OptunaChoose, samplers, seed_of
from bitfront.search.store import open_store

TOY = Path(__file__).with_name("toy.py")
_spec = importlib.util.spec_from_file_location("toy", TOY)
toy = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(toy)

OBJECTIVES = (
    StudyObjective(name="accuracy", unit="fraction", direction="maximize"),
    StudyObjective(name="energy", unit="mJ", direction="minimize"),
)


@pytest.fixture(params=sorted(samplers))
def sampler(request):
    return request.param


@pytest.fixture
def make(tmp_path):
    """A factory of toy studies, each with a store of its own."""
    stores = []

    def build(**settings):
        store = open_store(str(tmp_path / f"{len(stores)}.db"), create=True)
        stores.append(store)
        return toy.ToyStudy(store, **settings)

    yield build
    for store in stores:
        store.close()


def test_same_seed_same_proposals(make, sampler):
    first = make(sampler=sampler, seed=5, trials=16)
    second = make(sampler=sampler, seed=5, trials=16)
    other = make(sampler=sampler, seed=6, trials=16)
    for study in (first, second, other):
        study.run(workers=2)
    assert first.proposals() == second.proposals()
    assert first.proposals() != other.proposals()


@pytest.mark.slow
def test_same_seed_same_proposals_in_another_process(make, sampler):
    study = make(sampler=sampler, seed=5, trials=16)
    study.run(workers=2)
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, str(TOY), sampler, "5", "16"],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(done.stdout) == study.proposals()


def test_going_on_asks_what_an_uninterrupted_study_asks(make, sampler):
    settings = {"sampler": sampler, "trials": 18, "constraints": ["energy<=0.02"]}
    whole, broken = make(**settings), make(**settings)
    whole.run(workers=3)
    broken.run(workers=3, reopen_every=4)
    assert broken.proposals() == whole.proposals()
    attempts = {t.attempt for t in broken.store.points(broken.study.id)}
    assert max(attempts) > 1


@pytest.mark.slow
def test_generations_go_on(make):
    """NSGA-II keeps its generations, and who their parents were, in the study of Optuna."""
    settings = {"sampler": "nsga2", "trials": 130}
    whole, broken = make(**settings), make(**settings)
    whole.run(workers=2)
    broken.run(workers=2, reopen_every=20)
    assert broken.proposals() == whole.proposals()
    rows = [t.attributes for t in broken.store.trials(broken.study.id)]
    generations = [row["system"]["NSGAIISampler:generation"] for row in rows]
    assert generations == sorted(generations)
    assert set(generations) == {0, 1, 2}
    parents = [row["study"] for row in rows if row["study"]]
    assert [list(changed) for changed in parents] == [
        ["NSGAIISampler:parent:1"],
        ["NSGAIISampler:parent:2"],
    ]


def test_constraints_are_kept(make, sampler):
    study = make(sampler=sampler, trials=14, constraints=["energy<=0.01", "size_mib<=0.06"])
    study.run(workers=2)
    accepted = [
        t for t in study.store.points(study.study.id) if t.state is not TrialState.INFEASIBLE
    ]
    assert len(accepted) == 14
    assert all(t.value("energy") <= 0.01 and t.value("size_mib") <= 0.06 for t in accepted)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(samplers) - {"random"}))
def test_a_sampler_is_at_least_as_good_as_random(make, name):
    """Mean hypervolume of two fixed seeds after 150 trials of an analytic problem."""
    volumes = {}
    for choice in (name, "random"):
        studies = [make(sampler=choice, seed=seed, trials=150, epochs=1) for seed in (1, 2)]
        volumes[choice] = sum(study.run().front.hypervolume for study in studies) / 2
    assert volumes[name] >= volumes["random"]


def test_tpe_learns_to_keep_a_constraint(make):
    """Infeasible proposals are told with their violation, so they become rarer."""
    study = make(sampler="tpe", trials=40, constraints=["energy<=0.01"])
    study.run()
    trials = study.store.points(study.study.id)
    infeasible = [t.state is TrialState.INFEASIBLE for t in trials]
    assert sum(infeasible[:15]) / 15 > 2 * sum(infeasible[-25:]) / 25


def test_a_registered_sampler_has_a_description():
    assert set(samplers) == {"tpe", "nsga2", "random"}
    assert all(factory.__doc__ for factory in samplers.values())


def ask(seed=0):
    return Asker("random", seed, OBJECTIVES).ask()


def test_answers_are_recorded():
    choose = OptunaChoose(ask())
    answers = {
        "colour": choose.option("colour", ("red", "green")),
        "size": choose.ordered("size", (1.5, 2.0, 3.0)),
        "deep": choose.option("deep", (True, False)),
        "rate": choose.number("rate", 1e-4, 1e-1, log=True),
    }
    assert choose.decisions == answers
    assert answers["colour"] in ("red", "green")
    assert answers["size"] in (1.5, 2.0, 3.0)
    assert isinstance(answers["deep"], bool)
    assert 1e-4 <= answers["rate"] <= 1e-1


def test_a_name_is_asked_once():
    choose = OptunaChoose(ask())
    choose.option("colour", ("red", "green"))
    with pytest.raises(ValueError, match="asked 'colour' twice"):
        choose.option("colour", ("red", "green"))


def test_ordered_options_reach_the_sampler_in_order():
    trial = ask()
    OptunaChoose(trial).ordered("bits", (1, 2, 4, 8))
    distribution = trial.distributions["bits"]
    assert (distribution.low, distribution.high) == (0, 3)


def test_seeds_differ_by_study_purpose_and_number():
    seeds = {
        seed_of(study, purpose, number)
        for study in (0, 1)
        for purpose in ("sampler", "training")
        for number in range(50)
    }
    assert len(seeds) == 200
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert 0 <= seed_of(3, "sampler", 7, bits=32) < 2**32
    # the seeds of stored studies must not change with a version
    assert seed_of(0, "training", 0) == 2132375230955523101


def test_replay_takes_trials_in_order_only(make):
    study = make(sampler="random", trials=2)
    study.run()
    asker = Asker("random", 0, study.study.objectives)
    with pytest.raises(ValueError, match="must be 0, but is 1"):
        asker.replay(study.store.trial(study.study.id, 1))
