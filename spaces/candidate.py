"""A candidate: an architecture and the recipe that trains it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bitfront.spaces.architecture import Architecture
from bitfront.spaces.recipe import Recipe
from bitfront.spaces.value import Value, decode, digest_of


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidate(Value):
    """What a search space returns.

    Attributes:
        architecture: The network.
        recipe: How it is trained.
        digest: Of both digests, computed at construction.
    """

    architecture: Architecture
    recipe: Recipe
    digest: str = field(init=False, repr=False, default="")

    def check(self) -> None:
        """Nothing beyond what the parts check."""
        text = f"{self.architecture.digest}:{self.recipe.digest}"
        object.__setattr__(self, "digest", digest_of(text))

    def json(self) -> dict[str, Any]:
        """Plain data; ``from_json`` reads it back to an equal candidate."""
        return {"architecture": self.architecture.json(), "recipe": self.recipe.json()}

    @classmethod
    def from_json(cls, data: Any, where: str = "candidate") -> Candidate:
        """Read a candidate from the data that ``json`` gave.

        Raises:
            InvalidValue: If the document breaks a rule.
        """
        return decode(cls, data, where)
