"""Counts against the authors' own figures (BMXNet v2 logs, Larq and ReActNet notes)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bitfront.evaluators.cost import CONVENTIONS, count
from bitfront.spaces import InvalidValue, Precision, RandomChoose, Task, spaces, zoo
from bitfront.spaces.graph import Role
from bitfront.spaces.plan import plan

# name: parameters, binary parameters, FLOPs 1e6, BOPs 1e9, OPs 1e6, MiB
HPI = {
    "meliusnet22": (6_944_584, 6_119_424, 135.88, 4.62, 208.13, 3.88),
    "meliusnet29": (11_328_328, 10_321_920, 128.85, 5.47, 214.31, 5.07),
    "meliusnet-a": (9_238_984, 8_441_856, 86.73, 4.85, 162.54, 4.05),
    "meliusnet22-conv7x7": (6_948_392, 6_119_424, 185.25, 4.62, 257.50, 3.89),
    "binarydensenet28": (5_131_496, 4_202_496, 201.91, 3.59, 257.96, 4.04),
    "binarydensenet28-grouped": (5_127_688, 4_202_496, 152.54, 3.59, 208.59, 4.03),
    "resnet-e18": (11_689_646, 10_985_472, 137.28, 1.68, 163.47, 4.00),
    "resnet-e18-grouped": (11_685_838, 10_985_472, 87.91, 1.68, 114.10, 3.98),
}


@pytest.mark.parametrize("name", sorted(HPI))
def test_hpi_figures_of_the_authors_logs(name):
    params, params_binary, flops, bops, ops, size = HPI[name]
    counts = count(zoo.get(name).architecture().lower(), "hpi")
    assert counts.params == params
    assert counts.params_binary == params_binary
    assert round(counts.flops / 1e6, 2) == flops
    assert round(counts.bops / 1e9, 2) == bops
    assert counts.ops == pytest.approx(ops * 1e6, rel=1e-4)
    assert round(counts.size_mib, 2) == size
    assert not counts.extended


def test_reactnet_convention_adds_the_classifier():
    graph = zoo.get("birealnet18").architecture().lower()
    without, with_classifier = count(graph, "hpi"), count(graph, "reactnet")
    assert with_classifier.flops - without.flops == 512 * 1000
    # "1.6347 without the classifier, 1.640 with it"
    assert without.ops / 1e8 == pytest.approx(1.6347, abs=5e-5)
    assert with_classifier.ops / 1e8 == pytest.approx(1.640, abs=5e-4)


def test_larq_counts_macs_by_precision_and_has_no_sum():
    counts = count(zoo.get("quicknet").architecture().lower(), "larq")
    assert counts.ops is None
    blur = 9 * (64 * 28**2 + 128 * 14**2 + 256 * 7**2)
    hpi = count(zoo.get("quicknet").architecture().lower(), "hpi")
    assert counts.flops == hpi.flops + 512 * 1000 + blur


def test_full_weighs_bits():
    # two-bit weights and inputs: 1.3728e8 + 1.6763e9 * 4 / 64 = 2.42e8, and the classifier
    graph = _resnet_e18(2, 2).lower()
    assert count(graph, "full").ops == pytest.approx(2.4205e8 + 512_000, rel=1e-3)
    hpi = count(graph, "hpi")
    assert hpi.ops == pytest.approx(163.47e6, rel=1e-4)
    assert hpi.extended


def test_several_bases_of_one_latent_weight_are_stored_each():
    graph = zoo.get("abcnet-resnet18").architecture().lower()
    counts = count(graph, "hpi")
    assert counts.params_binary == 5 * (10_985_472 + 172_032)
    latent = [p for p in graph.parameters() if p.bases > 1]
    assert sum(_size(p.shape) for p in latent) == 10_985_472 + 172_032
    assert {p.bases for p in latent} == {5}


def _size(shape):
    total = 1
    for n in shape:
        total *= n
    return total


@pytest.mark.parametrize("seed", range(40))
def test_counting_equals_the_parameter_table(seed):
    """Two ways, one answer: the sum over nodes and the sum over the table of parameters."""
    task = Task(input=(3, 32, 32), classes=10)
    graph = spaces["melius"](RandomChoose(seed), task).architecture.lower()
    counts = count(graph)
    params = bits = 0
    for p in graph.parameters():
        if p.role is Role.STATISTIC or p.role not in (Role.NORM, Role.BUFFER):
            params += _size(p.shape)
            bits += _size(p.shape) * p.bits
    assert counts.params == params
    assert counts.size_mib == bits / 8 / 2**20
    assert counts.params_binary == sum(
        _size(p.shape) for p in graph.parameters() if p.role is Role.WEIGHT and p.bits < 16
    )


# Bi-Real Net 18, by hand: the stem, three 1x1 shortcuts, the classifier; then the values that pass
# a batch norm, at 112, 56, 28, 14 and 7 rows
BIREAL_FLOAT_MACS = 118_013_952 + 3 * 6_422_528 + 512_000
BIREAL_NORMED = 802_816 + 4 * (200_704 + 100_352 + 50_176 + 25_088) + 100_352 + 50_176 + 25_088


def test_fvbitcore_by_hand():
    """bitorch's counter: a 1-bit MAC is 1/32, a batch norm 2 per value, everything trained."""
    graph = zoo.get("birealnet18").architecture().lower()
    counts = count(graph, "fvbitcore")
    assert counts.params == 11_689_512  # as torchvision's ResNet-18
    assert counts.params_binary == 10_985_472
    assert counts.flops == BIREAL_FLOAT_MACS + 2 * BIREAL_NORMED
    assert counts.bops == count(graph, "hpi").bops
    assert counts.ops == counts.flops + counts.bops / 32
    assert counts.size_mib == ((11_689_512 - 10_985_472) * 32 + 10_985_472) / 8 / 2**20
    assert not counts.extended


@pytest.mark.parametrize(
    ("weights", "activations", "share"), [(1, 1, 1 / 32), (1, 2, 2 / 32), (2, 2, 2 / 32)]
)
def test_fvbitcore_takes_the_wider_operand(weights, activations, share):
    graph = _resnet_e18(weights, activations).lower()
    counts = count(graph, "fvbitcore")
    assert counts.ops - counts.flops == pytest.approx(counts.bops * share, rel=1e-12)
    # all parameters of a quantised layer have the wider one's bits
    quantised = 10_985_472
    assert counts.size_mib * 8 * 2**20 == (counts.params - quantised + quantised * share) * 32


def test_fvbitcore_counts_one_for_a_norm_without_scale():
    """ResNetE's input norm learns no scale: one operation per value instead of two."""
    graph = zoo.get("resnet-e18").architecture().lower()
    counts = count(graph, "fvbitcore")
    norms = [node for node in graph.nodes if node.op.kind == "batch_norm"]
    values = {node.name: sum(work.count for work in node.facts.work) for node in norms}
    assert not norms[0].op.scale
    assert values[norms[0].name] == 3 * 224 * 224
    expected = 2 * sum(values.values()) - 3 * 224 * 224
    assert counts.flops - count(graph, "full").flops == expected


@pytest.mark.parametrize("name", ["abcnet-resnet18", "meliusnet22", "quicknet", "resnet18-fp"])
def test_fvbitcore_counts_what_is_trained(name):
    """Several bases of one latent weight are one parameter here."""
    graph = zoo.get(name).architecture().lower()
    trained = [p for p in graph.parameters() if not p.is_buffer]
    assert count(graph, "fvbitcore").params == sum(_size(p.shape) for p in trained)


def _resnet_e18(weights, activations):
    architecture = zoo.get("resnet-e18").architecture()
    precision = Precision(weights=weights, activations=activations)
    stages = tuple(
        replace(stage, blocks=tuple(replace(b, precision=precision) for b in stage.blocks))
        for stage in architecture.stages
    )
    return replace(architecture, stages=stages)


def test_a_search_goes_by_the_rule_that_is_defined_for_every_width():
    """Beyond one bit hpi is marked extended and would price 2/2 as 1/1; the objective does not."""
    from bitfront.evaluators.objective import cost_measurements

    binary, two = _resnet_e18(1, 1), _resnet_e18(2, 2)
    assert count(two.lower(), "hpi").ops == count(binary.lower(), "hpi").ops
    assert count(two.lower(), "hpi").extended
    assert not count(two.lower(), "full").extended
    steered = cost_measurements(two, None)["ops"].value
    assert steered == count(two.lower(), "full").ops
    assert steered > cost_measurements(binary, None)["ops"].value


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_counting_by_plan_equals_counting_by_graph(convention):
    """Two ways, one answer."""
    graphs = [zoo.get(n).architecture().lower() for n in ("abcnet-resnet18", "boolnet-k4")]
    task = Task(input=(3, 32, 32), classes=10)
    graphs += [spaces["melius"](RandomChoose(s), task).architecture.lower() for s in range(20)]
    for graph in graphs:
        assert count(graph, convention, plan=plan(graph)) == count(graph, convention)


def test_unknown_convention_names_those_that_exist():
    with pytest.raises(InvalidValue, match=", ".join(CONVENTIONS)):
        count(zoo.get("quicknet").architecture().lower(), "mlperf")
