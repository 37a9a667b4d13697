"""Objectives: registry, directions, and what is known before training."""

from __future__ import annotations

import math

import pytest

from bitfront.evaluators.cost import count, estimate_energy, peak_memory_bytes
from bitfront.evaluators.hardware.profile import load_profile
from bitfront.evaluators.measurement import Measurement
from bitfront.evaluators.objective import Costed, cost_measurements, objectives
from bitfront.spaces import InvalidValue, zoo
from bitfront.spaces.plan import plan


def test_every_objective_has_a_unit_a_direction_and_a_title():
    for name, objective in objectives.items():
        assert objective.name == name
        assert objective.unit
        assert objective.title
        assert objective.direction in ("maximize", "minimize")
        assert objective.needs in ("nothing", "hardware", "layers", "training")
        assert (objective.measure is None) == (objective.needs == "training")


def test_costs_are_those_of_the_estimators():
    architecture = zoo.get("quicknet-small").architecture()
    profile = load_profile("boolnet65")
    found = cost_measurements(architecture, profile)
    graph = architecture.lower()
    assert found["params"].value == count(graph).params
    assert found["size_mib"].value == count(graph).size_mib
    assert found["ops"].value == count(graph, "full").ops
    assert found["memory"].value == peak_memory_bytes(plan(graph))
    energy = estimate_energy(plan(graph), profile)
    assert found["energy"].value == energy.total_mj
    assert found["energy"].low < found["energy"].value < found["energy"].high
    assert found["energy"].method == "estimated"
    assert found["energy"].hardware == "boolnet65"
    assert {m.method for n, m in found.items() if n != "energy"} == {"analytic"}


def test_without_hardware_there_is_no_energy():
    found = cost_measurements(zoo.get("quicknet-small").architecture(), None)
    assert set(found) == {"ops", "params", "size_mib", "memory"}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"value": math.nan}, "finite"),
        ({"value": math.inf}, "finite"),
        ({"method": "guessed"}, "analytic"),
        ({"repeats": 0}, "at least 1"),
        ({"low": 2.0}, "low <= value"),
        ({"high": 0.5}, "value <= high"),
    ],
)
def test_a_measurement_that_says_nothing_is_refused(change, sentence):
    good = {"objective": "energy", "value": 1.0, "unit": "mJ", "method": "estimated"}
    with pytest.raises(InvalidValue, match=sentence):
        Measurement(**{**good, **change})


def test_the_latency_needs_a_table():
    graph = zoo.get("quicknet-small").architecture().lower()
    costed = Costed(graph=graph, plan=plan(graph))
    with pytest.raises(InvalidValue, match="needs a table of layer times"):
        objectives["latency"].measure(costed)
