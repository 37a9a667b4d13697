"""Writing and reading an export's files; what the system refuses is an `ExportFailed`."""

from __future__ import annotations

from pathlib import Path

from bitfront.evaluators import files
from bitfront.export.errors import ExportFailed


def replace_file(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``; an earlier file there stays whole until this one is.

    Raises:
        ExportFailed: If the system refuses.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.replace_file(path, content)
    except OSError as error:
        raise ExportFailed(f"{path} cannot be written: {_reason(error)}.") from None


def read_file(path: Path) -> bytes:
    """Return the content of ``path``.

    Raises:
        ExportFailed: If it is not there or the system refuses.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ExportFailed(f"{path} cannot be read: {_reason(error)}.") from None


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
