"""What can go wrong with a store; each text is one sentence for the user."""

from __future__ import annotations

from typing import ClassVar

from bitfront.spaces.errors import BitfrontError


class StoreError(BitfrontError):
    """A store cannot be opened, read or written."""

    exit_status: ClassVar[int] = 2


class UnknownRecord(StoreError):
    """There is no such study or trial."""


class StoreConflict(StoreError):
    """A write contradicts what is stored: a name or number is taken, a trial is finished."""


class StudyBusy(StoreError):
    """Another driver is at work on the study."""

    exit_status: ClassVar[int] = 1


class LeaseLost(StoreError):
    """This driver's lease ended: another one has taken the study."""

    exit_status: ClassVar[int] = 1
