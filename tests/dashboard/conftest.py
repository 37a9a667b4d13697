"""A store as a search leaves it: real candidates and costs, plausible learning curves."""

import math
import random
import time
from types import SimpleNamespace

import pytest

from bitfront.evaluators.hardware.profile import load_profile
from bitfront.evaluators.measurement import Measurement
from bitfront.evaluators.objective import cost_measurements
from bitfront.search.record import (
    CurvePoint,
    EnergyEntry,
    ExportRecord,
    Retraining,
    StudyObjective,
    StudyState,
    TrialState,
    new_trial,
    trial_account,
)
from bitfront.search.store import open_store
from bitfront.spaces import InvalidValue, RandomChoose, Task, spaces

EPOCHS = 12
TASK = Task(input=(1, 8, 8), classes=10, epochs=EPOCHS)
OBJECTIVES = (
    StudyObjective(name="accuracy", unit="fraction", direction="maximize"),
    StudyObjective(name="energy", unit="mJ", direction="minimize"),
)
REFERENCE = {"accuracy": 0.0, "energy": 0.4}
CONFIG = {
    "dataset": "digits",
    "space": "melius",
    "objectives": ["accuracy", "energy"],
    "hardware": "boolnet65",
    "constraints": [{"objective": "energy", "operator": "<=", "bound": 0.1}],
    "sampler": "tpe",
    "trials": 80,
    "epochs": EPOCHS,
    "version": 1,
}
MAX_ENERGY_MJ = 0.1


def proposals(seed=0):
    """Candidates of the space with their decisions and costs, for ever."""
    profile = load_profile("boolnet65")
    number = 0
    while True:
        number += 1
        choose = RandomChoose(f"{seed}/{number}")
        try:
            candidate = spaces["melius"](choose, TASK)
            costs = cost_measurements(candidate.architecture, profile)
        except InvalidValue:
            continue
        yield choose.decisions, candidate, costs


def curve(chance, ceiling, epochs):
    """A learning curve that rises towards a ceiling."""
    points = []
    for epoch in range(1, epochs + 1):
        accuracy = ceiling * (1 - 0.75 * math.exp(-epoch / 2.5)) + chance.gauss(0, 0.006)
        points.append(
            CurvePoint(
                epoch=epoch,
                train_loss=2.3 * math.exp(-epoch / 4) + 0.1 * chance.random(),
                validation_loss=2.3 * math.exp(-epoch / 4.5) + 0.15 + 0.05 * chance.random(),
                validation_accuracy=min(max(accuracy, 0.0), 1.0),
                seconds=1.5 + chance.random(),
            )
        )
    return tuple(points)


def fill(store, name, trials, *, seed=0, dataset="digits", config=CONFIG, objectives=OBJECTIVES):
    """Write a study with so many trials through the store."""
    study = store.create_study(
        name,
        config={**config, "dataset": dataset},
        objectives=objectives,
        reference_point={o.name: REFERENCE.get(o.name, 1e9) for o in objectives},
        dataset=dataset,
        dataset_digest="5f" * 32,
        seed=seed,
    )
    chance = random.Random(seed)
    found = proposals(seed)
    for number in range(trials):
        add(store, study.id, number, next(found), chance)
    return study


def add(store, study_id, number, proposal, chance, state=None, bound=MAX_ENERGY_MJ):
    """Propose and finish one trial; the state is drawn if it is not given."""
    decisions, candidate, costs = proposal
    violation = costs["energy"].value - bound
    trial = new_trial(
        number,
        decisions=decisions,
        candidate=candidate,
        state=TrialState.INFEASIBLE if violation > 0 else TrialState.RUNNING,
        seed=1000 + number,
        full_fidelity=EPOCHS,
        now=time.time() - 20 - number / 3,
        measurements=costs.values(),
        constraints={"energy": violation},
        error=f"energy <= {bound} must hold." if violation > 0 else "",
    )
    store.add_trial(study_id, trial)
    if violation > 0:
        return
    ceiling = 0.985 - 0.02 / (1 + 40 * costs["energy"].value) - 0.25 * chance.random() ** 3
    state = (
        state
        or chance.choices((TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED), (70, 26, 4))[
            0
        ]
    )
    epochs = EPOCHS if state is TrialState.COMPLETE else chance.randint(2, 5)
    points = curve(chance, ceiling, epochs)
    store.append_curve(study_id, number, points)
    if state is TrialState.RUNNING:
        return
    accuracy = Measurement(
        objective="accuracy",
        value=points[-1].validation_accuracy,
        unit="fraction",
        method="measured",
        versions="torch 2.11",
    )
    store.finish_trial(
        study_id,
        number,
        state=state,
        measurements=() if state is TrialState.FAILED else (accuracy,),
        error="The loss became NaN in epoch 3." if state is TrialState.FAILED else "",
        energy=(EnergyEntry(account=trial_account(number), kwh=2e-5, method="estimated"),),
    )


def decorate(store, study_id, number):
    """Retrainings and exports of a trial."""
    for seed, accuracy in ((1, 0.951), (2, 0.957), (3, 0.948)):
        store.add_retraining(
            study_id,
            Retraining(
                trial=number,
                seed=seed,
                epochs=EPOCHS,
                validation_accuracy=accuracy + 0.004,
                test_accuracy=accuracy,
                created_at=time.time(),
            ),
        )
    for form, flips in (("onnx", 0), ("pt2", 1)):
        store.add_export(
            study_id,
            ExportRecord(
                trial=number,
                format=form,
                path=f"bitfront-export/{number}.{form}",
                verified=flips == 0,
                flips=flips,
                images=360,
                created_at=time.time(),
            ),
        )


MARKUP = '<img src=x onerror="alert(1)"> & <b>a/b?c#d%2F</b>'


@pytest.fixture(scope="session")
def seeds():
    """What writes to a store as a search does."""
    return SimpleNamespace(
        fill=fill,
        add=add,
        decorate=decorate,
        proposals=proposals,
        OBJECTIVES=OBJECTIVES,
        MARKUP=MARKUP,
        EPOCHS=EPOCHS,
    )


@pytest.fixture(scope="session")
def filled(tmp_path_factory):
    """Path of a store with a finished study, one of markup, an empty one and one for ImageNet."""
    path = tmp_path_factory.mktemp("store") / "bitfront.db"
    with open_store(str(path), create=True) as store:
        study = fill(store, "digits-melius", 80)
        best = max(
            (t for t in store.points(study.id) if t.is_eligible), key=lambda t: t.value("accuracy")
        )
        decorate(store, study.id, best.number)
        store.set_study_state(study.id, StudyState.FINISHED, "All 80 trials are done.")
        fill(store, MARKUP, 6, seed=1)
        fill(store, "fresh", 0, seed=2)
        fill(store, "large images", 12, seed=3, dataset="folder:/data/imagenet")
    return path


@pytest.fixture
def store(filled):
    """The same store, opened as the command line opens it for the dashboard."""
    with open_store(str(filled), create=False, read_only=True) as opened:
        yield opened


@pytest.fixture
def study(store):
    return store.load_study("digits-melius")
