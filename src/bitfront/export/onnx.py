"""ONNX: written from the graph, op by op, for any runtime that has the standard operators.

* Input ``pixels``: uint8, (batch, C, H, W), 0 to 255 as stored in an image file; the file
  normalises them itself, so a caller cannot do it wrong. Output ``logits``: float32,
  (batch, classes). The batch may have any size.
* Weights of 1 to 8 bits are stored in so many bits and unpacked by standard operators
  (``onnx_graph``); runtimes that fold constants, onnxruntime among them, do so once.
* Tensors are named as the network's nodes ("stages.0.blocks.1.conv").
* ``metadata_props`` hold what the network is and where it comes from.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import onnx
import onnxruntime
import torch
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import ModelProto, TensorProto, checker, helper
from torch import Tensor

from bitfront import __version__
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
from bitfront.export.onnx_forms import forms
from bitfront.export.onnx_graph import LOGITS, PIXELS, Emitter
from bitfront.export.verification import Verification
from bitfront.export.weights import load_network
from bitfront.export.winner import TrainedOn, Winner
from bitfront.spaces.graph import Graph
from bitfront.spaces.network import Network
from bitfront.spaces.value import canonical

OPSET: Final = 18
IR_VERSION: Final = 8
"""The first that opset 18 needs: older runtimes read the file too."""

BATCH: Final = "batch"


def write(winner: Winner, directory: Path | str) -> Path:
    """Write ``NAME.onnx``; the same winner gives the same bytes.

    Args:
        winner: What to export.
        directory: It is made if need be.

    Returns:
        The file.

    Raises:
        ExportFailed: If the weights cannot be read or the file cannot be written.
    """
    model = build_model(load_network(winner), winner.data, winner.name)
    document = winner.json()
    properties = {
        "bitfront_version": document["bitfront"],
        "architecture_digest": document["architecture_digest"],
        "class_names": canonical(document["data"]["class_names"]),
        "winner": canonical(document),
    }
    helper.set_model_props(model, properties)
    path = Path(directory) / f"{winner.name}.onnx"
    replace_file(path, model.SerializeToString(deterministic=True))
    return path


def verify(winner: Winner, path: Path | str, data: DataSet) -> Verification:
    """Compare a written file with the winner's network, as onnxruntime runs it on one CPU thread.

    Raises:
        ExportFailed: If the file is missing, damaged or of another network.
        InvalidValue: If ``data`` is not what the winner was trained on.
    """
    path = Path(path)
    require_same_data(winner, data)
    loaded = OnnxFile(path, winner.architecture.lower())
    require_same_architecture(winner, path, loaded.metadata.get("architecture_digest"))
    return compare(loaded, winner, data, format="onnx", path=path)


def build_model(network: Network, data: TrainedOn, name: str) -> ModelProto:
    """The ONNX model of a network, checked, without metadata.

    Args:
        network: In evaluation mode, on the CPU.
        data: How pixels are normalised.
        name: Of the ONNX graph.
    """
    graph = network.graph
    emitter = Emitter(network, data)
    for node in graph.nodes:
        inputs = [emitter.name(graph.nodes[i]) for i in node.inputs]
        forms[node.op.kind](emitter, node, inputs)
    pixels: list[str | int | None] = [BATCH, *graph.input.torch_shape]
    logits: list[str | int | None] = [BATCH, *graph.output.torch_shape]
    model = helper.make_model(
        helper.make_graph(
            emitter.nodes,
            name,
            [helper.make_tensor_value_info(PIXELS, TensorProto.UINT8, pixels)],
            [helper.make_tensor_value_info(LOGITS, TensorProto.FLOAT, logits)],
            list(emitter.initializers.values()),
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="bitfront",
        producer_version=__version__,
        doc_string="Input: pixels of 0 to 255 as stored; output: one logit per class.",
    )
    checker.check_model(model, full_check=True)
    return model


class OnnxFile:
    """A file, run by onnxruntime with its default optimisations on one CPU thread.

    Args:
        path: The file.
        graph: Of the network that it was written from.

    Attributes:
        metadata: What the file says of itself.

    Raises:
        ExportFailed: If the file is missing, damaged, or onnxruntime refuses it.
    """

    def __init__(self, path: Path, graph: Graph) -> None:
        self._path = path
        self._model = _read(path)
        self._graph = graph
        self.metadata = {prop.key: prop.value for prop in self._model.metadata_props}
        self._plain = _session(self._model, path)
        self._tracing: onnxruntime.InferenceSession | None = None

    def logits(self, pixels: Pixels) -> Tensor:
        """Logits, (B, classes)."""
        return torch.from_numpy(self._plain.run([LOGITS], {PIXELS: pixels})[0])

    def trace(self, pixels: Pixels) -> Mapping[int, Tensor]:
        """Values of ``traced_nodes``.

        Only these are made outputs: each one more would keep the runtime from merging operations
        that it merges for the file's users.
        """
        names = {index: _tensor_name(self._graph, index) for index in traced_nodes(self._graph)}
        if self._tracing is None:
            self._tracing = _session(_with_outputs(self._model, names, self._path), self._path)
        values = self._tracing.run(list(names.values()), {PIXELS: pixels})
        return {index: torch.from_numpy(v) for index, v in zip(names, values, strict=True)}


def _tensor_name(graph: Graph, index: int) -> str:
    return LOGITS if index == len(graph.nodes) - 1 else graph.nodes[index].name


def _with_outputs(model: ModelProto, names: Mapping[int, str], path: Path) -> ModelProto:
    known = {name for node in model.graph.node for name in node.output}
    missing = [name for name in names.values() if name not in known]
    if missing:
        raise ExportFailed(
            f"{path} must name its tensors as the network's nodes, but has no {missing[0]!r}."
        )
    copy = ModelProto()
    copy.CopyFrom(model)
    for name in names.values():
        if name != LOGITS:
            copy.graph.output.append(helper.make_empty_tensor_value_info(name))
    return copy


def _read(path: Path) -> ModelProto:
    content = read_file(path)
    try:
        model = onnx.load_from_string(content)
        checker.check_model(model, full_check=True)
    except (DecodeError, checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportFailed(
            f"{path} must be a valid ONNX file, but is not: {_first_line(error)}"
        ) from None
    return model


def _session(model: ModelProto, path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # warnings of the runtime's own would land on the user's terminal
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's errors have no public root
        raise ExportFailed(f"onnxruntime cannot load {path}: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
