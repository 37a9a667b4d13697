"""The plan: every node once, in order; views store nothing; live ranges by brute force."""

from __future__ import annotations

import pytest

from bitfront.spaces import RandomChoose, Task, spaces, zoo
from bitfront.spaces.architecture import Architecture, Stage
from bitfront.spaces.blocks import BiReal, Classifier, Dense, Improvement, StemThumbnail
from bitfront.spaces.plan import Plan, plan
from bitfront.spaces.precision import FULL

TASK = Task(input=(1, 8, 8), classes=10)


def small(*blocks) -> Architecture:
    return Architecture(
        input=(3, 8, 8),
        stem=StemThumbnail(channels=16),
        stages=(Stage(blocks=blocks),),
        head=Classifier(classes=10),
    )


def names(planned: Plan, step: int) -> list[str]:
    return [planned.graph.nodes[i].name for i in planned.groups[step].nodes]


def brute_force_live(planned: Plan) -> list[int]:
    """Live bits by asking of every stored tensor and step whether it is written and still read."""
    nodes = planned.graph.nodes
    written = {group.output: step for step, group in enumerate(planned.groups)}
    written[0] = 0
    read = dict(written)
    for step, group in enumerate(planned.groups):
        for i in group.nodes:
            for j in nodes[i].inputs:
                if i in group.nodes and j not in group.nodes:
                    for producer, _ in planned.parts[j]:
                        read[producer] = step
    read[planned.groups[-1].output] = len(planned.groups) - 1
    live = []
    for step, group in enumerate(planned.groups):
        total = sum(nodes[p].type.size_bits for p in written if written[p] <= step <= read[p])
        if group.replaces >= 0:
            # the operand and the result share their memory while the step runs
            total -= nodes[group.output].type.size_bits
        live.append(total)
    return live


@pytest.mark.parametrize("seed", range(60))
def test_every_computing_node_is_in_one_group_and_runs_after_what_it_reads(seed):
    planned = plan(spaces["melius"](RandomChoose(seed), TASK).architecture.lower())
    _check(planned)


@pytest.mark.parametrize("name", sorted(zoo.zoo))
def test_published_networks_plan(name):
    _check(plan(zoo.get(name).architecture().lower()))


def _check(planned: Plan) -> None:
    nodes = planned.graph.nodes
    placed = [i for group in planned.groups for i in group.nodes]
    assert sorted(placed) == [n.index for n in nodes if n.inputs and not n.op.view]
    done: set[int] = {0}
    for group in planned.groups:
        inside = set(group.nodes)
        assert list(group.nodes) == sorted(inside)
        # the result is the only value that anybody outside reads
        for i in group.nodes:
            readers = [n.index for n in nodes if i in n.inputs]
            if i != group.output:
                assert all(r in inside or nodes[r].op.transparent for r in readers)
        for j in group.reads:
            assert {producer for producer, _ in planned.parts[j]} <= done
        done.add(group.output)
        assert group.main == -1 or nodes[group.main].op.main
    assert list(planned.live_bits) == brute_force_live(planned)
    assert planned.peak_bits >= max(planned.live_bits)
    for node in nodes:
        if planned.parts[node.index]:
            assert sum(bits for _, bits in planned.parts[node.index]) == node.type.size_bits


def test_dense_block_is_one_step_and_its_concatenation_stores_nothing():
    planned = plan(small(Dense(growth=8)).lower())
    assert names(planned, 1) == [
        "stages.0.blocks.0.norm",
        "stages.0.blocks.0.quantize",
        "stages.0.blocks.0.conv",
    ]
    # the map, the new channels, and the packed copy that the convolution reads
    assert planned.live_bits[1] == (16 + 8) * 64 * 32
    assert planned.groups[1].scratch_bits == 16 * 64


def test_improvement_block_works_in_place_on_the_last_channels():
    planned = plan(small(Dense(growth=8), Improvement(growth=8)).lower())
    step = planned.groups[2]
    assert planned.graph.nodes[step.replaces].name == "stages.0.blocks.1.last"
    assert planned.live_bits[2] == (16 + 8) * 64 * 32


def test_a_window_that_reads_what_it_overwrites_needs_a_staged_result():
    block = Improvement(growth=8, precision=FULL)
    planned = plan(small(Dense(growth=8, precision=FULL), block).lower())
    assert planned.groups[2].replaces >= 0
    assert planned.groups[2].scratch_bits == 8 * 64 * 32


def test_residual_block_overwrites_its_shortcut():
    planned = plan(small(BiReal(channels=16), BiReal(channels=16)).lower())
    assert planned.groups[1].replaces >= 0
    assert planned.live_bits[1] == 16 * 64 * 32


def test_max_pool_belongs_to_the_group_of_its_convolution():
    planned = plan(zoo.get("resnet-e18").architecture().lower())
    stem = [planned.graph.nodes[i].op.kind for i in planned.groups[0].nodes]
    assert stem == ["batch_norm", "conv2d", "batch_norm", "relu", "max_pool", "batch_norm"]
