import subprocess
import sys

import pytest
import torch

from bitfront.export import TrainedOn, exporters
from bitfront.export.pt2 import EXTRA, Pt2File
from bitfront.export.weights import load_network


@pytest.fixture
def one_bit(exported):
    return exported("pt2", "one-bit")


def changed(path, tmp_path, change):
    """A copy of a file whose weights ``change`` has been applied to."""
    extra = {EXTRA: ""}
    program = torch.export.load(path, extra_files=extra)
    with torch.no_grad():
        change(program.state_dict)
    copy = tmp_path / path.name
    torch.export.save(program, copy, extra_files=extra)
    return copy


def test_a_flipped_sign_fails(one_bit, data, tmp_path):
    winner, path = one_bit

    def flip(state):
        state["network.stages.0.blocks.1.conv.weight"][3, 5, 1, 1] *= -1

    result = exporters["pt2"].verify(winner, changed(path, tmp_path, flip), data)
    assert not result.passed
    assert result.inexact_layers == ("stages.0.blocks.1.conv",)


def test_an_unchanged_copy_passes(one_bit, data, tmp_path):
    winner, path = one_bit
    assert exporters["pt2"].verify(winner, changed(path, tmp_path, len), data).passed


def test_logits_are_equal_bit_for_bit_and_weights_are_applied(exported, data):
    for name in ("one-bit", "mixed-4"):
        winner, path = exported("pt2", name)
        result = exporters["pt2"].verify(winner, path, data)
        assert (result.max_difference, result.deviating) == (0.0, 0)
        state = torch.export.load(path).state_dict
        signs = state["network.stages.0.blocks.1.conv.weight"]
        assert set(signs.unique().tolist()) == {-1.0, 1.0}
        low = state["network.stages.1.blocks.0.conv.weight"].unique()
        assert len(low) <= (2 if name == "one-bit" else 4)


def test_the_trace_names_every_node_that_is_asked_for(one_bit, data):
    winner, path = one_bit
    graph = winner.architecture.lower()
    network = load_network(winner)
    images = data.test.images[:3]
    factor, offset = map(torch.from_numpy, TrainedOn.of(data).affine())
    with torch.inference_mode():
        mine = network.trace(torch.tensor(images) * factor + offset)
        traced = Pt2File(path, graph).trace(images)
    assert len(traced) > 20
    for index, value in traced.items():
        assert torch.equal(value, mine[index]), graph.nodes[index].name


@pytest.mark.slow
def test_it_runs_without_bitfront_in_any_batch(one_bit):
    _, path = one_bit
    code = (
        "import sys; sys.modules['bitfront'] = None; import torch;"
        f"run = torch.export.load({str(path)!r}).module();"
        "sizes = [tuple(run(torch.zeros(n, 1, 8, 8, dtype=torch.uint8)).shape) for n in (1, 5)];"
        "print(sizes)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[(1, 10), (5, 10)]"
