"""A training that cannot fit is refused before anything is allocated."""

from __future__ import annotations

import resource

import numpy as np
import pytest
import torch

from bitfront.evaluators.training import DataSet, EvaluationFailed, Trainer
from bitfront.evaluators.training.memory import activation_bytes, check_memory, device_bytes
from bitfront.evaluators.training.splits import Split
from bitfront.spaces import Candidate, RandomChoose, Recipe, Task, spaces, zoo

CPU = torch.device("cpu")


def test_the_message_says_what_there_is_and_what_is_needed():
    graph = zoo.get("resnet18-fp").architecture().lower()
    images = 10 * device_bytes(CPU) // activation_bytes(graph, 1)
    check_memory(graph, 1, CPU)
    with pytest.raises(EvaluationFailed) as caught:
        check_memory(graph, images, CPU)
    text = str(caught.value)
    assert f"{device_bytes(CPU) / 2**30:.3g} GiB" in text
    # 11,689,512 parameters and their gradients; the statistics of the batch norms beside them
    assert "0.0872 GiB" in text
    assert f"of {images} images {activation_bytes(graph, images) / 2**30:.3g} GiB" in text
    assert "A smaller batch_size" in text


def test_a_trainer_asks_for_its_largest_step(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "bitfront.evaluators.training.loop.check_memory", lambda *a: asked.append(a[1:])
    )
    split = Split(images=np.zeros((7, 1, 8, 8), np.uint8), labels=np.arange(7))
    data = DataSet(
        name="x", class_names=tuple("0123456789"), train=split, validation=split, test=split
    )
    candidate = spaces["melius"](RandomChoose(0), Task(input=(1, 8, 8), classes=10))
    for batch_size, largest in ((3, 3), (4, 4), (6, 4), (7, 7), (4096, 7)):
        recipe = Recipe(epochs=1, batch_size=batch_size)
        changed = Candidate(architecture=candidate.architecture, recipe=recipe)
        Trainer(changed, data, seed=0, device="cpu")
        assert asked.pop() == (largest, CPU)


def test_a_limit_of_the_process_or_its_group_is_what_there_is(monkeypatch, tmp_path):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (2**30, resource.RLIM_INFINITY))
    assert device_bytes(CPU) == 2**30
    group = tmp_path / "memory.max"
    monkeypatch.setattr("bitfront.evaluators.training.memory.CGROUP_LIMIT", group)
    assert device_bytes(CPU) == 2**30
    group.write_text("max\n")
    assert device_bytes(CPU) == 2**30
    group.write_text("536870912\n")
    assert device_bytes(CPU) == 2**29
