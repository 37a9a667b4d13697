"""The compiled library of CPU kernels, loaded through ctypes.

It is built with the package where there is a C compiler, and is optional: without it
``load`` returns None, a warning says what is lost, and the exact reference computes.
"""

from __future__ import annotations

import ctypes
import warnings
from ctypes import POINTER, c_int, c_int32, c_int64, c_uint32, c_void_p
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Final

VARIANTS: Final = ("portable", "neon", "avx2", "avx512")
"""Instruction sets, slowest first; the position is the library's number of it."""

PANEL: Final = 32
"""Outputs of a panel of weights."""

XOR: Final = 0
AND: Final = 1

STORE: Final = 0
ADD: Final = 1
AFFINE: Final = 2
BITS: Final = 3
MERGE: Final = 4


class Job(ctypes.Structure):
    """``bf_job`` of native/bitfront_native.h, which says what the fields are."""

    _fields_ = [
        ("a", c_void_p),
        ("weight", c_void_p),
        ("out", c_void_p),
        ("taps", c_void_p),
        ("beta", c_void_p),
        ("row_class", c_void_p),
        ("col_class", c_void_p),
        ("scale", c_void_p),
        ("shift", c_void_p),
        ("threshold", c_void_p),
        ("flip", c_void_p),
        ("batch", c_int64),
        ("rows", c_int64),
        ("cols", c_int64),
        ("image_step", c_int64),
        ("row_step", c_int64),
        ("col_step", c_int64),
        ("out_image", c_int64),
        ("out_row", c_int64),
        ("out_col", c_int64),
        ("groups", c_int32),
        ("group_outputs", c_int32),
        ("group_words", c_int32),
        ("tap_count", c_int32),
        ("words", c_int32),
        ("op", c_int32),
        ("finish", c_int32),
        ("alpha", c_int32),
        ("rectifies", c_int32),
        ("scale_after", c_void_p),
        ("shift_after", c_void_p),
    ]


class PackJob(ctypes.Structure):
    """``bf_pack_job`` of native/bitfront_native.h."""

    _fields_ = [
        ("x", c_void_p),
        ("threshold", c_void_p),
        ("flip", c_void_p),
        ("out", c_void_p),
        ("images", c_int64),
        ("lines", c_int64),
        ("pixels", c_int64),
        ("channels", c_int64),
        ("image_step", c_int64),
        ("line_step", c_int64),
        ("pixel_step", c_int64),
        ("channel_step", c_int64),
        ("out_image", c_int64),
        ("out_line", c_int64),
        ("out_pixel", c_int64),
    ]


class InterleaveJob(ctypes.Structure):
    """``bf_interleave_job`` of native/bitfront_native.h."""

    _fields_ = [
        ("first", c_void_p),
        ("second", c_void_p),
        ("out", c_void_p),
        ("rows", c_int64),
        ("words", c_int64),
        ("first_step", c_int64),
        ("second_step", c_int64),
        ("out_step", c_int64),
    ]


class NativeLibrary:
    """The library's functions.

    Args:
        path: The shared object.

    Raises:
        OSError: If it cannot be loaded.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        library = ctypes.CDLL(str(path))
        self._product = library.bf_product
        self._product.argtypes = [POINTER(Job), c_int]
        self._product.restype = c_int
        self._pack = library.bf_pack_float
        self._pack.argtypes = [POINTER(PackJob), c_int]
        self._pack.restype = c_int64
        self._row_ones = library.bf_row_ones
        self._row_ones.argtypes = [POINTER(c_uint32), c_int64, c_int64, POINTER(c_int32)]
        self._row_ones.restype = None
        self._interleave = library.bf_interleave
        self._interleave.argtypes = [POINTER(InterleaveJob), c_int]
        self._interleave.restype = None
        self._peak = library.bf_peak
        self._peak.argtypes = [c_int, c_int64]
        self._peak.restype = c_int64
        self.variants = tuple(
            name for number, name in enumerate(VARIANTS) if library.bf_has_variant(number)
        )

    def product(self, job: Job, variant: str) -> None:
        """Run a job; the memory that it points to must stay alive.

        Raises:
            ValueError: If the variant cannot run on this CPU, or the job is malformed.
        """
        if self._product(ctypes.byref(job), VARIANTS.index(variant)):
            raise ValueError(
                f"`variant` must be one of {', '.join(self.variants)} on this CPU, and bits need "
                f"whole words of each group, but got {variant!r}."
            )

    def pack(self, job: PackJob, variant: str) -> bool:
        """Pack floats; the memory that the job points to must stay alive.

        Returns:
            Whether a NaN was seen.
        """
        return bool(self._pack(ctypes.byref(job), VARIANTS.index(variant)))

    def interleave(self, job: InterleaveJob, variant: str) -> None:
        """Deal out bits; the memory that the job points to must stay alive."""
        self._interleave(ctypes.byref(job), VARIANTS.index(variant))

    def peak(self, variant: str, rounds: int) -> int:
        """Run XOR, popcount and add on registers alone.

        Returns:
            The products of bits that were computed; with the time it took, the popcount limit.
        """
        return int(self._peak(VARIANTS.index(variant), rounds))

    def row_ones(self, words: int, rows: int, per_row: int, out: int) -> None:
        """Count the ones of each row of words at address ``words`` to int32 at ``out``."""
        self._row_ones(
            ctypes.cast(words, POINTER(c_uint32)), rows, per_row, ctypes.cast(out, POINTER(c_int32))
        )


@cache
def load() -> NativeLibrary | None:
    """The library that was built with the package, or None with a warning."""
    for suffix in EXTENSION_SUFFIXES:
        path = Path(__file__).with_name(f"_native{suffix}")
        if path.exists():
            return NativeLibrary(path)
    warnings.warn(
        "bitfront was installed without its compiled CPU kernels, so low-bit layers run on the "
        "exact reference, which is hundreds of times slower. Install a C compiler and reinstall "
        "bitfront to have them.",
        RuntimeWarning,
        stacklevel=2,
    )
    return None
