"""What can be built: search spaces, architectures, the graphs they lower to, and their networks.

    >>> from bitfront.spaces import RandomChoose, Task, build, spaces
    >>> candidate = spaces["melius"](RandomChoose(0), Task(input=(1, 8, 8), classes=10))
    >>> network = build(candidate.architecture)

Importing this package loads no torch; ``Network`` and ``build`` load it when they are first used.
The registries are filled by the imports below: ``spaces`` here, and ``ops.ops``, ``blocks.blocks``,
``quantizers.quantizers`` and ``zoo.zoo`` in the modules of those names.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

# filling the registry of spaces is what this import is for
from bitfront.spaces import binary_densenet as _binary_densenet  # noqa: F401
from bitfront.spaces import boolnet as _boolnet  # noqa: F401
from bitfront.spaces import field as _field  # noqa: F401
from bitfront.spaces import melius as _melius  # noqa: F401
from bitfront.spaces import resnet_e as _resnet_e  # noqa: F401
from bitfront.spaces.architecture import Architecture, Stage, read_architecture
from bitfront.spaces.blocks import Block
from bitfront.spaces.candidate import Candidate
from bitfront.spaces.choose import Choose, Decision, Decisions, RandomChoose, Replay, replay
from bitfront.spaces.errors import BitfrontError, InfeasibleArchitecture, InvalidValue, UnknownName
from bitfront.spaces.graph import (
    BIT_ORDER,
    SIGN_OF_ZERO,
    Builder,
    Domain,
    Facts,
    Graph,
    Node,
    Op,
    Parameter,
    ParameterSpec,
    Region,
    Role,
    TensorType,
    Work,
)
from bitfront.spaces.inverse import decisions_of
from bitfront.spaces.precision import BINARY, FULL, Precision
from bitfront.spaces.quantizers import Quantizer
from bitfront.spaces.recipe import Recipe
from bitfront.spaces.registry import Registry
from bitfront.spaces.space import Space, Task, spaces
from bitfront.spaces.value import Value

if TYPE_CHECKING:
    from bitfront.spaces import zoo
    from bitfront.spaces.network import Network, build

__all__ = [
    "BINARY",
    "BIT_ORDER",
    "FULL",
    "SIGN_OF_ZERO",
    "Architecture",
    "BitfrontError",
    "Block",
    "Builder",
    "Candidate",
    "Choose",
    "Decision",
    "Decisions",
    "Domain",
    "Facts",
    "Graph",
    "InfeasibleArchitecture",
    "InvalidValue",
    "Network",
    "Node",
    "Op",
    "Parameter",
    "ParameterSpec",
    "Precision",
    "Quantizer",
    "RandomChoose",
    "Recipe",
    "Region",
    "Registry",
    "Replay",
    "Role",
    "Space",
    "Stage",
    "Task",
    "TensorType",
    "UnknownName",
    "Value",
    "Work",
    "build",
    "decisions_of",
    "read_architecture",
    "replay",
    "spaces",
    "zoo",
]


def __getattr__(name: str) -> object:
    if name in ("Network", "build"):
        value: object = getattr(import_module("bitfront.spaces.network"), name)
    elif name == "zoo":
        value = import_module("bitfront.spaces.zoo")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
