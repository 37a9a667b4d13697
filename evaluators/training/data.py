"""Data sets by name: ``digits``, ``cifar10``, ``cifar100`` and ``folder:PATH``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from bitfront.evaluators.training.archives import CIFAR10, CIFAR100, Archive, load_archive
from bitfront.evaluators.training.folder import load_folder
from bitfront.evaluators.training.splits import DataSet, Split, held_out
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.registry import Registry

__all__ = ["DataSet", "Loader", "Split", "datasets", "load_dataset"]

Loader = Callable[[str, Path, int], DataSet]
"""From the text behind the colon, the data folder and the seed of the splits to a data set."""

datasets: Final[Registry[Loader]] = Registry("data set")


def load_dataset(spec: str, *, data_dir: Path | str, seed: int = 0) -> DataSet:
    """Load a data set into memory.

    Args:
        spec: "digits" (8x8, in scikit-learn), "cifar10", "cifar100" (from their binary archives)
            or "folder:PATH" ("folder:PATH?size=32"), images in PATH/train/CLASS.
        data_dir: Where archives lie, and are downloaded to.
        seed: Of the rows that are held out for validation (and test, where none is given).

    Raises:
        InvalidValue: If the spec is unknown or its files are broken.
        DataMissing: If files are missing and cannot be fetched.
    """
    name, colon, argument = spec.partition(":")
    loader = datasets[name]
    if colon and not argument:
        raise InvalidValue(f"Something must follow the colon of a data set, but got {spec!r}.")
    return loader(argument, Path(data_dir).expanduser(), seed)


@datasets.register("digits")
def _digits(argument: str, data_dir: Path, seed: int) -> DataSet:
    """1,797 real handwritten digits of 8x8 pixels, 0..16 scaled to 0..255; 60/20/20 %."""
    _no_argument("digits", argument)
    # scikit-learn takes a second to import: only who needs it waits
    from sklearn.datasets import load_digits

    values, labels = load_digits(return_X_y=True)
    images = np.rint(values * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    everything = Split(images=images, labels=labels.astype(np.int64))
    rest, test = held_out(everything.labels, 0.2, seed)
    train, validation = held_out(everything.labels[rest], 0.25, seed + 1)
    return DataSet(
        name="digits",
        class_names=tuple("0123456789"),
        train=everything.take(rest[train]),
        validation=everything.take(rest[validation]),
        test=everything.take(test),
    )


def _archived(name: str, archive: Archive) -> None:
    @datasets.register(name)
    def load(argument: str, data_dir: Path, seed: int) -> DataSet:
        _no_argument(name, argument)
        return load_archive(archive, data_dir, seed)


_archived("cifar10", CIFAR10)
_archived("cifar100", CIFAR100)


@datasets.register("folder")
def _folder(argument: str, data_dir: Path, seed: int) -> DataSet:
    """Images in PATH/train/CLASS; PATH is relative to the working directory."""
    if not argument:
        raise InvalidValue("An image folder is 'folder:PATH', but the PATH is missing.")
    return load_folder(argument, seed)


def _no_argument(name: str, argument: str) -> None:
    if argument:
        raise InvalidValue(f"The data set {name!r} takes no argument, but got {argument!r}.")
