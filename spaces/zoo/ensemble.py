"""BENN: several binary networks that vote (Zhu et al. 2019, arXiv:1806.07550)."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from bitfront.spaces.architecture import Architecture
from bitfront.spaces.zoo.entry import Published, ZooEntry, enter
from bitfront.spaces.zoo.xnornet import RECIPE, xnornet

PAPER: Final = "Zhu et al. 2019, Binary Ensemble Neural Network (arXiv:1806.07550)"


def ensemble() -> Architecture:
    """Six XNOR-Nets of ResNet-18's layout; their logits are averaged."""
    return replace(xnornet(scaling="none"), members=6)


enter(
    ZooEntry(
        name="ensemble-resnet18",
        family="BENN",
        architecture=ensemble,
        recipe=RECIPE,
        published=Published(top1=61.0, source=PAPER),
        notes="The original trains the members one after the other, by bagging or boosting, and "
        "averages their softmax outputs; here they are trained together by the loss of the mean of "
        "their logits. Their factors per input pixel are left out, as in the released code. The "
        "recipe is that of xnornet-resnet18.",
    )
)
