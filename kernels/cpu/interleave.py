"""Dealing out the bits of two packed maps in turn: the channels of BoolNet's slices."""

from __future__ import annotations

import torch
from torch import Tensor

from bitfront.kernels.layout import WORD_BITS, require_tensor
from bitfront.kernels.native_library import InterleaveJob, NativeLibrary, load


def interleave(
    first: Tensor, second: Tensor, out: Tensor | None = None, *, variant: str | None = None
) -> Tensor:
    """Channel 2 c of the result is channel c of ``first``, channel 2 c + 1 that of ``second``.

    Args:
        first: int32 words [..., P] whose bits are all channels; any strides but that of the last
            axis, such as a run of words of a larger map.
        second: Words of the same shape.
        out: Where to write it: int32 [..., 2 P], contiguous, sharing no memory with the others.
            None makes a new one.
        variant: Instruction set, one of `variants`; None takes the fastest.

    Returns:
        int32 words [..., 2 P].

    Raises:
        TypeError: If an argument is not int32 words on the CPU.
        ValueError: If shapes do not agree, or the variant cannot run here.
    """
    given = {"first": first, "second": second} | ({} if out is None else {"out": out})
    for name, words in given.items():
        require_tensor(name, words)
        if words.dtype != torch.int32 or words.device.type != "cpu":
            raise TypeError(
                f"`{name}` must be torch.int32 words on the CPU, but got {words.dtype} on "
                f"{words.device}."
            )
    if first.shape != second.shape or first.dim() == 0 or first.numel() == 0:
        raise ValueError(
            "`first` and `second` must have one shape [..., words], not empty, but got "
            f"{list(first.shape)} and {list(second.shape)}."
        )
    shape = (*first.shape[:-1], 2 * first.shape[-1])
    if out is None:
        out = torch.empty(shape, dtype=torch.int32)
    elif out.shape != shape or not out.is_contiguous():
        raise ValueError(
            f"`out` must be contiguous {list(shape)}, but got {list(out.shape)} with steps "
            f"{out.stride()}."
        )
    library = load()
    if library is None:
        return _dealt(first, second, out)
    if variant is not None and variant not in library.variants:
        raise ValueError(
            f"`variant` must be one of {', '.join(library.variants)} on this CPU, but got "
            f"{variant!r}."
        )
    _run(library, _in_rows(first), _in_rows(second), out, variant or library.variants[-1])
    return out


def _in_rows(words: Tensor) -> Tensor:
    """Words [rows, P] with a dense last axis; a copy only where the rows have no one step."""
    rows = words.reshape(-1, words.shape[-1])
    return rows if rows.stride(-1) == 1 or rows.shape[-1] == 1 else rows.contiguous()


def _run(library: NativeLibrary, first: Tensor, second: Tensor, out: Tensor, variant: str) -> None:
    rows, words = first.shape
    job = InterleaveJob(
        first=first.data_ptr(),
        second=second.data_ptr(),
        out=out.data_ptr(),
        rows=rows,
        words=words,
        first_step=first.stride(0),
        second_step=second.stride(0),
        out_step=2 * words,
    )
    library.interleave(job, variant)


def _dealt(first: Tensor, second: Tensor, out: Tensor) -> Tensor:
    """The same with torch: bit i of a half goes to bit 2 i of a word."""
    half = WORD_BITS // 2
    for start in (0, half):
        bits = (first >> start & 0xFFFF, second >> start & 0xFFFF)
        out[..., start // half :: 2] = _spread(bits[0]) | _spread(bits[1]) << 1
    return out


def _spread(halves: Tensor) -> Tensor:
    for shift, mask in ((8, 0x00FF00FF), (4, 0x0F0F0F0F), (2, 0x33333333), (1, 0x55555555)):
        halves = (halves | halves << shift) & mask
    return halves
