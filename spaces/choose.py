"""Choosing: a space asks named questions, and who answers decides the search method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Protocol, TypeVar

from bitfront.spaces.errors import InvalidValue

T = TypeVar("T", int, float, str, bool)
Decision = int | float | str | bool
Decisions = Mapping[str, Decision]


class Choose(Protocol):
    """Answers the questions of a space; a name has the same options in every trial."""

    def option(self, name: str, options: Sequence[T]) -> T:
        """Choose one of unordered options."""
        ...

    def ordered(self, name: str, options: Sequence[T]) -> T:
        """Choose one of options that are numbers in ascending order."""
        ...

    def number(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Choose a real number, ``low <= x <= high``, uniformly or in its logarithm."""
        ...


class _Recording:
    """Keeps the decisions that were taken, in the order of the questions."""

    def __init__(self) -> None:
        self.decisions: dict[str, Decision] = {}

    def _kept(self, name: str, value: T) -> T:
        if name in self.decisions:
            raise ValueError(f"A space asks each name once, but asked {name!r} twice.")
        self.decisions[name] = value
        return value


class RandomChoose(_Recording):
    """Answers uniformly at random from a seed."""

    def __init__(self, seed: int | str) -> None:
        super().__init__()
        self._random = Random(seed)

    def option(self, name: str, options: Sequence[T]) -> T:
        """Choose each option with equal probability."""
        return self._kept(name, self._random.choice(options))

    def ordered(self, name: str, options: Sequence[T]) -> T:
        """Choose each option with equal probability."""
        return self._kept(name, self._random.choice(options))

    def number(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Choose uniformly, or log-uniformly."""
        share = self._random.random()
        value: float = low * (high / low) ** share if log else low + (high - low) * share
        # rounding may step over an end
        return self._kept(name, min(max(value, low), high))


class Replay(_Recording):
    """Answers from recorded decisions, and asks ``otherwise`` only what is new.

    Args:
        decisions: Answers by name.
        otherwise: Who answers a name that is not among them; None refuses.
    """

    def __init__(self, decisions: Decisions, otherwise: Choose | None = None) -> None:
        super().__init__()
        self._decisions = decisions
        self._otherwise = otherwise

    def _answer(
        self,
        name: str,
        ask: Callable[[Choose], T],
        fits: Callable[[T], bool],
        accepted: Sequence[T] | str,
    ) -> T:
        if name in self._decisions:
            value: T = self._decisions[name]  # type: ignore[assignment]
            if not fits(value):
                only = accepted if isinstance(accepted, str) else ", ".join(map(repr, accepted))
                raise InvalidValue(
                    f"The decision {name!r} cannot be {value!r} in this space, only {only}."
                )
            return self._kept(name, value)
        if self._otherwise is None:
            raise InvalidValue(f"The decisions lack an answer for {name!r}.")
        return self._kept(name, ask(self._otherwise))

    def option(self, name: str, options: Sequence[T]) -> T:
        """The recorded option."""
        return self._answer(
            name, lambda o: o.option(name, options), lambda v: v in options, options
        )

    def ordered(self, name: str, options: Sequence[T]) -> T:
        """The recorded option."""
        return self._answer(
            name, lambda o: o.ordered(name, options), lambda v: v in options, options
        )

    def number(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """The recorded number."""

        def fits(value: float) -> bool:
            return isinstance(value, int | float) and low <= value <= high

        def ask(choose: Choose) -> float:
            return choose.number(name, low, high, log=log)

        return self._answer(name, ask, fits, f"{low} to {high}")


def replay(decisions: Decisions, otherwise: Choose | None = None) -> Replay:
    """Answer from recorded decisions; see ``Replay``."""
    return Replay(decisions, otherwise)


class Within:
    """Asks another for the answers to questions under a prefix.

    Args:
        choose: Who answers.
        prefix: Put before each name.
    """

    def __init__(self, choose: Choose, prefix: str) -> None:
        self._choose = choose
        self._prefix = prefix

    def option(self, name: str, options: Sequence[T]) -> T:
        """Choose one of unordered options."""
        return self._choose.option(self._prefix + name, options)

    def ordered(self, name: str, options: Sequence[T]) -> T:
        """Choose one of options that are numbers in ascending order."""
        return self._choose.ordered(self._prefix + name, options)

    def number(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Choose a real number, ``low <= x <= high``, uniformly or in its logarithm."""
        return self._choose.number(self._prefix + name, low, high, log=log)
