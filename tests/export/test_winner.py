import json
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest

import bitfront
from bitfront.export import ExportFailed, Flip, Provenance, TrainedOn, Verification, Winner
from bitfront.export.files import read_file, replace_file
from bitfront.spaces import InvalidValue, RandomChoose, Recipe, Task, spaces

DATA = TrainedOn(name="digits", digest="0" * 64, mean=(0.3,), std=(0.4,))


@pytest.fixture
def winner():
    candidate = spaces["melius"](RandomChoose(0), Task(input=(1, 8, 8), classes=10))
    return Winner(
        name="w", architecture=candidate.architecture, recipe=Recipe(), weights=Path(), data=DATA
    )


def test_pixels_are_normalised_as_in_training(data):
    """Bit for bit: the exported files must see what the network saw."""
    factor, offset = TrainedOn.of(data).affine()
    images = data.test.images
    assert np.array_equal(images.astype(np.float32) * factor + offset, data.normalized(images))


def test_the_document_holds_all_but_the_weights(winner):
    document = json.loads(json.dumps(winner.json()))
    assert document["bitfront"] == bitfront.__version__
    assert document["architecture_digest"] == winner.architecture.digest
    assert document["data"]["name"] == "digits"
    with pytest.raises(FrozenInstanceError):
        winner.name = "x"


@pytest.mark.parametrize("name", ["a", "xnornet++-resnet18", "1.x_y"])
def test_a_name_may_be_that_of_every_network_of_the_zoo(winner, name):
    assert replace(winner, name=name).name == name


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".hidden", "a b", "x" * 101, "ä"])
def test_a_name_must_be_safe_in_every_file_system(winner, name):
    with pytest.raises(InvalidValue, match="A name must be"):
        replace(winner, name=name)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mean": ()}, "one value per channel"),
        ({"mean": (0.1, 0.2)}, "one value per channel"),
        ({"mean": (float("inf"),)}, "mean must be finite"),
        ({"std": (0.0,)}, "std must be positive"),
        ({"std": (float("nan"),)}, "std must be positive"),
    ],
)
def test_normalisation_is_checked(fields, message):
    with pytest.raises(InvalidValue, match=message):
        replace(DATA, **fields)


def test_normalisation_and_class_names_must_fit_the_architecture(winner):
    with pytest.raises(InvalidValue, match="each of the 1 channels"):
        replace(winner, data=replace(DATA, mean=(0.1,) * 3, std=(0.1,) * 3))
    with pytest.raises(InvalidValue, match="each of the 10 classes"):
        replace(winner, data=replace(DATA, class_names=("a", "b")))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"started": "yesterday"}, "started must be an ISO 8601 date"),
        ({"trial": 3}, "in a named study"),
        ({"trial": -1, "study": "s"}, "in a named study"),
    ],
)
def test_provenance_is_checked(fields, message):
    with pytest.raises(InvalidValue, match=message):
        Provenance(**fields)


def verification(**changes):
    fields = {
        "format": "onnx",
        "path": "w.onnx",
        "data": "digits",
        "images": 2000,
        "layers": 6,
        "layer_images": 16,
        "inexact_layers": (),
        "accuracy": 0.9,
        "equal_predictions": 2000,
        "deviating": 0,
        "flips": (),
        "unexplained": "",
        "max_difference": 1e-6,
    }
    return Verification(**{**fields, **changes})


FLIP = Flip(image=1, node="n", values=2, distance=3e-7)


@pytest.mark.parametrize(
    ("changes", "passed"),
    [
        ({}, True),
        ({"equal_predictions": 1998, "deviating": 3, "flips": (FLIP,)}, True),
        ({"equal_predictions": 1997}, False),
        ({"inexact_layers": ("conv",)}, False),
        ({"unexplained": "image 3: ..."}, False),
        ({"max_difference": None}, False),
    ],
)
def test_the_verdict(changes, passed):
    result = verification(**changes)
    assert result.passed is passed
    assert ("FAILED" in result.text) is not passed
    assert json.loads(json.dumps(result.json()))["passed"] is passed


def test_the_text_says_what_was_compared():
    text = verification(deviating=1, flips=(FLIP,)).text
    assert "6 of 6 exact on 16 images" in text
    assert "2000 of 2000 equal on the test split of digits, accuracy 90.00%" in text
    assert "differ by at most 1e-06; 1 image beyond rounding" in text
    assert "2 values within 3e-07 of a threshold" in text


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "new" / "file"
    replace_file(path, b"one")
    monkeypatch.setattr("os.fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(ExportFailed, match=r"file cannot be written: full\."):
        replace_file(path, b"two")
    assert read_file(path) == b"one"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_in_place_of_a_file_is_one_clear_sentence(tmp_path):
    with pytest.raises(ExportFailed, match="cannot be read: Is a directory"):
        read_file(tmp_path)
    with pytest.raises(ExportFailed, match="cannot be written"):
        replace_file(tmp_path, b"")
