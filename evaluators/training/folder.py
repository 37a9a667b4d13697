"""Image folders: PATH/train/CLASS/*.png, and optionally PATH/validation and PATH/test."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from bitfront.evaluators.training.errors import DataMissing
from bitfront.evaluators.training.splits import DataSet, Split, held_out
from bitfront.spaces.errors import InvalidValue

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm")
GREY: Final = ("1", "L", "LA")
COLOUR: Final = ("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
MAX_SIZE: Final = 4096


def load_folder(argument: str, seed: int) -> DataSet:
    """Load an image folder.

    Classes are the folders in PATH/train, sorted. A missing validation split is a tenth of the
    training images, a missing test split a fifth, of every class. Where all images are grey there
    is one channel, else three.

    Args:
        argument: "PATH", where all images must have one size, or "PATH?size=32": the largest
            square at the centre of each is then resized to 32x32.
        seed: Of the rows that are held out.

    Raises:
        InvalidValue: If a file is broken or does not fit the others, or Pillow is missing.
        DataMissing: If there is no PATH/train with a folder of images per class.
    """
    path, size = _parsed(argument)
    train_dir = path / "train"
    if not train_dir.is_dir():
        raise DataMissing(
            f"An image folder needs {train_dir} with one folder per class, but there is none."
        )
    classes = _folders(train_dir)
    if len(classes) < 2:
        raise DataMissing(
            f"{train_dir} must hold a folder for each of at least 2 classes, but holds "
            f"{len(classes)}."
        )
    reader = _Reader(size)
    splits = {
        name: _read(path / name, classes, reader, complete=name == "train")
        for name in ("train", "validation", "test")
        if (path / name).is_dir()
    }
    channels = 1 if reader.is_grey else 3
    arrays = {name: _stacked(images, labels, channels) for name, (images, labels) in splits.items()}
    train = arrays["train"]
    # in this order, so that adding a test folder does not need another validation seed
    for offset, (name, fraction) in enumerate((("test", 0.2), ("validation", 0.1))):
        if name not in arrays:
            rest, out = held_out(train.labels, fraction, seed + offset)
            if not len(out):
                raise InvalidValue(
                    f"Each class in {train_dir} needs at least 2 images to hold out a {name} split."
                )
            arrays[name] = train.take(out)
            train = train.take(rest)
    return DataSet(
        name=f"folder:{argument}",
        class_names=tuple(classes),
        train=train,
        validation=arrays["validation"],
        test=arrays["test"],
    )


def _parsed(argument: str) -> tuple[Path, int | None]:
    text, mark, query = argument.rpartition("?")
    if not mark:
        return Path(argument).expanduser(), None
    key, _, value = query.partition("=")
    if key != "size" or not value.isdecimal() or not 1 <= int(value) <= MAX_SIZE:
        raise InvalidValue(
            f"After '?' of an image folder comes size=1 to size={MAX_SIZE}, but got {query!r}."
        )
    return Path(text).expanduser(), int(value)


def _folders(path: Path) -> list[str]:
    return sorted(d.name for d in path.iterdir() if d.is_dir() and d.name[0] != ".")


class _Reader:
    """Reads images of one size, and remembers whether all of them were grey."""

    def __init__(self, size: int | None) -> None:
        try:
            from PIL import Image
        except ImportError:
            raise InvalidValue(
                "An image folder needs Pillow, which is not installed: pip install pillow."
            ) from None
        self._open = Image.open
        self._bilinear = Image.Resampling.BILINEAR
        self._square = size
        self._shape: tuple[int, int] | None = None
        self.is_grey = True

    def read(self, path: Path) -> npt.NDArray[np.uint8]:
        """Rows, columns and 3 channels."""
        # a broken file raises nearly anything: OSError, SyntaxError, ValueError, struct.error
        try:
            with self._open(path) as image:
                image.load()
        except Exception as error:
            raise InvalidValue(f"{path} must be an image, but cannot be read: {error}.") from None
        if image.mode not in GREY + COLOUR:
            raise InvalidValue(
                f"{path} must have 8 bits per channel, but has Pillow's mode {image.mode!r}."
            )
        self.is_grey = self.is_grey and image.mode in GREY
        fitted = self._fitted(image.convert("RGB"), path)
        return np.asarray(fitted, dtype=np.uint8)

    def _fitted(self, image: Image, path: Path) -> Image:
        width, height = image.size
        if self._square is not None:
            side = min(width, height)
            left, top = (width - side) // 2, (height - side) // 2
            box = (left, top, left + side, top + side)
            size = (self._square, self._square)
            # cropped first: a resize with a box would mix in pixels from outside of it
            return image.crop(box).resize(size, resample=self._bilinear)
        if self._shape is None:
            self._shape = (width, height)
        if (width, height) != self._shape:
            raise InvalidValue(
                f"All images must be {self._shape[0]}x{self._shape[1]} like the first one, but "
                f"{path} is {width}x{height}; 'folder:PATH?size=32' resizes them."
            )
        return image


def _read(
    folder: Path, classes: list[str], reader: _Reader, *, complete: bool
) -> tuple[list[npt.NDArray[np.uint8]], list[int]]:
    strangers = sorted(
        d.name
        for d in folder.iterdir()
        if d.is_dir() and d.name[0] != "." and d.name not in classes
    )
    if strangers:
        raise InvalidValue(
            f"{folder} must hold the classes of the training images, but {strangers[0]!r} is not "
            "one of them."
        )
    images: list[npt.NDArray[np.uint8]] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        here = folder / name
        files = (
            sorted(f for f in here.iterdir() if f.suffix.lower() in SUFFIXES and f.name[0] != ".")
            if here.is_dir()
            else []
        )
        if complete and not files:
            raise DataMissing(f"{here} must hold images ({', '.join(SUFFIXES)}), but has none.")
        images.extend(reader.read(file) for file in files)
        labels.extend([label] * len(files))
    if not images:
        raise DataMissing(f"{folder} must hold images in a folder per class, but has none.")
    return images, labels


def _stacked(images: list[npt.NDArray[np.uint8]], labels: list[int], channels: int) -> Split:
    stack = np.stack(images)[..., :channels]
    return Split(
        images=np.ascontiguousarray(stack.transpose(0, 3, 1, 2)),
        labels=np.array(labels, dtype=np.int64),
    )
