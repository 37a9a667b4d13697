"""The error types that a caller of bitfront acts on."""

from __future__ import annotations

from typing import ClassVar


class BitfrontError(Exception):
    """Root of every error that bitfront raises on purpose; its text is one clear sentence.

    Class attributes:
        exit_status: With which the command line ends: 1 failed, 2 wrong use.
    """

    exit_status: ClassVar[int] = 1


class InvalidValue(BitfrontError, ValueError):
    """A value from outside breaks a rule; the text gives the rule and the value."""

    exit_status: ClassVar[int] = 2


class InfeasibleArchitecture(InvalidValue):
    """An architecture is well formed, but cannot be lowered (a shape does not fit)."""


class UnknownName(InvalidValue, KeyError):
    """No thing of that name is registered; a ``KeyError`` too, as a mapping promises."""

    # a KeyError shows its text in quotes
    __str__ = Exception.__str__
