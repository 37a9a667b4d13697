"""Training with quantizers that learn, keep state or follow the epochs."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bitfront.evaluators.training import DataSet, Trainer, load_dataset
from bitfront.evaluators.training.optimizer import build_optimizer, decays
from bitfront.spaces import Architecture, Candidate, Recipe, Stage
from bitfront.spaces.blocks import BiReal, Classifier, StemThumbnail
from bitfront.spaces.precision import BINARY, precision_of
from bitfront.spaces.quantizers import HalfWave, LqNet, Lsq, Pact, RSign, Syq, Ttq, XnorSign

PAIRS = [
    (Lsq(), Lsq()),
    (LqNet(), LqNet()),
    (Ttq(), Pact()),
    (Syq(), HalfWave()),
    (XnorSign(), RSign()),
]


def architecture(*precisions) -> Architecture:
    return Architecture(
        input=(1, 8, 8),
        stem=StemThumbnail(channels=8),
        stages=(Stage(blocks=tuple(BiReal(channels=8, precision=p) for p in precisions)),),
        head=Classifier(classes=10),
    )


LEARNED = architecture(*[precision_of(weight=w, input=a) for w, a in PAIRS])
BINARY_BLOCKS = architecture(BINARY, BINARY)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> DataSet:
    digits = load_dataset("digits", data_dir=tmp_path_factory.mktemp("data"))
    rows = np.arange(100)
    return DataSet(
        name=digits.name,
        class_names=digits.class_names,
        train=digits.train.take(rows),
        validation=digits.validation.take(rows),
        test=digits.test.take(rows),
    )


def trainer(data, network, **recipe) -> Trainer:
    fields = {"epochs": 4, "batch_size": 50, "learning_rate": 0.01, "optimizer": "adamw", **recipe}
    candidate = Candidate(architecture=network, recipe=Recipe(**fields))
    return Trainer(candidate, data, seed=0, device="cpu", threads=1)


@pytest.mark.parametrize(
    ("network", "recipe"),
    [
        (LEARNED, {}),
        (BINARY_BLOCKS, {"weight_estimator": "progressive", "estimator": "swish_sign"}),
    ],
)
def test_resume_is_exact(few, tmp_path, network, recipe):
    straight = trainer(few, network, **recipe)
    for _ in range(4):
        straight.run_epoch()
    first = trainer(few, network, **recipe)
    for _ in range(2):
        first.run_epoch()
    first.save(tmp_path)
    second = trainer(few, network, **recipe)
    second.run_epoch()
    second.load(tmp_path)
    for _ in range(2):
        second.run_epoch()
    expected = straight.network.state_dict()
    for name, value in second.network.state_dict().items():
        assert torch.equal(value, expected[name]), name
    assert [replace(r, seconds=0) for r in second.history] == [
        replace(r, seconds=0) for r in straight.history
    ]


def test_the_recipe_sets_the_temperature_of_each_epoch(few):
    run = trainer(few, BINARY_BLOCKS, weight_estimator="progressive")
    layers = [m for m in run.network.modules() if hasattr(m, "temperature")]
    assert len(layers) == 2
    for epoch in range(4):
        run.run_epoch()
        for layer in layers:
            assert layer.temperature.item() == pytest.approx(4 ** (-10 * epoch / 4))


def test_estimators_lead_to_other_networks_of_the_same_kind(few):
    runs = [
        trainer(few, BINARY_BLOCKS, **recipe)
        for recipe in ({}, {"estimator": "approx_sign"}, {"weight_estimator": "progressive"})
    ]
    for run in runs:
        run.run_epoch()
    for one, other in ((0, 1), (0, 2), (1, 2)):
        a, b = runs[one].network.state_dict(), runs[other].network.state_dict()
        assert a.keys() == b.keys()
        assert not torch.equal(a["stem.conv.weight"], b["stem.conv.weight"])


def test_what_quantizers_learn_does_not_decay(few):
    run = trainer(few, LEARNED, weight_decay=0.1)
    names = {id(p): name for name, p in run.network.named_parameters()}
    decaying, steady = (
        {names[id(p)] for p in group["params"]}
        for group in build_optimizer(run.network, run.candidate.recipe).param_groups
    )
    quantizers = {"step", "alpha", "threshold", "weight_step", "weight_positive", "weight_scale"}
    assert quantizers <= {name.rpartition(".")[2] for name in steady}
    assert not quantizers & {name.rpartition(".")[2] for name in decaying}
    assert all(decays(r) for r in run.network.graph.parameters() if r.name in decaying)
