"""What every space must keep to, tried on hundreds of candidates of each."""

from collections.abc import Sequence

import pytest
import torch

from bitfront.spaces import (
    Architecture,
    Candidate,
    Decision,
    Domain,
    InfeasibleArchitecture,
    InvalidValue,
    Network,
    Node,
    RandomChoose,
    Task,
    replay,
    spaces,
)
from bitfront.spaces.value import canonical, digest_of

SMALL = Task(input=(1, 8, 8), classes=10)
MIDDLE = Task(input=(3, 32, 32), classes=10)
LARGE = Task(input=(3, 224, 224), classes=1000)
TASKS = [SMALL, MIDDLE, LARGE]


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


@pytest.mark.parametrize("task", TASKS, ids=lambda task: str(task.input))
@pytest.mark.parametrize("name", list(spaces))
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


def follows(value: torch.Tensor, node: Node) -> bool:
    """Whether a node's value has the declared shape and lies in the declared domain."""
    kind = node.type
    if tuple(value.shape[1:]) != kind.torch_shape or not value.isfinite().all():
        return False
    if kind.domain is Domain.BIPOLAR:
        return bool((value.abs() == 1).all())
    if kind.domain is Domain.ACCUMULATOR:
        return torch.equal(value, value.round())
    if kind.domain is Domain.CODE and node.op.kind == "quantize":
        levels = torch.tensor(node.op.quantizer.levels())
        nearest = levels[torch.bucketize(value, (levels[1:] + levels[:-1]) / 2)]
        return bool((value - nearest).abs().max() <= 1e-6 * levels.abs().max())
    return True


def check_graph(candidate: Candidate) -> None:
    """What holds for a candidate without torch."""
    architecture = candidate.architecture
    graph = architecture.lower()
    binary = [
        node for node in graph.nodes if node.op.main and node.facts.w_bits == node.facts.a_bits == 1
    ]
    assert len(binary) >= 6
    assert graph.output.shape == (architecture.classes,)
    again = Candidate.from_json(candidate.json())
    assert again == candidate
    assert again.digest == candidate.digest
    assert architecture.digest == digest_of(canonical(architecture.json()))
    assert again.architecture.lower() == graph


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


def check_twin(architecture: Architecture) -> None:
    """The 32-bit twin has no quantizer left and the same blocks."""
    twin = architecture.twin()
    graph = twin.lower()
    assert not [node for node in graph.nodes if node.op.kind == "quantize"]
    assert all(node.type.stored_bits == 32 for node in graph.nodes[1:])
    assert all(node.facts.w_bits == node.facts.a_bits == 32 for node in graph.nodes)
    assert [[block.kind for block in stage.blocks] for stage in twin.stages] == [
        [block.kind for block in stage.blocks] for stage in architecture.stages
    ]

    def convolutions(nodes: tuple[Node, ...]) -> list[tuple[str, tuple[int, ...], int]]:
        return [(n.name, n.type.shape, n.facts.macs) for n in nodes if n.op.main]

    assert convolutions(graph.nodes) == convolutions(architecture.lower().nodes)
    assert twin.twin() == twin


def check_replay(name: str, task: Task, seed: int) -> None:
    choose = RandomChoose(seed)
    candidate = spaces[name](choose, task)
    again = replay(choose.decisions)
    assert spaces[name](again, task) == candidate
    assert again.decisions == choose.decisions
    # an answer that is missing is asked anew, and the others stay
    for question in list(choose.decisions)[:: max(1, len(choose.decisions) // 4)]:
        fewer = {key: value for key, value in choose.decisions.items() if key != question}
        with pytest.raises(InvalidValue, match="lack an answer"):
            spaces[name](replay(fewer), task)
        mutated = replay(fewer, RandomChoose(seed + 1))
        spaces[name](mutated, task)
        for key in mutated.decisions.keys() & fewer.keys():
            assert mutated.decisions[key] == fewer[key]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: str(task.input))
@pytest.mark.parametrize("name", list(spaces))
def test_candidates(name, task):
    digests = set()
    for seed in range(200):
        candidate = spaces[name](RandomChoose(seed), task)
        assert candidate.architecture.input == task.input
        assert candidate.architecture.classes == task.classes
        assert candidate.recipe.epochs == task.epochs
        check_graph(candidate)
        digests.add(candidate.digest)
    assert len(digests) > 190


@pytest.mark.parametrize("name", list(spaces))
def test_replay(name):
    for seed in range(50):
        check_replay(name, SMALL, seed)


@pytest.mark.parametrize("name", list(spaces))
def test_twins(name):
    for seed in range(50):
        check_twin(spaces[name](RandomChoose(seed), SMALL).architecture)


@pytest.mark.parametrize("start", range(0, 200, 10))
@pytest.mark.parametrize("name", list(spaces))
def test_networks_of_small_images(name, start):
    for seed in range(start, start + 10):
        check_network(spaces[name](RandomChoose(seed), SMALL), seed)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", list(spaces))
def test_networks_of_middle_images(name, seed):
    check_network(spaces[name](RandomChoose(seed), MIDDLE), seed)


@pytest.mark.parametrize("name", list(spaces))
def test_networks_of_large_images(name):
    check_network(spaces[name](RandomChoose(0), Task(input=(3, 96, 96), classes=10)), 0)


def test_searched_dimensions_of_melius():
    """Block kind, bits, shortcut bits, t_clip and learning rate all vary."""
    candidates = [spaces["melius"](RandomChoose(seed), SMALL) for seed in range(200)]
    graphs = [candidate.architecture.lower() for candidate in candidates]
    widths = {(n.facts.w_bits, n.facts.a_bits) for g in graphs for n in g.nodes if n.op.main}
    assert {(1, 1), (2, 2), (4, 4), (1, 4), (4, 1)} <= widths
    stored = {n.type.stored_bits for g in graphs for n in g.nodes if n.name.endswith("concat")}
    assert stored == {4, 8, 16, 32}
    kinds = {b.kind for c in candidates for s in c.architecture.stages for b in s.blocks}
    assert kinds == {"dense", "improvement"}
    clips = [candidate.recipe.t_clip for candidate in candidates]
    assert min(clips) < 1.0 < 1.8 < max(clips)


def test_an_image_that_is_too_small_is_refused_in_one_sentence():
    task = Task(input=(1, 2, 2), classes=10)
    for seed in range(20):
        architecture = spaces["melius"](RandomChoose(seed), task).architecture
        if len(architecture.stages) == 2:
            assert architecture.lower().output.shape == (10,)
            continue
        rule = r"^stages\.1\.transition\.pool: A window of 2 must fit the padded size 1"
        with pytest.raises(InfeasibleArchitecture, match=rule):
            architecture.lower()
