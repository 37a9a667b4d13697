"""A damaged architecture document is refused with a sentence, or is an architecture like any other.

Documents of published networks and of every registered block are changed at random places: values
replaced, removed, doubled, exchanged; numbers nudged to the edges of what is legal.
"""

from __future__ import annotations

import copy
import json
from dataclasses import MISSING, fields, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitfront.evaluators.cost import CONVENTIONS, count, estimate_energy
from bitfront.evaluators.hardware.profile import load_profile
from bitfront.spaces import Architecture, InvalidValue, Quantizer, read_architecture
from bitfront.spaces.blocks import blocks
from bitfront.spaces.network import Network
from bitfront.spaces.plan import plan
from bitfront.spaces.quantizers import quantizers
from bitfront.spaces.value import encode
from bitfront.spaces.zoo import zoo

SIZES = st.sampled_from([1, 2, 3, 4, 8, 12, 16, 31, 32, 64])
NUMBERS = st.sampled_from(
    [0, 1, -1, 2, 3, 5, 7, 16, 17, 64, 1024, 1025, 4096, 4097, 16384, 16385, 2**31, 2**63, 10**18]
)
FLOATS = st.floats() | st.sampled_from([0.5, -0.0, 1e308, float("nan"), float("inf")])


def smallest(registry, number: int) -> list[Any]:
    """The JSON data of everything registered, with ``number`` where there is no default."""
    found = []
    for cls in registry.values():
        needed = [f.name for f in fields(cls) if f.init and f.default is MISSING]
        found.append(encode(cls(**dict.fromkeys(needed, number))))
    return found


BLOCKS = smallest(blocks, 16)
QUANTIZERS = smallest(quantizers, 4)
PARTS = BLOCKS + QUANTIZERS
LEAVES = st.none() | st.booleans() | NUMBERS | st.integers() | FLOATS | st.text(max_size=5)
VALUES = LEAVES | st.sampled_from(PARTS) | st.lists(LEAVES, max_size=3) | st.just({})


def short(architecture: Architecture) -> dict[str, Any]:
    """The document of a network with at most three blocks per stage."""
    stages = [replace(stage, blocks=stage.blocks[:3]) for stage in architecture.stages]
    return replace(architecture, stages=tuple(stages)).json()


DOCUMENTS = {json.dumps(short(entry.architecture())): name for name, entry in zoo.items()}


def at(place: str) -> st.SearchStrategy[Any]:
    """Blocks that may stand there."""
    return st.sampled_from([data for data in BLOCKS if blocks[data["kind"]].place == place])


def read_quantizer(data: Any) -> Quantizer:
    return Quantizer.from_json(data, "quantizer")


PRECISIONS = st.builds(
    lambda weight, given: {
        "weights": read_quantizer(weight).bits,
        "activations": read_quantizer(given).bits,
        "weight_quantizer": weight,
        "input_quantizer": given,
    },
    st.sampled_from(QUANTIZERS),
    st.sampled_from(QUANTIZERS),
)


def places(data: Any) -> list[tuple[Any, Any]]:
    """Every container of a document with every key or index that it has."""
    found = []
    keys = data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ()
    for key in keys:
        found.append((data, key))
        found += places(data[key])
    return found


def mutate(data: Any, draw) -> None:
    """Change a document at one place."""
    spots = places(data)
    if not spots:
        return
    container, key = spots[draw(st.integers(0, len(spots) - 1))]
    how = draw(st.sampled_from(["size", "replace", "nudge", "remove", "double", "exchange", "add"]))
    value = container[key]
    if how == "size" and isinstance(value, int):
        container[key] = draw(SIZES)
    elif key == "precision":
        container[key] = copy.deepcopy(draw(PRECISIONS))
    elif how == "nudge" and isinstance(value, int | float):
        container[key] = value + draw(st.sampled_from([-1, 1, 0.5, 63, -64]))
    elif how == "remove":
        del container[key]
    elif how == "double" and isinstance(container, list):
        container.insert(key, copy.deepcopy(value))
    elif how == "exchange":
        other, place = spots[draw(st.integers(0, len(spots) - 1))]
        container[key] = copy.deepcopy(other[place])
    elif how == "add" and isinstance(container, dict):
        name = draw(st.sampled_from(["kind", "groups", "members", "x"]))
        container[name] = copy.deepcopy(draw(VALUES))
    else:
        container[key] = copy.deepcopy(draw(VALUES))


def survives(document: Any) -> None:
    """Read, write, lower and cost a document: all of it works, or an InvalidValue says why."""
    try:
        architecture = Architecture.from_json(document)
    except InvalidValue as error:
        refusal = str(error)
    else:
        refusal = works(architecture)
    assert "\n" not in refusal
    assert len(refusal) < 6000


def works(architecture: Architecture) -> str:
    """Use an architecture; return why it cannot be lowered, "" if it can."""
    again = Architecture.from_json(json.loads(json.dumps(architecture.json())))
    assert again == architecture
    assert again.digest == architecture.digest
    try:
        graph = architecture.lower()
    except InvalidValue as error:
        return str(error)
    planned = plan(graph)
    for convention in CONVENTIONS:
        assert count(graph, convention).params >= 0
    assert estimate_energy(planned, load_profile("horowitz45")).total_mj > 0
    return ""


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_damaged_networks(data):
    document = json.loads(data.draw(st.sampled_from(sorted(DOCUMENTS)), label="network"))
    for _ in range(data.draw(st.integers(1, 4), label="mutations")):
        mutate(document, data.draw)
    survives(document)


@st.composite
def networks(draw):
    """Documents of small networks of any blocks, in any order."""
    stages = st.fixed_dictionaries(
        {
            "blocks": st.lists(at("body"), min_size=1, max_size=3),
            "transition": st.none() | at("transition"),
        }
    )
    document = {
        "input": draw(st.sampled_from([[3, 32, 32], [1, 8, 8], [16, 4, 4], [3, 64, 64]])),
        "stem": draw(at("stem")),
        "stages": draw(st.lists(stages, min_size=1, max_size=2)),
        "head": draw(at("head")),
    }
    return copy.deepcopy(document)


@settings(max_examples=40, deadline=None)
@given(networks(), st.data())
def test_damaged_blocks(document, data):
    for _ in range(data.draw(st.integers(0, 3), label="mutations")):
        mutate(document, data.draw)
    survives(document)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(networks(), st.data())
def test_what_lowers_runs(document, data):
    for _ in range(data.draw(st.integers(0, 3), label="mutations")):
        mutate(document, data.draw)
    try:
        graph = Architecture.from_json(document).lower()
        network = Network(graph)
    except InvalidValue:
        return
    if sum(node.facts.macs for node in graph.nodes) > 2e8:
        return
    with torch.inference_mode():
        values = network.eval().trace(torch.randn(2, *graph.input.shape))
    for node, value in zip(graph.nodes, values, strict=True):
        assert tuple(value.shape) == (2, *node.type.torch_shape), node.name
    assert values[-1].isfinite().all()


@given(st.text(max_size=60) | st.builds(json.dumps, VALUES) | st.binary().map(repr))
def test_any_text_is_refused_with_a_sentence(text):
    with pytest.raises(InvalidValue):
        read_architecture(text)
