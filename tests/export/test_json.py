import hashlib
import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from bitfront.evaluators.binary_layers import quantized_weight
from bitfront.export import ExportFailed, exporters
from bitfront.export import json as module
from bitfront.export.json import read
from bitfront.export.weights import load_network
from bitfront.kernels import pack_nchw
from bitfront.spaces import Domain, read_architecture

exporter = exporters["json"]
PACKED = "stages.0.blocks.1.conv.weight.packed"


@pytest.fixture
def written(trained, tmp_path):
    winner = trained("one-bit")
    return winner, exporter.write(winner, tmp_path)


def weights_of(path):
    return path.with_name(json.loads(path.read_text())["weights"]["file"])


def resigned(path, change):
    """Change the tensors, and give the JSON the new SHA-256 as only a forger would."""
    file = weights_of(path)
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)
    document = json.loads(path.read_text())
    document["weights"]["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    path.write_text(json.dumps(document))


def test_reading_gives_the_same_winner_and_the_same_network(written):
    winner, path = written
    again = read(path)
    assert replace(again, weights=winner.weights) == winner
    mine, theirs = load_network(winner), load_network(again)
    for name, tensor in mine.state_dict().items():
        assert torch.equal(tensor, theirs.state_dict()[name]), name


def test_any_format_can_be_written_from_what_was_read(written, exported, tmp_path):
    _, path = written
    _, direct = exported("onnx", "one-bit")
    assert exporters["onnx"].write(read(path), tmp_path).read_bytes() == direct.read_bytes()


def test_the_document_is_canonical_and_readable_as_an_architecture(written, tmp_path):
    winner, path = written
    text = path.read_text()
    document = json.loads(text)
    assert text == json.dumps(document, indent=1, sort_keys=True) + "\n"
    assert (document["format"], document["version"]) == ("bitfront", 1)
    assert document["measurements"][0]["objective"] == "accuracy"
    assert document["provenance"]["trial"] == 7
    assert read_architecture(text) == winner.architecture
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    exporter.write(winner, tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_packed_bits_stand_beside_every_layer_of_signs(written):
    winner, path = written
    network = load_network(winner)
    stored = load_file(weights_of(path))
    layers = [
        node
        for node in network.graph.nodes
        if node.op.main and node.op.weight.domain is Domain.BIPOLAR
    ]
    assert len(layers) == 7
    for node in layers:
        expected = pack_nchw(quantized_weight(network, node)).words
        assert torch.equal(stored[f"{node.name}.weight.packed"], expected)


def test_new_weights_replace_the_earlier_ones(written, trained, tmp_path):
    winner, path = written
    earlier = weights_of(path)
    other = tmp_path / "one-bit-note.txt"
    other.write_text("of the user")
    tensors = load_file(winner.weights)
    tensors["head.linear.bias"] += 1
    save_file(tensors, tmp_path / "w.safetensors")
    exporter.write(replace(winner, weights=tmp_path / "w.safetensors"), tmp_path)
    assert weights_of(path) != earlier
    assert not earlier.exists()
    assert {other, tmp_path / "w.safetensors"} < set(tmp_path.iterdir())


def test_a_crash_between_the_two_files_leaves_the_earlier_export_valid(
    written, data, tmp_path, monkeypatch
):
    winner, path = written
    tensors = load_file(winner.weights)
    tensors["head.linear.bias"] += 1
    save_file(tensors, tmp_path / "w.safetensors")
    whole = module.replace_file

    def crash(target, content):
        if target.suffix == ".json":
            raise KeyboardInterrupt
        whole(target, content)

    monkeypatch.setattr(module, "replace_file", crash)
    with pytest.raises(KeyboardInterrupt):
        exporter.write(replace(winner, weights=tmp_path / "w.safetensors"), tmp_path)
    assert exporter.verify(winner, path, data).passed


def test_weights_of_another_content_are_refused(written, data):
    winner, path = written
    file = weights_of(path)
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ExportFailed, match="must have the SHA-256"):
        exporter.verify(winner, path, data)


def test_a_flipped_sign_fails(written, data):
    winner, path = written

    def flip(tensors):
        tensors["stages.0.blocks.1.conv.weight"][3, 5, 1, 1] *= -1

    resigned(path, flip)
    result = exporter.verify(winner, path, data)
    assert not result.passed
    assert "stages.0.blocks.1.conv" in result.inexact_layers


def test_a_flipped_packed_bit_fails(written, data):
    winner, path = written

    def flip(tensors):
        tensors[PACKED][0, 0, 0, 0] ^= 1

    resigned(path, flip)
    result = exporter.verify(winner, path, data)
    assert not result.passed
    assert result.inexact_layers == ("stages.0.blocks.1.conv",)


def test_missing_packed_bits_fail(written, data):
    winner, path = written
    resigned(path, lambda tensors: tensors.pop(PACKED))
    assert not exporter.verify(winner, path, data).passed


def test_a_weight_that_differs_in_its_last_bit_fails(written, data):
    """The logits must be equal bit for bit; rounding is no excuse for the same program."""
    winner, path = written

    def nudge(tensors):
        bias = tensors["head.linear.bias"]
        bias[:] = torch.nextafter(bias, torch.full_like(bias, 1e9)) + 1e-6

    resigned(path, nudge)
    result = exporter.verify(winner, path, data)
    assert not result.passed
    assert "must give the same logits" in result.unexplained


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(version=2), "must have version 1, but has 2"),
        (lambda d: d.update(format="x"), "must be a JSON export of bitfront"),
        (lambda d: d.pop("recipe"), "lacks a field.*recipe"),
        (lambda d: d.update(weights=3), "lacks a field"),
        (lambda d: d["recipe"].update(epochs=0), "epochs must be 1 to"),
        (lambda d: d["data"].update(std=[0.0]), "std must be positive"),
        (lambda d: d["weights"].update(file="none"), "cannot be read"),
        (lambda d: d.update(measurements=[{"objective": 3}]), r"measurements\[0\].objective"),
        (lambda d: d.update(name="../x"), "A name must be"),
    ],
)
def test_a_document_that_breaks_a_rule_is_one_clear_sentence(written, change, message):
    _, path = written
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(ExportFailed, match=message) as error:
        read(path)
    assert path.parent.name in str(error.value)
