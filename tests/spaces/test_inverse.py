"""From an architecture back to the decisions that give it."""

from dataclasses import replace

import pytest

from bitfront.spaces import (
    InvalidValue,
    RandomChoose,
    Recipe,
    Task,
    UnknownName,
    decisions_of,
    replay,
    spaces,
)
from bitfront.spaces.inverse import readers
from bitfront.spaces.questions import reduced, reduction_between
from bitfront.spaces.zoo import get

TASKS = [
    Task(input=(1, 8, 8), classes=10),
    Task(input=(3, 32, 32), classes=10),
    Task(input=(3, 224, 224), classes=1000),
]


def test_every_space_has_a_reader():
    assert set(readers) == set(spaces)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: str(task.input))
@pytest.mark.parametrize("name", list(spaces))
def test_every_candidate_is_found_again(name, task):
    for seed in range(100):
        candidate = spaces[name](RandomChoose(seed), task)
        decisions = decisions_of(candidate.architecture, name, candidate.recipe)
        assert spaces[name](replay(decisions), task) == candidate


@pytest.mark.parametrize("other", list(spaces))
@pytest.mark.parametrize("name", list(spaces))
def test_a_candidate_of_another_space_is_found_or_refused(name, other):
    for task in TASKS:
        for seed in range(10):
            architecture = spaces[other](RandomChoose(seed), task).architecture
            try:
                decisions = decisions_of(architecture, name)
            except InvalidValue:
                continue
            assert spaces[name](replay(decisions), task).architecture == architecture


def test_training_is_read_from_the_recipe_as_near_as_the_space_has_it():
    architecture = get("meliusnet22").architecture()
    recipe = Recipe(learning_rate=0.003, t_clip=1.1, epochs=7)
    decisions = decisions_of(architecture, "melius", recipe)
    assert (decisions["learning_rate"], decisions["t_clip"]) == (0.003, 1.1)
    far = replace(recipe, learning_rate=1.0, t_clip=0.1)
    decisions = decisions_of(architecture, "melius", far)
    assert (decisions["learning_rate"], decisions["t_clip"]) == (0.01, 0.8)
    decisions = decisions_of(architecture, "melius")
    assert decisions["learning_rate"] == pytest.approx((5e-4 * 1e-2) ** 0.5)
    assert decisions["t_clip"] == pytest.approx(1.4)


def test_the_decisions_of_meliusnet22():
    decisions = decisions_of(get("meliusnet22").architecture(), "melius")
    assert decisions["stem"] == "grouped"
    assert [decisions[f"stage{s}.units"] for s in range(4)] == [4, 5, 4, 4]
    assert [decisions[f"stage{s}.reduction"] for s in range(3)] == [2.0, 2.25, 2.0]
    assert decisions["bits"] == "binary"


@pytest.mark.parametrize(
    ("network", "space", "text"),
    [
        ("boolnet-k4", "melius", "where the space has .*'stem_grouped'.*, there is 'stem_boolnet'"),
        ("birealnet18", "melius", "where the space has 'dense', 'improvement', there is 'bireal'"),
        ("binarydensenet28", "melius", "a stage repeats one of DI, .*, but is DDDDD"),
        ("meliusnet59", "resnet-e", "there is 'improvement'"),
        ("birealnet18", "resnet-e", "differs in the stem: activation 'relu' instead of 'none'"),
        ("resnet18-fp", "field", "weights have one of 1, 2, 3, 4, 8 bits, not 32"),
        ("ensemble-resnet18", "field", "differs in its 1 members instead of 6"),
    ],
)
def test_what_a_space_lacks_is_said_in_one_sentence(network, space, text):
    rule = f"^The space '{space}' has no such network[;:].*{text}"
    with pytest.raises(InvalidValue, match=rule):
        decisions_of(get(network).architecture(), space)


def changed(**fields):
    """MeliusNet22 with a block that the space could only have in the whole stage."""
    architecture = get("meliusnet22").architecture()
    first = architecture.stages[0]
    blocks = (replace(first.blocks[0], **fields), *first.blocks[1:])
    return replace(architecture, stages=(replace(first, blocks=blocks), *architecture.stages[1:]))


@pytest.mark.parametrize(
    ("architecture", "text"),
    [
        (changed(dilation=2), "block 0 of stage 0: dilation 1 instead of 2"),
        (changed(growth=70), "'stage0.growth' cannot be 70 in this space, only 32, 64, 96"),
        (replace(get("meliusnet22").architecture(), input_bits=32), "how its input is stored"),
    ],
)
def test_a_change_is_named(architecture, text):
    with pytest.raises(InvalidValue, match=text):
        decisions_of(architecture, "melius")


def test_an_unknown_space_is_named():
    with pytest.raises(UnknownName, match="'meluis'.*Did you mean 'melius'"):
        decisions_of(get("meliusnet22").architecture(), "meluis")


def test_reductions():
    assert reduced(480, 2.25, 32) == 224
    assert reduced(16, 4.0, 32) == 32
    assert reduction_between(1184, 288, (2.0, 4.0), 32) == 4.0
    with pytest.raises(InvalidValue, match="1184 channels are reduced to one of 288, 576, not"):
        reduction_between(1184, 320, (2.0, 4.0), 32)
