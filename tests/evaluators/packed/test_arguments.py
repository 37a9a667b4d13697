"""What a packed network takes, keeps and reports."""

from __future__ import annotations

import pytest
import torch

from bitfront.evaluators.packed import PackedNetwork
from bitfront.evaluators.packed import network as packed_network
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.graph import Domain


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"batch": 0}, ["batch", "0", "1 to 1024"]),
        ({"threads": 1.5}, ["threads", "1.5"]),
        ({"variant": "sse"}, ["variant", "sse", "portable"]),
        ({"maps": torch.bfloat16}, ["maps", "float32", "the CPU", "bfloat16"]),
    ],
)
def test_wrong_arguments(arguments, parts, one_block):
    with pytest.raises(InvalidValue) as error:
        PackedNetwork(one_block(), **arguments)
    for part in parts:
        assert part in str(error.value)


def test_wrong_networks_and_images(one_block):
    network = one_block()
    packed = PackedNetwork(network, batch=2)
    for x in (torch.zeros(1, 3, 10, 12), torch.zeros(2, 3, 10, 12).double(), torch.zeros(2, 3, 10)):
        with pytest.raises(InvalidValue, match=r"float32 \[2, 3, 10, 12\]"):
            packed(x)
    with pytest.raises(ValueError, match="NaN"):
        packed(torch.full((2, 3, 10, 12), torch.nan))
    with pytest.raises(InvalidValue, match="eval"):
        PackedNetwork(network.train())
    with pytest.raises(InvalidValue, match="float64"):
        PackedNetwork(one_block().double())


def test_threads_of_torch_stay_as_they_are(one_block):
    packed = PackedNetwork(one_block(), threads=2)
    packed(torch.zeros(1, 3, 10, 12))
    assert torch.get_num_threads() == 1


def test_without_the_compiled_kernels_the_network_runs(monkeypatch, images, one_block):
    monkeypatch.setattr(packed_network, "load", lambda: None)
    network = one_block()
    with pytest.warns(RuntimeWarning, match="C compiler"):
        packed = PackedNetwork(network)
    x = images(network, 1)
    with torch.no_grad():
        assert torch.equal(packed(x), network(x))
    with pytest.raises(InvalidValue, match="compiled"):
        packed.profile(x)


def test_a_gpu_without_kernels_is_named(monkeypatch):
    monkeypatch.setattr(packed_network, "missing_kernels", lambda device: "It is too old.")
    gpu = torch.device("cuda:0")
    with pytest.warns(RuntimeWarning, match=r"32-bit floats on cuda:0\. It is too old\."):
        assert packed_network._kernels_of(gpu, 1, None, torch.float32) is None
    for threads, variant in ((2, None), (1, "avx2")):
        with pytest.raises(InvalidValue, match="those of a CPU's kernels"):
            packed_network._kernels_of(gpu, threads, variant, torch.float32)


def test_a_profile_has_every_step(images, one_block):
    network = one_block()
    packed = PackedNetwork(network)
    rows = packed.profile(images(network, 1), repeats=3)
    binary = [row.name for row in rows if row.kind == "binary"]
    nodes = network.graph.nodes
    assert binary == [node.name for node in nodes if node.type.domain is Domain.ACCUMULATOR]
    assert all(row.ms >= 0 for row in rows)
    with pytest.raises(InvalidValue, match="repeats"):
        packed.profile(images(network, 1), repeats=0)


def test_weights_are_packed_once(images, one_block):
    network = one_block()
    packed = PackedNetwork(network)
    x = images(network, 1)
    before = packed(x)
    for values in network.parameters():
        values.data.zero_()
    after = packed(x)
    assert torch.equal(before, after)
