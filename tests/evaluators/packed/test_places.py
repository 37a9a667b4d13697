"""Maps that lie in others, and when they may not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from bitfront.evaluators.packed.grouping import Group, grouped, kept_as_bits, readers_of
from bitfront.evaluators.packed.places import Place, places
from bitfront.spaces.graph import Builder, Graph, Node
from bitfront.spaces.network import Network
from bitfront.spaces.ops import (
    Add,
    BatchNorm,
    Concat,
    Conv2d,
    Dropout,
    Input,
    Slice,
)

Parts = tuple[Sequence[Node], list[Group], dict[int, Place]]


def corrected(order: str) -> Graph:
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
    return b.graph()


@pytest.fixture
def parts(trained_like, images, pack, run_and_check) -> Callable[[str], Parts]:
    """A function that checks a network with such a correction, and finds its places."""

    def build(order: str) -> Parts:
        graph = corrected(order)
        bits = kept_as_bits(graph.nodes, readers_of(graph.nodes))
        groups = grouped(graph.nodes, bits)
        network = trained_like(Network(graph))
        run_and_check(pack(network), images(network, 1))
        return graph.nodes, groups, places(graph.nodes, groups, bits)

    return build


def test_what_shares_memory_with_a_place_is_copied(parts):
    # the check is in the function: the map that is held must stay as it was
    parts("shared")


def test_no_place_where_a_step_would_overwrite_what_it_reads(
    images, pack, run_and_check, trained_like
):
    b = Builder()
    x = b.add(Input(shape=(8, 4, 4), bits=32), name="input")
    x = b.add(Conv2d(out_channels=96, kernel_size=1), x, name="map")
    keep = b.add(Slice(start=0, end=32), x, name="keep")
    # as wide as the map that it reads, 32 channels further on
    b.add(Concat(), keep, b.add(BatchNorm(), x, name="norm"), name="joined")
    network = trained_like(Network(b.graph()))
    run_and_check(pack(network), images(network, 1))


def test_a_correction_is_added_where_the_map_lies(parts):
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
def test_no_correction_in_place_where_the_uncorrected_map_is_read_later(order, parts):
    nodes, _, placed = parts(order)
    root = {nodes[i].name: nodes[place.root].name for i, place in placed.items()}
    assert root["joined"] == root["grown"] == "joined"
    assert "corrected" not in root.values()
    assert "added" not in root
