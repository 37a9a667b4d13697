"""Writing files so that a name never stands for a part of its content."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import uuid4

from bitfront.export.errors import ExportFailed


def replace_file(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``; an earlier file there stays whole until this one is.

    The content goes to a new file beside it, reaches the disk, and then takes the name.

    Raises:
        ExportFailed: If the system refuses.
    """
    # not tempfile: its files are for their owner only, these are for others
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
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
