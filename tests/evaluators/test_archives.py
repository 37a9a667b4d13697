"""CIFAR archives: the tests build them in the true format, whole, damaged and hostile."""

from __future__ import annotations

import hashlib
import io
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bitfront.evaluators.training import DataMissing
from bitfront.evaluators.training.archives import CIFAR10, CIFAR100, Archive, load_archive
from bitfront.spaces.errors import InvalidValue


def _records(archive: Archive, count: int, seed: int) -> bytes:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 20, (count, archive.label_bytes))
    labels[:, -1] = np.arange(count) % archive.classes
    pixels = random.integers(0, 256, (count, 3072))
    return np.concatenate([labels, pixels], axis=1).astype(np.uint8).tobytes()


def _files(archive: Archive) -> dict[str, bytes]:
    files = {
        name: _records(archive, archive.records(name), seed)
        for seed, name in enumerate((*archive.train, archive.test))
    }
    # the true files end with an empty line
    names = "\n".join(f"class{i}" for i in range(archive.classes)) + "\n\n"
    return files | {archive.names: names.encode(), "readme.html": b"<html></html>"}


def _pack(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> str:
    """Write a gzipped tar and return its MD5."""
    with tarfile.open(path, "w:gz") as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return hashlib.md5(path.read_bytes()).hexdigest()


def _members(archive: Archive, files: dict[str, bytes]) -> list[tuple[tarfile.TarInfo, bytes]]:
    folder = tarfile.TarInfo(archive.folder)
    folder.type = tarfile.DIRTYPE
    entries = [(tarfile.TarInfo(f"{archive.folder}/{n}"), c) for n, c in files.items()]
    return [(folder, b""), *entries]


def _small(archive: Archive) -> Archive:
    train = 40 if archive is CIFAR10 else 300
    return replace(archive, train_records=train, test_records=train, url="file:///nowhere/a.tar.gz")


def _written(archive: Archive, path: Path, extra=()) -> Archive:
    small = _small(archive)
    members = [*_members(small, _files(small)), *extra]
    return replace(small, md5=_pack(path / small.filename, members))


@pytest.mark.parametrize("archive", [CIFAR10, CIFAR100], ids=lambda a: a.name)
def test_an_archive_is_read_in_the_binary_format(archive, tmp_path):
    small = _written(archive, tmp_path)
    data = load_archive(small, tmp_path, seed=0)
    assert data.input == (3, 32, 32)
    assert data.class_names == tuple(f"class{i}" for i in range(archive.classes))
    files = _files(small)
    record = 3072 + archive.label_bytes
    test = np.frombuffer(files[archive.test], np.uint8).reshape(-1, record)
    assert np.array_equal(data.test.labels, test[:, archive.label_bytes - 1])
    # the red plane comes first, rows before columns
    assert data.test.images[3, 0, 0, 1] == test[3, archive.label_bytes + 1]
    assert data.test.images[3, 1, 2, 0] == test[3, archive.label_bytes + 1024 + 64]
    train = {
        files[n][i : i + record][archive.label_bytes :]
        for n in archive.train
        for i in range(0, len(files[n]), record)
    }
    kept = [i.tobytes() for s in (data.train, data.validation) for i in s.images]
    assert len(kept) == len(train)
    assert set(kept) == train
    per_class = small.train_records * len(small.train) // small.classes
    held = max(round(per_class / 10), 1)
    assert np.bincount(data.validation.labels).tolist() == [held] * small.classes
    assert load_archive(small, tmp_path, seed=1).digest != data.digest


def test_extracted_files_serve_as_well(tmp_path):
    small = _small(CIFAR10)
    (tmp_path / small.folder).mkdir()
    for name, content in _files(small).items():
        (tmp_path / small.folder / name).write_bytes(content)
    data = load_archive(small, tmp_path, seed=0)
    other = tmp_path / "archive"
    other.mkdir()
    assert data.digest == load_archive(_written(CIFAR10, other), other, seed=0).digest
    (tmp_path / small.folder / "data_batch_2.bin").write_bytes(b"short")
    with pytest.raises(InvalidValue, match="data_batch_2.bin .* must have 122920 bytes, but has 5"):
        load_archive(small, tmp_path, seed=0)
    (tmp_path / small.folder / "data_batch_2.bin").unlink()
    with pytest.raises(DataMissing, match="data_batch_2.bin is missing"):
        load_archive(small, tmp_path, seed=0)


def test_an_archive_is_fetched_checked_and_kept(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    small = _written(CIFAR10, source)
    small = replace(small, url=(source / small.filename).as_uri())
    target = tmp_path / "target"
    data = load_archive(small, target, seed=0)
    assert [p.name for p in target.iterdir()] == [small.filename]
    (source / small.filename).unlink()
    assert load_archive(small, target, seed=0).digest == data.digest


def test_a_wrong_download_leaves_nothing_behind(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    small = _written(CIFAR10, source)
    small = replace(small, url=(source / small.filename).as_uri(), md5="0" * 32)
    target = tmp_path / "target"
    with pytest.raises(InvalidValue, match="must have the MD5 0000"):
        load_archive(small, target, seed=0)
    assert list(target.iterdir()) == []


def test_missing_data_names_the_path_and_the_files(tmp_path):
    with pytest.raises(DataMissing) as caught:
        load_archive(_small(CIFAR10), tmp_path, seed=0)
    text = str(caught.value)
    for part in (str(tmp_path / "a.tar.gz"), "data_batch_1.bin", "test_batch.bin", "batches.meta"):
        assert part in text
    assert str(tmp_path / CIFAR10.folder) in text


def test_the_published_archives():
    assert CIFAR10.md5 == "c32a1d4ab5d03f1284b67883e8d87530"
    assert CIFAR10.filename == "cifar-10-binary.tar.gz"
    assert CIFAR100.md5 == "03b5dce01913d631647c71ecec9e9cb8"
    assert CIFAR100.filename == "cifar-100-binary.tar.gz"


def test_a_truncated_archive_is_refused(tmp_path):
    small = _written(CIFAR10, tmp_path)
    path = tmp_path / small.filename
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InvalidValue, match="must have the MD5"):
        load_archive(small, tmp_path, seed=0)
    honest = replace(small, md5=hashlib.md5(path.read_bytes()).hexdigest())
    with pytest.raises(InvalidValue, match="must be a gzipped tar archive"):
        load_archive(honest, tmp_path, seed=0)


def _link(name: str, target: str, kind: bytes) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


HOSTILE = {
    "parent": ((tarfile.TarInfo("cifar-10-batches-bin/../../evil"), b"x"), "inside a folder"),
    "absolute": ((tarfile.TarInfo("/tmp/evil"), b"x"), "inside a folder"),
    "symlink": (_link(f"{CIFAR10.folder}/x", "/etc/passwd", tarfile.SYMTYPE), "is a link"),
    "hardlink": (_link(f"{CIFAR10.folder}/x", "/etc/passwd", tarfile.LNKTYPE), "is a link"),
    "device": (_link(f"{CIFAR10.folder}/x", "", tarfile.CHRTYPE), "is a link or a device"),
    "twice": ((tarfile.TarInfo(f"{CIFAR10.folder}/test_batch.bin"), b"x"), "once"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_member_is_refused_and_nothing_is_written(kind, tmp_path):
    member, text = HOSTILE[kind]
    small = _written(CIFAR10, tmp_path, extra=[member])
    before = {p.name for p in tmp_path.iterdir()}
    with pytest.raises(InvalidValue, match=text):
        load_archive(small, tmp_path, seed=0)
    assert {p.name for p in tmp_path.iterdir()} == before


def test_a_member_of_another_size_is_refused_before_it_is_read(tmp_path):
    small = _small(CIFAR10)
    files = _files(small) | {"data_batch_3.bin": bytes(10_000_000)}
    small = replace(small, md5=_pack(tmp_path / small.filename, _members(small, files)))
    with pytest.raises(InvalidValue, match="data_batch_3.bin .* must have 122920 bytes"):
        load_archive(small, tmp_path, seed=0)


def test_a_flood_of_members_is_refused(tmp_path):
    flood = [(tarfile.TarInfo(f"{CIFAR10.folder}/{i}"), b"") for i in range(80)]
    with pytest.raises(InvalidValue, match="at most 64 members"):
        load_archive(_written(CIFAR10, tmp_path, extra=flood), tmp_path, seed=0)


@pytest.mark.parametrize(
    ("file", "content", "text"),
    [
        ("data_batch_4.bin", None, "lacks 'data_batch_4.bin'"),
        ("batches.meta.txt", b"one two", "must name 10 classes, but names 2"),
        ("batches.meta.txt", bytes(100_000), "at most 65536 bytes"),
        ("test_batch.bin", b"\xff" * 40 * 3073, "Labels must be 0 to 9, but test has 255"),
    ],
)
def test_wrong_content_is_refused(file, content, text, tmp_path):
    small = _small(CIFAR10)
    files = _files(small)
    del files[file]
    if content is not None:
        files[file] = content
    small = replace(small, md5=_pack(tmp_path / small.filename, _members(small, files)))
    with pytest.raises(InvalidValue, match=text):
        load_archive(small, tmp_path, seed=0)
