"""The bit layout every packed tensor of bitfront has, on the CPU and on the GPU.

Facts, stated once (`bitfront.spaces` states the first two too, and a contract test equates them):

* bit 1 means ``x >= 0``, the value +1; bit 0 means ``x < 0``, the value -1. So sign(0) = +1.
* bits fill a word from the least significant: bit ``i`` of word ``w`` is channel ``32 * w + i``.
* words are ``torch.int32``: bit 31 is the sign bit of the integer and a channel like any other.
* activations are NHWC, weights are [N][kh][kw][C]; the channels are the packed axis.
* C is padded to a multiple of 32 with 0 bits, in every row on its own.

One pixel of 40 channels takes two words; each is drawn from bit 31 down to bit 0::

                     word 0                                    word 1
    bit      31  30  29  ...   1   0           31  ...   8 |   7   6  ...   1   0
            +---+---+---+-...-+---+---+       +---+-...-+---+---+---+-...-+---+---+
            | b | b | b |     | b | b |       | 0 |  0  | 0 | b | b |     | b | b |
            +---+---+---+-...-+---+---+       +---+-...-+---+---+---+-...-+---+---+
    channel  31  30  29  ...   1   0            padding    |  39  38  ...  33  32
              ^ sign of the int32

    x = [+1, -1, +1, -1, -1, ... -1]  (40 channels)   ->   words [0b101, 0] = [5, 0]

    activations   [B][H][W][P]      popcount [B][H][W]
    weights       [N][kh][kw][P]    popcount [N][kh][kw], tap by tap: an AND kernel sums it over
                                    the taps, the correction of a zero padding reads single taps
    matrix        [M][P]            popcount [M]
    k-bit codes   [Q][...][P]       popcount [Q][...]; plane q holds bit q of every code

=====  ==========================================================
name   meaning
=====  ==========================================================
P      words of a row, ``ceil(C / 32)``
Q      bit planes of a code, plane 0 least significant
C, K   channels; bits of a row
=====  ==========================================================

A convolution with G groups reads activations packed over all C channels, and weights whose rows
hold ``C / G`` channels in ``ceil(C / G / 32)`` words. A kernel repacks the activations by group
where ``C / G`` is no multiple of 32.

This module needs torch only where it looks at a tensor, so importing it is cheap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeVar, get_args

if TYPE_CHECKING:
    import torch

SIGN_OF_ZERO: Final = 1
"""The value a binary quantizer and the packers give to an input of exactly 0 (and -0.0)."""

BIT_ORDER: Final = "little"
"""Channel ``32 * w`` is the least significant bit of word ``w`` (numpy's ``bitorder`` name)."""

WORD_BITS: Final = 32
"""Channels held by one ``torch.int32`` word."""

MAX_ELEMENTS: Final = 2**31 - 1
"""Most elements a tensor, and most bits a dot product, may have: kernels index with int32."""

MAX_CODE_BITS: Final = 8
"""Widest integer code the bit-serial kernels take."""

Coding = Literal["unsigned", "signed", "symmetric"]
"""How the bits of a code become an integer; see `CodeFormat`."""

_IntOrTensor = TypeVar("_IntOrTensor", int, "torch.Tensor")


def require_int(name: str, value: object, low: int, high: int = MAX_ELEMENTS) -> int:
    """Return `value` if it is an int in ``low .. high``.

    Raises:
        TypeError: it is not an int (a bool is not one either).
        ValueError: it is out of range.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"`{name}` must be an int, but got {value!r} ({type(value).__name__}).")
    if not low <= value <= high:
        raise ValueError(f"`{low} <= {name} <= {high}` must hold, but got ({name}={value}).")
    return value


def require_type(name: str, value: object, kind: type) -> None:
    """Check that `value` is a `kind`, a class of this package.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(value, kind):
        raise TypeError(
            f"`{name}` must be a bitfront.kernels.{kind.__name__}, but got {type(value).__name__}."
        )


def word_count(channels: int) -> int:
    """Words that hold a row of `channels` bits: ``ceil(channels / 32)``.

    >>> word_count(32), word_count(33)
    (1, 2)

    Raises:
        TypeError: `channels` is not an int.
        ValueError: `channels` is not in 1 .. 2^31 - 1.
    """
    return -(-require_int("channels", channels, 1) // WORD_BITS)


def require_tensor(name: str, x: object) -> torch.Tensor:
    """Return `x` if it is a dense tensor with data, not empty, and indexable with int32.

    Raises:
        TypeError: it is no tensor, or one without strided data.
        ValueError: it has no element, no axis, or more than 2^31 - 1 elements.
    """
    import torch

    if not isinstance(x, torch.Tensor):
        raise TypeError(f"`{name}` must be a torch.Tensor, but got {type(x).__name__}.")
    if x.layout != torch.strided or x.is_meta:
        raise TypeError(
            f"`{name}` must be a dense tensor with data, but got layout {x.layout} on {x.device}."
        )
    if x.dim() == 0 or not 1 <= x.numel() <= MAX_ELEMENTS:
        raise ValueError(
            f"`{name}` must have at least one axis and 1 to {MAX_ELEMENTS} elements, "
            f"but got shape {tuple(x.shape)}."
        )
    return x


def require_words(name: str, words: object, channels: int) -> torch.Tensor:
    """Return `words` if they are int32 [..., P] with P = ceil(channels / 32).

    Raises:
        TypeError: not a dense tensor of dtype torch.int32.
        ValueError: empty, too large, or another number of words.
    """
    import torch

    tensor = require_tensor(name, words)
    if tensor.dtype != torch.int32:
        raise TypeError(f"`{name}` must hold torch.int32 words, but got {tensor.dtype}.")
    expected = word_count(channels)
    if tensor.shape[-1] != expected:
        raise ValueError(
            f"`{name}` must end with an axis of ceil({channels} / {WORD_BITS}) = {expected} words, "
            f"but got shape {tuple(tensor.shape)}."
        )
    return tensor


def require_clear_padding(name: str, words: torch.Tensor, channels: int) -> None:
    """Check that the bits past `channels` are 0; reads the data, so it waits for a GPU.

    Raises:
        ValueError: a padding bit is 1, which would be counted as a channel.
    """
    used = channels - WORD_BITS * (word_count(channels) - 1)
    # an arithmetic shift leaves 0 only if bit 31 and all others past `used` are 0
    if used < WORD_BITS and bool((words[..., -1] >> used).any()):
        raise ValueError(
            f"`{name}` must have 0 in bits {used} to {WORD_BITS - 1} of its last word, which lie "
            f"past its {channels} channels, but got a 1 there. Pack with bitfront.kernels.pack."
        )


def _require_popcount(words: torch.Tensor, popcount: object) -> None:
    import torch

    if not isinstance(popcount, torch.Tensor) or popcount.dtype != torch.int32:
        kind = popcount.dtype if isinstance(popcount, torch.Tensor) else type(popcount).__name__
        raise TypeError(f"`popcount` must be a torch.int32 tensor, but got {kind}.")
    if popcount.shape != words.shape[:-1] or popcount.device != words.device:
        raise ValueError(
            "`popcount` must have one number for each row of words, on their device: "
            f"{tuple(words.shape[:-1])} on {words.device}, "
            f"but got {tuple(popcount.shape)} on {popcount.device}."
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PackedBits:
    """A tensor of -1 and +1, one bit each; see the picture at the head of this module.

    Attributes:
        words: int32 [..., P]; bits past `channels` are 0.
        channels: C, the length of the packed axis; P = ceil(C / 32).
        popcount: int32 [...], the number of +1 in each row.

    Raises:
        TypeError: `words` or `popcount` is not int32, `channels` is not an int.
        ValueError: shapes do not agree, a size is 0, or there are more than 2^31 - 1 words.
    """

    words: torch.Tensor
    channels: int
    popcount: torch.Tensor

    def __post_init__(self) -> None:
        require_words("words", self.words, self.channels)
        _require_popcount(self.words, self.popcount)


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeFormat:
    """What the bits b_0 .. b_{k-1} of a k-bit code are worth.

    ::

        value = offset + sum_q plane_values[q] * b_q

    ============  ======================  ===========  ========================================
    coding        plane_values            offset       values
    ============  ======================  ===========  ========================================
    unsigned      1, 2, .., 2^(k-1)       0            0 .. 2^k - 1
    signed        1, 2, .., -2^(k-1)      0            -2^(k-1) .. 2^(k-1) - 1 (two's complement)
    symmetric     2, 4, .., 2^k           -(2^k - 1)   odd integers -(2^k - 1) .. 2^k - 1
    ============  ======================  ===========  ========================================

    One bit, symmetric, is the {-1, +1} domain; one bit, unsigned, the {0, 1} domain.

    Attributes:
        bits: k, 1 to 8.
        coding: "unsigned", "signed" or "symmetric".

    Raises:
        TypeError: `bits` is not an int.
        ValueError: `bits` is out of range or `coding` is unknown.
    """

    bits: int
    coding: Coding

    def __post_init__(self) -> None:
        require_int("bits", self.bits, 1, MAX_CODE_BITS)
        if self.coding not in get_args(Coding):
            raise ValueError(
                f"`coding` must be one of {', '.join(get_args(Coding))}, but got {self.coding!r}."
            )

    @property
    def step(self) -> int:
        """Distance of two neighbouring values."""
        return 2 if self.coding == "symmetric" else 1

    @property
    def offset(self) -> int:
        """Value of the code whose bits are all 0."""
        return 1 - 2**self.bits if self.coding == "symmetric" else 0

    @property
    def plane_values(self) -> tuple[int, ...]:
        """What a 1 in each plane adds, least significant plane first."""
        values = [self.step << q for q in range(self.bits)]
        if self.coding == "signed":
            values[-1] = -values[-1]
        return tuple(values)

    @property
    def low(self) -> int:
        """Smallest value."""
        return self.offset + sum(min(value, 0) for value in self.plane_values)

    @property
    def high(self) -> int:
        """Largest value."""
        return self.offset + sum(max(value, 0) for value in self.plane_values)

    def is_value(self, value: int) -> bool:
        """Whether some code has this value."""
        return self.low <= value <= self.high and (value - self.offset) % self.step == 0

    def encode(self, value: _IntOrTensor) -> _IntOrTensor:
        """The code, 0 .. 2^k - 1, of a value (or of a tensor of values) of this format."""
        code: _IntOrTensor = ((value - self.offset) // self.step) & (2**self.bits - 1)
        return code


BINARY: Final = CodeFormat(bits=1, coding="symmetric")
"""The {-1, +1} domain as a code."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PackedCodes:
    """A tensor of k-bit codes as k bit planes.

    Attributes:
        words: int32 [Q, ..., P], Q = k planes, plane 0 least significant; padding bits are 0.
        channels: C, the length of the packed axis; P = ceil(C / 32).
        format: what the bits are worth.
        popcount: int32 [Q, ...], the number of ones in each row of each plane.

    Raises:
        TypeError: a tensor is not int32, `channels` is not an int, `format` is no `CodeFormat`.
        ValueError: shapes do not agree, a size is 0, or there are more than 2^31 - 1 words.
    """

    words: torch.Tensor
    channels: int
    format: CodeFormat
    popcount: torch.Tensor

    def __post_init__(self) -> None:
        require_type("format", self.format, CodeFormat)
        words = require_words("words", self.words, self.channels)
        if words.dim() < 2 or words.shape[0] != self.format.bits:
            raise ValueError(
                f"`words` must be [planes, ..., words] with {self.format.bits} planes for "
                f"{self.format}, but got shape {tuple(words.shape)}."
            )
        _require_popcount(words, self.popcount)
