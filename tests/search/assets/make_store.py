"""Write the text dump of a small store of the present schema, to be kept for ever.

Run `python tests/search/assets/make_store.py` once per schema version, when it is released; later
code must go on opening what this wrote.
"""

import sqlite3
import tempfile
from pathlib import Path

from bitfront.evaluators.measurement import Measurement
from bitfront.search.record import (
    CurvePoint,
    EnergyEntry,
    ExportRecord,
    Retraining,
    StudyObjective,
    StudyState,
    TrialState,
    new_trial,
)
from bitfront.search.store import open_store
from bitfront.search.store.schema import VERSION
from bitfront.spaces.choose import RandomChoose
from bitfront.spaces.melius import melius
from bitfront.spaces.space import Task

ACCURACIES = (0.81, 0.9, 0.86)
ENERGIES = (0.5, 2.0, 4.0)


def fill(store):
    study = store.create_study(
        "old <study>",
        config={"version": 1, "space": "melius", "trials": 4},
        objectives=[
            StudyObjective(name="accuracy", unit="fraction", direction="maximize"),
            StudyObjective(name="energy", unit="mJ", direction="minimize"),
        ],
        reference_point={"accuracy": 0.0, "energy": 8.0},
        dataset="digits",
        dataset_digest="0" * 64,
        seed=3,
    ).id
    store.acquire_lease(study)
    for number, (accuracy, energy) in enumerate(zip(ACCURACIES, ENERGIES, strict=True)):
        store.add_trial(study, proposed(number, energy))
        store.append_curve(study, number, [point(1, accuracy / 2), point(2, accuracy)])
        store.finish_trial(
            study,
            number,
            state=TrialState.COMPLETE,
            measurements=[
                Measurement(
                    objective="accuracy", value=accuracy, unit="fraction", method="measured"
                )
            ],
            energy=[EnergyEntry(account=f"trial/{number}", kwh=0.001, method="estimated")],
        )
    store.add_trial(study, proposed(3, 1.0))
    store.append_curve(study, 3, [point(1, 0.3)])
    store.finish_trial(study, 3, state=TrialState.PRUNED)
    store.add_trial(
        study,
        proposed(4, 9.0, TrialState.INFEASIBLE, constraints={"energy": 1.0}, error="too much"),
    )
    store.add_trial(study, proposed(5, 0.5, TrialState.DUPLICATE, duplicate_of=0))
    store.add_trial(study, proposed(6, 1.0))
    store.finish_trial(study, 6, state=TrialState.FAILED, error="The loss is nan.")
    store.add_trial(study, proposed(7, 1.0))
    store.set_checkpoint(study, 7, "/runs/old/7")
    store.requeue(study, 7)
    store.add_energy(study, [EnergyEntry(account="overhead", kwh=0.002, method="estimated")])
    store.add_retraining(
        study,
        Retraining(
            trial=1, seed=11, epochs=2, validation_accuracy=0.9, test_accuracy=0.88, created_at=9.0
        ),
    )
    store.add_export(
        study,
        ExportRecord(
            trial=1, format="onnx", path="/out/net.onnx", verified=True, flips=0, images=297,
            created_at=10.0,
        ),
    )  # fmt: skip
    store.set_study_state(study, StudyState.OPEN, "Interrupted after 4 trials.")


def proposed(number, energy, state=TrialState.RUNNING, **rest):
    choose = RandomChoose(number)
    candidate = melius(choose, Task(input=(1, 8, 8), classes=10, epochs=2))
    return new_trial(
        number,
        decisions=choose.decisions,
        candidate=candidate,
        state=state,
        seed=number,
        full_fidelity=2,
        now=1_700_000_000.0 + number,
        measurements=[
            Measurement(
                objective="energy", value=energy, unit="mJ", method="estimated",
                low=energy / 2, high=energy * 2, hardware="boolnet65",
            )
        ],
        attributes={"params": dict(choose.decisions)},
        **rest,
    )  # fmt: skip


def point(epoch, accuracy):
    return CurvePoint(
        epoch=epoch,
        train_loss=1.0,
        validation_loss=1.25,
        validation_accuracy=accuracy,
        seconds=0.5,
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.db"
        with open_store(str(path), create=True) as new:
            fill(new)
        dump = "\n".join(sqlite3.connect(path).iterdump()) + "\n"
    target = Path(__file__).parent / f"store_v{int(VERSION)}.sql"
    target.write_text(dump)
