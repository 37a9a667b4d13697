"""What a user is told when a store cannot be used, and that nothing half-written remains."""

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from bitfront.search.store import StoreError, backup, check, masked, open_store
from bitfront.search.store import connection as connections
from bitfront.search.store import location as locations
from bitfront.search.store.location import locate, network_filesystem

# files


def refused(url, match, *, create=False, read_only=False):
    with pytest.raises(StoreError, match=match) as caught:
        open_store(str(url), create=create, read_only=read_only)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    return sentence


@pytest.mark.parametrize("read_only", [False, True])
def test_no_store(tmp_path, read_only):
    path = tmp_path / "none.db"
    refused(
        path,
        r"There is no store .*none\.db; `bitfront search --store .*` creates it",
        read_only=read_only,
    )
    refused(path, "There is no store", create=True, read_only=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("create", [False, True])
def test_not_a_store(tmp_path, create):
    cases = {
        "text.db": (b"hello, this is no database at all" * 50, "the file is not a SQLite database"),
        "empty.db": (b"", "the file is empty"),
        "cut.db": (b"SQLite format 3\x00" + b"\xa5" * 5000, "the file is not a SQLite database"),
    }
    for name, (content, reason) in cases.items():
        path = tmp_path / name
        path.write_bytes(content)
        refused(path, f"is not a bitfront store: {reason}", create=create)
        refused(path, f"is not a bitfront store: {reason}", read_only=True)
        assert path.read_bytes() == content


@pytest.mark.parametrize("create", [False, True])
def test_the_database_of_another_program(tmp_path, create):
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE studies (x)")
    before = path.read_bytes()
    refused(path, "is not a bitfront store: it holds no table bitfront_schema", create=create)
    assert sqlite3.connect(path).execute("SELECT name FROM sqlite_master").fetchall() == [
        ("studies",)
    ]
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["other.db"]


def test_a_missing_folder_and_a_folder(tmp_path):
    for create in (False, True):
        refused(tmp_path, "must be a file, but is a folder", create=create)
    missing = tmp_path / "no" / "where" / "b.db"
    refused(missing, rf"there is no folder {missing.parent}", create=True)
    with open_store(str(tmp_path / "b.db"), create=True):
        refused(tmp_path / "b.db" / "c.db", "cannot be opened: not a directory", create=True)


def test_a_damaged_store(tmp_path, store_of_trials):
    store_of_trials(tmp_path / "b.db", 40)
    content = bytearray((tmp_path / "b.db").read_bytes())
    # all but the first pages, which hold the schema
    content[len(content) // 3 :] = b"\xff" * (len(content) - len(content) // 3)
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(content)
    with (
        open_store(str(damaged), create=False) as store,
        pytest.raises(StoreError, match="damaged"),
    ):
        store.trials(store.load_study("first").id)
    assert any("damaged" in p or "malformed" in p for p in check(str(damaged)).problems)
    with pytest.raises(StoreError, match="is damaged"):
        backup(str(damaged), tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


def test_a_failed_creation_leaves_nothing(tmp_path, monkeypatch):
    def fail(connection):
        connection.execute(text("CREATE TABLE half (x INTEGER)"))
        raise KeyboardInterrupt

    monkeypatch.setattr("bitfront.search.store.migrating.migrate", fail)
    with pytest.raises(KeyboardInterrupt):
        open_store(str(tmp_path / "b.db"), create=True)
    assert list(tmp_path.iterdir()) == []


def test_closing_leaves_one_file(tmp_path, store_of_trials):
    store_of_trials(tmp_path / "b.db", 1)
    assert [p.name for p in tmp_path.iterdir()] == ["b.db"]


def test_opening_once_more_keeps_the_locks_of_the_process(tmp_path, make_study):
    path = tmp_path / "b.db"
    with open_store(str(path), create=True) as store:
        make_study(store)
        for read_only in (True, False):
            open_store(str(path), create=False, read_only=read_only).close()
        # the last process to close a store removes its log; here another one is not the last
        code = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('SELECT * FROM studies')"
        subprocess.run([sys.executable, "-c", code, path], check=True)
        assert Path(f"{path}-wal").exists()
        make_study(store, "second")
    assert check(str(path)).studies == 2


def test_a_locked_store(tmp_path, monkeypatch, make_study):
    monkeypatch.setattr(connections, "BUSY_TIMEOUT_S", 0.05)
    path = tmp_path / "b.db"
    with open_store(str(path), create=True) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert store.list_studies() == (), "reading needs no lock"
        with pytest.raises(StoreError, match="stayed locked by another process"):
            make_study(store)
        other.execute("ROLLBACK")
        other.close()
        make_study(store)


@contextmanager
def unprivileged():
    """Root may write everywhere; nobody may not."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture(params=["at rest", "read before"])
def others_folder(request, store_of_trials):
    """A folder that this user may only read, with a store in it."""
    folder = Path(tempfile.mkdtemp())
    store_of_trials(folder / "b.db", 2)
    if request.param == "read before":
        # leaves SQLite's side files there
        assert check(str(folder / "b.db")).problems == ()
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_a_store_in_a_folder_that_cannot_be_written(others_folder, make_study):
    path = others_folder / "b.db"
    with unprivileged():
        refused(others_folder / "new.db", "cannot be opened: permission denied", create=True)
        with open_store(str(path), create=False, read_only=True) as store:
            assert len(store.trials(store.load_study("first").id)) == 2
        refused(path, "cannot be opened: permission denied")
    assert not (others_folder / "new.db").exists()


def test_a_file_that_cannot_be_read(tmp_path_factory, store_of_trials):
    folder = Path(tempfile.mkdtemp())
    store_of_trials(folder / "b.db", 1)
    folder.chmod(0o755)
    (folder / "b.db").chmod(0o000)
    try:
        with unprivileged():
            refused(folder / "b.db", "cannot be opened: permission denied")
    finally:
        shutil.rmtree(folder)


# file systems

MOUNTS = r"""
sysfs /sys sysfs rw 0 0
/dev/sda1 / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
tmpfs /home/ann/local tmpfs rw 0 0
ann@host: /mnt/with\040space fuse.sshfs rw 0 0
//nas/share /mnt/nas cifs rw 0 0
/dev/sdb1 /mnt/nas ext4 rw 0 0
broken
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/ann/b.db", "nfs4"),
        ("/home/ann/local/b.db", None),
        ("/homes/b.db", None),
        ("/b.db", None),
        ("/mnt/with space/b.db", "fuse.sshfs"),
        ("/mnt/nas/b.db", None),
    ],
)
def test_kinds_of_file_systems(tmp_path, path, kind):
    table = tmp_path / "mounts"
    table.write_text(MOUNTS)
    assert network_filesystem(Path(path), table) == kind


def test_no_table_of_mounts(tmp_path):
    assert network_filesystem(tmp_path, tmp_path / "none") is None


def test_sqlite_on_a_network_file_system(tmp_path, monkeypatch):
    table = tmp_path / "mounts"
    table.write_text(f"server:/x {tmp_path.resolve()} nfs rw 0 0\n")
    monkeypatch.setattr(locations, "MOUNTS", table)
    refused(tmp_path / "b.db", r"network file system \(nfs\).*postgresql://", create=True)
    assert not (tmp_path / "b.db").exists()


# URLs


@pytest.mark.parametrize(
    "url",
    ["", ":memory:", "sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:///b.db?mode=ro",
     "mysql://ann:secret@host/db", "a\x00b", "postgresql://ann:secret@host:port/db"],
)  # fmt: skip
def test_wrong_urls(url):
    sentence = refused(url, "must be")
    assert "secret" not in sentence


def test_forms_of_urls(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for url in ("b.db", "sqlite:///b.db", "sqlite+pysqlite:///b.db", f"sqlite:///{tmp_path}/b.db"):
        assert locate(url).path == tmp_path / "b.db"
        with open_store(url, create=True) as store:
            assert store.list_studies() == ()
    assert [p.name for p in tmp_path.iterdir()] == ["b.db"]
    assert locate("~/b.db").path == Path.home() / "b.db"
    for name in ("a b%20c#d?e.db", "ü;漢.db"):
        open_store(name, create=True).close()
        assert check(name).problems == ()
        assert (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ann:secret@db:5432/x", "postgresql://ann:***@db:5432/x"),
        ("postgresql://ann:se/c:r@et@db/x", "postgresql://ann:***@db/x"),
        ("postgresql://:secret@db/x", "postgresql://:***@db/x"),
        (
            "postgresql://ann@db/x?password=secret&sslmode=on",
            "postgresql://ann@db/x?password=***&sslmode=on",
        ),
        ("postgresql://ann@db/x?sslpassword=secret", "postgresql://ann@db/x?sslpassword=***"),
        ("postgresql://db/x", "postgresql://db/x"),
        ("bitfront.db", "bitfront.db"),
    ],
)
def test_passwords_are_masked(url, shown):
    assert masked(url) == shown
    assert masked(f"cannot open {url}") == f"cannot open {shown}"
    assert "secret" not in repr(locate(url))


def test_a_server_that_refuses():
    sentence = refused("postgresql://ann:secret@127.0.0.1:1/x", "Connection refused")
    assert "postgresql://ann:***@127.0.0.1:1/x" in sentence
    assert "secret" not in sentence


def test_a_server_without_its_driver(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    refused("postgresql://ann@db/x", r"needs psycopg: pip install 'bitfront\[cluster\]'")


# versions, on both databases


def set_version(store, version):
    with store._engine.begin() as connection:
        connection.execute(text("UPDATE bitfront_schema SET version_num = :v"), {"v": version})


def test_a_newer_and_an_older_schema(store, store_url):
    set_version(store, "0099")
    for read_only in (False, True):
        refused(
            store_url,
            r"has schema 0099, but this bitfront reads schema \d{4}: .* upgrade bitfront",
            read_only=read_only,
        )
    with pytest.raises(StoreError, match="schema 0099"):
        check(store_url)
    set_version(store, "0000")
    refused(store_url, r"has schema 0000, .*`bitfront store upgrade --store ")


def test_a_server_without_a_store(store_url):
    if not store_url.startswith("postgresql"):
        pytest.skip("a file has its own tests")
    refused(store_url, "is not a bitfront store")
    refused(store_url, "is not a bitfront store", create=True, read_only=True)
    import psycopg

    with psycopg.connect(store_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE trials (x INTEGER)")
        refused(store_url, "holds other tables named trials", create=True)
        found = connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()"
        ).fetchall()
    assert found == [("trials",)]


def test_a_backup_of_a_server_names_its_tool(store_url, store, tmp_path):
    if store_url.startswith("postgresql"):
        with pytest.raises(StoreError, match="pg_dump"):
            backup(store_url, tmp_path / "copy.db")
    else:
        for target, reason in (
            (store_url, "exists already"),
            (tmp_path / "no" / "copy.db", "there is no folder"),
        ):
            with pytest.raises(StoreError, match=reason):
                backup(store_url, target)
