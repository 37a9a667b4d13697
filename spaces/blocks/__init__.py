"""All block kinds; importing this module fills the registry."""

from bitfront.spaces.blocks.block import Block, blocks
from bitfront.spaces.blocks.boolnet import Boolean, StemBoolNet
from bitfront.spaces.blocks.dense import Dense, Improvement, Transition
from bitfront.spaces.blocks.heads import Classifier
from bitfront.spaces.blocks.quicknet import QuickNet, QuickNetTransition, StemQuickNet
from bitfront.spaces.blocks.residual import BiReal, Gated, MultiBase, ResNet
from bitfront.spaces.blocks.stems import StemConv7x7, StemGrouped, StemThumbnail

__all__ = [
    "BiReal",
    "Block",
    "Boolean",
    "Classifier",
    "Dense",
    "Gated",
    "Improvement",
    "MultiBase",
    "QuickNet",
    "QuickNetTransition",
    "ResNet",
    "StemBoolNet",
    "StemConv7x7",
    "StemGrouped",
    "StemQuickNet",
    "StemThumbnail",
    "Transition",
    "blocks",
]
