"""Where a store is: a SQLite file on a local disk, or a PostgreSQL database."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from bitfront.search.store.errors import StoreError

ACCEPTED: Final = "a file (bitfront.db), sqlite:///FILE, or postgresql://USER@HOST/DATABASE"
MOUNTS: Final = Path("/proc/mounts")
# file systems on which the locks and the shared memory of SQLite cannot be trusted
NETWORK_FILESYSTEMS: Final = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "ncpfs", "afs", "davfs"),
        *("ceph", "lustre", "gpfs", "beegfs", "glusterfs", "pvfs2"),
        *("fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.rclone", "fuse.gcsfuse"),
        *("fuse.davfs2", "fuse.curlftpfs", "fuse.smbnetfs", "fuse.juicefs"),
    }
)
_SQLITE: Final = ("sqlite", "sqlite+pysqlite")
_POSTGRESQL: Final = ("postgresql", "postgres", "postgresql+psycopg")
_PASSWORD: Final = re.compile(r"(://[^:/@\s]*):\S*@")
_SECRET_OPTION: Final = re.compile(r"((?:ssl)?password=)[^&\s]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """Where a store is.

    Attributes:
        shown: For texts; passwords are masked.
        path: Absolute path of the SQLite file, None for PostgreSQL.
        url: Of the PostgreSQL database, None for SQLite.
    """

    shown: str
    path: Path | None = None
    url: URL | None = field(default=None, repr=False)


def masked(text: str) -> str:
    """Replace passwords in the URLs of a text.

    >>> masked("postgresql://ann:secret@db/bits")
    'postgresql://ann:***@db/bits'
    """
    return _SECRET_OPTION.sub(r"\1***", _PASSWORD.sub(r"\1:***@", text))


def locate(url: str) -> Location:
    """Read where a store is.

    Args:
        url: A path, ``sqlite:///path`` or ``postgresql://...``.

    Raises:
        StoreError: If it is none of these.
    """
    shown = masked(url)
    if not url or any(ord(c) < 32 for c in url):
        raise StoreError(f"A store must be {ACCEPTED}, but is {shown!r}.")
    scheme, separator, rest = url.partition("://")
    if not separator:
        return _file(url, shown)
    if scheme in _SQLITE:
        if not rest.startswith("/") or "?" in rest:
            raise StoreError(f"A SQLite URL must be sqlite:///FILE, but is {shown!r}.")
        return _file(rest[1:], shown)
    if scheme not in _POSTGRESQL:
        raise StoreError(f"A store must be {ACCEPTED}, but is {shown!r}.")
    try:
        parsed = make_url(url).set(drivername="postgresql+psycopg")
    except (ArgumentError, ValueError):
        raise StoreError(
            f"A PostgreSQL URL must be postgresql://USER:PASSWORD@HOST:PORT/DATABASE, but is "
            f"{shown!r}."
        ) from None
    return Location(shown=shown, url=parsed)


def _file(path: str, shown: str) -> Location:
    if not path or path == ":memory:":
        raise StoreError(f"A store must be {ACCEPTED}, but {shown!r} names no file.")
    return Location(shown=path, path=Path(path).expanduser().absolute())


def network_filesystem(path: Path, mounts: Path | None = None) -> str | None:
    """Kind of the network file system that a file is on, None for a local disk.

    Args:
        path: The file; it need not exist.
        mounts: The kernel's table of mounts; ``MOUNTS`` if not given. Without it, None.
    """
    try:
        table = (mounts or MOUNTS).read_text(errors="surrogateescape")
    except OSError:
        return None
    target = path.resolve()
    kind, depth = "", -1
    for line in table.splitlines():
        columns = line.split(" ")
        if len(columns) < 3:
            continue
        point = Path(_unescaped(columns[1]))
        # of two mounts on one point the later one is what is seen
        if target.is_relative_to(point) and len(point.parts) >= depth:
            kind, depth = columns[2], len(point.parts)
    return kind if kind in NETWORK_FILESYSTEMS else None


def _unescaped(mount_point: str) -> str:
    """Undo the kernel's octal escapes of space, tab, newline and backslash."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), mount_point)
