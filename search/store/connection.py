"""Engines, how a store is opened, and what to say when that fails."""

from __future__ import annotations

import errno
import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, func, inspect, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import QueuePool

from bitfront.search.store.errors import StoreError
from bitfront.search.store.location import Location, masked, network_filesystem
from bitfront.search.store.schema import VERSION, VERSION_TABLE, metadata

BUSY_TIMEOUT_S: Final = 30.0
CONNECT_TIMEOUT_S: Final = 10
# the execution option of connections that are going to write
WRITES: Final = "bitfront_writes"
_LOCK_KEY: Final = 0x62697466


def open_engine(
    location: Location, *, create: bool, read_only: bool, for_upgrade: bool = False
) -> Engine:
    """Open a store of the present version, or create one.

    Args:
        location: Where.
        create: Whether to create it if there is none.
        read_only: Whether every write shall be refused; never creates.
        for_upgrade: Whether any version will do, and foreign keys are off.

    Raises:
        StoreError: If that is impossible; nothing half-written is left behind.
    """
    if location.path is not None:
        mode = _prepare_file(location, location.path, create=create, read_only=read_only)
        engine = file_engine(location.path, mode, foreign_keys=not for_upgrade)
    else:
        engine = _server_engine(location, read_only=read_only)
    try:
        with translated(location), engine.connect() as connection:
            version = stored_version(connection)
        if version is None and location.path is None and create and not read_only:
            create_tables(engine, location)
            version = VERSION
        if not for_upgrade:
            require_version(location, version)
        if location.path is not None and version is not None and not read_only:
            _write_ahead(location, engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def stored_version(connection: Connection) -> str | None:
    """The version of the schema that a database holds, None if it is no store."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
    return None if found is None else str(found)


def require_version(location: Location, version: str | None) -> None:
    """Refuse what is no store, or a store of another version.

    Raises:
        StoreError: With what to do about it.
    """
    if version is None:
        raise StoreError(
            f"{location.shown} is not a bitfront store: it holds no table {VERSION_TABLE}."
        )
    if version == VERSION:
        return
    if version > VERSION:
        raise StoreError(
            f"The store {location.shown} has schema {version}, but this bitfront reads schema "
            f"{VERSION}: a newer bitfront wrote it, so upgrade bitfront."
        )
    raise StoreError(
        f"The store {location.shown} has schema {version}, but this bitfront reads schema "
        f"{VERSION}: run `bitfront store upgrade --store {location.shown}`."
    )


@contextmanager
def translated(location: Location) -> Iterator[None]:
    """Turn the errors of the database into a ``StoreError`` of one sentence."""
    try:
        yield
    except SQLAlchemyError as error:
        raise StoreError(_sentence(location, str(getattr(error, "orig", None) or error))) from error
    except sqlite3.Error as error:
        raise StoreError(_sentence(location, str(error))) from error
    except UnicodeEncodeError as error:
        raise StoreError(
            f"The store {location.shown} takes Unicode text, but got {error.object[:60]!r}."
        ) from error


def _sentence(location: Location, reason: str) -> str:
    lines = [line.strip() for line in masked(reason).splitlines() if line.strip()]
    reason = lines[0].rstrip(".") if lines else "no reason given"
    store = location.shown
    if "file is not a database" in reason:
        return f"{store} is not a bitfront store: the file is not a SQLite database."
    if "malformed" in reason:
        return f"The store {store} is damaged ({reason}): restore a backup of it."
    if "database is locked" in reason:
        return (
            f"The store {store} stayed locked by another process for {BUSY_TIMEOUT_S:.0f} s: "
            "wait for it to finish, or use PostgreSQL."
        )
    if "readonly database" in reason or "read-only transaction" in reason:
        return f"The store {store} cannot be written: it is read-only."
    if "unable to open database file" in reason:
        return (
            f"The store {store} cannot be opened: look at the permissions of the file and of its "
            "folder."
        )
    return f"The store {store} cannot be used: {reason}."


# PostgreSQL


def _server_engine(location: Location, *, read_only: bool = False) -> Engine:
    url = location.url
    if url is None:
        raise TypeError("Only a PostgreSQL location has a URL.")
    arguments: dict[str, Any] = {"application_name": "bitfront"}
    if "connect_timeout" not in url.query:
        arguments["connect_timeout"] = CONNECT_TIMEOUT_S
    try:
        engine = create_engine(
            url,
            connect_args=arguments,
            pool_pre_ping=True,
            execution_options={"postgresql_readonly": True} if read_only else {},
        )
    except ModuleNotFoundError:
        raise StoreError(
            f"The store {location.shown} needs psycopg: pip install 'bitfront[cluster]'."
        ) from None
    return engine


def create_tables(engine: Engine, location: Location) -> None:
    """Create the tables in one transaction, unless another process has just done it.

    Raises:
        StoreError: If the database holds other tables of these names.
    """
    from bitfront.search.store.migrating import migrate

    with translated(location), engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(select(func.pg_advisory_xact_lock(_LOCK_KEY)))
        if stored_version(connection) is not None:
            return
        taken = sorted(set(inspect(connection).get_table_names()) & set(metadata.tables))
        if taken:
            raise StoreError(
                f"The database {location.shown} holds other tables named {', '.join(taken)}: give "
                "bitfront a database, or a schema, of its own."
            )
        migrate(connection)


# SQLite


def _prepare_file(location: Location, path: Path, *, create: bool, read_only: bool) -> str:
    """Create the file if it shall be, refuse what is no database, and return how to open it."""
    kind = network_filesystem(path)
    if kind is not None:
        raise StoreError(
            f"The store {location.shown} is on a network file system ({kind}), where SQLite loses "
            "data: use a local disk, or postgresql://USER@HOST/DATABASE."
        )
    try:
        if not path.exists():
            if not create or read_only:
                raise StoreError(
                    f"There is no store {location.shown}; `bitfront search --store "
                    f"{location.shown}` creates it."
                )
            _create_file(location, path)
        if os.path.isdir(path):
            raise IsADirectoryError(path)
        # the file itself is left to SQLite: to close it here would take away the locks that
        # another store of this process holds on it (sqlite.org, "How To Corrupt", 2.2)
        if path.stat().st_size == 0:
            raise StoreError(f"{location.shown} is not a bitfront store: the file is empty.")
        if not _may(path, os.R_OK if read_only else os.R_OK | os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
    except OSError as error:
        raise StoreError(_file_sentence(location, path, error)) from error
    if not read_only:
        return "rw"
    return "ro" if _opens_read_only(path) else "ro&immutable=1"


def _may(path: Path, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def _file_sentence(location: Location, path: Path, error: OSError) -> str:
    # pathlib's own tests raise where a folder may not be searched
    if os.path.isdir(path):
        return f"The store {location.shown} must be a file, but is a folder."
    if error.errno == errno.ENOENT:
        return f"The store {location.shown} cannot be opened: there is no folder {path.parent}."
    reason = error.strerror or str(error)
    return f"The store {location.shown} cannot be opened: {reason.lower()}."


def file_engine(path: Path, mode: str, *, foreign_keys: bool = True) -> Engine:
    """Return an engine on a SQLite file.

    Args:
        path: The file.
        mode: "rw", "rwc" (creates the file), "ro" or "ro&immutable=1".
        foreign_keys: Off for migrations, where rebuilding a table would delete its children.
    """
    uri = f"{path.as_uri()}?mode={mode}"

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute(f"PRAGMA foreign_keys = {'ON' if foreign_keys else 'OFF'}")
            connection.execute("PRAGMA trusted_schema = OFF")
            # with a write-ahead log no crash of the process loses a commit
            connection.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            connection.close()
            raise
        return connection

    engine = create_engine("sqlite+pysqlite://", creator=connect, poolclass=QueuePool)

    # Python's driver would begin late and only for some statements; here SQLAlchemy's begin is it
    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(WRITES, False)
        # a transaction that reads first and writes later cannot wait for a lock, so take it now
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _write_ahead(location: Location, engine: Engine) -> None:
    """Let readers and the writer work at the same time; the file remembers it."""
    with translated(location), engine.connect() as connection:
        # not inside a transaction
        driver = connection.connection.driver_connection
        if driver is not None:
            driver.execute("PRAGMA journal_mode = WAL")


def _opens_read_only(path: Path) -> bool:
    """Whether SQLite can read a file that is in write-ahead mode, in a folder it cannot write.

    It cannot where no other process has the file open; then nobody changes it either.
    """
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S)
    try:
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        return "readonly" not in str(error) or Path(f"{path}-wal").exists()
    except sqlite3.DatabaseError:
        return True
    finally:
        connection.close()
    return True


def _create_file(location: Location, path: Path) -> None:
    """Build the store beside its place and put it there whole."""
    with whole_file(path) as new:
        engine = file_engine(new, "rwc", foreign_keys=False).execution_options(**{WRITES: True})
        try:
            create_tables(engine, location)
        finally:
            engine.dispose()


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a new name beside ``path``; what is written there appears at ``path`` at once.

    A file that is at ``path`` by then is kept.

    Raises:
        OSError: If the folder is missing or may not be written.
    """
    new = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    # Python names the reason for which this fails, SQLite does not
    new.touch(exist_ok=False)
    try:
        yield new
        with suppress(FileExistsError):
            _place(new, path)
    finally:
        for leftover in (new, Path(f"{new}-journal"), Path(f"{new}-wal"), Path(f"{new}-shm")):
            leftover.unlink(missing_ok=True)


def _place(new: Path, path: Path) -> None:
    try:
        os.link(new, path)
    except FileExistsError:
        raise
    except OSError:
        # a file system without hard links
        if path.exists():
            raise FileExistsError(path) from None
        os.rename(new, path)
