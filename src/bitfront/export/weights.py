"""From a winner's weights file to its network."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from bitfront.export.errors import ExportFailed
from bitfront.export.files import read_file
from bitfront.export.winner import Winner
from bitfront.spaces.graph import Graph
from bitfront.spaces.network import Network, build

MODEL: Final = "model."
"""How a training's checkpoint prefixes the network's tensors."""

PACKED: Final = ".packed"
"""How the name of packed bits ends, which stand beside the weights that they come from."""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        ExportFailed: If it is missing or damaged.
    """
    content = read_file(path)
    try:
        tensors: dict[str, Tensor] = load(content)
    except SafetensorError as error:
        raise ExportFailed(f"{path} must be a safetensors file, but is not: {error}.") from None
    return tensors


def load_network(winner: Winner) -> Network:
    """Build the winner's network with its weights, on the CPU, in evaluation mode.

    Raises:
        ExportFailed: If the weights are missing, damaged, not finite or of another network.
    """
    tensors = read_tensors(winner.weights)
    if any(name.startswith(MODEL) for name in tensors):
        tensors = {
            name.removeprefix(MODEL): tensor
            for name, tensor in tensors.items()
            if name.startswith(MODEL)
        }
    tensors = {name: t for name, t in tensors.items() if not name.endswith(PACKED)}
    network = build(winner.architecture, t_clip=winner.recipe.t_clip)
    require_fit(network.graph, tensors, winner.weights)
    network.load_state_dict(tensors)
    network.eval()
    return network


def require_fit(graph: Graph, tensors: dict[str, Tensor], path: Path) -> None:
    """Check that tensors are a ``state_dict`` of the graph's network.

    Raises:
        ExportFailed: If a name or shape is another, or a value is not finite.
    """
    expected = {row.name: row.shape for row in graph.parameters()}
    missing = [name for name in expected if name not in tensors]
    unknown = [name for name in tensors if name not in expected]
    for what, names in (("lacks", missing), ("has an unknown", unknown)):
        if names:
            raise ExportFailed(
                f"{path} must hold the tensors of this architecture, but {what} {names[0]!r} "
                f"({len(missing)} missing, {len(unknown)} unknown of {len(expected)})."
            )
    for name, shape in expected.items():
        tensor = tensors[name]
        if tuple(tensor.shape) != shape:
            raise ExportFailed(
                f"{name} in {path} must have the shape {shape}, but has {tuple(tensor.shape)}."
            )
        if not bool(tensor.isfinite().all()):
            raise ExportFailed(f"{name} in {path} must be finite, but some values are not.")
