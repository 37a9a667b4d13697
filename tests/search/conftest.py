"""Stores on SQLite and PostgreSQL, and records to fill them with."""

import os
import secrets
import time
from urllib.parse import quote

import pytest

from bitfront.evaluators.measurement import Measurement
from bitfront.search.record import CurvePoint, StudyObjective, TrialState, new_trial
from bitfront.search.store import open_store
from bitfront.spaces.choose import RandomChoose
from bitfront.spaces.melius import melius
from bitfront.spaces.space import Task

SERVER = os.environ.get("BITFRONT_TEST_POSTGRES", "")
OBJECTIVES = (
    StudyObjective(name="accuracy", unit="fraction", direction="maximize"),
    StudyObjective(name="energy", unit="mJ", direction="minimize"),
)
REFERENCE = {"accuracy": 0.0, "energy": 10.0}
TASK = Task(input=(1, 8, 8), classes=10, epochs=3)


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param(
            "postgresql",
            marks=[
                pytest.mark.postgres,
                pytest.mark.skipif(not SERVER, reason="BITFRONT_TEST_POSTGRES is not set"),
            ],
        ),
    ]
)
def store_url(request, tmp_path):
    """Where a new store can be made: a file, or a schema of its own on the server."""
    if request.param == "sqlite":
        yield str(tmp_path / "bitfront.db")
        return
    import psycopg

    schema = f"bitfront_{secrets.token_hex(6)}"
    with psycopg.connect(SERVER, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
    separator = "&" if "?" in SERVER else "?"
    try:
        yield f"{SERVER}{separator}options={quote(f'-csearch_path={schema}')}"
    finally:
        with psycopg.connect(SERVER, autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA {schema} CASCADE")


@pytest.fixture
def store(store_url):
    with open_store(store_url, create=True) as opened:
        yield opened


@pytest.fixture
def make_study():
    """A factory of studies with accuracy and energy."""

    def make(store, name="first", **changes):
        values = {
            "config": {"version": 1, "space": "melius", "trials": 20},
            "objectives": OBJECTIVES,
            "reference_point": REFERENCE,
            "dataset": "digits",
            "dataset_digest": "d" * 64,
            "seed": 7,
        }
        return store.create_study(name, **{**values, **changes})

    return make


@pytest.fixture
def make_trial():
    """A factory of proposed trials, with a real candidate drawn from their number."""

    def make(number, state=TrialState.RUNNING, energy=1.0, **changes):
        choose = RandomChoose(number)
        candidate = melius(choose, TASK)
        values = {
            "decisions": choose.decisions,
            "candidate": candidate,
            "seed": 100 + number,
            "full_fidelity": TASK.epochs,
            "now": time.time(),
            "measurements": [measured("energy", energy, "mJ", "estimated")],
            "attributes": {"params": dict(choose.decisions), "system": {"generation": 0}},
        }
        return new_trial(number, state=state, **{**values, **changes})

    return make


@pytest.fixture
def run_trial(make_trial):
    """Add a trial and train it: COMPLETE with an accuracy, or PRUNED after some epochs."""

    def run(store, study_id, number, *, accuracy=0.5, energy=1.0, epochs=3):
        store.add_trial(study_id, make_trial(number, energy=energy))
        store.append_curve(study_id, number, curve(epochs, accuracy))
        complete = epochs == TASK.epochs
        return store.finish_trial(
            study_id,
            number,
            state=TrialState.COMPLETE if complete else TrialState.PRUNED,
            measurements=[measured("accuracy", accuracy, "fraction", "measured")],
        )

    return run


@pytest.fixture
def store_of_trials(make_study, run_trial):
    """Make a closed store with one study of so many finished trials."""

    def make(path, trials):
        with open_store(str(path), create=True) as store:
            study = make_study(store)
            for number in range(trials):
                run_trial(store, study.id, number, accuracy=0.5 + number / 1000)

    return make


def measured(objective, value, unit, method, **rest):
    return Measurement(objective=objective, value=value, unit=unit, method=method, **rest)


def curve(epochs, accuracy=0.5):
    return [
        CurvePoint(
            epoch=epoch,
            train_loss=1 / epoch,
            validation_loss=1.1 / epoch,
            validation_accuracy=accuracy * epoch / epochs,
            seconds=0.25,
        )
        for epoch in range(1, epochs + 1)
    ]
