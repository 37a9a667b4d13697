from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from bitfront.spaces import Architecture, Candidate, Recipe
from bitfront.spaces.quantizers import Learned, Quantizer
from bitfront.spaces.torch_ops import learned, quantized

if TYPE_CHECKING:
    # imported where they are used: most tests of this folder need neither data nor exporters
    from bitfront.evaluators.training import DataSet, Split, Trainer

FORMATS = ("json", "pt2", "onnx")


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Tiny networks run faster on one thread, and workers of a parallel run do not collide."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """A function that gives few real digits, of any multiple of 8 rows and columns."""
    from bitfront.evaluators.training import DataSet, Split, load_dataset

    whole = load_dataset("digits", data_dir=tmp_path_factory.mktemp("data"))

    def sized(split: Split, count: int, channels: int, size: int) -> Split:
        few = split.take(np.arange(count))
        images = few.images.repeat(size // 8, axis=2).repeat(size // 8, axis=3)
        return Split(images=images.repeat(channels, axis=1), labels=few.labels)

    def few(channels: int, size: int) -> DataSet:
        return DataSet(
            name="digits",
            class_names=whole.class_names,
            train=sized(whole.train, 128, channels, size),
            validation=sized(whole.validation, 32, channels, size),
            test=sized(whole.test, 32, channels, size),
        )

    return few


@pytest.fixture
def family_works(digits, tmp_path):
    """A function that trains a network of a family on digits, exports it and verifies the files.

    Its loss must fall by a tenth, every parameter must get a gradient, and every file must compute
    what the network computes. It returns the trainer.
    """
    from safetensors.torch import save_file

    from bitfront.evaluators.training import Trainer
    from bitfront.export import TrainedOn, Winner, exporters

    def check(
        architecture: Architecture, recipe: Recipe, epochs: int = 5, learning_rate: float = 0.02
    ) -> Trainer:
        channels, size, _ = architecture.input
        data = digits(channels, size)
        head = replace(architecture.head, classes=data.classes)
        recipe = replace(
            recipe,
            epochs=epochs,
            warmup_epochs=0,
            batch_size=32,
            # RAdam needs more steps before it moves
            optimizer="adamw",
            learning_rate=learning_rate,
            augmentation="none",
        )
        candidate = Candidate(architecture=replace(architecture, head=head), recipe=recipe)
        trainer = Trainer(candidate, data, seed=1, device="cpu")
        losses = [trainer.run_epoch().train_loss for _ in range(epochs)]
        assert losses[-1] < 0.9 * losses[0], losses
        for name, parameter in trainer.network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert (parameter.grad != 0).any(), name
        weights = tmp_path / "weights.safetensors"
        state = trainer.network.state_dict()
        save_file({key: tensor.contiguous() for key, tensor in state.items()}, weights)
        winner = Winner(
            name="family",
            architecture=candidate.architecture,
            recipe=recipe,
            weights=weights,
            data=TrainedOn.of(data),
        )
        for format in FORMATS:
            exporter = exporters[format]
            result = exporter.verify(winner, exporter.write(winner, tmp_path), data)
            assert result.passed, result.text
        return trainer

    return check


@pytest.fixture(scope="session")
def small():
    """A function that makes a network small enough to train it in a test.

    First and last block of the first and last stage, fewer channels, small images; ``changes`` are
    of every block.
    """

    def shrunk(architecture: Architecture, size: int = 16, **changes) -> Architecture:
        def fewer(block):
            return replace(block, channels=max(1, block.channels // 8), **changes)

        stages = tuple(
            replace(stage, blocks=(fewer(stage.blocks[0]), fewer(stage.blocks[-1])))
            for stage in (architecture.stages[0], architecture.stages[-1])
        )
        stem = replace(architecture.stem, channels=8)
        return replace(architecture, input=(3, size, size), stem=stem, stages=stages)

    return shrunk


@pytest.fixture(scope="session")
def started():
    """A function: the parameters that a quantizer starts with on weights, or maps, like ``x``."""

    def parameters(quantizer: Quantizer, x: torch.Tensor) -> list[torch.Tensor]:
        if not isinstance(quantizer, Learned):
            return []
        # of weights the whole shape counts, of a feature map that of one sample
        shape, w = (x.shape[1:], None) if quantizer.for_activations else (x.shape, x.detach())
        return [
            quantizer.initial(spec.name, spec.shape, w).to(x.dtype)
            for spec in quantizer.params(tuple(shape))
        ]

    return parameters


@pytest.fixture(scope="session")
def emitted(started):
    """A function that quantises as a network does, from the first parameters if none are given."""

    def values(quantizer: Quantizer, x: torch.Tensor, *params: torch.Tensor) -> torch.Tensor:
        if isinstance(quantizer, Learned):
            return learned(x, quantizer, 1.3, *(params or started(quantizer, x)))
        return quantized(x, quantizer, 1.3)

    return values
