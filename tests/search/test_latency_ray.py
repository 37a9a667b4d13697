"""A real search for accuracy, energy and latency: Ray, two workers, held while layers are timed."""

from contextlib import contextmanager

import psutil
import pytest

pytest.importorskip("ray.tune")

from bitfront.evaluators.latency import layers_of
from bitfront.search import layers, reference
from bitfront.search.config import read_settings
from bitfront.search.layers import measured_latency
from bitfront.search.record import StudyState, TrialState
from bitfront.search.store import open_store
from bitfront.search.study import resolve, run_search

pytestmark = pytest.mark.slow


def trainings():
    """States of Ray's workers below this process."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            # Ray's own server has the name of the script inside one of its arguments
            line = process.cmdline()
            if line[0].startswith("ray::") or any(p.endswith("default_worker.py") for p in line):
                found.append(process.status())
        except (psutil.Error, IndexError):
            continue
    return found


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A finished search, and the states of its workers at each timing."""
    store = str(tmp_path_factory.mktemp("latency") / "a.db")
    flags = {
        "store": store,
        "objectives": "accuracy,energy,latency",
        "trials": 5,
        "epochs": 1,
        "workers": 2,
        "sampler": "random",
    }
    config = resolve(read_settings(None, flags))
    seen = []
    phases = []
    with pytest.MonkeyPatch.context() as patch:
        # a small reference: what is missing afterwards is timed beside the trainings
        patch.setattr(reference, "SAMPLES", 2)
        original = layers.held

        @contextmanager
        def held(reported):
            with original(reported) as count:
                before = trainings()
                yield count
                seen.append((before, trainings()))

        patch.setattr(layers, "held", held)
        result = run_search(config, progress=lambda p: phases.append(p.phase))
    return config, result, seen, phases


def test_no_layer_is_timed_beside_a_training(searched):
    _, _, seen, _ = searched
    beside = [states for pair in seen for states in pair if states]
    # two workers are there when the third candidate is proposed, at the latest
    assert any(len(states) >= 2 for states in beside)
    for states in beside:
        assert set(states) == {psutil.STATUS_STOPPED}
    assert trainings() == []


def test_the_trials_are_complete_and_the_front_is_timed_end_to_end(searched):
    config, result, _, phases = searched
    assert result.study.state is StudyState.FINISHED
    assert dict.fromkeys(phases).keys() >= {"timing layers", "searching", "timing the front"}
    with open_store(config.store, create=False) as store:
        complete = store.trials(result.study.id, states=[TrialState.COMPLETE])
        (table,) = store.layer_tables()
    assert len(complete) == 5
    for trial in complete:
        used = layers_of(trial.candidate.architecture.lower())
        assert trial.value("latency") == table.latency(used).value
        assert trial.value("energy") > 0
    assert result.front.members
    for member in result.front.members:
        whole = measured_latency(member)
        assert whole.method == "measured"
        assert whole.hardware == table.setting.place
