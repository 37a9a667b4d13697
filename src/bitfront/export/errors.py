"""What can go wrong in an export that a caller acts on."""

from __future__ import annotations

from bitfront.spaces.errors import BitfrontError


class ExportFailed(BitfrontError):
    """A file cannot be written or read back; the text names the file and the reason."""


class MissingExtra(ExportFailed):
    """A format needs a package that is not installed; the text says what to install."""
