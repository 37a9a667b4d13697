"""The ONNX form of every primitive op.

A form appends the ONNX nodes that compute one node of the graph. Where ONNX offers a choice, it
takes what rounds as torch does: ``Round`` rounds half to even in both, and a sign is a comparison,
since ONNX's ``Sign`` has sign(0) = 0 where ours is +1.

The sums of a binary layer pass a ``Round``. It changes no value, for they are integers. But it
keeps a runtime from merging the batch norm behind it into the weights, which would no longer be
signs, and it restores the integers where a runtime does not multiply in full float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

import numpy as np
from onnx import TensorProto

from bitfront.evaluators.binary_layers import filter_factors
from bitfront.export.onnx_graph import PIXELS, Emitter
from bitfront.export.onnx_quantizers import quantizer_forms
from bitfront.spaces import ops
from bitfront.spaces.graph import Domain, Node
from bitfront.spaces.registry import Registry
from bitfront.spaces.torch_ops import NORM_EPS

Form = Callable[[Emitter, Node, list[str]], object]
"""Computes ``emitter.name(node)`` from the tensors that the node reads."""

forms: Final[Registry[Form]] = Registry("ONNX form")


@forms.register("input")
def _input(e: Emitter, node: Node, inputs: list[str]) -> None:
    factor, offset = e.data.affine()
    x = e.add("Cast", PIXELS, out=f"{node.name}.float", to=TensorProto.FLOAT)
    x = e.add("Mul", x, e.constant(factor), out=f"{node.name}.scaled")
    e.add("Add", x, e.constant(offset), out=e.name(node))


@forms.register("conv2d")
def _conv2d(e: Emitter, node: Node, inputs: list[str]) -> None:
    op = cast(ops.Conv2d, node.op)
    (x,) = inputs
    padding = op.padding
    if padding and (op.replicate or op.padding_value):
        sides = e.integers(0, 0, padding, padding, 0, 0, padding, padding)
        out = f"{node.name}.padded"
        if op.replicate:
            x = e.add("Pad", x, sides, out=out, mode="edge")
        else:
            x = e.add("Pad", x, sides, e.constant(op.padding_value), out=out)
        padding = 0
    operands = [x, e.weight(node)]
    if op.bias:
        operands.append(e.parameter(node, "bias"))
    exact = node.type.domain is Domain.ACCUMULATOR
    y = e.add(
        "Conv",
        *operands,
        out=f"{node.name}.sums" if exact else e.name(node),
        kernel_shape=[op.kernel_size] * 2,
        strides=[op.stride] * 2,
        pads=[padding] * 4,
        dilations=[op.dilation] * 2,
        group=op.group_count(e.type(node.inputs[0])),
    )
    if exact:
        e.add("Round", y, out=e.name(node))


@forms.register("linear")
def _linear(e: Emitter, node: Node, inputs: list[str]) -> None:
    op = cast(ops.Linear, node.op)
    operands = [*inputs, e.weight(node)]
    if op.bias:
        operands.append(e.parameter(node, "bias"))
    exact = node.type.domain is Domain.ACCUMULATOR
    out = f"{node.name}.sums" if exact else e.name(node)
    y = e.add("Gemm", *operands, out=out, transB=1)
    if exact:
        e.add("Round", y, out=e.name(node))


@forms.register("batch_norm")
def _batch_norm(e: Emitter, node: Node, inputs: list[str]) -> None:
    op = cast(ops.BatchNorm, node.op)
    channels = node.type.torch_shape[0]
    scale = e.parameter(node, "weight") if op.scale else e.constant(np.ones(channels))
    shift = e.parameter(node, "bias") if op.shift else e.constant(np.zeros(channels))
    statistics = [e.parameter(node, name) for name in ("running_mean", "running_var")]
    out = e.name(node)
    e.add("BatchNormalization", *inputs, scale, shift, *statistics, out=out, epsilon=NORM_EPS)


@forms.register("quantize")
def _quantize(e: Emitter, node: Node, inputs: list[str]) -> None:
    quantizer = cast(ops.Quantize, node.op).quantizer
    quantizer_forms[quantizer.kind](e, node, quantizer, inputs[0])


def _same(onnx_op: str) -> Form:
    """The form of an op that ONNX has, without attributes."""

    def form(e: Emitter, node: Node, inputs: list[str]) -> None:
        e.add(onnx_op, *inputs, out=e.name(node))

    return form


forms.register("relu")(_same("Relu"))
forms.register("sigmoid")(_same("Sigmoid"))
forms.register("add")(_same("Add"))
forms.register("mul")(_same("Mul"))
forms.register("mean")(_same("Mean"))
# of bipolar values, XNOR is the product and OR the maximum
forms.register("xnor")(_same("Mul"))
forms.register("or")(_same("Max"))
forms.register("global_avg_pool")(_same("GlobalAveragePool"))
forms.register("flatten")(_same("Flatten"))
forms.register("dropout")(_same("Identity"))


def _with_parameter(onnx_op: str, parameter: str) -> Form:
    """The form of an op with one parameter: a value per channel, or one in all."""

    def form(e: Emitter, node: Node, inputs: list[str]) -> None:
        shape = [-1, *[1] * (len(node.type.shape) - 1)]
        e.add(onnx_op, *inputs, e.parameter(node, parameter, shape), out=e.name(node))

    return form


forms.register("prelu")(_with_parameter("PRelu", "weight"))
forms.register("scale")(_with_parameter("Mul", "weight"))
forms.register("shift")(_with_parameter("Add", "bias"))


@forms.register("filter_scale")
def _filter_scale(e: Emitter, node: Node, inputs: list[str]) -> None:
    shape = [-1, *[1] * (len(node.type.shape) - 1)]
    factors = filter_factors(e.network, node).numpy().reshape(shape)
    e.add("Mul", *inputs, e.constant(factors), out=e.name(node))


@forms.register("outer_scale")
def _outer_scale(e: Emitter, node: Node, inputs: list[str]) -> None:
    rows = e.parameter(node, "rows", (-1, 1))
    planes = e.add("Mul", e.parameter(node, "channels", (-1, 1, 1)), rows, out=f"{node.name}.plane")
    factors = e.add("Mul", planes, e.parameter(node, "columns"), out=f"{node.name}.factors")
    e.add("Mul", *inputs, factors, out=e.name(node))


@forms.register("channel_mean")
def _channel_mean(e: Emitter, node: Node, inputs: list[str]) -> None:
    x = e.add("Abs", *inputs, out=f"{node.name}.magnitude")
    e.add("ReduceMean", x, e.integers(1), out=e.name(node), keepdims=1)


@forms.register("blend")
def _blend(e: Emitter, node: Node, inputs: list[str]) -> None:
    x, y = inputs
    share = e.parameter(node, "weight", [-1, *[1] * (len(node.type.shape) - 1)])
    share = e.add("Clip", share, e.constant(0), e.constant(1), out=f"{node.name}.share")
    rest = e.add("Sub", e.constant(1), share, out=f"{node.name}.rest")
    x = e.add("Mul", x, share, out=f"{node.name}.first")
    y = e.add("Mul", y, rest, out=f"{node.name}.second")
    e.add("Add", x, y, out=e.name(node))


def _sliced(e: Emitter, node: Node, number: int, x: str) -> str:
    """An input of a node, ``(N, k*C, ...)``, as ``(N, k, C, ...)``."""
    source = e.type(node.inputs[number])
    # 0 keeps the batch, whatever its size
    shape = e.integers(0, source.slices, *source.shape)
    return e.add("Reshape", x, shape, out=f"{node.name}.sliced{number}")


def _joined(e: Emitter, node: Node, x: str) -> None:
    """``(N, k, C, ...)``, or a finer split, to the node's own shape."""
    e.add("Reshape", x, e.integers(0, *node.type.torch_shape), out=e.name(node))


@forms.register("concat")
def _concat(e: Emitter, node: Node, inputs: list[str]) -> None:
    if node.type.slices == 1:
        e.add("Concat", *inputs, out=e.name(node), axis=1)
        return
    parts = [_sliced(e, node, number, x) for number, x in enumerate(inputs)]
    _joined(e, node, e.add("Concat", *parts, out=f"{node.name}.joined", axis=2))


@forms.register("slice")
def _slice(e: Emitter, node: Node, inputs: list[str]) -> None:
    op = cast(ops.Slice, node.op)
    start, end = e.integers(op.start), e.integers(op.end)
    if node.type.slices == 1:
        e.add("Slice", *inputs, start, end, e.integers(1), out=e.name(node))
        return
    x = _sliced(e, node, 0, inputs[0])
    _joined(e, node, e.add("Slice", x, start, end, e.integers(2), out=f"{node.name}.cut"))


@forms.register("interleave")
def _interleave(e: Emitter, node: Node, inputs: list[str]) -> None:
    groups = cast(ops.Interleave, node.op).groups
    channels, *size = node.type.shape
    shape = e.integers(0, node.type.slices, groups, channels // groups, *size)
    x = e.add("Reshape", *inputs, shape, out=f"{node.name}.grouped")
    order = [0, 1, 3, 2, *range(4, 4 + len(size))]
    _joined(e, node, e.add("Transpose", x, out=f"{node.name}.dealt", perm=order))


@forms.register("slice_mean")
def _slice_mean(e: Emitter, node: Node, inputs: list[str]) -> None:
    x = _sliced(e, node, 0, inputs[0])
    e.add("ReduceMean", x, e.integers(1), out=e.name(node), keepdims=0)


def _windows(e: Emitter, node: Node) -> tuple[dict[str, list[int]], bool]:
    """Attributes of a pool whose last windows are padded as far as ``ceil`` needs.

    That padding is spelled out because runtimes disagree on ``ceil_mode``.

    Returns:
        The attributes, and whether ``ceil`` has added padding.
    """
    op = cast(ops.Pool, node.op)
    sizes = zip(e.type(node.inputs[0]).shape[1:], node.type.shape[1:], strict=True)
    ends = [
        max(op.padding, (out - 1) * op.stride + op.kernel_size - size - op.padding)
        for size, out in sizes
    ]
    attributes = {
        "kernel_shape": [op.kernel_size] * 2,
        "strides": [op.stride] * 2,
        "pads": [op.padding, op.padding, *ends],
    }
    return attributes, max(ends) > op.padding


@forms.register("max_pool")
def _max_pool(e: Emitter, node: Node, inputs: list[str]) -> None:
    attributes, _ = _windows(e, node)
    e.add("MaxPool", *inputs, out=e.name(node), **attributes)


@forms.register("avg_pool")
def _avg_pool(e: Emitter, node: Node, inputs: list[str]) -> None:
    op = cast(ops.AvgPool, node.op)
    attributes, beyond = _windows(e, node)
    out = f"{node.name}.windows" if beyond else e.name(node)
    y = e.add("AveragePool", *inputs, out=out, count_include_pad=1, **attributes)
    if beyond:
        # torch does not count what lies beyond the padding proper
        sizes = zip(e.type(node.inputs[0]).shape[1:], node.type.shape[1:], strict=True)
        starts = [(np.arange(out) * op.stride, size + 2 * op.padding) for size, out in sizes]
        counts = [np.minimum(start + op.kernel_size, end) - start for start, end in starts]
        e.add("Mul", y, e.constant(op.kernel_size**2 / np.outer(*counts)), out=e.name(node))


@forms.register("blur")
def _blur(e: Emitter, node: Node, inputs: list[str]) -> None:
    op = cast(ops.Blur, node.op)
    e.add(
        "Conv",
        *inputs,
        e.parameter(node, "kernel"),
        out=e.name(node),
        kernel_shape=[3, 3],
        strides=[op.stride] * 2,
        pads=[1] * 4,
        group=node.type.torch_shape[0],
    )
