"""Fronts of trials: who may enter, in which order, how much they dominate, which is the knee."""

import math
import random

import pytest

from bitfront.evaluators.measurement import Measurement
from bitfront.search.front import front_of, hypervolume_history, knee, reference_point
from bitfront.search.record import StudyObjective, TrialPoint, TrialState
from bitfront.spaces.errors import InvalidValue

ACCURACY = StudyObjective(name="accuracy", unit="fraction", direction="maximize")
ENERGY = StudyObjective(name="energy", unit="mJ", direction="minimize")
SIZE = StudyObjective(name="size_mib", unit="MiB", direction="minimize")
TWO = (ACCURACY, ENERGY)
REFERENCE = {"accuracy": 0.0, "energy": 10.0}


def trial(number, accuracy, energy, state=TrialState.COMPLETE, size=None, **changes):
    values = {"accuracy": accuracy, "energy": energy, "size_mib": size}
    return TrialPoint(
        number=number,
        state=state,
        decisions={},
        candidate_digest=None,
        architecture_digest=None,
        seed=0,
        full_fidelity=3,
        started_at=0.0,
        finished_at=changes.pop("finished_at", float(number)),
        fidelity=changes.pop("fidelity", 3),
        measurements=tuple(
            Measurement(objective=name, value=value, unit="x", method="measured")
            for name, value in values.items()
            if value is not None
        ),
        **changes,
    )


def numbers(front):
    return [t.number for t in front.members]


def test_only_complete_feasible_trials_of_full_fidelity_are_members():
    trials = [
        trial(0, 0.5, 1.0),
        trial(1, 0.9, 0.1, TrialState.PRUNED, fidelity=1),
        trial(2, 0.9, 0.1, constraints={"energy": 0.01}),
        trial(3, 0.9, 0.1, fidelity=2),
        trial(4, 0.9, 0.1, TrialState.RUNNING, finished_at=None),
        trial(5, 0.9, 0.1, TrialState.FAILED),
        trial(6, 0.9, 0.1, TrialState.INFEASIBLE),
        trial(7, 0.9, 0.1, TrialState.DUPLICATE, duplicate_of=0),
        trial(8, 0.6, 2.0, constraints={"energy": 0.0}),
    ]
    front = front_of(trials, TWO, REFERENCE)
    assert numbers(front) == [8, 0]
    assert front.hypervolume == pytest.approx(0.5 * 1 + 0.1 * math.log10(5))


def test_equal_trials_are_all_members_in_the_order_of_their_numbers():
    trials = [trial(4, 0.5, 1.0), trial(2, 0.5, 1.0), trial(3, 0.7, 3.0), trial(1, 0.4, 1.0)]
    assert numbers(front_of(trials, TWO, REFERENCE)) == [3, 2, 4]
    # neighbouring floats have one logarithm, and still one dominates the other
    close = [trial(0, 0.5, 1.0), trial(1, 0.5, math.nextafter(1.0, 0.0))]
    assert numbers(front_of(close, TWO, REFERENCE)) == [1]


def test_a_hypervolume_does_not_depend_on_units():
    points = [(0.5, 1.0), (0.8, 4.0), (0.3, 0.2)]
    milli = front_of([trial(i, a, e) for i, (a, e) in enumerate(points)], TWO, REFERENCE)
    micro = front_of(
        [trial(i, a, 1000 * e) for i, (a, e) in enumerate(points)],
        TWO,
        {"accuracy": 0.0, "energy": 10_000.0},
    )
    assert micro.hypervolume == pytest.approx(milli.hypervolume, rel=1e-12)
    assert milli.hypervolume == pytest.approx(
        0.8 * math.log10(2.5) + 0.5 * math.log10(4.0) + 0.3 * math.log10(5.0)
    )


def test_a_cost_of_zero_and_points_beyond_the_reference():
    front = front_of([trial(0, 0.5, 0.0), trial(1, 0.9, 11.0)], TWO, REFERENCE)
    assert numbers(front) == [1, 0]
    assert front.hypervolume == pytest.approx(0.5 * 9)
    empty = front_of([], TWO, REFERENCE)
    assert (empty.members, empty.hypervolume, knee(empty)) == ((), 0.0, None)


def test_three_objectives_and_one():
    trials = [
        trial(0, 0.5, 1.0, size=1.0),
        trial(1, 0.5, 2.0, size=0.1),
        trial(2, 0.5, 2.0, size=1.0),
    ]
    front = front_of(trials, (ACCURACY, ENERGY, SIZE), {**REFERENCE, "size_mib": 1.0})
    assert numbers(front) == [0, 1]
    assert front.hypervolume == pytest.approx(0.5 * math.log10(5))
    only = front_of(trials, (ENERGY,), {"energy": 10.0})
    assert numbers(only) == [0]
    assert only.hypervolume == pytest.approx(1.0)


def test_the_knee_is_farthest_from_the_chord():
    corner = [trial(0, 0.9, 10.0), trial(1, 0.85, 1.0), trial(2, 0.1, 0.1), trial(3, 0.5, 0.4)]
    assert knee(front_of(corner, TWO, REFERENCE)).number == 1
    # on the chord itself, costs by their logarithm, all are equal: the lowest number
    line = [trial(2, 0.9, 1.0), trial(1, 0.6, 0.1), trial(3, 0.3, 0.01)]
    assert knee(front_of(line, TWO, REFERENCE)).number == 1
    assert knee(front_of(line[:1], TWO, REFERENCE)).number == 2
    assert knee(front_of(corner[::-1], TWO, REFERENCE)).number == 1


def test_the_history_never_descends_and_ends_at_the_front():
    dice = random.Random(5)
    trials = [
        trial(n, dice.random(), 10 ** dice.uniform(-2, 1.2), finished_at=dice.random())
        for n in range(200)
    ] + [trial(200, 1.0, 0.001, TrialState.PRUNED)]
    history = hypervolume_history(trials, TWO, REFERENCE)
    by_time = sorted(trials[:200], key=lambda t: t.finished_at)
    assert [p.number for p in history] == [t.number for t in by_time]
    assert [p.evaluated for p in history] == list(range(1, 201))
    volumes = [p.hypervolume for p in history]
    assert volumes == sorted(volumes)
    for so_far in (1, 7, 50, 200):
        front = front_of(by_time[:so_far], TWO, REFERENCE)
        assert history[so_far - 1].hypervolume == pytest.approx(front.hypervolume)
        assert history[so_far - 1].members == len(front.members)
    assert hypervolume_history([], TWO, REFERENCE) == ()


def test_the_reference_point_is_derived_from_the_objectives():
    assert reference_point(TWO, {"energy": 31.5}) == {"accuracy": 0.0, "energy": 31.5}
    assert reference_point((ACCURACY,), {}) == {"accuracy": 0.0}
    with pytest.raises(InvalidValue, match="needs the worst energy"):
        reference_point(TWO, {"ops": 1.0})
    for wrong in (0.0, -1.0):
        with pytest.raises(InvalidValue, match="energy, a cost, must be positive"):
            reference_point(TWO, {"energy": wrong})
    with pytest.raises(InvalidValue, match="must be finite"):
        reference_point(TWO, {"energy": math.inf})


def test_what_is_missing_is_named():
    with pytest.raises(InvalidValue, match="Trial 0 has no value of size_mib"):
        front_of([trial(0, 0.5, 1.0)], (ACCURACY, SIZE), {"accuracy": 0.0, "size_mib": 1.0})
    with pytest.raises(InvalidValue, match="must have the objectives"):
        front_of([], TWO, {"accuracy": 0.0})
