"""A registry: names to things, filled by explicit imports."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from typing import Generic, TypeVar

from bitfront.spaces.errors import UnknownName

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Things of one kind by name; a duplicate raises, an unknown name lists what exists."""

    def __init__(self, what: str) -> None:
        self.what = what
        self._things: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that files a thing under ``name``.

        Raises:
            ValueError: If the name is taken.
        """

        def file(thing: T) -> T:
            if name in self._things:
                raise ValueError(f"A {self.what} name must be unique, but {name!r} is taken.")
            self._things[name] = thing
            return thing

        return file

    def __getitem__(self, name: str) -> T:
        if name in self._things:
            return self._things[name]
        near = get_close_matches(str(name), self._things, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        known = ", ".join(sorted(self._things)) or "none"
        shown = repr(name)
        shown = shown if len(shown) <= 100 else shown[:97] + "..."
        raise UnknownName(f"Unknown {self.what} {shown}.{hint} Known: {known}.")

    def __iter__(self) -> Iterator[str]:
        return iter(self._things)

    def __len__(self) -> int:
        return len(self._things)
