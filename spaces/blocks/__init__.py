"""All block kinds; importing this module fills the registry."""

from bitfront.spaces.blocks.basic import BinaryBasic
from bitfront.spaces.blocks.block import Block, blocks
from bitfront.spaces.blocks.bnext import BNext
from bitfront.spaces.blocks.boolnet import Boolean, StemBoolNet
from bitfront.spaces.blocks.bottleneck import Bottleneck
from bitfront.spaces.blocks.circulant import Circulant
from bitfront.spaces.blocks.classic import ConvLayer, Separable, StemConv
from bitfront.spaces.blocks.dense import Dense, Improvement, Transition
from bitfront.spaces.blocks.groupnet import GroupNet
from bitfront.spaces.blocks.heads import Classifier
from bitfront.spaces.blocks.inception import Inception
from bitfront.spaces.blocks.mlp import MlpClassifier
from bitfront.spaces.blocks.quicknet import QuickNet, QuickNetTransition, StemQuickNet
from bitfront.spaces.blocks.reactnet import ReactMobile, ReactResidual
from bitfront.spaces.blocks.residual import BiReal, Gated, MultiBase, ResNet
from bitfront.spaces.blocks.sliced import SlicedResidual
from bitfront.spaces.blocks.stems import StemConv3x3, StemConv7x7, StemGrouped, StemThumbnail
from bitfront.spaces.blocks.transitions import DenseTransition, PoolTransition
from bitfront.spaces.blocks.xnor import Xnor

__all__ = [
    "BNext",
    "BiReal",
    "BinaryBasic",
    "Block",
    "Boolean",
    "Bottleneck",
    "Circulant",
    "Classifier",
    "ConvLayer",
    "Dense",
    "DenseTransition",
    "Gated",
    "GroupNet",
    "Improvement",
    "Inception",
    "MlpClassifier",
    "MultiBase",
    "PoolTransition",
    "QuickNet",
    "QuickNetTransition",
    "ReactMobile",
    "ReactResidual",
    "ResNet",
    "Separable",
    "SlicedResidual",
    "StemBoolNet",
    "StemConv",
    "StemConv3x3",
    "StemConv7x7",
    "StemGrouped",
    "StemQuickNet",
    "StemThumbnail",
    "Transition",
    "Xnor",
    "blocks",
]
