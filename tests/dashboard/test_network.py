"""Networks as the detail shows them."""

import pytest

from bitfront.dashboard.network import layer_costs, network_view
from bitfront.evaluators.cost import PJ_PER_MJ, count
from bitfront.evaluators.hardware.profile import load_profile, profile_names
from bitfront.spaces import InvalidValue, RandomChoose, Task, spaces
from bitfront.spaces.zoo import zoo


def sampled(seed):
    for attempt in range(100):
        try:
            return spaces["melius"](
                RandomChoose(f"{seed}/{attempt}"), Task(input=(1, 8, 8), classes=10)
            ).architecture
        except InvalidValue:
            continue
    raise AssertionError("no candidate")


@pytest.fixture(params=range(4))
def architecture(request):
    return sampled(request.param)


def test_a_row_per_stage_and_a_tile_per_block(architecture):
    rows = network_view(architecture).rows
    assert [r.title for r in rows] == [
        "Stem",
        *(f"Stage {s + 1}" for s in range(len(architecture.stages))),
        "Head",
    ]
    for row, stage in zip(rows[1:-1], architecture.stages, strict=True):
        blocks = [*stage.blocks, *([stage.transition] if stage.transition else [])]
        assert [t.kind for t in row.tiles] == [b.kind for b in blocks]
        assert [t.symbol for t in row.tiles] == [b.symbol for b in blocks]


def test_tiles_say_bits_and_sizes(architecture):
    view = network_view(architecture)
    block = architecture.stages[0].blocks[0]
    tile = view.rows[1].tiles[0]
    assert tile.bits == block.precision.label
    assert tile.kernel == f"{block.kernel_size}×{block.kernel_size}"
    assert tile.channels == f"+{block.growth}"
    assert tile.storage_bits == block.shortcut_bits
    assert tile.shape[0] == architecture.stem.channels + block.growth
    assert f"shortcut_bits {block.shortcut_bits}" in tile.details
    assert view.rows[-1].size == "10"


@pytest.mark.parametrize("name", list(zoo))
def test_every_published_network_can_be_drawn_and_costed(name):
    view = network_view(zoo[name].architecture())
    energy, layers = layer_costs(view, load_profile("boolnet65"))
    assert len(layers) == len(view.plan.groups)
    assert len({layer.label for layer in layers}) == len(layers)
    assert energy.total_mj > 0


@pytest.mark.parametrize("profile", profile_names())
def test_layers_add_up_to_the_network(architecture, profile):
    view = network_view(architecture)
    energy, layers = layer_costs(view, load_profile(profile))
    assert sum(p.compute_mj for p in layers) == pytest.approx(energy.compute_pj.value / PJ_PER_MJ)
    assert sum(p.sram_mj for p in layers) == pytest.approx(energy.sram_pj.value / PJ_PER_MJ)
    assert sum(p.dram_mj for p in layers) <= energy.dram_pj.value / PJ_PER_MJ
    total = count(view.graph, "full")
    assert sum(p.flops for p in layers) == total.flops
    assert sum(p.bops for p in layers) == total.bops
