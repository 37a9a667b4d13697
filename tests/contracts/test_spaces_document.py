"""docs/spaces.md says what each space asks, and how much."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from bitfront.spaces import Decision, RandomChoose, Task, spaces
from bitfront.spaces.bodies import BODIES

DOCUMENT = (Path(__file__).parents[2] / "docs" / "spaces.md").read_text()
TASKS = [
    Task(input=(1, 8, 8), classes=10),
    Task(input=(3, 32, 32), classes=10),
    Task(input=(3, 224, 224), classes=1000),
]


def section(name: str) -> str:
    return DOCUMENT.split(f"\n## {name}\n")[1].split("\n## ")[0]


def asked(name: str, task: Task) -> list[set[str]]:
    """The names of the questions of 500 candidates."""
    trials = []
    for seed in range(500):
        choose = RandomChoose(seed)
        spaces[name](choose, task)
        trials.append(set(choose.decisions))
    return trials


@pytest.mark.parametrize("name", list(spaces))
def test_every_question_is_listed_and_every_listed_one_is_asked(name):
    questions = section(name).strip().split("\n\n")[0]
    listed = set(re.findall(r"`([^`]+)`", questions))
    names = {question for task in TASKS for trial in asked(name, task) for question in trial}
    names = {re.sub(r"stage\d", "stageN", question).removeprefix("full.") for question in names}
    assert listed == names


@pytest.mark.parametrize("name", list(spaces))
def test_the_number_of_decisions_is_the_documented_one(name):
    row = next(line for line in DOCUMENT.splitlines() if line.startswith(f"| `{name}` |"))
    ranges = [tuple(map(int, pair)) for pair in re.findall(r"(\d+)-(\d+)", row)]
    assert len(ranges) == len(TASKS)
    for (low, high), task in zip(ranges, TASKS, strict=True):
        numbers = [len(trial) for trial in asked(name, task)]
        assert low <= min(numbers)
        assert max(numbers) <= high


def test_every_kind_of_the_space_field_is_listed():
    rows = re.findall(r"^\| `(\w+)` \|", section("field"), flags=re.MULTILINE)
    assert rows == list(BODIES)


def test_the_example_runs():
    code = re.search(r"```python\n(.*?)```", DOCUMENT, flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(code[1], names)
    stages: Sequence = names["changed"].architecture.stages
    bits: set[Decision] = {block.shortcut_bits for stage in stages for block in stage.blocks}
    assert bits == {4}
