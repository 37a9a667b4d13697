"""Writing files so that a name never stands for a part of its content."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import uuid4


def replace_file(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``; an earlier file there stays whole until this one is.

    The content goes to a new file beside it, reaches the disk, and then takes the name; the folder
    reaches the disk last.

    Raises:
        OSError: If the system refuses.
    """
    # not tempfile: its files are for their owner only, these are read by others
    temporary = path.with_name(f".{path.name[:16]}.{uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
