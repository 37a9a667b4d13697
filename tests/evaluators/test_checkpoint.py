"""Checkpoints: exact resume, and refusal of whatever is not the same run or not whole."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bitfront.evaluators.training import (
    DataSet,
    Trainer,
    load_dataset,
    read_checkpoint,
    read_weights,
)
from bitfront.evaluators.training import checkpoint as module
from bitfront.spaces.candidate import Candidate
from bitfront.spaces.choose import RandomChoose
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.melius import melius
from bitfront.spaces.network import build
from bitfront.spaces.space import Task

TASK = Task(input=(1, 8, 8), classes=10, epochs=4)


def _candidate(**recipe: object) -> Candidate:
    candidate = melius(RandomChoose(1), TASK)
    return replace(candidate, recipe=replace(candidate.recipe, **recipe))


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> DataSet:
    data = load_dataset("digits", data_dir=tmp_path_factory.mktemp("data"))
    rows = np.arange(40)
    return DataSet(
        name="digits",
        class_names=data.class_names,
        train=data.train.take(rows),
        validation=data.validation.take(rows),
        test=data.test.take(rows),
    )


def _trainer(data: DataSet, seed: int = 0, **recipe: object) -> Trainer:
    return Trainer(_candidate(**recipe), data, seed=seed, device="cpu", threads=1)


@pytest.fixture
def saved(few, tmp_path) -> Path:
    trainer = _trainer(few)
    trainer.run_epoch()
    trainer.save(tmp_path / "run")
    return tmp_path / "run"


def _tensor_file(directory: Path) -> Path:
    (path,) = directory.glob("tensors-*.safetensors")
    return path


@pytest.mark.parametrize(
    ("optimizer", "augmentation"),
    [("radam", "crop-flip"), ("adamw", "resized-crop-flip"), ("sgd", "shift")],
)
def test_resume_is_exact(few, tmp_path, optimizer, augmentation):
    recipe = {
        "optimizer": optimizer,
        "augmentation": augmentation,
        "warmup_epochs": 1,
        "weight_decay": 0.01,
        "learning_rate": 0.01,
        "batch_size": 24,
    }
    straight = _trainer(few, **recipe)
    for _ in range(4):
        straight.run_epoch()
    first = _trainer(few, **recipe)
    for _ in range(2):
        first.run_epoch()
    first.save(tmp_path)
    second = _trainer(few, **recipe)
    # neither what it did before nor torch's global state may matter
    second.run_epoch()
    torch.manual_seed(99)
    second.load(tmp_path)
    assert second.epoch == 2
    for _ in range(2):
        second.run_epoch()
    expected = straight.network.state_dict()
    for name, value in second.network.state_dict().items():
        assert torch.equal(value, expected[name]), name
    strip = [replace(r, seconds=0) for r in straight.history]
    assert [replace(r, seconds=0) for r in second.history] == strip


def test_a_run_can_be_saved_before_it_starts(few, tmp_path):
    _trainer(few).save(tmp_path)
    straight, resumed = _trainer(few), _trainer(few)
    resumed.run_epoch()
    resumed.load(tmp_path)
    assert resumed.epoch == 0
    assert straight.run_epoch().train_loss == resumed.run_epoch().train_loss


def test_random_streams_of_the_network_go_on(few, tmp_path):
    """What a network draws from torch's global stream is part of the run."""

    def noisy() -> Trainer:
        trainer = _trainer(few)
        drawn = []

        def draw(*_: object) -> None:
            drawn.append(float(torch.rand(())))

        trainer.network.register_forward_pre_hook(draw)
        trainer.drawn = drawn
        return trainer

    straight, first, second = noisy(), noisy(), noisy()
    for _ in range(2):
        straight.run_epoch()
    first.run_epoch()
    first.save(tmp_path)
    second.load(tmp_path)
    second.run_epoch()
    assert straight.drawn == first.drawn + second.drawn
    assert len(set(straight.drawn)) == len(straight.drawn)


def test_weights_alone_can_be_read(few, saved):
    trainer = _trainer(few)
    trainer.load(saved)
    network = build(trainer.candidate.architecture)
    network.load_state_dict(read_weights(saved))
    for name, value in trainer.network.state_dict().items():
        assert torch.equal(value, network.state_dict()[name])


def test_a_checkpoint_tells_what_it_is(few, saved):
    progress = read_checkpoint(saved).progress
    assert progress.candidate == _candidate()
    assert (progress.data, progress.data_digest) == ("digits", few.digest)
    steps = _trainer(few).steps_per_epoch
    assert (progress.epoch, progress.step, progress.seed) == (1, steps, 0)
    assert len(progress.history) == 1
    json.loads((saved / "checkpoint.json").read_text(), parse_constant=pytest.fail)


def test_saving_again_replaces_and_leaves_nothing_behind(few, saved):
    trainer = _trainer(few)
    trainer.load(saved)
    old = _tensor_file(saved)
    trainer.run_epoch()
    trainer.save(saved)
    assert not old.exists()
    assert sorted(p.name for p in saved.iterdir()) == ["checkpoint.json", _tensor_file(saved).name]
    assert read_checkpoint(saved).progress.epoch == 2


@pytest.mark.parametrize("survives", [0, 1])
def test_a_crash_while_saving_leaves_the_earlier_checkpoint(few, saved, monkeypatch, survives):
    """The process dies in its first or in its second rename."""
    trainer = _trainer(few)
    trainer.load(saved)
    before = read_checkpoint(saved)
    trainer.run_epoch()
    calls = []
    replace_file = os.replace

    def dies(source: object, target: object) -> None:
        calls.append(target)
        if len(calls) > survives:
            raise KeyboardInterrupt
        replace_file(source, target)

    monkeypatch.setattr(os, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        trainer.save(saved)
    after = read_checkpoint(saved)
    assert after.progress == before.progress
    assert all(torch.equal(after.tensors[n], t) for n, t in before.tensors.items())


def test_another_candidate_is_refused(few, saved):
    with pytest.raises(InvalidValue, match="must be of this candidate"):
        _trainer(few, learning_rate=0.5).load(saved)


def test_another_data_set_is_refused(few, saved):
    other = replace(few, test=few.validation)
    with pytest.raises(InvalidValue, match=r"must be of this data set \(digits\)"):
        _trainer(other).load(saved)


def test_another_seed_is_refused(few, saved):
    with pytest.raises(InvalidValue, match="must be of this seed, 1, but is of 0"):
        _trainer(few, seed=1).load(saved)


def test_a_missing_checkpoint_is_refused(few, saved, tmp_path):
    with pytest.raises(InvalidValue, match=r"absent must hold a checkpoint"):
        _trainer(few).load(tmp_path / "absent")
    _tensor_file(saved).unlink()
    with pytest.raises(InvalidValue, match=r"needs .*safetensors, which cannot be read"):
        _trainer(few).load(saved)


def test_damaged_tensors_are_refused(few, saved):
    path = _tensor_file(saved)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InvalidValue, match="is damaged"):
        _trainer(few).load(saved)
    path.write_bytes(content[:1000])
    with pytest.raises(InvalidValue, match="is damaged"):
        _trainer(few).load(saved)


def _edit(directory: Path, **changes: object) -> None:
    path = directory / "checkpoint.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"version": 2}, "at most version 1, but has 2; a newer bitfront"),
        ({"tensors": "../../etc/passwd"}, "must name its tensor file"),
        ({"tensors": 5}, "must name its tensor file"),
        ({"epoch": 3}, "one result per epoch"),
        ({"candidate_digest": "0" * 64}, "candidate_digest must be the candidate's"),
        ({"surprise": 1}, "has no field 'surprise'"),
        ({"seed": "x"}, "seed must be a whole number"),
    ],
)
def test_edited_records_are_refused(few, saved, changes, text):
    _edit(saved, **changes)
    with pytest.raises(InvalidValue, match=text):
        _trainer(few).load(saved)


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "[" * 100_000])
def test_records_that_are_no_json_object_are_refused(few, saved, text):
    (saved / "checkpoint.json").write_text(text)
    with pytest.raises(InvalidValue, match="must be"):
        _trainer(few).load(saved)


def _rewrite(directory: Path, changes: dict[str, torch.Tensor | None]) -> None:
    checkpoint = read_checkpoint(directory)
    tensors = {n: t for n, t in (dict(checkpoint.tensors) | changes).items() if t is not None}
    module.write_checkpoint(directory, replace(checkpoint, tensors=tensors))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"model.stem.conv.weight": None}, "do not fit this candidate's network"),
        ({"model.stem.conv.weight": torch.zeros(3)}, "do not fit this candidate's network"),
        ({"model.other": torch.zeros(3)}, "do not fit this candidate's network"),
        ({"optimizer.999.exp_avg": torch.zeros(3)}, "no parameter for the tensor"),
        ({"optimizer.0.exp_avg": torch.zeros(3)}, "optimizer's tensor '0.exp_avg' must be"),
        ({"random.shuffle": None}, "Random states"),
        ({"random.cpu": torch.zeros(3, dtype=torch.uint8)}, "Random states"),
    ],
)
def test_tensors_of_another_network_are_refused(few, saved, changes, text):
    _rewrite(saved, changes)
    with pytest.raises(InvalidValue, match=text):
        _trainer(few).load(saved)


def test_nothing_is_pickled(saved):
    content = b"".join(p.read_bytes() for p in saved.iterdir())
    assert b"torch._utils" not in content
    assert _tensor_file(saved).read_bytes()[8:9] == b"{"
