"""Collecting the nodes and initialisers of one ONNX graph.

Weights with a finite list of levels are stored as packed bits, in the layout of
``bitfront.kernels``: bit planes of the level's number, 32 channels to a word, beside a table of the
levels. Standard operators unpack them, and runtimes that fold constants do so once, on loading: the
file is small, and inference as fast as with float weights::

    words uint32 [Q, N, kh, kw, P, 1]  >> 0..31, & 1     [Q, N, kh, kw, P, 32]
                                       sum of 2^q        level numbers [N, kh, kw, P * 32]
                                       table             values, cut to C channels, [N, C, kh, kw]

Where filters or positions have levels of their own, the table holds one part after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor

from bitfront.evaluators.binary_layers import quantized_weight, weight_owners, weight_quantizer_of
from bitfront.export.winner import TrainedOn
from bitfront.kernels import WORD_BITS, CodeFormat, pack_codes
from bitfront.spaces.graph import Node, TensorType
from bitfront.spaces.network import Network
from bitfront.spaces.quantizers import Half, Learned, Quantizer

PIXELS: Final = "pixels"
LOGITS: Final = "logits"


class Emitter:
    """One ONNX graph under construction; tensors are named as the network's nodes.

    Args:
        network: Its graph and parameters.
        data: How pixels are normalised.

    Attributes:
        network: As given.
        data: As given.
        nodes: In topological order.
        initializers: By name, weights and constants.
    """

    def __init__(self, network: Network, data: TrainedOn) -> None:
        self.network = network
        self.data = data
        self.nodes: list[NodeProto] = []
        self.initializers: dict[str, TensorProto] = {}
        self._owners = weight_owners(network.graph)
        self._constants: dict[tuple[object, ...], str] = {}
        self._parameters = {
            name: tensor.detach().numpy() for name, tensor in network.state_dict().items()
        }

    def name(self, node: Node) -> str:
        """The tensor that holds a node's value."""
        return LOGITS if node.index == len(self.network.graph.nodes) - 1 else node.name

    def type(self, index: int) -> TensorType:
        """Type of a node's value."""
        return self.network.graph.nodes[index].type

    def add(self, op: str, *inputs: str, out: str, **attributes: Any) -> str:
        """Append one ONNX node; returns its output, ``out``."""
        self.nodes.append(helper.make_node(op, list(inputs), [out], name=out, **attributes))
        return out

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """An initialiser that is not a parameter; equal ones are one."""
        array = np.asarray(value, dtype=dtype)
        key = (array.tobytes(), array.dtype.str, array.shape)
        if key not in self._constants:
            self._constants[key] = self._store(f"constants.{len(self._constants)}", array)
        return self._constants[key]

    def integers(self, *values: int) -> str:
        """A constant vector of int64: a shape, or a list of axes."""
        return self.constant(values, np.int64)

    def parameter(self, node: Node, name: str, shape: Sequence[int] | None = None) -> str:
        """A parameter or buffer of a node as an initialiser, named as in ``state_dict``."""
        name = f"{node.name}.{name}"
        array = self._parameters[name]
        return self._store(name, array if shape is None else array.reshape(shape))

    def weight(self, node: Node) -> str:
        """A convolution's or linear layer's weights as it computes with them.

        Layers that compute with the same weights share them.
        """
        owner = self._owners[node.index]
        name = f"{self.network.graph.nodes[owner].name}.weight"
        if owner != node.index:
            return name
        quantizer = weight_quantizer_of(node)
        value = quantized_weight(self.network, node)
        table = self._table(node, quantizer, value)
        if table is not None and quantizer.bits <= 8:
            return self._unpacked(name, value, table, quantizer.bits)
        if isinstance(quantizer, Half):
            half = self._store(f"{name}.half", value.numpy().astype(np.float16))
            return self.add("Cast", half, out=name, to=TensorProto.FLOAT)
        return self._store(name, value.numpy())

    def _table(self, node: Node, quantizer: Quantizer, value: Tensor) -> Tensor | None:
        """The levels of a layer's weights, float64, as ``Learned.table`` has them."""
        levels = quantizer.levels()
        if levels is not None:
            return torch.tensor(levels, dtype=torch.float64)
        if isinstance(quantizer, Learned):
            return quantizer.table(value, *self.network.quantizer_parameters(node.index)).double()
        return None

    def _store(self, name: str, array: npt.NDArray[Any]) -> str:
        self.initializers[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def _unpacked(self, name: str, value: Tensor, levels: Tensor, bits: int) -> str:
        table, numbers = _level_numbers(value, levels)
        # channels last, as the layout has them
        packed = pack_codes(numbers.movedim(1, -1), CodeFormat(bits=bits, coding="unsigned"))
        words = packed.words.numpy().view(np.uint32)[..., None]
        out = self._store(f"{name}.words", words)
        shifts = self.constant(np.arange(WORD_BITS), np.uint32)
        out = self.add("BitShift", out, shifts, out=f"{name}.shifted", direction="RIGHT")
        out = self.add("BitwiseAnd", out, self.constant(1, np.uint32), out=f"{name}.bits")
        out = self.add("Cast", out, out=f"{name}.planes", to=TensorProto.INT32)
        if bits > 1:
            worth = 2 ** np.arange(bits).reshape(bits, *[1] * (words.ndim - 1))
            out = self.add("Mul", out, self.constant(worth, np.int32), out=f"{name}.worth")
            out = self.add("ReduceSum", out, self.integers(0), out=f"{name}.sum")
        rows = words.shape[1:-2]
        shape = self.integers(*rows, words.shape[-2] * WORD_BITS)
        out = self.add("Reshape", out, shape, out=f"{name}.numbers")
        if levels.dim() > 1:
            # each filter, or each position of the kernel, has a part of the table
            starts = np.arange(0, table.size, levels.shape[-1]).reshape(levels.shape[:-1])
            starts_last = self.constant(np.moveaxis(starts, 1, -1), np.int32)
            out = self.add("Add", out, starts_last, out=f"{name}.places")
        out = self.add("Gather", self._store(f"{name}.levels", table), out, out=f"{name}.padded")
        cut = [self.integers(i) for i in (0, packed.channels, -1)]
        order = [0, len(rows), *range(1, len(rows))]
        if len(rows) == 1:
            return self.add("Slice", out, *cut, out=name)
        out = self.add("Slice", out, *cut, out=f"{name}.last")
        return self.add("Transpose", out, out=name, perm=order)


def _level_numbers(value: Tensor, levels: Tensor) -> tuple[npt.NDArray[np.float32], Tensor]:
    """The table of levels in float32, flat, and the number of each value's level in its part.

    A level that occurs enters the table as the quantizer has computed it, to the last bit.
    """
    thresholds = (levels[..., 1:] + levels[..., :-1]) / 2
    starts = torch.zeros((), dtype=torch.int64)
    if levels.dim() == 1:
        numbers = torch.bucketize(value.double(), thresholds)
    else:
        thresholds = thresholds.expand(*value.shape, -1).contiguous()
        numbers = torch.searchsorted(thresholds, value.double()[..., None])[..., 0]
        starts = torch.arange(0, levels.numel(), levels.shape[-1]).reshape(levels.shape[:-1])
    table = levels.flatten().float()
    places = (numbers + starts).flatten()
    table[places] = value.flatten()
    if not torch.equal(table[places], value.flatten()):
        raise ValueError("A quantizer must emit one float per level, but emits several.")
    return table.numpy(), numbers
