"""32-bit layers of a CPU on channels-last maps: convolutions with their weights laid out, pools."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from bitfront.evaluators.packed.kernels import Run
from bitfront.kernels.cpu.float_conv import is_faster, prepare_float_conv
from bitfront.kernels.geometry import Conv2dGeometry
from bitfront.spaces.ops import MaxPool


def convolution(
    conv: Conv2dGeometry,
    weight: Tensor,
    bias: Tensor | None,
    *,
    rectifies: bool,
    variant: str | None = None,
    threads: int = 1,
) -> Run:
    """A convolution of zero-padded maps, with a ReLU behind it where asked for.

    The compiled kernels compute those that they are faster at; oneDNN other ungrouped ones, and
    depthwise ones, from weights in its own order; the rest stays with torch, whose grouped
    convolutions are faster.

    Args:
        conv: Its geometry.
        weight: [N, C / G, h, w].
        bias: [N].
        rectifies: Whether a ReLU follows.
        variant: Instruction set of the kernels; None takes the fastest.
        threads: Threads that share the kernels' rows.
    """
    stride, padding, dilation, groups = conv.stride, conv.padding, conv.dilation, conv.groups
    image = (conv.batch, conv.channels, conv.height, conv.width)
    if is_faster(conv, variant):
        compiled = prepare_float_conv(
            weight,
            bias,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            rectifies=rectifies,
            image=image,
            variant=variant,
            threads=threads,
        )
        if compiled is not None:
            return compiled
    is_depthwise = groups > 1 and conv.group_channels == 1
    weight = weight.contiguous(memory_format=torch.channels_last)
    if (groups == 1 or is_depthwise) and _has_onednn():
        lay: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
        laid = lay(weight.to_mkldnn(), padding, stride, dilation, groups, list(image))
        last = "relu" if rectifies else "none"
        compute = torch.ops.mkldnn._convolution_pointwise
        return lambda x: compute(x, laid, bias, padding, stride, dilation, groups, last, [], "")

    def run(x: Tensor) -> Tensor:
        y = F.conv2d(x, weight, bias, stride, padding, dilation, groups)
        return y.relu_() if rectifies else y

    return run


def _has_onednn() -> bool:
    return (
        torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
        and hasattr(torch._C._nn, "mkldnn_reorder_conv2d_weight")
    )


def max_pool(op: MaxPool, rows: int, columns: int) -> Run | None:
    """The pools that are faster as maxima of shifted maps, one axis after the other; else None.

    Args:
        op: The pool.
        rows: Of the map that it reads.
        columns: Of that map.
    """
    if op.kernel_size == 2 and not op.padding and not op.ceil:
        return lambda x: _pairs(_pairs(x, 2, op.stride), 3, op.stride)
    halves = (op.kernel_size, op.stride, op.padding) == (3, 2, 1) and not op.ceil
    if halves and rows % 2 == 0 and columns % 2 == 0:
        return lambda x: _triples(_triples(x, 2), 3)
    return None


def _pairs(x: Tensor, axis: int, stride: int) -> Tensor:
    """Larger of two neighbours."""
    count = (x.shape[axis] - 2) // stride + 1
    first, second = (_steps(x, axis, start, stride, count) for start in (0, 1))
    return torch.maximum(first, second)


def _triples(x: Tensor, axis: int) -> Tensor:
    """Largest of each second value and its two neighbours; the first has only one."""
    count = x.shape[axis] // 2
    y = torch.maximum(_steps(x, axis, 0, 2, count), _steps(x, axis, 1, 2, count))
    behind = y.narrow(axis, 1, count - 1)
    torch.maximum(behind, _steps(x, axis, 1, 2, count - 1), out=behind)
    return y


def _steps(x: Tensor, axis: int, start: int, stride: int, count: int) -> Tensor:
    at = [slice(None)] * x.dim()
    at[axis] = slice(start, start + (count - 1) * stride + 1, stride)
    return x[tuple(at)]
