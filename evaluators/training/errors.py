"""What can go wrong in a training that a caller acts on."""

from __future__ import annotations

from typing import ClassVar

from bitfront.spaces.errors import BitfrontError


class EvaluationFailed(BitfrontError):
    """A candidate cannot be evaluated: its training diverged, or does not fit the memory."""


class DataMissing(BitfrontError):
    """A data set is not on this machine and cannot be fetched; the text names the files."""

    exit_status: ClassVar[int] = 2
