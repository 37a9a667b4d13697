"""What an entry of the zoo is, and the registry that the families fill."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, Required, TypedDict

from bitfront.spaces.architecture import Architecture
from bitfront.spaces.recipe import Recipe
from bitfront.spaces.registry import Registry


class Published(TypedDict, total=False):
    """Figures as the source prints them, for ImageNet.

    ``size_unit`` tells what the source's "MB" is: HPI's tool and Larq divide by 1024^2, tables of
    32-bit networks by 10^6. ``ops_1e8`` counts BOPs/64 + FLOPs, where not noted otherwise.
    """

    top1: float
    top5: float
    size_mb: float
    size_unit: Literal["MiB", "MB"]
    ops_1e8: float
    energy_mj: float
    source: Required[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ZooEntry:
    """A published network that can be built, costed and trained here.

    Attributes:
        name: Stable name, as the command line takes it.
        family: The networks it belongs to.
        architecture: Builds the architecture for 224x224 images and 1000 classes.
        recipe: How its authors trained it, as far as a recipe here can say.
        published: What its authors report.
        notes: Where this form, its cost or its recipe differs from the published one.
        published_storage_bits: Width of the feature maps that the published energy assumed, where
            it is not the architecture's own.
    """

    name: str
    family: str
    architecture: Callable[[], Architecture]
    recipe: Recipe
    published: Published
    notes: str = ""
    published_storage_bits: int | None = None


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
