import json
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, numpy_helper
from safetensors.torch import load_file, save_file

import bitfront
from bitfront.evaluators.binary_layers import binary_nodes, quantized_weight
from bitfront.export import ExportFailed, TrainedOn, exporters
from bitfront.export.onnx import OPSET, OnnxFile, build_model
from bitfront.export.weights import load_network
from bitfront.kernels import pack_nchw
from bitfront.spaces import Architecture, Builder, Network
from bitfront.spaces import ops as o
from bitfront.spaces import quantizers as q

WORDS = "stages.0.blocks.1.conv.weight.words"


@pytest.fixture
def one_bit(exported):
    return exported("onnx", "one-bit")


def changed(path, tmp_path, change):
    """A copy of a file whose model ``change`` has been applied to."""
    model = onnx.load(path)
    change(model)
    copy = tmp_path / path.name
    onnx.save(model, copy)
    return copy


def initializer(model, name):
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def test_input_output_and_metadata(one_bit):
    winner, path = one_bit
    model = onnx.load(path)
    (pixels,), (logits,) = model.graph.input, model.graph.output
    assert (pixels.name, pixels.type.tensor_type.elem_type) == ("pixels", TensorProto.UINT8)
    assert (logits.name, logits.type.tensor_type.elem_type) == ("logits", TensorProto.FLOAT)
    sizes = [d.dim_param or d.dim_value for d in pixels.type.tensor_type.shape.dim]
    assert sizes == ["batch", 1, 8, 8]
    assert model.opset_import[0].version == OPSET
    assert len(model.opset_import) == 1  # standard operators only
    metadata = {prop.key: prop.value for prop in model.metadata_props}
    assert metadata["bitfront_version"] == bitfront.__version__
    assert metadata["architecture_digest"] == winner.architecture.digest
    assert json.loads(metadata["class_names"]) == list("0123456789")
    document = json.loads(metadata["winner"])
    assert Architecture.from_json(document["architecture"]) == winner.architecture
    assert document["provenance"]["study"] == "digits"


def test_any_batch_and_the_same_bytes_every_time(one_bit, data, tmp_path):
    winner, path = one_bit
    session = onnxruntime.InferenceSession(path)
    images = data.test.images
    everything = session.run(None, {"pixels": images})[0]
    for count in (1, 2, 7):
        some = session.run(None, {"pixels": images[:count]})[0]
        np.testing.assert_allclose(some, everything[:count], atol=1e-4)
    assert exporters["onnx"].write(winner, tmp_path).read_bytes() == path.read_bytes()


def test_binary_weights_take_one_bit_in_the_layout_of_the_kernels(one_bit):
    winner, path = one_bit
    network = load_network(winner)
    node = next(n for n in network.graph.nodes if n.name == "stages.0.blocks.1.conv")
    expected = pack_nchw(quantized_weight(network, node)).words
    stored = numpy_helper.to_array(initializer(onnx.load(path), WORDS)).copy()
    assert stored.dtype == np.uint32
    assert torch.equal(torch.from_numpy(stored.view(np.int32))[0, ..., 0], expected)


def test_the_runtime_unpacks_on_loading_and_keeps_sums_and_norms_apart(one_bit, tmp_path):
    """Weights that a batch norm was merged into would be no signs."""
    winner, path = one_bit
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(path, options)
    nodes = onnx.load(tmp_path / "optimised.onnx").graph.node
    kinds = [node.op_type for node in nodes]
    assert not {"BitShift", "BitwiseAnd", "Gather", "Transpose"} & set(kinds)
    assert kinds.count("Round") == len(binary_nodes(winner.architecture.lower())) == 7


@pytest.mark.parametrize(("name", "bits"), [("one-bit", 1), ("mixed-4", 2), ("mixed-8", 4)])
def test_low_bit_weights_take_no_more_than_their_bits(exported, name, bits):
    """In words of 32 channels."""
    winner, path = exported("onnx", name)
    layer = "stages.1.blocks.2.conv"
    words = numpy_helper.to_array(initializer(onnx.load(path), f"{layer}.weight.words"))
    outputs, channels, rows, columns = next(
        row.shape
        for row in winner.architecture.lower().parameters()
        if row.name == f"{layer}.weight"
    )
    assert words.nbytes == bits * outputs * rows * columns * 4 * -(-channels // 32)


@pytest.mark.parametrize("bit", [0, 5, 31])
def test_one_flipped_sign_fails(one_bit, data, tmp_path, bit):
    winner, path = one_bit

    def flip(model):
        tensor = initializer(model, WORDS)
        words = numpy_helper.to_array(tensor).copy()
        # channels 0 to 23 are real, the rest of the word is padding
        words[0, 3, 1, 1, 0, 0] ^= np.uint32(1 << bit)
        tensor.CopyFrom(numpy_helper.from_array(words, WORDS))

    result = exporters["onnx"].verify(winner, changed(path, tmp_path, flip), data)
    assert result.passed == (bit == 31)
    if bit < 24:
        assert result.inexact_layers == ("stages.0.blocks.1.conv",)
        assert "FAILED" in result.text


def test_a_changed_float_weight_fails_although_every_layer_is_exact(one_bit, data, tmp_path):
    winner, path = one_bit

    def shift(model):
        tensor = initializer(model, "stages.1.blocks.0.norm.bias")
        value = numpy_helper.to_array(tensor) + np.float32(0.02)
        tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))

    result = exporters["onnx"].verify(winner, changed(path, tmp_path, shift), data)
    assert not result.passed
    assert result.layers_exact
    assert "stages.1.blocks.0.norm differs by 0.02" in result.unexplained


def test_onnx_sign_in_place_of_the_comparison_fails_where_a_value_is_zero(trained, data, tmp_path):
    """A norm that gives exact zeros: sign(0) = +1 must hold in the file, too."""
    winner = trained("one-bit")
    tensors = load_file(winner.weights)
    for name in ("weight", "bias"):
        tensors[f"stages.0.blocks.0.norm.{name}"][:] = 0
    save_file(tensors, tmp_path / "w.safetensors")
    winner = replace(winner, weights=tmp_path / "w.safetensors")
    path = exporters["onnx"].write(winner, tmp_path)
    assert exporters["onnx"].verify(winner, path, data).passed

    def with_sign(model):
        for node in model.graph.node:
            if node.name == "stages.0.blocks.0.quantize":
                node.op_type = "Sign"
                node.input[:] = ["stages.0.blocks.0.norm"]

    result = exporters["onnx"].verify(winner, changed(path, tmp_path, with_sign), data)
    assert not result.passed
    assert "stages.0.blocks.0.conv" in result.inexact_layers


def test_logits_that_are_not_finite_fail(one_bit, data, tmp_path):
    winner, path = one_bit

    def spoil(model):
        tensor = initializer(model, "head.linear.bias")
        tensor.CopyFrom(numpy_helper.from_array(np.full(10, np.nan, np.float32), tensor.name))

    result = exporters["onnx"].verify(winner, changed(path, tmp_path, spoil), data)
    assert not result.passed
    assert result.max_difference is None
    assert "not finite" in result.text


def test_a_file_with_other_tensor_names_is_refused(one_bit, data, tmp_path):
    winner, path = one_bit

    def rename(model):
        for node in model.graph.node:
            for names in (node.input, node.output):
                names[:] = [n.replace("stages.0.blocks.0.norm", "renamed") for n in names]
        for tensor in model.graph.initializer:
            tensor.name = tensor.name.replace("stages.0.blocks.0.norm", "renamed")

    with pytest.raises(ExportFailed, match="must name its tensors"):
        exporters["onnx"].verify(winner, changed(path, tmp_path, rename), data)


def test_pixels_of_another_type_are_refused_by_the_runtime(one_bit, data):
    _, path = one_bit
    session = onnxruntime.InferenceSession(path)
    with pytest.raises(Exception, match="Unexpected input data type"):
        session.run(None, {"pixels": data.test.images[:1].astype(np.float32) / 255})


def test_the_trace_leads_to_the_logits_of_the_plain_file(exported, data):
    for name in ("one-bit", "mixed-4"):
        winner, path = exported("onnx", name)
        graph = winner.architecture.lower()
        loaded = OnnxFile(path, graph)
        images = data.test.images[:16]
        traced = loaded.trace(images)[len(graph.nodes) - 1]
        torch.testing.assert_close(traced, loaded.logits(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("weight", "bits", "levels"),
    [
        (q.SIGN_WEIGHT, 1, 2),
        (q.Ternary(), 2, 3),
        (q.Ttq(), 2, 3),
        (q.Lsq(width=3), 3, 8),
        (q.LqNet(width=2), 2, 4 * 40),
        (q.Syq(), 2, 3 * 9),
    ],
    ids=str,
)
def test_weights_take_their_bits_and_a_table(weight, bits, levels):
    """40 filters of 33 channels, which take two words."""
    b = Builder()
    x = b.add(o.Input(shape=(33, 5, 5)), name="input")
    b.add(o.Conv2d(out_channels=40, kernel_size=3, weight=weight), x, name="op")
    pixels = TrainedOn(name="x", digest="0", mean=(0.45,) * 33, std=(0.22,) * 33)
    model = build_model(Network(b.graph()).eval(), pixels, "test")
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    assert "op.weight" not in stored
    assert stored["op.weight.words"].nbytes == bits * 40 * 9 * 2 * 4
    assert stored["op.weight.levels"].shape == (levels,)
    largest = max(v.nbytes for name, v in stored.items() if name != "op.weight.words")
    assert largest <= max(4 * levels, 4 * 40)
