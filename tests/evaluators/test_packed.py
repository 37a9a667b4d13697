"""Packed inference: every step equals the torch forms of its nodes, and the logits follow."""

from __future__ import annotations

from dataclasses import replace

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from bitfront.evaluators.packed import PackedNetwork, fold
from bitfront.evaluators.packed import network as packed_network
from bitfront.evaluators.packed.grouping import Group, grouped, kept_as_bits, readers_of
from bitfront.evaluators.packed.layers import joined, max_pool
from bitfront.evaluators.packed.places import Place, places
from bitfront.evaluators.packed.words import edges_repeated, floats, interleaved
from bitfront.export.flips import deviates, trace_flips
from bitfront.kernels import cpu
from bitfront.kernels.packing import pack_bits
from bitfront.spaces import build, zoo
from bitfront.spaces.architecture import Architecture, Stage
from bitfront.spaces.blocks import BiReal, Classifier, StemThumbnail
from bitfront.spaces.errors import InfeasibleArchitecture, InvalidValue
from bitfront.spaces.graph import Builder, Domain
from bitfront.spaces.network import Network
from bitfront.spaces.ops import (
    Add,
    BatchNorm,
    Concat,
    Conv2d,
    Dropout,
    Input,
    MaxPool,
    Quantize,
    Slice,
)
from bitfront.spaces.quantizers import SIGN, MultiSign

# one network of each family that has binary layers, and some without
FAMILIES = (
    "alexnet-grouped-fp",
    "binarydensenet28-grouped",
    "binarydensenet37-dilated",
    "birealnet18",
    "reactnet-resnet18",
    "bnn-resnet18",
    "boolnet-k4",
    "boolnet-base-k1",
    "resnet-e18",
    "resnet18-v1-cifar10",
    "tbn-resnet18",
    "meliusnet22",
    "naivenet17",
    "mobilenet-v1-fp",
    "quicknet-small",
    "real-to-binary",
    "xnornet++-resnet18",
)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def trained_like(network: Network) -> Network:
    """Statistics and affine values of no regularity: negative and zero factors among them."""
    g = generator(1)
    for module in network.modules():
        if hasattr(module, "running_var"):
            module.running_var.uniform_(0.5, 2.0, generator=g)
            module.running_mean.normal_(0.0, 0.5, generator=g)
            if module.weight is not None:
                module.weight.data.normal_(generator=g)
                module.weight.data[::7] = 0.0
            if module.bias is not None:
                module.bias.data.normal_(0.0, 0.3, generator=g)
    for name, values in network.named_parameters():
        if name.endswith(("threshold", "slope", "shift.bias")):
            values.data.normal_(0.0, 0.3, generator=g)
    return network.eval()


def small(name: str, seed: int = 0) -> Network:
    """A network of the zoo on the smallest images of 32 x 32 and up that it can read."""
    architecture = zoo.get(name).architecture()
    for size in (32, 64, 224):
        try:
            graph = replace(architecture, input=(architecture.input[0], size, size)).lower()
        except InfeasibleArchitecture:
            continue
        return trained_like(Network(graph, seed=seed))
    raise AssertionError(name)


def images(network: Network, batch: int, seed: int = 3) -> Tensor:
    return torch.randn(batch, *network.graph.input.torch_shape, generator=generator(seed))


def run_and_check(packed: PackedNetwork, x: Tensor) -> dict[int, Tensor]:
    """Run step by step beside the torch forms, which read copies that nobody overwrites.

    Returns:
        The values by node, those inside of steps as the forms give them.
    """
    network = packed.network
    nodes = network.graph.nodes
    current = {0: x.contiguous(memory_format=torch.channels_last)}
    kept: dict[int, Tensor] = {0: x.clone()}
    for group, run, _ in packed._steps:
        mine = run(*[current[i] for i in group.reads])
        current[group.output] = mine
        inside: dict[int, Tensor] = {}
        for i in group.nodes:
            node = nodes[i]
            form = network.get_submodule(node.name)
            shared = {}
            if node.latent != i:
                shared["latent"] = network.get_submodule(nodes[node.latent].name).weight
            inside[i] = form(*[inside.get(j, kept.get(j)) for j in node.inputs], **shared)
        if mine.dtype == torch.int32:
            mine = floats(mine, nodes[group.output].type.torch_shape[0])
        theirs = inside[group.output]
        assert mine.shape == theirs.shape
        where = nodes[group.main].name
        if group.kind == "pack" or (group.kind == "binary" and group.output == group.main):
            assert torch.equal(mine, theirs), where
        bound = 1e-5 * theirs.abs().max().clamp_min(1.0)
        assert (mine - theirs).abs().max() <= bound, where
        kept |= inside
        kept[group.output] = mine.clone()
    return kept


@torch.no_grad()
def check(network: Network, batch: int = 1, **arguments: object) -> None:
    packed = PackedNetwork(network, batch=batch, **arguments)
    assert packed.is_packed
    x = images(network, batch)
    channels_last = x.contiguous(memory_format=torch.channels_last)
    theirs = run_and_check(packed, x)
    logits = packed(x)
    assert torch.equal(logits, theirs[len(network.graph.nodes) - 1])
    # a second call finds nothing of the first
    assert torch.equal(packed(x), logits)
    mine = network.trace(channels_last)
    for image in torch.nonzero(deviates(mine[-1], logits)).flatten().tolist():
        one = {i: values[image : image + 1] for i, values in enumerate(mine)}
        other = {i: values[image : image + 1] for i, values in theirs.items()}
        flips, wrong = trace_flips(network, one, other, image)
        assert not wrong
        assert flips, "logits differ without a flip"


@pytest.mark.parametrize("name", FAMILIES)
def test_every_step_equals_its_torch_forms(name):
    check(small(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in zoo.zoo if name not in FAMILIES])
def test_every_network_of_the_zoo_runs(name):
    check(small(name), batch=2)


@pytest.mark.parametrize("name", ["meliusnet22", "resnet-e18"])
def test_several_images(name):
    check(small(name), batch=3)


def one_block() -> Network:
    architecture = Architecture(
        input=(3, 10, 12),
        stem=StemThumbnail(channels=40),
        stages=(Stage(blocks=(BiReal(channels=40), BiReal(channels=72, stride=2))),),
        head=Classifier(classes=5),
    )
    return trained_like(build(architecture))


@pytest.mark.parametrize("variant", [*cpu.variants(), None])
@pytest.mark.parametrize("threads", [1, 2])
def test_every_variant_and_several_threads(variant, threads):
    check(one_block(), batch=2, variant=variant, threads=threads)


@pytest.mark.parametrize("fill", [-1.0, 0.0, 1.0, "replicate"])
@pytest.mark.parametrize(("groups", "dilation", "stride"), [(1, 1, 1), (2, 2, 1), (4, 1, 2)])
def test_binary_convolutions_of_every_geometry(fill, groups, dilation, stride):
    b = Builder()
    x = b.add(Input(shape=(8, 9, 7), bits=32), name="input")
    bits = b.add(Quantize(quantizer=SIGN), b.add(BatchNorm(), x, name="norm"), name="sign")
    conv = Conv2d(
        out_channels=12,
        kernel_size=3,
        padding=dilation,
        padding_value=0.0 if fill == "replicate" else fill,
        replicate=fill == "replicate",
        groups=groups,
        dilation=dilation,
        stride=stride,
        weight=SIGN,
    )
    b.add(conv, bits, name="conv")
    network = trained_like(Network(b.graph()))
    packed = PackedNetwork(network)
    assert [step.group.kind for step in packed._steps] == ["binary"]
    x = images(network, 1)
    with torch.no_grad():
        assert torch.equal(packed(x), network(x))


def test_signs_of_signs():
    b = Builder()
    x = b.add(Input(shape=(40, 6, 5), bits=32), name="input")
    once = b.add(Quantize(quantizer=SIGN), x, name="once")
    twice = b.add(Quantize(quantizer=SIGN), b.add(BatchNorm(), once, name="norm"), name="twice")
    sliced = b.add(Quantize(quantizer=MultiSign(k=2)), once, name="sliced")
    conv = Conv2d(out_channels=8, kernel_size=3, padding=1, weight=SIGN)
    sums = [b.add(conv, node, name=f"conv{node}") for node in (once, twice, sliced)]
    b.add(Add(), sums[2], b.add(Add(), sums[0], sums[1], name="add"), name="sum")
    network = trained_like(Network(b.graph()))
    x = images(network, 1)
    with torch.no_grad():
        run_and_check(PackedNetwork(network), x)
        assert torch.equal(PackedNetwork(network)(x), network(x))


@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_thresholds_are_where_torchs_batch_norm_changes_its_sign(data):
    finite = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=True)
    tame = st.floats(-8, 8, width=32)
    factor = st.one_of(tame, st.sampled_from([0.0, -0.0, 1e-38, -1e-38, 1e30, -1e30, 1e-45]))
    variance = st.one_of(
        st.floats(0, 8, width=32), st.sampled_from([0.0, 1e-45, 1e-40, 1e-12, 1e30])
    )
    rows = data.draw(st.lists(st.tuples(factor, tame, tame, variance), min_size=1, max_size=20))
    weight, bias, mean, var = torch.tensor(rows, dtype=torch.float32).T.contiguous()

    def norm(x: Tensor) -> Tensor:
        return F.batch_norm(x, mean, var, weight, bias, False, 0.0, 1e-5)

    b = Builder()
    x = b.add(Input(shape=(len(rows), 2, 2), bits=32), name="input")
    bits = b.add(Quantize(quantizer=SIGN), b.add(BatchNorm(), x, name="norm"), name="sign")
    b.add(Conv2d(out_channels=1, kernel_size=1, weight=SIGN), bits, name="conv")
    network = Network(b.graph()).eval()
    form = network.get_submodule("norm")
    for name, values in (("weight", weight), ("bias", bias)):
        getattr(form, name).data.copy_(values)
    form.running_mean.copy_(mean)
    form.running_var.copy_(var)
    (found,) = fold.thresholds(network, network.graph.nodes[1:3], len(rows))
    at = found.values.clamp(-3e38, 3e38)
    drawn = torch.tensor(data.draw(st.lists(finite, min_size=len(rows), max_size=len(rows))))
    infinity = torch.tensor(torch.inf)
    candidates = [at, at.nextafter(infinity), at.nextafter(-infinity), drawn, torch.zeros_like(at)]
    pixels = torch.stack(candidates, dim=-1)
    x = pixels[None, :, None].contiguous(memory_format=torch.channels_last)
    expected = (norm(x) >= 0)[0, :, 0].T
    flips = torch.tensor([int(found.flip_words[c // 32]) >> c % 32 & 1 for c in range(len(rows))])
    assert torch.equal((found.values <= pixels.T) != flips.bool(), expected)


def test_interleaved_words_are_interleaved_channels():
    bits = torch.rand(2, 3, 4, 2, 2, 64, generator=generator(0)) < 0.5
    dealt = bits.transpose(-1, -2).flatten(-2)
    first, second = (pack_bits(half) for half in bits.unbind(-2))
    assert torch.equal(interleaved(first, second), pack_bits(dealt))


@pytest.mark.parametrize("padding", [1, 3])
def test_edges_are_repeated(padding):
    x = torch.randint(-(2**31), 2**31 - 1, (2, 3, 5, 4), generator=generator(0), dtype=torch.int32)
    padded = F.pad(x.double().permute(0, 3, 1, 2), (padding,) * 4, mode="replicate")
    mine = edges_repeated(tuple(x.shape), padding)(x)
    assert torch.equal(mine, padded.permute(0, 2, 3, 1).to(torch.int32))


@pytest.mark.parametrize(("groups", "per"), [(8, 4), (32, 1), (6, 3), (2, 20)])
def test_groups_joined_compute_the_same(groups, per):
    x = torch.randn(2, groups * per, 5, 5, generator=generator(1))
    weight = torch.randn(groups * 2, per, 3, 3, generator=generator(2))
    fewer, count = joined(weight, groups)
    assert count == groups or fewer.shape[1] * count == groups * per
    expected = F.conv2d(x, weight, groups=groups)
    assert torch.allclose(F.conv2d(x, fewer, groups=count), expected, atol=1e-5)


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, 1, 0), (2, 2, 0), (3, 2, 1)])
@pytest.mark.parametrize(("rows", "columns"), [(8, 6), (7, 6), (2, 2)])
def test_pools_by_maxima_are_pools(kernel, stride, padding, rows, columns):
    op = MaxPool(kernel_size=kernel, stride=stride, padding=padding)
    run = max_pool(op, rows, columns)
    if run is None:
        assert kernel == 3
        assert rows % 2 == 1
        return
    x = torch.randn(2, 5, rows, columns, generator=generator(1))
    x = x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(run(x), F.max_pool2d(x, kernel, stride, padding))
    assert max_pool(MaxPool(kernel_size=3, stride=1), rows, columns) is None
    assert max_pool(MaxPool(kernel_size=2, stride=2, ceil=True), rows, columns) is None


def parts(order: str) -> tuple[list, list[Group], dict[int, Place]]:
    """x, and a correction of its last channels joined to it; the first channels are read last."""
    b = Builder()
    x = b.add(Input(shape=(8, 4, 4), bits=32), name="input")
    x = b.add(Conv2d(out_channels=64, kernel_size=1), x, name="map")
    grown = b.add(Conv2d(out_channels=64, kernel_size=1), x, name="grown")
    joined = b.add(Concat(), x, grown, name="joined")
    if order == "shared":
        # dropout does nothing at inference: its result is the map itself
        held = b.add(Dropout(), joined, name="held")
    keep = b.add(Slice(start=0, end=64), joined, name="keep")
    last = b.add(Slice(start=64, end=128), joined, name="last")
    change = b.add(Conv2d(out_channels=64, kernel_size=1), joined, name="change")
    added = b.add(Add(), last, change, name="added")
    y = b.add(Concat(), keep, added, name="corrected")
    if order == "read later":
        # what was there before the correction is asked for after it
        old = b.add(Conv2d(out_channels=128, kernel_size=1), joined, name="old")
        y = b.add(Add(), y, old, name="sum")
    if order == "slice later":
        old = b.add(Slice(start=64, end=128), joined, name="late")
        old = b.add(Conv2d(out_channels=128, kernel_size=1), old, name="old")
        y = b.add(Add(), y, old, name="sum")
    if order == "shared":
        old = b.add(Conv2d(out_channels=128, kernel_size=1), held, name="old")
        y = b.add(Add(), y, old, name="sum")
    b.add(Conv2d(out_channels=1, kernel_size=1), y, name="end")
    nodes = b.graph().nodes
    bits = kept_as_bits(nodes, readers_of(nodes))
    groups = grouped(nodes, bits)
    network = trained_like(Network(b.graph()))
    run_and_check(PackedNetwork(network), images(network, 1))
    return nodes, groups, places(nodes, groups, bits)


def test_what_shares_memory_with_a_place_is_copied():
    # the check is in the function: the map that is held must stay as it was
    parts("shared")


def test_no_place_where_a_step_would_overwrite_what_it_reads():
    b = Builder()
    x = b.add(Input(shape=(8, 4, 4), bits=32), name="input")
    x = b.add(Conv2d(out_channels=96, kernel_size=1), x, name="map")
    keep = b.add(Slice(start=0, end=32), x, name="keep")
    # as wide as the map that it reads, 32 channels further on
    b.add(Concat(), keep, b.add(BatchNorm(), x, name="norm"), name="joined")
    network = trained_like(Network(b.graph()))
    run_and_check(PackedNetwork(network), images(network, 1))


def test_a_correction_is_added_where_the_map_lies():
    nodes, _, placed = parts("plain")
    root = next(node.index for node in nodes if node.name == "corrected")
    ranges = {nodes[i].name: (place.start, place.end) for i, place in placed.items()}
    assert {place.root for place in placed.values()} == {root}
    assert ranges == {
        "map": (0, 64),
        "grown": (64, 128),
        "joined": (0, 128),
        "keep": (0, 64),
        "last": (64, 128),
        "added": (64, 128),
        "corrected": (0, 128),
    }


@pytest.mark.parametrize("order", ["read later", "slice later"])
def test_no_correction_in_place_where_the_uncorrected_map_is_read_later(order):
    nodes, _, placed = parts(order)
    root = {nodes[i].name: nodes[place.root].name for i, place in placed.items()}
    assert root["joined"] == root["grown"] == "joined"
    assert "corrected" not in root.values()
    assert "added" not in root


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"batch": 0}, ["batch", "0", "1 to 1024"]),
        ({"threads": 1.5}, ["threads", "1.5"]),
        ({"variant": "sse"}, ["variant", "sse", "portable"]),
    ],
)
def test_wrong_arguments(arguments, parts):
    with pytest.raises(InvalidValue) as error:
        PackedNetwork(one_block(), **arguments)
    for part in parts:
        assert part in str(error.value)


def test_wrong_networks_and_images():
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


def test_threads_of_torch_stay_as_they_are():
    packed = PackedNetwork(one_block(), threads=2)
    packed(torch.zeros(1, 3, 10, 12))
    assert torch.get_num_threads() == 1


def test_without_the_compiled_kernels_the_network_runs(monkeypatch):
    monkeypatch.setattr(packed_network, "load", lambda: None)
    network = one_block()
    with pytest.warns(RuntimeWarning, match="C compiler"):
        packed = PackedNetwork(network)
    x = images(network, 1)
    with torch.no_grad():
        assert torch.equal(packed(x), network(x))
    with pytest.raises(InvalidValue, match="compiled"):
        packed.profile(x)


def test_a_profile_has_every_step():
    network = one_block()
    packed = PackedNetwork(network)
    rows = packed.profile(images(network, 1), repeats=3)
    binary = [row.name for row in rows if row.kind == "binary"]
    nodes = network.graph.nodes
    assert binary == [node.name for node in nodes if node.type.domain is Domain.ACCUMULATOR]
    assert all(row.ms >= 0 for row in rows)
    with pytest.raises(InvalidValue, match="repeats"):
        packed.profile(images(network, 1), repeats=0)


def test_weights_are_packed_once():
    network = one_block()
    packed = PackedNetwork(network)
    x = images(network, 1)
    before = packed(x)
    for values in network.parameters():
        values.data.zero_()
    after = packed(x)
    assert torch.equal(before, after)
