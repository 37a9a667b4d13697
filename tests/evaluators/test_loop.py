"""The training loop on real digits and a real 1-bit MeliusNet."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace
from math import isfinite

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from bitfront.evaluators.training import (
    DataSet,
    EvaluationFailed,
    Split,
    Trainer,
    activation_bytes,
    load_dataset,
)
from bitfront.evaluators.training.optimizer import build_optimizer, decays, learning_rate
from bitfront.evaluators.training.streams import sub_seed
from bitfront.spaces.candidate import Candidate
from bitfront.spaces.choose import replay
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.graph import Role
from bitfront.spaces.melius import melius
from bitfront.spaces.network import build
from bitfront.spaces.recipe import Recipe
from bitfront.spaces.space import Task

DECISIONS = {
    "stages": 2,
    "stem.channels": 16,
    "shortcut_bits": 8,
    "bits": "mixed",
    "stage0.units": 3,
    "stage0.pattern": "DI",
    "stage0.growth": 8,
    "stage0.kernel_size": 3,
    "stage0.reduction": 2.0,
    "stage1.units": 1,
    "stage1.pattern": "DI",
    "stage1.growth": 8,
    "stage1.kernel_size": 1,
    "stage1.weight_bits": 1,
    "stage1.activation_bits": 1,
    "learning_rate": 0.01,
    "t_clip": 1.3,
}


def _candidate(task: Task | None = None, **recipe: object) -> Candidate:
    """The smallest 1-bit MeliusNet of the space; ``recipe`` changes fields of its recipe."""
    task = task or Task(input=(1, 8, 8), classes=10, epochs=4)
    candidate = melius(replay(DECISIONS), task)
    return replace(candidate, recipe=replace(candidate.recipe, **{"batch_size": 64, **recipe}))


def _first(data: DataSet, count: int) -> DataSet:
    rows = np.arange(count)
    return DataSet(
        name=data.name,
        class_names=data.class_names,
        train=data.train.take(rows),
        validation=data.validation.take(rows),
        test=data.test.take(rows),
    )


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> DataSet:
    return load_dataset("digits", data_dir=tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def few(digits) -> DataSet:
    return _first(digits, 100)


def _trainer(data: DataSet, *, seed: int = 0, **recipe: object) -> Trainer:
    return Trainer(_candidate(**recipe), data, seed=seed, device="cpu", threads=1)


def _parameters(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.network.state_dict().items()}


def _same(one: Trainer, other: Trainer) -> bool:
    a, b = _parameters(one), _parameters(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# learning


def test_the_body_is_binary():
    bits = {
        (n.facts.w_bits, n.facts.a_bits)
        for n in _candidate().architecture.lower().nodes
        if n.facts.macs
    }
    assert bits == {(1, 1), (32, 32)}


def test_the_loss_falls_on_one_batch(digits):
    trainer = _trainer(_first(digits, 64), epochs=12, augmentation="none", optimizer="adamw")
    losses = [trainer.run_epoch().train_loss for _ in range(12)]
    assert losses[0] > 2.0
    assert losses[-1] < 0.75 * losses[0]


@pytest.mark.slow
def test_a_binary_network_learns_the_digits(digits):
    # not RAdam: its rectification holds the first hundred steps back
    trainer = _trainer(digits, epochs=6, optimizer="adamw")
    results = [trainer.run_epoch() for _ in range(6)]
    assert results[-1].validation_accuracy > 0.7
    assert trainer.evaluate("test").accuracy > 0.7


@pytest.mark.parametrize("optimizer", ["radam", "adamw", "sgd"])
@pytest.mark.parametrize("augmentation", ["shift", "crop-flip", "resized-crop-flip"])
def test_every_optimizer_and_augmentation_trains(few, optimizer, augmentation):
    trainer = _trainer(few, optimizer=optimizer, augmentation=augmentation, label_smoothing=0.1)
    before = _parameters(trainer)
    result = trainer.run_epoch()
    assert isfinite(result.train_loss)
    changed = [
        name
        for name, value in before.items()
        if not torch.equal(value, trainer.network.state_dict()[name])
    ]
    fixed = {row.name for row in trainer.network.graph.parameters() if row.role is Role.BUFFER}
    assert set(changed) == set(before) - fixed


def test_one_epoch_equals_the_plain_loop(few):
    """Shuffled batches, smoothed loss, cosine rate, one decay group: written out once more."""
    recipe = {
        "optimizer": "sgd",
        "learning_rate": 0.05,
        "label_smoothing": 0.1,
        "augmentation": "none",
        "batch_size": 40,
        "weight_decay": 0.0,
    }
    trainer = _trainer(few, **recipe)
    plain = build(trainer.candidate.architecture, seed=sub_seed(0, "weights")).to(
        memory_format=torch.channels_last
    )
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(sub_seed(0, "shuffle")))
    x = torch.tensor(few.normalized(few.train.images)).contiguous(memory_format=torch.channels_last)
    y = torch.tensor(few.train.labels)
    total = 0.0
    for step, rows in enumerate((order[:34], order[34:67], order[67:])):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 + np.cos(np.pi * step / 12)) / 2
        loss = F.cross_entropy(plain(x[rows]), y[rows], label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(rows)
    result = trainer.run_epoch()
    assert result.train_loss == pytest.approx(total / 100, rel=1e-5)
    for name, value in plain.state_dict().items():
        assert torch.allclose(trainer.network.state_dict()[name], value, atol=1e-4), name


# results


def test_an_epoch_reports_what_it_did(few):
    trainer = _trainer(few, epochs=2)
    assert trainer.epoch == 0
    first, second = trainer.run_epoch(), trainer.run_epoch()
    assert (first.epoch, second.epoch, trainer.epoch) == (1, 2, 2)
    assert trainer.history == (first, second)
    assert trainer.epoch_seconds == (first.seconds, second.seconds)
    assert min(trainer.epoch_seconds) > 0
    assert 0 < second.learning_rate < first.learning_rate < 0.01
    evaluation = trainer.evaluate("validation")
    assert evaluation.accuracy == second.validation_accuracy
    assert evaluation.loss == second.validation_loss
    with pytest.raises(InvalidValue, match="2 epochs, and all of them are done"):
        trainer.run_epoch()


def test_predictions_stand_behind_the_accuracy(few):
    trainer = _trainer(few)
    trainer.run_epoch()
    for name in ("train", "validation", "test"):
        split = few.split(name)
        evaluation = trainer.evaluate(name)
        assert evaluation.predictions.dtype == np.int64
        assert evaluation.predictions.shape == split.labels.shape
        assert evaluation.accuracy == (evaluation.predictions == split.labels).mean()
        with torch.inference_mode():
            logits = trainer.network(torch.tensor(few.normalized(split.images)))
        assert evaluation.loss == pytest.approx(
            F.cross_entropy(logits, torch.tensor(split.labels)).item(), rel=1e-4
        )


def test_evaluating_changes_nothing(few):
    one, other = _trainer(few), _trainer(few)
    one.run_epoch()
    other.run_epoch()
    for _ in range(3):
        one.evaluate("test")
    one.run_epoch()
    other.run_epoch()
    assert _same(one, other)


def test_evaluating_first_changes_nothing(few):
    one, other = _trainer(few), _trainer(few)
    one.evaluate("train")
    assert not any(tensor.is_inference() for tensor in one._splits["train"])
    one.run_epoch()
    other.run_epoch()
    assert _same(one, other)


def test_training_never_reads_the_test_split(few):
    shuffled = Split(images=few.test.images[::-1].copy(), labels=few.test.labels.copy())
    other = replace(few, test=shuffled)
    one, two = _trainer(few), _trainer(other)
    assert one.run_epoch().validation_loss == two.run_epoch().validation_loss
    assert set(one._splits) == {"train", "validation"}
    one.evaluate("test")
    assert set(one._splits) == {"train", "validation", "test"}


# reproducibility


def test_same_seed_same_run_other_seed_other_run(few):
    one, two, other = _trainer(few, seed=1), _trainer(few, seed=1), _trainer(few, seed=2)
    assert not _same(one, other)
    for trainer in (one, two, other):
        torch.manual_seed(trainer.seed + 5)
        trainer.run_epoch()
    assert _same(one, two)
    assert not _same(one, other)
    a, b = one.history[0], two.history[0]
    assert replace(a, seconds=0) == replace(b, seconds=0)


def test_runs_that_alternate_do_not_disturb_each_other(few):
    alone, one, two = _trainer(few), _trainer(few), _trainer(few, seed=9)
    for _ in range(2):
        alone.run_epoch()
    for _ in range(2):
        one.run_epoch()
        two.run_epoch()
    assert _same(alone, one)


def test_torch_is_left_as_it_was(few):
    torch.manual_seed(3)
    before = (
        torch.get_rng_state(),
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
    )
    trainer = Trainer(_candidate(), few, seed=0, device="cpu", threads=torch.get_num_threads() + 1)
    trainer.run_epoch()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before[1:]


def test_named_seeds_differ_and_stay():
    assert sub_seed(0, "shuffle") != sub_seed(0, "weights")
    assert sub_seed(0, "shuffle") != sub_seed(1, "shuffle")
    # stored runs are repeated from it
    assert sub_seed(0, "weights") == 2039098572050236917
    assert 0 <= sub_seed(2**80, "x") < 2**63


def test_memory_order_changes_no_meaning(few):
    losses = [
        Trainer(_candidate(), few, seed=0, device="cpu", threads=1, channels_last=order)
        .evaluate("train")
        .loss
        for order in (False, True)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


# recipe


def test_weight_decay_is_for_32_bit_weights_only():
    candidate = _candidate(weight_decay=0.3)
    network = build(candidate.architecture)
    names = {id(tensor): name for name, tensor in network.named_parameters()}
    groups = [
        {names[id(p)] for p in group["params"]}
        for group in build_optimizer(network, candidate.recipe).param_groups
    ]
    table = {row.name: row for row in network.graph.parameters() if not row.is_buffer}
    assert groups[0] | groups[1] == set(table)
    assert not groups[0] & groups[1]
    assert groups[0] == {n for n, r in table.items() if r.role is Role.WEIGHT and r.bits == 32}
    # what the first group must not hold is really there
    assert {table[n].role for n in groups[1]} >= {Role.WEIGHT, Role.NORM, Role.BIAS}
    assert {table[n].bits for n in groups[1] if table[n].role is Role.WEIGHT} == {1}
    assert all(decays(table[n]) for n in groups[0])


@pytest.mark.parametrize("optimizer", ["radam", "adamw", "sgd"])
def test_weight_decay_acts_where_it_may(few, optimizer):
    """With a loss that no weight influences, only decay moves a weight."""
    trainer = _trainer(few, optimizer=optimizer, weight_decay=0.1, learning_rate=0.1)
    before = _parameters(trainer)
    for parameter in trainer.network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    trainer.optimizer.step()
    for row in trainer.network.graph.parameters():
        now, then = trainer.network.state_dict()[row.name], before[row.name]
        if decays(row):
            assert torch.all(now.abs() < then.abs())
        else:
            assert torch.equal(now, then)


def test_the_cosine_starts_at_the_peak_and_ends_near_zero():
    recipe = Recipe(learning_rate=0.4, epochs=10)
    rates = [learning_rate(recipe, step, 5) for step in range(50)]
    assert rates[0] == 0.4
    assert rates[25] == pytest.approx(0.2)
    assert 0 < rates[-1] < 0.001
    assert rates == sorted(rates, reverse=True)


def test_warm_up_is_linear_and_meets_the_schedule():
    recipe = Recipe(learning_rate=0.4, epochs=10, warmup_epochs=2)
    rates = [learning_rate(recipe, step, 5) for step in range(50)]
    assert rates[:10] == pytest.approx([0.04 * (s + 1) for s in range(10)])
    assert rates[9] == rates[10] == 0.4
    assert rates[30] == pytest.approx(0.2)
    constant = replace(recipe, schedule="constant")
    assert {learning_rate(constant, step, 5) for step in range(10, 50)} == {0.4}
    all_warm = replace(recipe, warmup_epochs=10)
    assert learning_rate(all_warm, 49, 5) == pytest.approx(0.4)


# failures


def test_divergence_names_epoch_step_and_learning_rate(few):
    trainer = _trainer(
        few, optimizer="sgd", learning_rate=10.0, weight_decay=1.0, schedule="constant", epochs=60
    )

    def train() -> None:
        while True:
            trainer.run_epoch()

    with pytest.raises(EvaluationFailed) as caught:
        train()
    text = str(caught.value)
    assert "must be finite, but is" in text
    assert f"epoch {trainer.epoch + 1}, step " in text or f"{trainer.epoch} whole epochs" in text
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), str(copy)) == (EvaluationFailed, text)


def test_the_first_step_that_is_not_finite_is_named(few):
    trainer = _trainer(few, batch_size=10)
    with torch.no_grad():
        trainer.network.get_parameter("stem.conv.weight").fill_(float("nan"))
    with pytest.raises(EvaluationFailed, match="is nan in epoch 1, step 1 of 10, at learning rate"):
        trainer.run_epoch()
    with pytest.raises(EvaluationFailed, match="validation loss must be finite, but is nan"):
        trainer.evaluate("validation")


def test_losses_that_are_read_in_bundles_name_the_same_step(few):
    trainer = _trainer(few)
    losses = torch.tensor([1.0, 2.0, float("inf"), float("nan")])
    with pytest.raises(EvaluationFailed, match="is inf in epoch 1, step 3 of 2"):
        trainer._check(losses)


def test_other_errors_pass_through(few):
    trainer = _trainer(few)
    with pytest.raises(RuntimeError, match="something else"), trainer._memory():
        raise RuntimeError("something else")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't "
            "allocate memory: you tried to allocate 9 bytes. Error code 12"
        ),
    ],
)
def test_memory_errors_name_batch_size_and_need(few, error):
    trainer = _trainer(few, batch_size=50)
    text = r"batch_size 50: .* about \d+ MiB"
    with pytest.raises(EvaluationFailed, match=text), trainer._memory():
        raise error


@pytest.mark.slow
def test_running_out_of_memory_is_a_clear_failure():
    """A real allocation fails: the process may only have 256 MiB more than it has."""
    code = f"""
import resource, numpy as np, torch
from dataclasses import replace
from bitfront.evaluators.training import DataSet, EvaluationFailed, Split, Trainer
from bitfront.spaces.choose import replay
from bitfront.spaces.melius import melius
labels = np.arange(512) % 10
split = Split(images=np.zeros((512, 3, 63, 63), np.uint8), labels=labels)
data = DataSet(name="x", class_names=tuple("0123456789"), train=split, validation=split, test=split)
candidate = melius(replay({DECISIONS!r}), data.task(1))
candidate = replace(candidate, recipe=replace(candidate.recipe, batch_size=512))
trainer = Trainer(candidate, data, seed=0, device="cpu", threads=1)
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + 256 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    trainer.run_epoch()
except EvaluationFailed as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "The memory of cpu does not suffice for batch_size 512" in done.stdout


def test_activation_bytes_grow_with_the_batch():
    graph = _candidate().architecture.lower()
    one = activation_bytes(graph, 1)
    assert activation_bytes(graph, 7) == 7 * one
    kept = sum(
        x[0].numel()
        for x, n in zip(
            build(_candidate().architecture).trace(torch.zeros(1, 1, 8, 8)),
            graph.nodes,
            strict=True,
        )
        if not n.op.view
    )
    assert one == 4 * kept


# what does not fit


def test_data_and_architecture_must_fit(few):
    other = _candidate(Task(input=(3, 8, 8), classes=10, epochs=4))
    with pytest.raises(InvalidValue, match=r"must fit digits, \(1, 8, 8\) and 10 classes"):
        Trainer(other, few, seed=0, device="cpu")


@pytest.mark.parametrize("size", [1, 2])
def test_steps_of_one_image_are_refused(digits, size):
    with pytest.raises(InvalidValue, match="at least 2 images"):
        _trainer(_first(digits, 33), batch_size=size)
    if size == 2:
        assert _trainer(_first(digits, 34), batch_size=size).steps_per_epoch == 17


@pytest.mark.parametrize(
    ("count", "batch", "steps"), [(33, 64, 1), (64, 64, 1), (65, 64, 2), (100, 33, 4)]
)
def test_steps_of_an_epoch(digits, count, batch, steps):
    trainer = _trainer(_first(digits, count), batch_size=batch)
    assert trainer.steps_per_epoch == steps
    assert isfinite(trainer.run_epoch().train_loss)


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta", ""])
def test_unknown_devices_are_refused(few, device):
    with pytest.raises(InvalidValue, match="device"):
        Trainer(_candidate(), few, seed=0, device=device)


def test_threads_must_be_positive(few):
    with pytest.raises(InvalidValue, match="threads must be at least 1, but is 0"):
        Trainer(_candidate(), few, seed=0, device="cpu", threads=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_a_gpu_trains_and_agrees_with_the_cpu(digits):
    runs = [Trainer(_candidate(), digits, seed=0, device="cuda") for _ in range(2)]
    for run in runs:
        run.run_epoch()
    assert _same(*runs)
    on_cpu = _trainer(digits)
    on_cpu.network.load_state_dict(runs[0].network.state_dict())
    a, b = runs[0].evaluate("validation"), on_cpu.evaluate("validation")
    assert (a.predictions == b.predictions).mean() > 0.97
