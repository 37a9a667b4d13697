"""What an entry of the zoo is, and the registry that the families fill."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Required, TypedDict

from bitfront.spaces.architecture import Architecture
from bitfront.spaces.recipe import Recipe
from bitfront.spaces.registry import Registry


class Published(TypedDict, total=False):
    """Figures as the source prints them, with the digits that it prints.

    ``4.0`` and ``249`` are different claims: the one is good to a tenth, the other to a unit.
    ``size_unit`` tells what the source's "MB" is: HPI's tool and Larq divide by 1024^2, tables of
    32-bit networks by 10^6. ``ops_1e8`` follows the entry's convention, ``energy_mj`` is BoolNet's
    simulation. ``about`` names the figures that the source prints with a "~".
    """

    top1: float
    top5: float
    size_mb: float
    size_unit: Literal["MiB", "MB"]
    ops_1e8: float
    energy_mj: float
    params: int
    params_1e6: float
    about: tuple[str, ...]
    source: Required[str]


class Mismatch(NamedTuple):
    """A published figure that is known not to be reproduced here.

    Attributes:
        figure: Its key in ``Published``.
        why: Sentences for a reader of the table: what is counted here, and what explains the rest.
    """

    figure: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ZooEntry:
    """A published network that can be built, costed and trained here.

    Attributes:
        name: Stable name, as the command line takes it.
        family: The networks it belongs to.
        architecture: Builds the architecture in its published form.
        recipe: How its authors trained it, as far as a recipe here can say.
        published: What its authors report.
        notes: Where this form, its cost or its recipe differs from the published one.
        published_storage_bits: Width of the feature maps that the published energy assumed, where
            it is not the architecture's own.
        dataset: What the published accuracy was measured on.
        convention: How its source counts operations and size.
        mismatches: The published figures that are known not to be reproduced here. Every other
            figure is, to the printed digit; a test holds both.
    """

    name: str
    family: str
    architecture: Callable[[], Architecture]
    recipe: Recipe
    published: Published
    notes: str = ""
    published_storage_bits: int | None = None
    dataset: str = "imagenet"
    convention: str = "hpi"
    mismatches: tuple[Mismatch, ...] = ()


zoo: Final[Registry[ZooEntry]] = Registry("network")


def enter(entry: ZooEntry) -> None:
    """File an entry under its name.

    Raises:
        ValueError: If the name is taken.
    """
    zoo.register(entry.name)(entry)


def get(name: str) -> ZooEntry:
    """Return the entry of that name.

    Raises:
        InvalidValue: If there is none; the text names the nearest and lists all.
    """
    return zoo[name]
