"""32-bit layers on channels-last maps: convolutions with their weights laid out once, and pools."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from bitfront.spaces.ops import MaxPool

Run = Callable[..., Tensor]

_FEW: Final = 8
"""Groups of fewer input channels are slower than half as many groups with zeros between."""


def convolution(
    weight: Tensor,
    bias: Tensor | None,
    *,
    stride: int,
    padding: int,
    dilation: int,
    groups: int,
    rectifies: bool,
    shape: tuple[int, ...],
) -> Run:
    """A convolution of zero-padded maps, with a ReLU behind it where asked for.

    oneDNN computes ungrouped ones, and depthwise ones, from weights in its own order; the others
    stay with torch, whose grouped convolutions are faster.

    Args:
        weight: [N, C / G, h, w].
        bias: [N].
        stride: Of the window.
        padding: On all sides.
        dilation: Distance of taps.
        groups: G.
        rectifies: Whether a ReLU follows.
        shape: Of the maps, with the batch.
    """
    if 1 < weight.shape[1] < _FEW:
        weight, groups = joined(weight, groups)
    weight = weight.contiguous(memory_format=torch.channels_last)
    alone = groups == 1 or weight.shape[1] == 1
    if alone and _has_onednn():
        sides, steps, apart = [padding] * 2, [stride] * 2, [dilation] * 2
        lay: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
        laid = lay(weight.to_mkldnn(), sides, steps, apart, groups, list(shape))
        last = "relu" if rectifies else "none"
        compute = torch.ops.mkldnn._convolution_pointwise
        return lambda x: compute(x, laid, bias, sides, steps, apart, groups, last, [], "")

    def run(x: Tensor) -> Tensor:
        y = F.conv2d(x, weight, bias, stride, padding, dilation, groups)
        return y.relu_() if rectifies else y

    return run


def joined(weight: Tensor, groups: int) -> tuple[Tensor, int]:
    """The same convolution in fewer groups: zeros for the channels that a filter did not see.

    Args:
        weight: [N, C / G, h, w].
        groups: G.
    """
    while weight.shape[1] < _FEW and groups % 2 == 0:
        own = weight.reshape(groups // 2, 2, -1, *weight.shape[1:])
        pair = weight.new_zeros(*own.shape[:3], 2, *own.shape[3:])
        for side in (0, 1):
            pair[:, side, :, side] = own[:, side]
        weight, groups = pair.flatten(3, 4).flatten(0, 2), groups // 2
    return weight, groups


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
