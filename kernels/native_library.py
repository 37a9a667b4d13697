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

FLOAT_KERNEL_ROWS: Final = 32
"""Rows that a kernel of floats has at most."""

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


class FloatJob(ctypes.Structure):
    """``bf_float_job`` of native/float_conv.h."""

    _fields_ = [
        ("x", c_void_p),
        ("weight", c_void_p),
        ("bias", c_void_p),
        ("out", c_void_p),
        ("scratch", c_void_p),
        ("batch", c_int64),
        ("height", c_int64),
        ("width", c_int64),
        ("channels", c_int64),
        ("rows", c_int64),
        ("cols", c_int64),
        ("first", c_int64),
        ("last", c_int64),
        ("x_image", c_int64),
        ("x_row", c_int64),
        ("x_col", c_int64),
        ("out_image", c_int64),
        ("out_row", c_int64),
        ("out_col", c_int64),
        ("kernel_rows", c_int32),
        ("kernel_cols", c_int32),
        ("row_stride", c_int32),
        ("col_stride", c_int32),
        ("row_padding", c_int32),
        ("col_padding", c_int32),
        ("row_dilation", c_int32),
        ("col_dilation", c_int32),
        ("groups", c_int32),
        ("group_channels", c_int32),
        ("group_outputs", c_int32),
        ("panel", c_int32),
        ("own_channels", c_int32),
        ("points", c_int32),
        ("rectifies", c_int32),
    ]


class StaleLibrary(Exception):
    """A library of another build: its jobs have another shape."""


class NativeLibrary:
    """The library's functions.

    Args:
        path: The shared object.

    Raises:
        OSError: If it cannot be loaded.
        StaleLibrary: If it was built from other sources than this module's.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        library = ctypes.CDLL(str(path))
        self._check(library)
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
        self._float_scratch = library.bf_float_scratch
        self._float_scratch.argtypes = [POINTER(FloatJob)]
        self._float_scratch.restype = c_int64
        self._float_conv = library.bf_float_conv
        self._float_conv.argtypes = [POINTER(FloatJob), c_int]
        self._float_conv.restype = c_int
        self._peak = library.bf_peak
        self._peak.argtypes = [c_int, c_int64]
        self._peak.restype = c_int64
        self.variants = tuple(
            name for number, name in enumerate(VARIANTS) if library.bf_has_variant(number)
        )

    @staticmethod
    def _check(library: ctypes.CDLL) -> None:
        try:
            count = library.bf_job_bytes
        except AttributeError:
            raise StaleLibrary from None
        count.restype = c_int64
        jobs = (Job, PackJob, InterleaveJob, FloatJob)
        if count() != sum(ctypes.sizeof(job) for job in jobs):
            raise StaleLibrary

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

    def float_scratch(self, job: FloatJob) -> int:
        """Floats of scratch memory that a job needs."""
        return int(self._float_scratch(ctypes.byref(job)))

    def float_conv(self, job: FloatJob, variant: str) -> None:
        """Run a convolution of floats; the memory that the job points to must stay alive.

        Raises:
            ValueError: If the variant cannot run on this CPU, or the job is malformed.
        """
        if self._float_conv(ctypes.byref(job), VARIANTS.index(variant)):
            raise ValueError(
                f"`variant` must be one of {', '.join(self.variants)} on this CPU, and the job "
                f"sound, but got {variant!r}."
            )

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
            try:
                return NativeLibrary(path)
            except StaleLibrary:
                reason = "The compiled CPU kernels of bitfront were built by another version of it"
                remedy = "Reinstall"
                break
    else:
        reason = "bitfront was installed without its compiled CPU kernels"
        remedy = "Install a C compiler and reinstall"
    warnings.warn(
        f"{reason}, so low-bit layers run on the exact reference, which is hundreds of times "
        f"slower. {remedy} bitfront to have them.",
        RuntimeWarning,
        stacklevel=2,
    )
    return None
