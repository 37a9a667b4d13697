"""PT2: the network as a program of torch's own operators, read back without bitfront.

    program = torch.export.load("NAME.pt2").module()
    logits = program(pixels)  # uint8, (batch, C, H, W), 0 to 255

The program normalises the pixels itself and takes a batch of any size. Quantisers of weights have
been applied: it holds the values that it multiplies with, as float32, since torch has no operator
for packed weights. What the network is and where it comes from lies in the archive's extra file
``bitfront.json``.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram

from bitfront.evaluators.binary_layers import filter_factors, quantized_weight, weight_owners
from bitfront.evaluators.training.splits import DataSet
from bitfront.export.comparison import (
    Pixels,
    compare,
    require_same_architecture,
    require_same_data,
    traced_nodes,
)
from bitfront.export.errors import ExportFailed
from bitfront.export.files import read_file, replace_file
from bitfront.export.verification import Verification
from bitfront.export.weights import load_network
from bitfront.export.winner import TrainedOn, Winner
from bitfront.spaces.graph import Graph
from bitfront.spaces.network import Network
from bitfront.spaces.ops import Conv2d, FilterScale, Linear, Scale
from bitfront.spaces.quantizers import IDENTITY
from bitfront.spaces.value import canonical

EXTRA: Final = "bitfront.json"


class Program(nn.Module):
    """Pixels to logits.

    Args:
        network: Reads normalised images.
        data: How pixels are normalised.
    """

    factor: Tensor
    offset: Tensor

    def __init__(self, network: Network, data: TrainedOn) -> None:
        super().__init__()
        factor, offset = map(torch.from_numpy, data.affine())
        self.register_buffer("factor", factor)
        self.register_buffer("offset", offset)
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels uint8 (N, C, H, W) to logits (N, classes)."""
        logits: Tensor = self.network(pixels * self.factor + self.offset)
        return logits


def write(winner: Winner, directory: Path | str) -> Path:
    """Write ``NAME.pt2``.

    Args:
        winner: What to export.
        directory: It is made if need be.

    Returns:
        The file.

    Raises:
        ExportFailed: If the weights cannot be read or the file cannot be written.
    """
    program = Program(_folded(load_network(winner)), winner.data).eval().requires_grad_(False)
    example = torch.zeros((2, *winner.architecture.input), dtype=torch.uint8)
    exported = torch.export.export(
        program, (example,), dynamic_shapes={"pixels": {0: Dim("batch", min=1)}}
    )
    content = io.BytesIO()
    torch.export.save(exported, content, extra_files={EXTRA: canonical(winner.json())})
    path = Path(directory) / f"{winner.name}.pt2"
    replace_file(path, content.getvalue())
    return path


def verify(winner: Winner, path: Path | str, data: DataSet) -> Verification:
    """Compare a written file with the winner's network, on the CPU.

    Raises:
        ExportFailed: If the file is missing, damaged or of another network.
        InvalidValue: If ``data`` is not what the winner was trained on.
    """
    path = Path(path)
    require_same_data(winner, data)
    loaded = Pt2File(path, winner.architecture.lower())
    require_same_architecture(winner, path, loaded.document.get("architecture_digest"))
    return compare(loaded, winner, data, format="pt2", path=path)


def _folded(network: Network) -> Network:
    """The same network with quantised weights and constant factors in place of latent weights."""
    graph = network.graph
    state = dict(network.state_dict())
    owners = weight_owners(graph)
    nodes = []
    for node in graph.nodes:
        if isinstance(node.op, Conv2d | Linear):
            owner = owners[node.index]
            if owner == node.index:
                state[f"{node.name}.weight"] = quantized_weight(network, node)
            params = tuple(p for p in node.facts.params if p.name in ("weight", "bias"))
            node = node._replace(op=replace(node.op, weight=IDENTITY), latent=owner)
        elif isinstance(node.op, FilterScale):
            op = Scale()
            state[f"{node.name}.weight"] = filter_factors(network, node)
            params = op.params(node.type)
            node = node._replace(op=op, latent=node.index)
        else:
            params = node.facts.params
        nodes.append(node._replace(facts=replace(node.facts, params=params)))
    folded = Network(Graph(nodes=tuple(nodes), regions=graph.regions))
    names = {row.name for row in folded.graph.parameters()}
    folded.load_state_dict({name: tensor for name, tensor in state.items() if name in names})
    return folded


class Pt2File:
    """A file, run by torch.

    Args:
        path: The file.
        graph: Of the network that it was written from.

    Attributes:
        document: What the file says of itself.

    Raises:
        ExportFailed: If the file is missing or damaged.
    """

    def __init__(self, path: Path, graph: Graph) -> None:
        self._path = path
        self._graph = graph
        exported, self.document = _read(path)
        module = exported.module()
        self._module: fx.GraphModule = module

    def logits(self, pixels: Pixels) -> Tensor:
        """Logits, (B, classes)."""
        value: Tensor = self._module(torch.tensor(pixels))
        return value

    def trace(self, pixels: Pixels) -> Mapping[int, Tensor]:
        """Values of ``traced_nodes``.

        Torch notes with every operator which module it came from; a node's value is what the last
        operator of its module gives.
        """
        recorder = _Recorder(self._module)
        recorder.run(torch.tensor(pixels))
        values: dict[int, Tensor] = {}
        for node in self._graph.nodes:
            value = recorder.values.get(node.name if node.inputs else "")
            if value is None and len(node.inputs) == 1:
                # an op that only hands its input on
                value = values[node.inputs[0]]
            if value is None:
                raise ExportFailed(f"{self._path} must compute {node.name!r}, but does not.")
            values[node.index] = value
        return {index: values[index] for index in traced_nodes(self._graph)}


class _Recorder(fx.Interpreter):
    """Runs a program and keeps the last value of every module, by its name in the network."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.values: dict[str, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        stack = n.meta.get("nn_module_stack")
        if stack and isinstance(value, Tensor):
            path, _ = list(stack.values())[-1]
            self.values[str(path).removeprefix("network").removeprefix(".")] = value
        return value


def _read(path: Path) -> tuple[ExportedProgram, dict[str, Any]]:
    content = io.BytesIO(read_file(path))
    extra = {EXTRA: ""}
    try:
        exported = torch.export.load(content, extra_files=extra)
        document = json.loads(extra[EXTRA])
    except Exception as error:  # torch raises many kinds for a damaged archive
        reason = str(error).strip().split("\n")[0]
        raise ExportFailed(f"{path} must be a PT2 file of bitfront, but is not: {reason}") from None
    if not isinstance(document, dict):
        raise ExportFailed(f"{path} must hold an object in {EXTRA}, but does not.")
    return exported, document
