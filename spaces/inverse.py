"""From an architecture back to the decisions that give it.

A space goes one way, from decisions to a candidate. Its reader goes the other way: it names the
decisions that an architecture shows; replaying them tells whether the space has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from typing import Final

from bitfront.spaces.architecture import Architecture
from bitfront.spaces.blocks import Block
from bitfront.spaces.choose import Decision, T, replay
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.recipe import Recipe
from bitfront.spaces.registry import Registry
from bitfront.spaces.space import Task, spaces

Reader = Callable[[Architecture], Iterable[tuple[str, Decision]]]
"""From an architecture to decisions by name; what a space does not ask is left out."""

readers: Final[Registry[Reader]] = Registry("space with a reader")


def decisions_of(
    architecture: Architecture, space: str, recipe: Recipe | None = None
) -> dict[str, Decision]:
    """The decisions whose replay into a space gives an architecture.

    Args:
        architecture: A published network, a winner of another search, ...
        space: Name of the space.
        recipe: Gives the answers about training, as near as the space has them; None takes the
            middle of each range.

    Raises:
        InvalidValue: If the space does not have this architecture; the text says what it lacks.
    """
    reader = readers[space]
    task = Task(
        input=architecture.input,
        classes=architecture.classes,
        epochs=1 if recipe is None else recipe.epochs,
    )
    try:
        read = dict(reader(architecture))
        answers = replay(read, _Training(recipe))
        found = spaces[space](answers, task).architecture
    except InvalidValue as error:
        raise InvalidValue(f"The space {space!r} has no such network: {error}") from None
    if found != architecture:
        raise InvalidValue(
            f"The space {space!r} has no such network; the nearest that was found differs in "
            f"{_difference(found, architecture)}."
        )
    return answers.decisions


class _Training:
    """Answers about training, which no architecture shows, from a recipe."""

    def __init__(self, recipe: Recipe | None) -> None:
        self._recipe = recipe

    def option(self, name: str, options: Sequence[T]) -> T:
        if not hasattr(Recipe, name):
            raise InvalidValue(f"its reader gives no answer for {name!r}.")
        value = getattr(self._recipe, name, None)
        return next((option for option in options if option == value), options[0])

    def ordered(self, name: str, options: Sequence[T]) -> T:
        raise InvalidValue(f"its reader gives no answer for {name!r}.")

    def number(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        middle = (low * high) ** 0.5 if log else (low + high) / 2
        return min(max(float(getattr(self._recipe, name, middle)), low), high)


def _difference(found: Architecture, wanted: Architecture) -> str:
    """The first part in which two architectures differ."""
    if found.members != wanted.members:
        return f"its {found.members} members instead of {wanted.members}"
    if found.stem != wanted.stem:
        return f"the stem: {_instead(found.stem, wanted.stem)}"
    if len(found.stages) != len(wanted.stages):
        return f"its {len(found.stages)} stages instead of {len(wanted.stages)}"
    for s, (a, b) in enumerate(zip(found.stages, wanted.stages, strict=True)):
        if len(a.blocks) != len(b.blocks):
            return f"stage {s}: {len(a.blocks)} blocks instead of {len(b.blocks)}"
        for i, (x, y) in enumerate(zip(a.blocks, b.blocks, strict=True)):
            if x != y:
                return f"block {i} of stage {s}: {_instead(x, y)}"
        if a.transition != b.transition:
            return f"the transition of stage {s}: {_instead(a.transition, b.transition)}"
    if found.head != wanted.head:
        return f"the head: {_instead(found.head, wanted.head)}"
    return "how its input is stored"


def _instead(found: Block | None, wanted: Block | None) -> str:
    if found is None or wanted is None or type(found) is not type(wanted):
        names = ["none" if block is None else block.kind for block in (found, wanted)]
        return f"{names[0]} instead of {names[1]}"
    pairs = [(f.name, getattr(found, f.name), getattr(wanted, f.name)) for f in fields(wanted)]
    return " and ".join(f"{name} {a!r} instead of {b!r}" for name, a, b in pairs if a != b)
