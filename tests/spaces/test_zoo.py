"""The zoo against published figures, counted by the rule of the authors' own script."""

from dataclasses import replace
from math import prod
from typing import NamedTuple

import pytest
import torch

from bitfront.spaces import Architecture, Graph, InvalidValue, Role, build
from bitfront.spaces.zoo import ZooEntry, get, zoo

MIB = 8 * 2**20

NAMES = [
    "abcnet-resnet18",
    "alexnet-fp",
    "alexnet-grouped-fp",
    "binarydensenet21-cifar10",
    "binarydensenet28",
    "binarydensenet28-grouped",
    "binarydensenet37",
    "binarydensenet37-dilated",
    "binarydensenet37-grouped",
    "binarydensenet45",
    "birealnet18",
    "birealnet34",
    "bnext-large",
    "bnext-middle",
    "bnext-small",
    "bnext-tiny",
    "bnn-resnet18",
    "boolnet-base-k1",
    "boolnet-base-k4",
    "boolnet-k4",
    "boolnet-star-k4",
    "bwn-resnet18",
    "circulant-resnet18",
    "dorefa-resnet18",
    "ensemble-resnet18",
    "googlenet-fp",
    "groupnet-resnet18",
    "groupnet-resnet34",
    "hwgq-resnet18",
    "hwgq-resnet34",
    "lqnet-resnet18",
    "lqnet-resnet34",
    "meliusnet-a",
    "meliusnet-b",
    "meliusnet-c",
    "meliusnet22",
    "meliusnet22-conv7x7",
    "meliusnet23",
    "meliusnet29",
    "meliusnet29-conv7x7",
    "meliusnet42",
    "meliusnet59",
    "mobilenet-v1-fp",
    "naivenet17",
    "quicknet",
    "quicknet-large",
    "quicknet-small",
    "reactnet-a",
    "reactnet-resnet18",
    "real-to-binary",
    "resnet-e18",
    "resnet-e18-cifar10",
    "resnet-e18-e1-cifar10",
    "resnet-e18-grouped",
    "resnet-e18-scaled-cifar10",
    "resnet-e34",
    "resnet-e34-cifar10",
    "resnet-e34-grouped",
    "resnet152-fp",
    "resnet18-fp",
    "resnet18-fp-cifar10",
    "resnet18-v1-cifar10",
    "resnet34-fp",
    "strong-baseline",
    "syq-resnet18",
    "tbn-resnet18",
    "tbn-resnet34",
    "ttq-resnet18",
    "vgg-small-fp-cifar10",
    "vgg-small-lsq2-cifar10",
    "vgg-small-lsq3-cifar10",
    "vgg-small-lsq4-cifar10",
    "vgg19-fp",
    "xnornet++-resnet18",
    "xnornet-alexnet",
    "xnornet-resnet18",
]
# found in code, with nothing published of them
UNPUBLISHED = ("meliusnet23", "naivenet17")


class Count(NamedTuple):
    params: int
    binary: int
    flops: int
    bops: int
    classifier: int
    size_bits: int

    @property
    def ops(self) -> float:
        return self.flops + self.bops / 64


def count(graph: Graph) -> Count:
    """HPI's rule: convolutions only, two values per channel of a batch norm."""
    params = binary = flops = bops = classifier = size_bits = 0
    for row in graph.parameters():
        if row.role in (Role.NORM, Role.STATISTIC, Role.BUFFER):
            continue
        values = prod(row.shape)
        params += values
        binary += values * (row.bits == 1)
        size_bits += values * row.bits * row.bases
    for node in graph.nodes:
        facts = node.facts
        if node.op.kind == "batch_norm":
            params += 2 * node.type.torch_shape[0]
            size_bits += 64 * node.type.torch_shape[0]
        elif node.op.kind == "linear":
            classifier += facts.macs
        elif facts.w_bits == facts.a_bits == 1:
            bops += facts.macs
        else:
            flops += facts.macs
    return Count(params, binary, flops, bops, classifier, size_bits)


def counted(name: str) -> Count:
    return count(get(name).architecture().lower())


# parameters, binary parameters, FLOPs without classifier in 1e6, BOPs in 1e9: the authors' logs
EXACT = [
    ("meliusnet22", 6_944_584, 6_119_424, 135.88, 4.62),
    ("meliusnet29", 11_328_328, 10_321_920, 128.85, 5.47),
    ("meliusnet-a", 9_238_984, 8_441_856, 86.73, 4.85),
    ("meliusnet22-conv7x7", 6_948_392, 6_119_424, 185.25, 4.62),
    ("binarydensenet28", 5_131_496, 4_202_496, 201.91, 3.59),
    ("binarydensenet28-grouped", 5_127_688, 4_202_496, 152.54, 3.59),
    ("resnet-e18", 11_689_646, 10_985_472, 137.28, 1.68),
    ("resnet-e18-grouped", 11_685_838, 10_985_472, 87.91, 1.68),
]


@pytest.mark.parametrize(("name", "params", "binary", "flops", "bops"), EXACT)
def test_counts_equal_the_authors_logs(name, params, binary, flops, bops):
    got = counted(name)
    assert (got.params, got.binary) == (params, binary)
    assert round(got.flops / 1e6, 2) == flops
    assert round(got.bops / 1e9, 2) == bops


@pytest.mark.parametrize("name", ["boolnet-base-k1", "boolnet-base-k4", "boolnet-k4"])
def test_boolnet_seems_to_count_classifier_and_norms(name):
    """Two operations per value of a batch norm, and the classifier, explain what is printed."""
    graph = get(name).architecture().lower()
    got = count(graph)
    norms = sum(2 * node.type.elements for node in graph.nodes if node.op.kind == "batch_norm")
    ops = got.ops + got.classifier + norms
    assert ops / 1e8 == pytest.approx(get(name).published["ops_1e8"], abs=0.0115)


def test_names_are_stable():
    assert sorted(zoo) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_entry_is_complete(name):
    entry = get(name)
    assert isinstance(entry, ZooEntry)
    assert entry.name == name
    assert entry.family
    assert entry.published["source"]
    if name in UNPUBLISHED:
        assert entry.published.keys() == {"source"}
    else:
        low, high = {"imagenet": (40, 81), "cifar10": (80, 96)}[entry.dataset]
        assert low < entry.published["top1"] < high
    assert ("size_mb" in entry.published) == ("size_unit" in entry.published)


@pytest.mark.parametrize("name", NAMES)
def test_architecture_round_trip(name):
    entry = get(name)
    architecture = entry.architecture()
    form = {"imagenet": ((3, 224, 224), 1000), "cifar10": ((3, 32, 32), 10)}[entry.dataset]
    assert (architecture.input, architecture.classes) == form
    again = Architecture.from_json(architecture.json())
    assert again == architecture
    assert again.digest == architecture.digest


def test_entries_have_distinct_architectures():
    digests = {get(name).architecture().digest for name in NAMES}
    assert len(digests) == len(NAMES)


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(InvalidValue, match=r"'melius22'.*Did you mean 'meliusnet22'"):
        get("melius22")


@pytest.mark.parametrize(
    "name",
    [
        "meliusnet-a",
        "binarydensenet28-grouped",
        "binarydensenet37-dilated",
        "resnet-e18",
        "birealnet18",
        "boolnet-base-k4",
        "boolnet-k4",
        "real-to-binary",
        "quicknet-small",
        "resnet18-fp",
        pytest.param("abcnet-resnet18", marks=pytest.mark.slow),
    ],
)
def test_one_of_each_family_runs(name):
    architecture = replace(get(name).architecture(), input=(3, 64, 64))
    network = build(architecture).eval()
    with torch.no_grad():
        values = network.trace(torch.randn(1, 3, 64, 64))
    for node, value in zip(network.graph.nodes, values, strict=True):
        assert tuple(value.shape[1:]) == node.type.torch_shape
    assert values[-1].isfinite().all()
