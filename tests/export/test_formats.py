"""What every format must do; a new one is tested as soon as it is registered."""

import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from bitfront.evaluators.training import DataSet
from bitfront.export import ExportFailed, MissingExtra, exporters
from bitfront.export.exporter import Exporter
from bitfront.spaces import InvalidValue

FORMATS = sorted(exporters)
BINARY_LAYERS = {
    "one-bit": 7,
    "mixed-4": 4,
    "mixed-8": 4,
    "mixed-16": 4,
    "residual": 3 + 3 * 2 + 1,
    "boolean": 6,
}


@pytest.mark.parametrize("name", BINARY_LAYERS)
@pytest.mark.parametrize("format", FORMATS)
def test_a_trained_network_passes(exported, data, format, name):
    winner, path = exported(format, name)
    assert path.name.startswith(name)
    result = exporters[format].verify(winner, path, data)
    assert result.passed, result.text
    assert result.layers_exact
    assert result.layers == BINARY_LAYERS[name]
    assert (result.format, result.path, result.images) == (format, str(path), len(data.test))
    assert result.accuracy > 0.13  # the network has learned something


@pytest.mark.parametrize("format", FORMATS)
def test_other_data_is_refused(exported, data, format):
    winner, path = exported(format, "one-bit")
    other = DataSet(
        name="digits",
        class_names=data.class_names,
        train=data.train,
        validation=data.test,
        test=data.validation,
    )
    with pytest.raises(InvalidValue, match="must be verified on the data"):
        exporters[format].verify(winner, path, other)


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_of_another_network_is_refused(exported, trained, data, format):
    _, path = exported(format, "one-bit")
    with pytest.raises(ExportFailed, match="must be of the"):
        exporters[format].verify(trained("mixed-8"), path, data)


@pytest.mark.parametrize("content", [b"", b"\x08", b"garbage" * 100, "half"])
@pytest.mark.parametrize("format", FORMATS)
def test_a_damaged_file_is_one_clear_sentence(exported, data, format, content, tmp_path):
    winner, path = exported(format, "one-bit")
    whole = path.read_bytes()
    damaged = tmp_path / path.name
    damaged.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    with pytest.raises(ExportFailed, match=path.name) as error:
        exporters[format].verify(winner, damaged, data)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("format", FORMATS)
def test_a_missing_file_is_one_clear_sentence(trained, data, format, tmp_path):
    with pytest.raises(ExportFailed, match="No such file"):
        exporters[format].verify(trained("one-bit"), tmp_path / "none", data)


@pytest.mark.parametrize("format", FORMATS)
def test_an_earlier_file_survives_a_failed_export(exported, format, tmp_path):
    winner, path = exported(format, "one-bit")
    earlier = shutil.copy(path, tmp_path / path.name)
    before = earlier.read_bytes()
    with pytest.raises(ExportFailed, match="cannot be read"):
        exporters[format].write(replace(winner, weights=tmp_path / "none"), tmp_path)
    assert earlier.read_bytes() == before
    assert list(tmp_path.iterdir()) == [earlier]


@pytest.mark.parametrize("format", FORMATS)
def test_a_folder_that_cannot_be_made_is_one_clear_sentence(trained, format, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ExportFailed, match="cannot be written"):
        exporters[format].write(trained("one-bit"), tmp_path / "file" / "folder")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("head.linear.bias"), "lacks 'head.linear.bias'"),
        (lambda t: t.update(extra=torch.zeros(1)), "unknown 'extra'"),
        (lambda t: t.update({"head.linear.bias": torch.zeros(3)}), r"must have the shape \(10,\)"),
        (lambda t: t["head.linear.bias"].fill_(torch.nan), "must be finite"),
    ],
)
def test_weights_that_do_not_fit_are_refused(trained, change, message, tmp_path):
    winner = trained("one-bit")
    tensors = load_file(winner.weights)
    change(tensors)
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(ExportFailed, match=message):
        exporters["json"].write(replace(winner, weights=tmp_path / "w.safetensors"), tmp_path)


def test_a_checkpoint_of_a_training_serves_as_weights(trained, data, tmp_path):
    winner = trained("one-bit")
    tensors = {f"model.{name}": value for name, value in load_file(winner.weights).items()}
    save_file({**tensors, "optimizer.step": torch.zeros(1)}, tmp_path / "w.safetensors")
    winner = replace(winner, weights=tmp_path / "w.safetensors")
    path = exporters["onnx"].write(winner, tmp_path)
    assert exporters["onnx"].verify(winner, path, data).passed


def test_unknown_formats_list_the_known_ones():
    with pytest.raises(InvalidValue, match="Known: json, onnx, pt2"):
        exporters["tflite"]


def test_a_missing_package_names_the_extra(trained, monkeypatch, tmp_path):
    for module in list(sys.modules):
        if module.startswith("bitfront.export.onnx"):
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtra, match=r"needs the package onnx.*bitfront\[export\]"):
        exporters["onnx"].write(trained("one-bit"), tmp_path)


def test_an_import_error_inside_a_format_is_not_hidden(trained, tmp_path):
    broken = Exporter(name="x", summary="", home="bitfront.export.nowhere", needs=("onnx",))
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        broken.write(trained("one-bit"), tmp_path)


def test_importing_the_package_loads_no_heavy_module():
    code = (
        "import sys, bitfront.export as e; [e.exporters[n].summary for n in e.exporters];"
        "print([m for m in ('torch', 'onnx', 'onnxruntime', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
