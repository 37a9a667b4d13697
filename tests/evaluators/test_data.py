"""Data sets: digits, image folders, and the rules of splits and specs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bitfront.evaluators.training import DataMissing, DataSet, Split, load_dataset
from bitfront.evaluators.training.data import datasets
from bitfront.evaluators.training.splits import held_out
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.space import Task


def test_importing_the_package_loads_no_torch_and_no_scikit_learn():
    code = (
        "import sys, bitfront.evaluators.training as t; t.EvaluationFailed; t.EpochResult;"
        "assert 'torch' not in sys.modules and 'sklearn' not in sys.modules;"
        "t.load_dataset; assert 'torch' not in sys.modules and 'sklearn' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there():
    from bitfront.evaluators import training

    assert all(getattr(training, name) is not None for name in training.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        training.nothing  # noqa: B018


# digits


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> DataSet:
    return load_dataset("digits", data_dir=tmp_path_factory.mktemp("data"))


def test_digits_are_the_real_images_in_three_stratified_splits(digits):
    assert (digits.input, digits.classes) == ((1, 8, 8), 10)
    sizes = [len(digits.split(name)) for name in ("train", "validation", "test")]
    assert sum(sizes) == 1797
    assert sizes == [1079, 359, 359]
    whole = np.bincount(
        np.concatenate([digits.split(n).labels for n in ("train", "validation", "test")])
    )
    assert whole.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    for name, share in (("train", 0.6), ("validation", 0.2), ("test", 0.2)):
        counts = np.bincount(digits.split(name).labels)
        assert np.abs(counts - share * whole).max() <= 1.5


def test_digits_are_scaled_to_bytes(digits):
    from sklearn.datasets import load_digits

    values, _ = load_digits(return_X_y=True)
    found = np.concatenate([digits.split(n).images for n in ("train", "validation", "test")])
    assert set(np.unique(found)) == {round(v * 255 / 16) for v in range(17)}
    rows = {row.tobytes() for row in found.reshape(-1, 64)}
    assert rows == {row.tobytes() for row in np.rint(values / 16 * 255).astype(np.uint8)}


def test_same_seed_same_digest_other_seed_other_digest(digits, tmp_path):
    again = load_dataset("digits", data_dir=tmp_path, seed=0)
    other = load_dataset("digits", data_dir=tmp_path, seed=1)
    # the digest names stored results: it must not change from version to version
    assert digits.digest == again.digest
    assert digits.digest.startswith("d5c17157bcb0")
    assert other.digest != digits.digest


def test_normalized_has_mean_zero_and_deviation_one(digits):
    x = digits.normalized(digits.train.images)
    assert x.dtype == np.float32
    assert x.shape == digits.train.images.shape
    assert abs(float(x.mean(dtype=np.float64))) < 1e-6
    assert abs(float(x.std(dtype=np.float64)) - 1) < 1e-6


def test_task_asks_for_a_network_that_fits(digits):
    assert digits.task(7) == Task(input=(1, 8, 8), classes=10, epochs=7)


def test_splits_are_read_only(digits):
    with pytest.raises(ValueError, match="read-only"):
        digits.train.images[0, 0, 0, 0] = 1


# rules of DataSet and Split


def _split(count: int = 4, shape: tuple[int, ...] = (1, 2, 2), classes: int = 2) -> Split:
    images = np.arange(count * int(np.prod(shape)), dtype=np.uint8).reshape(count, *shape)
    return Split(images=images, labels=np.arange(count) % classes)


def test_digest_sees_every_part():
    split = _split()
    base = {"name": "x", "class_names": ("a", "b"), "train": split}
    base |= {"validation": split, "test": split}
    digest = DataSet(**base).digest
    flipped = Split(images=split.images, labels=1 - split.labels)
    darker = Split(images=split.images + np.uint8(1), labels=split.labels.copy())
    digests = {
        DataSet(**base | {part: new}).digest
        for part in ("train", "validation", "test")
        for new in (flipped, darker)
    }
    assert len(digests | {digest}) == 7
    assert DataSet(**base | {"name": "y"}).digest == digest


def test_constant_images_normalise_to_finite_values():
    split = Split(images=np.full((3, 1, 2, 2), 9, np.uint8), labels=np.array([0, 1, 1]))
    data = DataSet(name="x", class_names=("a", "b"), train=split, validation=split, test=split)
    assert np.isfinite(data.normalized(split.images)).all()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"validation": _split(shape=(1, 2, 3))}, "All images must be"),
        ({"test": _split(classes=3)}, "Labels must be 0 to 1, but test has 0 to 2"),
        ({"class_names": ("a",)}, "at least 2 classes"),
    ],
)
def test_a_data_set_refuses_what_does_not_fit(change, text):
    base = {"name": "x", "class_names": ("a", "b"), "train": _split()}
    base |= {"validation": _split(), "test": _split()}
    with pytest.raises(InvalidValue, match=text):
        DataSet(**base | change)


@pytest.mark.parametrize(
    ("images", "labels", "text"),
    [
        (np.zeros((2, 1, 2, 2), np.float32), np.zeros(2, np.int64), "must be uint8"),
        (np.zeros((2, 2, 2), np.uint8), np.zeros(2, np.int64), "must be uint8"),
        (np.zeros((2, 1, 2, 2), np.uint8), np.zeros(3, np.int64), "must be int64"),
        (np.zeros((2, 1, 2, 2), np.uint8), np.zeros(2, np.int32), "must be int64"),
        (np.zeros((0, 1, 2, 2), np.uint8), np.zeros(0, np.int64), "at least one image"),
    ],
)
def test_a_split_refuses_other_arrays(images, labels, text):
    with pytest.raises(InvalidValue, match=text):
        Split(images=images, labels=labels)


def test_an_unknown_split_is_refused(digits):
    with pytest.raises(InvalidValue, match="train, validation, test, but is 'dev'"):
        digits.split("dev")


@settings(deadline=None, max_examples=50)
@given(
    counts=st.lists(st.integers(1, 40), min_size=2, max_size=5),
    fraction=st.floats(0.05, 0.6),
    seed=st.integers(0, 2**40),
)
def test_held_out_is_a_stratified_partition(counts, fraction, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    if max(counts) == 1:
        labels = np.append(labels, 0)
    rest, out = held_out(labels, fraction, seed)
    assert sorted([*rest, *out]) == list(range(len(labels)))
    for label in np.unique(labels):
        size = int((labels == label).sum())
        expected = max(round(fraction * size), 1) if size > 1 else 0
        assert int((labels[out] == label).sum()) == expected
    again = held_out(labels, fraction, seed)
    assert np.array_equal(out, again[1])


def test_classes_of_one_image_hold_nothing_out():
    rest, out = held_out(np.array([0, 1, 2]), 0.5, 0)
    assert rest.tolist() == [0, 1, 2]
    assert len(out) == 0


# specs


def test_unknown_data_set_lists_what_exists_and_suggests(tmp_path):
    with pytest.raises(InvalidValue, match=r"'cifar11'. Did you mean 'cifar10'\? Known: cifar10"):
        load_dataset("cifar11", data_dir=tmp_path)
    assert set(datasets) == {"digits", "cifar10", "cifar100", "folder"}


@pytest.mark.parametrize("spec", ["digits:7", "cifar10:x", "digits:", "folder", "folder:"])
def test_a_wrong_argument_is_refused(spec, tmp_path):
    with pytest.raises(InvalidValue):
        load_dataset(spec, data_dir=tmp_path)


# image folders


def _paint(path: Path, value: int, size: tuple[int, int] = (6, 5), mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = value if mode in ("L", "I;16") else (value, value // 2, 3)
    Image.new(mode, size, colour).save(path)


@pytest.fixture
def folder(tmp_path) -> Path:
    for label, name in enumerate(("cat", "dog")):
        for i in range(10):
            _paint(tmp_path / "train" / name / f"{i}.png", 100 * label + i)
    return tmp_path


def test_a_folder_is_split_by_class(folder, tmp_path):
    data = load_dataset(f"folder:{folder}", data_dir=tmp_path)
    assert data.name == f"folder:{folder}"
    assert data.class_names == ("cat", "dog")
    assert data.input == (1, 5, 6)
    assert [len(data.split(n)) for n in ("train", "validation", "test")] == [14, 2, 4]
    for name in ("train", "validation", "test"):
        split = data.split(name)
        assert np.array_equal(split.labels, split.images[:, 0, 0, 0] >= 100)


def test_given_splits_are_kept(folder, tmp_path):
    _paint(folder / "validation" / "dog" / "v.png", 77)
    _paint(folder / "test" / "cat" / "t.jpg", 88)
    (folder / "train" / "cat" / ".hidden.png").write_bytes(b"no image")
    (folder / "train" / "cat" / "notes.txt").write_text("no image either")
    data = load_dataset(f"folder:{folder}", data_dir=tmp_path)
    assert [len(data.split(n)) for n in ("train", "validation", "test")] == [20, 1, 1]
    assert data.validation.labels.tolist() == [1]
    assert int(data.validation.images[0, 0, 0, 0]) == 77


def test_one_coloured_image_makes_three_channels(folder, tmp_path):
    _paint(folder / "train" / "cat" / "x.png", 40, mode="RGB")
    data = load_dataset(f"folder:{folder}", data_dir=tmp_path)
    assert data.input == (3, 5, 6)
    everything = np.concatenate([data.split(n).images for n in ("train", "validation", "test")])
    assert (40, 20, 3) in {tuple(int(v) for v in image[:, 0, 0]) for image in everything}


def test_other_sizes_are_refused_or_resized(folder, tmp_path):
    odd = folder / "train" / "dog" / "odd.png"
    _paint(odd, 200, size=(9, 4))
    with pytest.raises(
        InvalidValue, match=r"must be 6x5 .*odd\.png is 9x4; 'folder:PATH\?size=32'"
    ):
        load_dataset(f"folder:{folder}", data_dir=tmp_path)
    data = load_dataset(f"folder:{folder}?size=7", data_dir=tmp_path)
    assert data.input == (1, 7, 7)


def test_resizing_takes_the_square_at_the_centre(folder, tmp_path):
    image = Image.new("L", (12, 4), 0)
    image.paste(255, (4, 0, 8, 4))
    (folder / "test" / "dog").mkdir(parents=True)
    image.save(folder / "test" / "dog" / "wide.png")
    data = load_dataset(f"folder:{folder}?size=8", data_dir=tmp_path)
    assert data.test.images.min() == 255


@pytest.mark.parametrize("query", ["?size=0", "?size=", "?size=x", "?size=9999", "?width=3"])
def test_a_wrong_size_is_refused(folder, tmp_path, query):
    with pytest.raises(InvalidValue, match="size=1 to size=4096"):
        load_dataset(f"folder:{folder}{query}", data_dir=tmp_path)


def test_a_broken_image_is_named(folder, tmp_path):
    (folder / "train" / "cat" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    with pytest.raises(InvalidValue, match=r"broken\.png must be an image"):
        load_dataset(f"folder:{folder}", data_dir=tmp_path)


def test_sixteen_bits_are_refused(folder, tmp_path):
    _paint(folder / "train" / "cat" / "deep.png", 4000, mode="I;16")
    with pytest.raises(InvalidValue, match=r"deep\.png must have 8 bits"):
        load_dataset(f"folder:{folder}", data_dir=tmp_path)


def test_missing_folders_and_classes_are_named(folder, tmp_path):
    with pytest.raises(DataMissing, match="absent/train"):
        load_dataset(f"folder:{folder / 'absent'}", data_dir=tmp_path)
    (folder / "train" / "emu").mkdir()
    with pytest.raises(DataMissing, match="emu must hold images"):
        load_dataset(f"folder:{folder}", data_dir=tmp_path)
    _paint(folder / "train" / "emu" / "0.png", 1)
    _paint(folder / "test" / "fox" / "0.png", 1)
    with pytest.raises(InvalidValue, match="'fox' is not one of them"):
        load_dataset(f"folder:{folder}", data_dir=tmp_path)
    single = folder / "single"
    _paint(single / "train" / "cat" / "0.png", 1)
    with pytest.raises(DataMissing, match="at least 2 classes, but holds 1"):
        load_dataset(f"folder:{single}", data_dir=tmp_path)


def test_too_few_images_to_hold_out_are_refused(tmp_path):
    _paint(tmp_path / "train" / "cat" / "0.png", 1)
    _paint(tmp_path / "train" / "dog" / "0.png", 1)
    with pytest.raises(InvalidValue, match="at least 2 images to hold out"):
        load_dataset(f"folder:{tmp_path}", data_dir=tmp_path)


def test_without_pillow_the_install_command_is_named(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(InvalidValue, match="pip install pillow"):
        load_dataset(f"folder:{folder}", data_dir=tmp_path)
