"""What of the registries is in the space ``field``, and what is not, with the reason."""

import pytest

from bitfront.spaces import Task, decisions_of, replay, spaces
from bitfront.spaces.bits import INPUTS, WEIGHTS
from bitfront.spaces.blocks import blocks
from bitfront.spaces.bodies import BODIES
from bitfront.spaces.quantizers import quantizers
from bitfront.spaces.surroundings import (
    BOOLEAN_STEMS,
    STEMS,
    THUMBNAIL_BOOLEAN_STEMS,
    THUMBNAIL_STEMS,
    TRANSITIONS,
)
from bitfront.spaces.zoo import get, zoo

PLAIN = "of a plain network (AlexNet, VGG, GoogLeNet), whose layers have no shortcut"
OTHER_BLOCKS = {
    "bottleneck": "of the 32-bit ResNet-152, a reference",
    "conv_layer": PLAIN,
    "inception": PLAIN,
    "mlp_classifier": PLAIN,
    "pool": PLAIN,
    "separable": "of the 32-bit MobileNet, a reference",
    "stem_conv": PLAIN,
}
HEADS = {"classifier"}

ESTIMATOR = "a matter of training: the network has plain signs"
OTHER_QUANTIZERS = {
    "approx_sign": ESTIMATOR,
    "half": "16 bits are no low-bit layer; a feature map is stored so",
    "multi_sign": "part of the boolean blocks",
    "progressive_sign": ESTIMATOR,
    "rotated_sign": "part of the circulant block",
    "shifted_sign": "part of the block of several bases",
    "swish_sign": ESTIMATOR,
    "symmetric": "stores feature maps (shortcut_bits)",
}

FAMILIES = {
    "BinaryDenseNet": "binary-densenet",
    "BoolNet": "boolnet",
    "MeliusNet": "melius",
    "ResNetE": "resnet-e",
}


def outside(name: str) -> str:
    """Why a published network is not in the space; "" if it has to be."""
    architecture = get(name).architecture()
    if architecture.members > 1:
        return "several networks in one"
    parts = [architecture.stem, architecture.head]
    for stage in architecture.stages:
        parts += [*stage.blocks, stage.transition]
    for part in parts:
        if part is not None and part.kind in OTHER_BLOCKS:
            return OTHER_BLOCKS[part.kind]
    nodes = architecture.lower().nodes
    return "" if any(n.op.main and n.facts.w_bits <= 8 for n in nodes) else "a 32-bit reference"


INSIDE = sorted(name for name in zoo if not outside(name))
OUTSIDE = sorted(set(zoo) - set(INSIDE))


def test_every_block_is_in_the_space_or_has_a_reason():
    stems = (STEMS, THUMBNAIL_STEMS, BOOLEAN_STEMS, THUMBNAIL_BOOLEAN_STEMS)
    inside = {kind.kind for body in BODIES.values() for kind in body.kinds}
    inside |= {stem.block.kind for known in stems for stem in known.values()}
    inside |= {transition.kind for transition in TRANSITIONS.values()}
    inside |= HEADS
    assert not inside & set(OTHER_BLOCKS)
    assert inside | set(OTHER_BLOCKS) == set(blocks)


def test_every_quantizer_is_in_the_space_or_has_a_reason():
    offered = [q for known in (WEIGHTS, INPUTS) for at in known.values() for q in at.values()]
    inside = {quantizer.kind for quantizer in offered}
    assert not inside & set(OTHER_QUANTIZERS)
    assert inside | set(OTHER_QUANTIZERS) == set(quantizers)


@pytest.mark.parametrize("side", [WEIGHTS, INPUTS], ids=["weights", "inputs"])
def test_quantizers_have_the_width_at_which_they_are_offered(side):
    for bits, known in side.items():
        assert len(set(known.values())) == len(known)
        for quantizer in known.values():
            assert quantizer.bits == bits
            assert quantizer.for_weights if side is WEIGHTS else quantizer.for_activations


def replayed(name: str, space: str) -> bool:
    entry = get(name)
    architecture = entry.architecture()
    decisions = decisions_of(architecture, space, entry.recipe)
    task = Task(input=architecture.input, classes=architecture.classes, epochs=entry.recipe.epochs)
    candidate = spaces[space](replay(decisions), task)
    assert candidate.recipe.epochs == entry.recipe.epochs
    return candidate.architecture.digest == architecture.digest


@pytest.mark.parametrize("name", INSIDE)
def test_a_published_network_is_a_point_of_the_space(name):
    assert replayed(name, "field")


@pytest.mark.parametrize("name", sorted(n for n, e in zoo.items() if e.family in FAMILIES))
def test_a_published_network_is_a_point_of_its_familys_space(name):
    assert replayed(name, FAMILIES[get(name).family])


def test_most_published_networks_are_points_of_the_space():
    assert len(INSIDE) >= 60
    assert {get(name).family for name in INSIDE} >= {
        "ABC-Net",
        "BNN",
        "BNext",
        "Bi-Real Net",
        "BinaryDenseNet",
        "BoolNet",
        "CBCN",
        "Group-Net",
        "MeliusNet",
        "QuickNet",
        "ReActNet",
        "Real-to-Binary",
        "ResNetE",
        "TBN",
        "XNOR-Net",
        "k-bit ResNet",
    }


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_has_a_reason_is_not_a_point_of_the_space(name):
    with pytest.raises(ValueError, match="The space 'field' has no such network"):
        replayed(name, "field")
