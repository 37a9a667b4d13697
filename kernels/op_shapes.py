"""Shapes and formats of the operators where no data may be read.

That is while a graph is traced, where a size may be a symbol, and while a CUDA graph is captured.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TypedDict

import torch
from torch import Tensor

from bitfront.kernels.geometry import Conv2dGeometry
from bitfront.kernels.layout import (
    WORD_BITS,
    CodeFormat,
    Coding,
    require_int,
    require_tensor,
    require_words,
)
from bitfront.kernels.operands import require_same_device


class Window(TypedDict):
    """How a window moves over a map, (vertical, horizontal)."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]


def format_of(name: str, words: Tensor, axes: int, coding: Coding) -> CodeFormat:
    """What the planes of words are worth: a code has as many bits as planes.

    Raises:
        TypeError: If there is no tensor.
        ValueError: If it has another number of axes.
    """
    if require_tensor(name, words).dim() != axes:
        raise ValueError(
            f"`{name}` must have {axes} axes, planes first and words last, but got shape "
            f"{tuple(words.shape)}."
        )
    return CodeFormat(bits=words.shape[0], coding=coding)


def window_of(stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]) -> Window:
    """Check what an operator was given.

    Raises:
        TypeError: If a number is not an int.
        ValueError: If there are not two, or one is too small.
    """

    def pair(name: str, values: Sequence[int], low: int) -> tuple[int, int]:
        if len(values) != 2:
            raise ValueError(
                f"`{name}` must be an int or two ints (vertical, horizontal), but got {values!r}."
            )
        return require_int(name, values[0], low), require_int(name, values[1], low)

    return Window(
        stride=pair("stride", stride, 1),
        padding=pair("padding", padding, 0),
        dilation=pair("dilation", dilation, 1),
    )


def group_share(channels: int, groups: int) -> int:
    """Channels of a group.

    Raises:
        TypeError: If one is not an int.
        ValueError: If groups do not divide them.
    """
    require_int("channels", channels, 1)
    require_int("groups", groups, 1)
    if channels % groups:
        raise ValueError(
            f"`channels % groups == 0` must hold, but got (channels={channels}, groups={groups})."
        )
    return channels // groups


def convolved(x_BHWP: Tensor, w_NhwP: Tensor, window: Window) -> Tensor:
    """The result, int32 [B, Y, X, N]; `Conv2dGeometry` has the formula, but takes no symbols.

    Raises:
        ValueError: If the window is larger than the padded map.
    """
    sizes = []
    for axis in (0, 1):
        size, kernel = x_BHWP.shape[1 + axis], w_NhwP.shape[1 + axis]
        stride, padding, dilation = (
            window[name][axis] for name in ("stride", "padding", "dilation")
        )
        reach = dilation * (kernel - 1) + 1
        if size + 2 * padding < reach:
            raise ValueError(
                "`dilation * (kernel - 1) + 1 <= input + 2 * padding` must hold, but got "
                f"(kernel={kernel}, dilation={dilation}, input={size}, padding={padding})."
            )
        sizes.append((size + 2 * padding - reach) // stride + 1)
    return integers(x_BHWP, x_BHWP.shape[0], *sizes, w_NhwP.shape[0])


def packed(x: Tensor) -> tuple[Tensor, Tensor]:
    """Words and popcount of a tensor's last axis.

    Raises:
        ValueError: If it has none.
    """
    if x.dim() == 0:
        raise ValueError("`x` must have at least one axis, but got shape ().")
    lead = x.shape[:-1]
    return integers(x, *lead, _words(x.shape[-1])), integers(x, *lead)


def integers(like: Tensor, *shape: int) -> Tensor:
    """int32 of a shape, on the device of another tensor."""
    return like.new_empty(shape, dtype=torch.int32)


def _words(channels: int) -> int:
    # `word_count` takes no symbol
    return -(-channels // WORD_BITS)


def require_operands(*operands: tuple[str, Tensor, int], axes: int) -> None:
    """Check names, words and channels of operands.

    Raises:
        TypeError: If words are not int32.
        ValueError: If they have other axes, another number of words, or another device.
    """
    for name, words, channels in operands:
        if words.dtype != torch.int32:
            raise TypeError(f"`{name}` must hold torch.int32 words, but got {words.dtype}.")
        if words.dim() != axes or words.shape[-1] != _words(channels):
            raise ValueError(
                f"`{name}` must have {axes} axes and end with {_words(channels)} words for "
                f"{channels} channels, but got shape {tuple(words.shape)}."
            )
    (a_name, a, _), (b_name, b, _) = operands
    require_same_device(a_name, a, b_name, b)


def require_real_operands(*operands: tuple[str, Tensor, int], axes: int) -> None:
    """As `require_operands`, of tensors with data, which is not read: padding bits are trusted.

    Raises:
        TypeError: If one is no tensor, or words are not int32.
        ValueError: If they have other axes, another number of words, or another device.
    """
    for name, words, channels in operands:
        if require_words(name, words, channels).dim() != axes:
            raise ValueError(
                f"`{name}` must have {axes} axes, words last, but got shape {tuple(words.shape)}."
            )
    (a_name, a, _), (b_name, b, _) = operands
    require_same_device(a_name, a, b_name, b)


def geometry_of(
    x_QBHWP: Tensor,
    w_RNhwP: Tensor,
    channels: int,
    group_channels: int,
    window: Window,
    groups: int,
) -> Conv2dGeometry:
    """The geometry of a convolution of words with data, which is not read.

    Raises:
        TypeError: If a number is not an int.
        ValueError: If shapes, devices or arguments do not agree.
    """
    if x_QBHWP.dim() != 5 or w_RNhwP.dim() != 5:
        raise ValueError(
            "`x` must be [B, H, W, words] and `weight` [N, h, w, words] (of each plane), but got "
            f"{tuple(x_QBHWP.shape[1:])} and {tuple(w_RNhwP.shape[1:])}."
        )
    require_same_device("x", x_QBHWP, "weight", w_RNhwP)
    return known_geometry(
        (*x_QBHWP.shape[1:4], channels),
        (*w_RNhwP.shape[1:4], group_channels),
        window["stride"],
        window["padding"],
        window["dilation"],
        groups,
    )


@lru_cache(maxsize=1024)
def known_geometry(
    image: tuple[int, int, int, int],
    weight: tuple[int, int, int, int],
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> Conv2dGeometry:
    """As `Conv2dGeometry.of`, whose checks take longer than a small product."""
    return Conv2dGeometry.of(
        image=image,
        weight=weight,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )


def require_codings(*codings: Coding) -> None:
    """Raise ``ValueError`` for a coding that there is not."""
    for coding in codings:
        CodeFormat(bits=1, coding=coding)
