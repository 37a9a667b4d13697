"""The space ``field``: what fits together is asked for, and nothing else."""

import pytest
import torch
from sklearn.datasets import load_digits

from bitfront.spaces import (
    Candidate,
    Domain,
    Graph,
    Network,
    Node,
    RandomChoose,
    Task,
    decisions_of,
    replay,
    spaces,
)
from bitfront.spaces.bodies import BODIES, REAL
from bitfront.spaces.zoo import get

SMALL = Task(input=(1, 8, 8), classes=10)
LARGE = Task(input=(3, 224, 224), classes=1000)
SIGN_KEEPING = ("max_pool", "avg_pool", "slice", "concat", "interleave", "mean")


def drawn(task: Task, seed: int, **decisions) -> Candidate:
    return spaces["field"](replay(decisions, RandomChoose(seed)), task)


def rectified(graph: Graph, node: Node) -> bool:
    if node.op.kind in SIGN_KEEPING:
        return all(rectified(graph, graph.nodes[i]) for i in node.inputs)
    return node.op.kind == "relu"


def check_signs(graph: Graph) -> None:
    """No sign is taken of values of which none is negative."""
    for node in graph.nodes:
        if node.op.kind == "quantize" and node.type.domain is Domain.BIPOLAR:
            assert not rectified(graph, graph.nodes[node.inputs[0]]), node.name


@pytest.mark.parametrize("before", REAL)
def test_any_two_real_kinds_follow_each_other(before):
    for kind in REAL:
        decisions = {"kinds": "several", "stages": 2, "stage0.kind": before, "stage1.kind": kind}
        for seed in range(3):
            architecture = drawn(SMALL, seed, **decisions).architecture
            stages = architecture.stages
            assert all(type(b) in BODIES[before].kinds for b in stages[0].blocks)
            assert all(type(b) in BODIES[kind].kinds for b in stages[1].blocks)
            graph = architecture.lower()
            assert graph.output.shape == (10,)
            check_signs(graph)


@pytest.mark.parametrize("kind", BODIES)
def test_one_kind_fills_the_network(kind):
    for task in (SMALL, LARGE):
        for seed in range(5):
            architecture = drawn(task, seed, kinds="one", kind=kind).architecture
            kinds = {type(block) for stage in architecture.stages for block in stage.blocks}
            assert kinds <= set(BODIES[kind].kinds)
            check_signs(architecture.lower())


@pytest.mark.parametrize("start", range(0, 100, 20))
def test_no_sign_is_taken_of_rectified_maps(start):
    for seed in range(start, start + 20):
        check_signs(drawn(LARGE, seed).architecture.lower())


def test_boolean_stages_keep_to_themselves():
    for seed in range(100):
        graph = drawn(LARGE, seed, kinds="several").architecture.lower()
        assert all(node.type.slices == 1 for node in graph.nodes)
    for seed in range(20):
        graph = drawn(LARGE, seed, kinds="one", kind="boolean").architecture.lower()
        body = [graph.nodes[i] for i in graph.body()]
        merged = [node for node in body if node.op.kind in ("xnor", "or", "concat", "interleave")]
        assert merged
        assert all(node.type.stored_bits == 1 for node in merged)


def test_searched_dimensions():
    """Kinds, bits, quantizers, stems, transitions and the head's bits all vary."""
    architectures = [drawn(LARGE, seed).architecture for seed in range(400)]
    kinds = {b.kind for a in architectures for s in a.stages for b in s.blocks}
    assert kinds == {kind.kind for body in BODIES.values() for kind in body.kinds}
    transitions = {s.transition.kind for a in architectures for s in a.stages if s.transition}
    assert transitions == {"transition", "dense_transition", "quicknet_transition"}
    assert {a.head.precision.weights for a in architectures} == {8, 32}
    precisions = {
        b.precision for a in architectures for s in a.stages for b in s.blocks if b.precision
    }
    assert {p.weights for p in precisions} == {1, 2, 3, 4, 8}
    assert {p.activations for p in precisions} == {1, 2, 3, 4, 8, 32}
    assert len({p.weight.kind for p in precisions}) >= 9
    assert len({p.input.kind for p in precisions}) >= 8
    assert {len(a.stages) for a in architectures} == {3, 4, 5}


def test_an_eight_bit_classifier_is_a_quarter_of_the_size():
    few, many = (
        drawn(LARGE, 0, kinds="one", kind="bireal", **{"head.bits": bits}).architecture.lower()
        for bits in (8, 32)
    )
    bits = [
        next(p.bits for p in graph.parameters() if p.name == "head.linear.weight")
        for graph in (few, many)
    ]
    assert bits == [8, 32]


def test_a_step_away_from_a_published_network():
    """A warm start: the decisions of a published network, one of them changed."""
    entry = get("birealnet18")
    decisions = decisions_of(entry.architecture(), "field", entry.recipe)
    task = Task(input=(3, 224, 224), classes=1000, epochs=entry.recipe.epochs)
    changed = spaces["field"](replay({**decisions, "shortcut_bits": 4}), task).architecture
    assert {b.shortcut_bits for s in changed.stages for b in s.blocks} == {4}
    assert changed.stem.out_bits == 4
    other = {**decisions, "kind": "react_residual"}
    changed = spaces["field"](replay(other, RandomChoose(0)), task).architecture
    assert {b.kind for s in changed.stages for b in s.blocks} == {"react_residual"}
    assert [len(s.blocks) for s in changed.stages] == [4, 4, 4, 4]


@pytest.mark.slow
@pytest.mark.parametrize("kind", BODIES)
def test_every_kind_learns(kind):
    images, classes = load_digits(return_X_y=True)
    x = torch.tensor(images[:32], dtype=torch.float32).reshape(-1, 1, 8, 8) / 8 - 1
    y = torch.tensor(classes[:32])
    candidate = drawn(SMALL, 1, kinds="one", kind=kind, stages=2)
    network = Network(candidate.architecture.lower(), t_clip=1.3, seed=0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[-5:]) < 0.9 * losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_candidates_are_exported(seed, digits, tmp_path):
    from safetensors.torch import save_file

    from bitfront.evaluators.training import Trainer
    from bitfront.export import TrainedOn, Winner, exporters

    data = digits(1, 8)
    while True:
        candidate = drawn(SMALL, seed, **{"head.bits": (8, 32)[seed % 2]})
        if len(candidate.architecture.lower().nodes) < 120:
            break
        seed += 12
    trainer = Trainer(candidate, data, seed=1, device="cpu")
    trainer.run_epoch()
    weights = tmp_path / "weights.safetensors"
    state = trainer.network.state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, weights)
    winner = Winner(
        name="candidate",
        architecture=candidate.architecture,
        recipe=candidate.recipe,
        weights=weights,
        data=TrainedOn.of(data),
    )
    for format in ("json", "pt2", "onnx"):
        exporter = exporters[format]
        result = exporter.verify(winner, exporter.write(winner, tmp_path), data)
        assert result.passed, result.text
