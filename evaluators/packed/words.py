"""Maps of -1 and +1 as words: logic, concatenation, slices and shuffles of whole words.

Shape suffixes: B batch, H height, W width, K slices, P words (of a slice, where there is a K).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Final

import torch
from torch import Tensor

from bitfront.kernels.layout import WORD_BITS
from bitfront.spaces.graph import Node
from bitfront.spaces.ops import Slice

_OCTET_STARTS: Final = torch.arange(0, WORD_BITS, 8, dtype=torch.int32)


def wordwise(
    nodes: Sequence[Node],
    inputs: Sequence[Node],
    interleave: Callable[[Tensor, Tensor], Tensor],
) -> Callable[..., Tensor]:
    """How the words of a step follow from those of its inputs.

    Args:
        nodes: An xnor, or, concatenation, slice or interleave of maps that are kept as words, or
            the last two of them behind each other.
        inputs: The nodes that the first reads, each once.
        interleave: What deals out the channels of two maps in turn.
    """
    last = nodes[-1]
    slices = last.type.slices

    def by_slice(words: Tensor) -> Tensor:
        return words.reshape(*words.shape[:-1], slices, -1)

    op = last.op
    if op.kind == "xnor":
        return lambda x, y: torch.bitwise_xor(x, y).bitwise_not_()
    if op.kind == "or":
        return torch.bitwise_or
    if op.kind == "concat":
        order = [[i.index for i in inputs].index(i) for i in last.inputs]
        return lambda *xs: torch.cat([by_slice(xs[n]) for n in order], dim=-1).flatten(-2)
    if isinstance(op, Slice):
        start, end = op.start // WORD_BITS, op.end // WORD_BITS
        wide = (start | end | inputs[0].type.shape[0] // WORD_BITS) % 2 == 0

        def cut(x: Tensor) -> Tensor:
            if not wide:
                return by_slice(x)[..., start:end].contiguous().flatten(-2)
            # two words at once are copied faster
            pairs = by_slice(x).view(torch.int64)[..., start // 2 : end // 2]
            return pairs.contiguous().view(torch.int32).flatten(-2)

        return cut
    if len(nodes) == 2:
        return lambda x, y: interleave(by_slice(x), by_slice(y)).flatten(-2)

    def run(x: Tensor) -> Tensor:
        first, second = by_slice(x).chunk(2, dim=-1)
        return interleave(first, second).flatten(-2)

    return run


def floats(words: Tensor, channels: int) -> Tensor:
    """The map itself, (B, C, H, W) of -1 and +1."""
    # eight values are looked up faster than they are shifted out
    octets = (words[..., None] >> _OCTET_STARTS & 0xFF).flatten()
    values = _octets().index_select(0, octets).view(*words.shape[:-1], -1)
    return values[..., :channels].permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


@cache
def _octets() -> Tensor:
    """float32 [256, 8]: -1 and +1 for the bits of a byte, the least significant first."""
    bits = torch.arange(256)[:, None] >> torch.arange(8) & 1
    return (2 * bits - 1).float()


def edges_repeated(shape: tuple[int, ...], padding: int) -> Callable[[Tensor], Tensor]:
    """A copy of words with the outermost pixels repeated on all sides.

    Args:
        shape: Of the words, [B, H, W, P].
        padding: Pixels on each side; at least 1.
    """
    batch, height, width, words = shape
    p = padding
    wide = torch.empty(batch, height + 2 * p, width + 2 * p, words, dtype=torch.int32)

    def run(x: Tensor) -> Tensor:
        wide[:, p:-p, p:-p] = x
        wide[:, :p] = wide[:, p : p + 1]
        wide[:, -p:] = wide[:, -p - 1 : -p]
        wide[:, :, :p] = wide[:, :, p : p + 1]
        wide[:, :, -p:] = wide[:, :, -p - 1 : -p]
        return wide

    return run
