"""CIFAR-10 and CIFAR-100 from their binary archives, which are checked before they are read.

A record is one label byte (CIFAR-100: a coarse and a fine one), then 3,072 bytes: 32x32 red, green
and blue, row by row.

References:
    https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

import hashlib
import http.client
import os
import tarfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Final
from uuid import uuid4

import numpy as np

from bitfront.evaluators.training.errors import DataMissing
from bitfront.evaluators.training.splits import DataSet, Split, held_out
from bitfront.spaces.errors import InvalidValue

PIXELS: Final = 3 * 32 * 32
VALIDATION: Final = 0.1
TIMEOUT_S: Final = 20.0
MAX_NAMES_BYTES: Final = 64 * 1024
MAX_MEMBERS: Final = 64
MAX_ARCHIVE_BYTES: Final = 512 * 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """A published archive of 32x32 colour images.

    Attributes:
        name: Of the data set.
        url: Where it is published.
        md5: Of the archive.
        folder: The one folder inside it.
        train: Files of training records.
        test: File of test records.
        names: File of class names, one per line.
        train_records: Records of each training file.
        test_records: Records of the test file.
        label_bytes: Label bytes of a record; the last one is the class.
        classes: Number of classes.
    """

    name: str
    url: str
    md5: str
    folder: str
    train: tuple[str, ...]
    test: str
    names: str
    train_records: int
    test_records: int
    label_bytes: int
    classes: int

    @property
    def filename(self) -> str:
        """Of the archive."""
        return self.url.rpartition("/")[2]

    @property
    def files(self) -> tuple[str, ...]:
        """Everything that is read."""
        return (*self.train, self.test, self.names)

    def records(self, file: str) -> int:
        """Number of records that a data file holds."""
        return self.test_records if file == self.test else self.train_records


CIFAR10: Final = Archive(
    name="cifar10",
    url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    md5="c32a1d4ab5d03f1284b67883e8d87530",
    folder="cifar-10-batches-bin",
    train=tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
    test="test_batch.bin",
    names="batches.meta.txt",
    train_records=10_000,
    test_records=10_000,
    label_bytes=1,
    classes=10,
)
CIFAR100: Final = Archive(
    name="cifar100",
    url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    md5="03b5dce01913d631647c71ecec9e9cb8",
    folder="cifar-100-binary",
    train=("train.bin",),
    test="test.bin",
    names="fine_label_names.txt",
    train_records=50_000,
    test_records=10_000,
    label_bytes=2,
    classes=100,
)


def load_archive(archive: Archive, data_dir: Path, seed: int) -> DataSet:
    """Load an archive, or the files that somebody extracted from it; fetch it if there is neither.

    A tenth of the training images of each class becomes the validation split.

    Raises:
        InvalidValue: If the archive or a file is not what was published.
        DataMissing: If there is none and it cannot be fetched.
    """
    contents = _contents(archive, data_dir)
    training = [_records(archive, contents[file]) for file in archive.train]
    whole = Split(
        images=np.concatenate([split.images for split in training]),
        labels=np.concatenate([split.labels for split in training]),
    )
    train, validation = held_out(whole.labels, VALIDATION, seed)
    names = tuple(contents[archive.names].decode("utf-8", "replace").split())
    if len(names) != archive.classes:
        raise InvalidValue(
            f"{archive.names} of {archive.name} must name {archive.classes} classes, but names "
            f"{len(names)}."
        )
    return DataSet(
        name=archive.name,
        class_names=names,
        train=whole.take(train),
        validation=whole.take(validation),
        test=_records(archive, contents[archive.test]),
    )


def _records(archive: Archive, content: bytes) -> Split:
    rows = np.frombuffer(content, np.uint8).reshape(-1, archive.label_bytes + PIXELS)
    # copies: a view would keep the label bytes of every record in memory
    images = rows[:, archive.label_bytes :].reshape(-1, 3, 32, 32).copy()
    return Split(images=images, labels=rows[:, archive.label_bytes - 1].astype(np.int64))


def _contents(archive: Archive, data_dir: Path) -> dict[str, bytes]:
    path = data_dir / archive.filename
    folder = data_dir / archive.folder
    if not path.is_file():
        if folder.is_dir():
            return _extracted(archive, folder)
        _fetch(archive, path)
    with path.open("rb") as file:
        found = _md5(file)
    if found != archive.md5:
        raise InvalidValue(
            f"{path} must have the MD5 {archive.md5}, but has {found}; delete it, and it is "
            "fetched again."
        )
    try:
        with tarfile.open(path, "r:gz") as tar:
            return _members(archive, tar, str(path))
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise InvalidValue(f"{path} must be a gzipped tar archive, but is not: {error}.") from None


def _members(archive: Archive, tar: tarfile.TarFile, where: str) -> dict[str, bytes]:
    """Read the known files into memory; nothing is ever written from an archive's names."""
    wanted = {f"{archive.folder}/{file}": file for file in archive.files}
    contents: dict[str, bytes] = {}
    for count, member in enumerate(tar):
        if count >= MAX_MEMBERS:
            raise InvalidValue(f"{where} must have at most {MAX_MEMBERS} members, but has more.")
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts:
            raise InvalidValue(
                f"{where} must keep its members inside a folder, but has {member.name!r}."
            )
        if not (member.isfile() or member.isdir()):
            raise InvalidValue(
                f"{where} must hold plain files and folders, but {member.name!r} is a link or a "
                "device."
            )
        file = wanted.get(path.as_posix())
        if file is None or not member.isfile():
            continue
        if file in contents:
            raise InvalidValue(f"{where} must hold {file!r} once, but holds it twice.")
        _check_size(archive, file, member.size, where)
        stream = tar.extractfile(member)
        if stream is not None:
            contents[file] = stream.read()
    missing = [file for file in archive.files if file not in contents]
    if missing:
        raise InvalidValue(f"{where} must hold {', '.join(wanted)}, but lacks {missing[0]!r}.")
    return contents


def _extracted(archive: Archive, folder: Path) -> dict[str, bytes]:
    contents = {}
    for file in archive.files:
        path = folder / file
        if not path.is_file():
            raise DataMissing(
                f"{folder} must hold {', '.join(archive.files)}, but {path} is missing."
            )
        _check_size(archive, file, path.stat().st_size, str(folder))
        contents[file] = path.read_bytes()
    return contents


def _check_size(archive: Archive, file: str, size_bytes: int, where: str) -> None:
    if file == archive.names:
        if size_bytes > MAX_NAMES_BYTES:
            raise InvalidValue(
                f"{file} in {where} must have at most {MAX_NAMES_BYTES} bytes, but has "
                f"{size_bytes}."
            )
        return
    expected = archive.records(file) * (archive.label_bytes + PIXELS)
    if size_bytes != expected:
        raise InvalidValue(f"{file} in {where} must have {expected} bytes, but has {size_bytes}.")


def _md5(file: IO[bytes], keep: Callable[[bytes], object] | None = None) -> str:
    md5 = hashlib.md5(usedforsecurity=False)
    size_bytes = 0
    while block := file.read(1 << 20):
        size_bytes += len(block)
        if size_bytes > MAX_ARCHIVE_BYTES:
            raise InvalidValue(f"An archive must have at most {MAX_ARCHIVE_BYTES} bytes.")
        md5.update(block)
        if keep is not None:
            keep(block)
    return md5.hexdigest()


def _fetch(archive: Archive, path: Path) -> None:
    """Download to a temporary file beside ``path``, check it, and only then rename it."""
    try:
        with urllib.request.urlopen(archive.url, timeout=TIMEOUT_S) as response:
            path.parent.mkdir(parents=True, exist_ok=True)
            # not tempfile: its files are for their owner only, these are read by others
            temporary = path.with_name(f".{path.name}.{uuid4().hex}")
            try:
                with temporary.open("xb") as file:
                    found = _md5(response, file.write)
                    file.flush()
                    os.fsync(file.fileno())
                if found != archive.md5:
                    raise InvalidValue(
                        f"{archive.url} must have the MD5 {archive.md5}, but what was fetched has "
                        f"{found}."
                    )
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
    # what urllib raises, and a full or read-only disk
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        files = ", ".join(archive.files)
        raise DataMissing(
            f"{path} is missing and {archive.url} cannot be fetched ({reason}). Put that archive "
            f"there, or its files {files} in {path.parent / archive.folder}."
        ) from None
