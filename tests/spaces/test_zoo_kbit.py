"""ResNets of one or two bits per weight or input against their sources."""

import pytest

from bitfront.evaluators.cost import count
from bitfront.spaces.zoo import get

BINARY_18, BINARY_34 = 10_985_472, 21_086_208
# the stem 7x7, and a 1x1 where sizes change
FLOATS = 137_281_536
MACS_18, MACS_34 = 1_676_279_808, 3_525_967_872
LINEAR = 512 * 1000


# bits of weights and inputs, quantised weights, and the factors that are learned beside them
@pytest.mark.parametrize(
    ("name", "bits", "quantised", "factors"),
    [
        ("bwn-resnet18", (1, 32), BINARY_18, 0),
        ("ttq-resnet18", (2, 32), BINARY_18, 2 * 16),
        ("hwgq-resnet18", (1, 2), BINARY_18, 0),
        ("hwgq-resnet34", (1, 2), BINARY_34, 0),
        # a basis per filter, and two values per input
        ("lqnet-resnet18", (1, 2), BINARY_18, 4 * 960 + 2 * 16),
        ("lqnet-resnet34", (1, 2), BINARY_34, 7552 + 2 * 32),
        # a factor per position of the kernel
        ("syq-resnet18", (1, 2), BINARY_18, 9 * 16),
        ("dorefa-resnet18", (2, 2), BINARY_18, 0),
    ],
)
def test_the_3x3_convolutions_are_quantised(name, bits, quantised, factors):
    graph = get(name).architecture().lower()
    twin = count(get(name).architecture().twin().lower())
    counts = count(graph)
    assert counts.params_binary == quantised
    assert counts.params == twin.params + factors
    for node in graph.nodes:
        if node.op.kind == "conv2d":
            expected = bits if node.op.kernel_size == 3 else (32, 32)
            assert (node.facts.w_bits, node.facts.a_bits) == expected


# what the rules come to (printed: 18.1 for 32-bit inputs; about 2.4 for 1/2 and 2/2, 3.4 for 34
# layers): 32 bits on either side are floating-point, else bits multiply
@pytest.mark.parametrize(
    ("name", "convention", "ops", "ops_1e8"),
    [
        ("bwn-resnet18", "hpi", FLOATS + MACS_18, 18.14),
        ("ttq-resnet18", "hpi", FLOATS + MACS_18, 18.14),
        ("dorefa-resnet18", "full", FLOATS + LINEAR + 4 * MACS_18 / 64, 2.43),
        ("hwgq-resnet18", "full", FLOATS + LINEAR + 2 * MACS_18 / 64, 1.9),
        ("hwgq-resnet18", "hpi", FLOATS + MACS_18 / 64, 1.63),
        ("lqnet-resnet34", "full", FLOATS + LINEAR + 2 * MACS_34 / 64, 2.48),
    ],
)
def test_operations(name, convention, ops, ops_1e8):
    counts = count(get(name).architecture().lower(), convention)
    assert counts.ops == ops
    assert round(counts.ops / 1e8, 2) == ops_1e8


# 4 and 5.3 MB are printed, of 1024^2 bytes
@pytest.mark.parametrize(
    ("name", "size_mib"),
    [
        ("bwn-resnet18", 4.0),
        ("ttq-resnet18", 5.3),
        ("hwgq-resnet18", 4.0),
        ("lqnet-resnet18", 4.0),
        ("syq-resnet18", 4.0),
        ("dorefa-resnet18", 5.3),
        ("tbn-resnet18", 4.0),
        # printed 5.1
        ("hwgq-resnet34", 5.2),
        ("tbn-resnet34", 5.2),
    ],
)
def test_sizes(name, size_mib):
    assert round(count(get(name).architecture().lower()).size_mib, 1) == size_mib


@pytest.mark.parametrize("depth", [18, 34])
def test_the_twin_is_resnet(depth):
    twin = get(f"hwgq-resnet{depth}").architecture().twin()
    assert twin == get(f"resnet{depth}-fp").architecture()
    # what was stored before the block had a precision keeps its digest
    assert "precision" not in twin.json()["stages"][0]["blocks"][0]


@pytest.mark.parametrize(
    "name",
    [
        "hwgq-resnet18",
        *(
            pytest.param(f"{method}-resnet18", marks=pytest.mark.slow)
            for method in ("bwn", "ttq", "lqnet", "syq", "dorefa")
        ),
    ],
)
def test_it_trains_and_exports(name, small, family_works):
    entry = get(name)
    family_works(small(entry.architecture()), entry.recipe)
