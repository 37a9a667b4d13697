"""A data set in memory: training, validation and test images with labels.

=========  ==================================================================================
name       meaning
=========  ==================================================================================
N          images of one split
C, H, W    channels, rows, columns of an image
=========  ==================================================================================

A search sees the validation split only; the test split is for the winners, once.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.space import Task

SPLITS: Final = ("train", "validation", "test")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """Images and their labels; the arrays become read-only.

    Attributes:
        images: uint8, (N, C, H, W), 0 is black.
        labels: int64, (N,), from 0.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4:
            raise InvalidValue(
                f"images must be uint8 of shape (N, C, H, W), but are {self.images.dtype} of shape "
                f"{self.images.shape}."
            )
        if self.labels.dtype != np.int64 or self.labels.shape != self.images.shape[:1]:
            raise InvalidValue(
                f"labels must be int64 of shape ({len(self.images)},), but are "
                f"{self.labels.dtype} of shape {self.labels.shape}."
            )
        if not len(self.images):
            raise InvalidValue("A split must hold at least one image, but is empty.")
        self.images.setflags(write=False)
        self.labels.setflags(write=False)

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: npt.NDArray[np.intp]) -> Split:
        """The images of these rows, in this order."""
        return Split(images=self.images[rows], labels=self.labels[rows])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DataSet:
    """Three splits of images of one size.

    A network reads ``(x/255 - mean) / std`` per channel, in float32; ``normalized`` does that.

    Attributes:
        name: The spec that loads it again ("digits", "folder:PATH").
        class_names: One per label.
        train: What weights are fitted to.
        validation: What a search decides by.
        test: What is reported of a winner; nothing else may read it.
        mean: Per channel of the training images, of x/255.
        std: Per channel of the training images, of x/255; at least 1/255.
        digest: SHA-256 of shapes, images and labels of the three splits, as hexadecimal digits.
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    mean: tuple[float, ...] = field(init=False)
    std: tuple[float, ...] = field(init=False)
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        if len(self.class_names) < 2:
            raise InvalidValue(
                f"A data set needs at least 2 classes, but has {len(self.class_names)}."
            )
        sha = hashlib.sha256()
        for name in SPLITS:
            split = self.split(name)
            if split.images.shape[1:] != self.input:
                raise InvalidValue(
                    f"All images must be {self.input} (C, H, W), but those of {name} are "
                    f"{split.images.shape[1:]}."
                )
            low, high = int(split.labels.min()), int(split.labels.max())
            if low < 0 or high >= self.classes:
                raise InvalidValue(
                    f"Labels must be 0 to {self.classes - 1}, but {name} has {low} to {high}."
                )
            sha.update(f"{name}{split.images.shape}{self.classes}".encode())
            sha.update(np.ascontiguousarray(split.images).data)
            sha.update(np.ascontiguousarray(split.labels, dtype="<i8").data)
        mean, std = _moments(self.train.images)
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "std", std)
        object.__setattr__(self, "digest", sha.hexdigest())

    @property
    def input(self) -> tuple[int, int, int]:
        """Channels, rows and columns of an image."""
        _, channels, rows, columns = self.train.images.shape
        return channels, rows, columns

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def split(self, name: str) -> Split:
        """Return the split "train", "validation" or "test".

        Raises:
            InvalidValue: If the name is another one.
        """
        if name not in SPLITS:
            raise InvalidValue(f"A split must be one of {', '.join(SPLITS)}, but is {name!r}.")
        split: Split = getattr(self, name)
        return split

    def task(self, epochs: int) -> Task:
        """What a search space is asked for: a network for these images and classes."""
        return Task(input=self.input, classes=self.classes, epochs=epochs)

    def affine(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Factor and offset, (C, 1, 1) each, of ``x * factor + offset == (x/255 - mean)/std``."""
        mean, std = np.array(self.mean), np.array(self.std)
        factor, offset = 1.0 / (255.0 * std), -mean / std
        shape = (-1, 1, 1)
        return (
            factor.astype(np.float32).reshape(shape),
            offset.astype(np.float32).reshape(shape),
        )

    def normalized(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """What the network reads for these images, (N, C, H, W); bitwise as in training."""
        factor, offset = self.affine()
        return images.astype(np.float32) * factor + offset


def _moments(images: npt.NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of x/255 per channel, exact: from a histogram of the values."""
    levels = np.arange(256) / 255.0
    mean, std = [], []
    for c in range(images.shape[1]):
        counts = np.bincount(images[:, c].reshape(-1), minlength=256)
        share = counts / counts.sum()
        centre = float(share @ levels)
        mean.append(centre)
        # a constant channel must not divide by zero
        std.append(max(float(np.sqrt(share @ (levels - centre) ** 2)), 1 / 255))
    return tuple(mean), tuple(std)


def held_out(
    labels: npt.NDArray[np.int64], fraction: float, seed: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Split rows so that every class gives the same fraction, at least one of two or more.

    Args:
        labels: (N,)
        fraction: What to hold out of each class, 0 < fraction < 1.
        seed: Same seed, same rows.

    Returns:
        The rows that stay and the rows that are held out, each ascending.
    """
    # the legacy generator's stream is frozen: the rows stay the same in every version of numpy
    random = np.random.RandomState(seed % 2**32)
    out = []
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        count = max(round(fraction * len(rows)), 1) if len(rows) > 1 else 0
        out.append(rows[:count])
    chosen = np.sort(np.concatenate(out))
    return np.setdiff1d(np.arange(len(labels)), chosen, assume_unique=True), chosen
