from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bitfront.evaluators.measurement import Measurement
from bitfront.evaluators.training import DataSet, Trainer, load_dataset
from bitfront.export import Provenance, TrainedOn, Winner, exporters
from bitfront.spaces import Architecture, Candidate, Precision, Recipe, Stage
from bitfront.spaces.blocks import (
    BiReal,
    Boolean,
    Classifier,
    Dense,
    Gated,
    Improvement,
    MultiBase,
    QuickNet,
    QuickNetTransition,
    ResNet,
    StemBoolNet,
    StemThumbnail,
    Transition,
)

ONE_BIT = Precision(weights=1, activations=1)
EPOCHS = 6


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Tiny networks run faster on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> DataSet:
    """Real digits: few to train on, all to test on."""
    digits = load_dataset("digits", data_dir=tmp_path_factory.mktemp("data"))
    few = digits.train.take(torch.arange(320).numpy())
    return DataSet(
        name="digits",
        class_names=digits.class_names,
        train=few,
        validation=digits.validation,
        test=digits.test,
    )


def melius(second: Precision, shortcut_bits: int) -> Architecture:
    """Two small stages, the first of one bit."""

    def blocks(precision, letters):
        kinds = {"D": Dense, "I": Improvement}
        return tuple(
            kinds[letter](growth=8, precision=precision, shortcut_bits=shortcut_bits)
            for letter in letters
        )

    return Architecture(
        input=(1, 8, 8),
        stem=StemThumbnail(channels=16, out_bits=shortcut_bits),
        stages=(
            Stage(
                blocks=blocks(ONE_BIT, "DIDI"),
                transition=Transition(channels=24, out_bits=shortcut_bits),
            ),
            Stage(blocks=blocks(second, "DID")),
        ),
        head=Classifier(classes=10),
    )


ARCHITECTURES = {
    "one-bit": melius(ONE_BIT, 32),
    "mixed-4": melius(Precision(weights=2, activations=4), 4),
    "mixed-8": melius(Precision(weights=4, activations=2), 8),
    "mixed-16": melius(Precision(weights=1, activations=2), 16),
    "residual": Architecture(
        input=(1, 8, 8),
        stem=StemThumbnail(channels=16),
        stages=(
            Stage(
                blocks=(
                    BiReal(channels=16, padding_value=-1.0),
                    Gated(channels=16),
                    QuickNet(channels=16),
                ),
                transition=QuickNetTransition(channels=24),
            ),
            Stage(
                blocks=(
                    MultiBase(channels=24, weight_bases=3, activation_bases=2),
                    ResNet(channels=24),
                    BiReal(channels=32, stride=2),
                )
            ),
        ),
        head=Classifier(classes=10),
    ),
    "boolean": Architecture(
        input=(1, 8, 8),
        stem=StemBoolNet(channels=16, slices=2),
        stages=(
            Stage(
                blocks=(
                    Boolean(channels=16, slices=2),
                    Boolean(channels=16, slices=2),
                    Boolean(channels=16, slices=2, last=True),
                )
            ),
        ),
        head=Classifier(classes=10),
    ),
}


@pytest.fixture(scope="session")
def trained(data, tmp_path_factory):
    """A function that gives the trained winner of a name; each is trained once."""
    folder: Path = tmp_path_factory.mktemp("trained")
    winners: dict[str, Winner] = {}

    def winner(name: str) -> Winner:
        if name not in winners:
            recipe = Recipe(learning_rate=0.01, epochs=EPOCHS, batch_size=32)
            candidate = Candidate(architecture=ARCHITECTURES[name], recipe=recipe)
            trainer = Trainer(candidate, data, seed=3, device="cpu")
            for _ in range(EPOCHS):
                result = trainer.run_epoch()
            weights = folder / f"{name}.safetensors"
            state = trainer.network.state_dict()
            save_file({key: tensor.contiguous() for key, tensor in state.items()}, weights)
            winners[name] = Winner(
                name=name,
                architecture=candidate.architecture,
                recipe=recipe,
                weights=weights,
                data=TrainedOn.of(data),
                measurements=(
                    Measurement(
                        objective="accuracy",
                        value=result.validation_accuracy,
                        unit="fraction",
                        method="measured",
                    ),
                ),
                provenance=Provenance(
                    study="digits", trial=7, seed=3, finished="2026-11-21T10:00:00+00:00"
                ),
            )
        return winners[name]

    return winner


@pytest.fixture(scope="session")
def exported(trained, tmp_path_factory):
    """A function that gives a winner and its written file; each is written once."""
    folder: Path = tmp_path_factory.mktemp("exported")
    files: dict[tuple[str, str], Path] = {}

    def export(format: str, name: str) -> tuple[Winner, Path]:
        winner = trained(name)
        if (format, name) not in files:
            files[format, name] = exporters[format].write(winner, folder)
        return winner, files[format, name]

    return export
