"""What every space must keep to, tried on hundreds of candidates of each."""

from collections.abc import Sequence

import pytest
import torch
from sklearn.datasets import load_digits

from bitfront.evaluators.cost import count, estimate_energy, peak_memory_bytes
from bitfront.evaluators.hardware.profile import load_profile
from bitfront.spaces import (
    Architecture,
    Candidate,
    Decision,
    Domain,
    InvalidValue,
    Network,
    Node,
    RandomChoose,
    Task,
    replay,
    spaces,
)
from bitfront.spaces.plan import plan
from bitfront.spaces.value import canonical, digest_of

SMALL = Task(input=(1, 8, 8), classes=10)
MIDDLE = Task(input=(3, 32, 32), classes=10)
LARGE = Task(input=(3, 224, 224), classes=1000)
TASKS = [SMALL, MIDDLE, LARGE]
HARDWARE = load_profile("boolnet65")

# `field` also has networks of one width of 2 bits or more
FEW_BITS = {"field": 8}

by_task = pytest.mark.parametrize("task", TASKS, ids=lambda task: str(task.input))
by_space = pytest.mark.parametrize("name", list(spaces))


class Questions:
    """Answers at random and keeps what was asked."""

    def __init__(self, seed: int) -> None:
        self.inner = RandomChoose(seed)
        self.asked: dict[str, tuple[object, ...]] = {}

    def option(self, name: str, options: Sequence[Decision]) -> Decision:
        self.asked[name] = ("option", *options)
        return self.inner.option(name, options)

    def ordered(self, name: str, options: Sequence[Decision]) -> Decision:
        self.asked[name] = ("ordered", *options)
        return self.inner.ordered(name, options)

    def number(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        self.asked[name] = ("number", low, high, log)
        return self.inner.number(name, low, high, log=log)


@by_task
@by_space
def test_a_name_has_the_same_options_in_every_trial(name, task):
    known: dict[str, tuple[object, ...]] = {}
    for seed in range(300):
        questions = Questions(seed)
        spaces[name](questions, task)
        for question, options in questions.asked.items():
            assert known.setdefault(question, options) == options
    for kind, *options in known.values():
        if kind == "ordered":
            assert options == sorted(set(options))
            assert all(isinstance(option, int | float) for option in options)
        elif kind == "option":
            assert len(set(options)) == len(options)
        else:
            low, high, log = options
            assert low < high
            assert not log or low > 0
        # a question with one answer is none
        assert len(options) > 1


def check_graph(name: str, candidate: Candidate) -> None:
    """What holds for a candidate without torch."""
    architecture = candidate.architecture
    graph = architecture.lower()
    bits = FEW_BITS.get(name, 1)
    few = [
        node
        for node in graph.nodes
        if node.op.main
        and node.facts.w_bits <= bits
        and (bits > 1 or node.facts.a_bits == node.facts.w_bits)
    ]
    assert len(few) >= 6
    assert graph.output.shape == (architecture.classes,)
    again = Candidate.from_json(candidate.json())
    assert again == candidate
    assert again.digest == candidate.digest
    assert architecture.digest == digest_of(canonical(architecture.json()))
    assert again.architecture.lower() == graph
    planned = plan(graph)
    assert count(graph, "full").ops > 0
    assert estimate_energy(planned, HARDWARE).total_mj > 0
    assert peak_memory_bytes(planned) > 0


@by_task
@by_space
@pytest.mark.parametrize("start", range(0, 200, 40))
def test_candidates(name, task, start):
    digests = set()
    for seed in range(start, start + 40):
        candidate = spaces[name](RandomChoose(seed), task)
        assert candidate.architecture.input == task.input
        assert candidate.architecture.classes == task.classes
        assert candidate.recipe.epochs == task.epochs
        check_graph(name, candidate)
        digests.add(candidate.digest)
    assert len(digests) >= 39


@by_task
@by_space
def test_the_same_decisions_give_the_same_candidate(name, task):
    for seed in range(20):
        choose = RandomChoose(seed)
        candidate = spaces[name](choose, task)
        again = replay(choose.decisions)
        assert spaces[name](again, task).digest == candidate.digest
        assert again.decisions == choose.decisions
        assert list(again.decisions) == list(choose.decisions)


@by_task
@by_space
def test_a_missing_answer_is_asked_anew_and_the_others_stay(name, task):
    for seed in range(10):
        choose = RandomChoose(seed)
        spaces[name](choose, task)
        for question in list(choose.decisions)[:: max(1, len(choose.decisions) // 4)]:
            fewer = {key: value for key, value in choose.decisions.items() if key != question}
            with pytest.raises(InvalidValue, match="lack an answer"):
                spaces[name](replay(fewer), task)
            mutated = replay(fewer, RandomChoose(seed + 1))
            candidate = spaces[name](mutated, task)
            for key in mutated.decisions.keys() & fewer.keys():
                assert mutated.decisions[key] == fewer[key]
            assert candidate.architecture.lower().output.shape == (task.classes,)


def check_twin(architecture: Architecture) -> None:
    """The 32-bit twin has no quantizer left, the same kinds of blocks and the same output."""
    twin = architecture.twin()
    graph = twin.lower()
    assert not [node for node in graph.nodes if node.op.kind == "quantize"]
    assert all(node.type.stored_bits == 32 for node in graph.nodes[1:])
    assert all(node.facts.w_bits == node.facts.a_bits == 32 for node in graph.nodes)
    assert [[block.kind for block in stage.blocks] for stage in twin.stages] == [
        [block.kind for block in stage.blocks] for stage in architecture.stages
    ]
    assert graph.output == architecture.lower().output
    assert twin.twin() == twin


@by_task
@by_space
def test_twins(name, task):
    for seed in range(20):
        check_twin(spaces[name](RandomChoose(seed), task).architecture)


def follows(value: torch.Tensor, node: Node) -> bool:
    """Whether a node's value has the declared shape and lies in the declared domain."""
    kind = node.type
    if tuple(value.shape[1:]) != kind.torch_shape or not value.isfinite().all():
        return False
    if kind.domain is Domain.BIPOLAR:
        return bool((value.abs() == 1).all())
    if kind.domain is Domain.BOOLEAN:
        return bool(((value == 0) | (value == 1)).all())
    if kind.domain is Domain.ACCUMULATOR:
        return torch.equal(value, value.round())
    known = node.op.quantizer.levels() if node.op.kind == "quantize" else None
    if kind.domain is Domain.CODE and known is not None:
        levels = torch.tensor(known)
        nearest = levels[torch.bucketize(value, (levels[1:] + levels[:-1]) / 2)]
        return bool((value - nearest).abs().max() <= 1e-6 * levels.abs().max())
    return True


def check_network(candidate: Candidate, seed: int) -> None:
    """What holds for a candidate's network."""
    network = Network(candidate.architecture.lower(), t_clip=candidate.recipe.t_clip, seed=seed)
    graph = network.graph
    table = {row.name: row.shape for row in graph.parameters()}
    assert {name: tuple(v.shape) for name, v in network.state_dict().items()} == table
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(4, *graph.input.shape, generator=generator)
    values = network.trace(x)
    assert len(values) == len(graph.nodes)
    for node, value in zip(graph.nodes, values, strict=True):
        assert follows(value, node), node.name
    torch.nn.functional.cross_entropy(values[-1], torch.arange(4)).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@by_space
@pytest.mark.parametrize("start", range(0, 60, 3))
def test_networks_of_small_images(name, start):
    for seed in range(start, start + 3):
        check_network(spaces[name](RandomChoose(seed), SMALL), seed)


def within(name: str, task: Task, nodes: int, seed: int) -> Candidate:
    """The first random candidate from a seed on that is not too large for a quick test."""
    while True:
        candidate = spaces[name](RandomChoose(seed), task)
        graph = candidate.architecture.lower()
        if len(graph.nodes) <= nodes and sum(node.facts.macs for node in graph.nodes) < 5e7:
            return candidate
        seed += 1


@by_space
@pytest.mark.parametrize("seed", [0, 100, 200, 300])
def test_networks_of_middle_images(name, seed):
    check_network(within(name, MIDDLE, 150, seed), seed)


@by_space
def test_networks_of_large_images(name):
    check_network(within(name, Task(input=(3, 64, 64), classes=10), 150, 0), 0)


@pytest.mark.slow
@by_space
@pytest.mark.parametrize("seed", range(3))
def test_a_few_steps_of_training(name, seed):
    images, classes = load_digits(return_X_y=True)
    x = torch.tensor(images[:32], dtype=torch.float32).reshape(-1, 1, 8, 8) / 8 - 1
    y = torch.tensor(classes[:32])
    candidate = within(name, SMALL, 120, 1000 * seed)
    network = Network(candidate.architecture.lower(), t_clip=candidate.recipe.t_clip, seed=seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[-5:]) < 0.95 * losses[0]
