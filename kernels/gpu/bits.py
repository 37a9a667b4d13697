"""Bits inside a kernel: counted, taken out of words, put into words."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def popcount(words: tl.tensor) -> tl.tensor:
    """Ones of each int32 word; the compiler makes one POPC of the sums of fields."""
    x = words.to(tl.uint32, bitcast=True)
    x = x - ((x >> 1) & 0x55555555)
    x = (x & 0x33333333) + ((x >> 2) & 0x33333333)
    x = (x + (x >> 4)) & 0x0F0F0F0F
    return ((x * 0x01010101) >> 24).to(tl.int32)


@triton.jit
def to_words(bits: tl.tensor, ROWS: tl.constexpr, WORDS: tl.constexpr) -> tl.tensor:
    """0 and 1 [ROWS, 32 * WORDS] to int32 words [ROWS, WORDS]."""
    by_word = tl.reshape(bits.to(tl.int32), (ROWS, WORDS, 32))
    return tl.sum(by_word << tl.arange(0, 32)[None, None, :], 2)
