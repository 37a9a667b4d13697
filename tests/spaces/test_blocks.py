from math import prod
from typing import NamedTuple

import pytest
import torch

from bitfront.spaces import (
    BINARY,
    FULL,
    Block,
    Builder,
    Domain,
    Graph,
    InfeasibleArchitecture,
    InvalidValue,
    Network,
    Precision,
)
from bitfront.spaces.blocks import (
    BinaryBasic,
    BiReal,
    BNext,
    Boolean,
    Bottleneck,
    Circulant,
    Classifier,
    ConvLayer,
    Dense,
    DenseTransition,
    Gated,
    GroupNet,
    Improvement,
    Inception,
    MlpClassifier,
    MultiBase,
    PoolTransition,
    QuickNet,
    QuickNetTransition,
    ReactMobile,
    ReactResidual,
    ResNet,
    Separable,
    SlicedResidual,
    StemBoolNet,
    StemConv,
    StemConv3x3,
    StemConv7x7,
    StemGrouped,
    StemQuickNet,
    StemThumbnail,
    Transition,
    Xnor,
    blocks,
)
from bitfront.spaces.ops import Input, Quantize
from bitfront.spaces.quantizers import MagnitudeSign, MultiSign
from bitfront.spaces.value import canonical, encode

TWO_BITS = Precision(weights=2, activations=2)
SCALED = Precision(weights=1, activations=1, weight_quantizer=MagnitudeSign())


class Golden(NamedTuple):
    """``params`` are the learned ones: a batch norm has two per channel."""

    block: Block
    input: tuple[int, int, int]
    output: tuple[int, ...]
    params: int
    macs: int
    slices: int = 1


GOLDEN = [
    Golden(StemThumbnail(channels=16), (3, 8, 8), (16, 8, 8), 16 * 27, 64 * 16 * 27),
    Golden(
        StemThumbnail(channels=16, out_bits=8), (3, 8, 8), (16, 8, 8), 16 * 27 + 32, 64 * 16 * 27
    ),
    Golden(StemConv7x7(channels=8), (3, 32, 32), (8, 8, 8), 8 * 147 + 16, 256 * 8 * 147),
    Golden(
        StemConv7x7(channels=8, activation="prelu", input_norm=True, final_norm=True),
        (3, 32, 32),
        (8, 8, 8),
        # the norm of the image has no scale
        3 + 8 * 147 + 16 + 8 + 16,
        256 * 8 * 147,
    ),
    Golden(
        StemGrouped(channels=16),
        (3, 32, 32),
        (16, 8, 8),
        (8 * 27 + 16) + (8 * 18 + 16) + (16 * 9 + 32),
        256 * (8 * 27 + 8 * 18 + 16 * 9),
    ),
    Golden(
        StemGrouped(channels=16, input_norm=True, final_norm=True),
        (3, 32, 32),
        (16, 8, 8),
        3 + (8 * 27 + 16) + (8 * 18 + 16) + (16 * 9 + 32) + 32,
        256 * (8 * 27 + 8 * 18 + 16 * 9),
    ),
    Golden(
        StemQuickNet(channels=16),
        (3, 32, 32),
        (16, 8, 8),
        (4 * 27 + 8) + 4 * 9 + (16 * 4 + 32),
        256 * 4 * 27 + 64 * (4 * 9 + 16 * 4),
    ),
    Golden(
        StemBoolNet(channels=8, slices=4),
        (3, 32, 32),
        (32, 8, 8),
        (8 * 147 + 16) + 16 + (16 + 8 * 9 + 16),
        256 * 8 * 147 + 64 * 8 * 9,
    ),
    Golden(
        StemBoolNet(channels=8, slices=1, local_shift=False),
        (3, 32, 32),
        (8, 8, 8),
        (8 * 147 + 16) + 16,
        256 * 8 * 147,
    ),
    Golden(
        StemBoolNet(channels=8, slices=2, thumbnail=True),
        (3, 8, 8),
        (16, 8, 8),
        8 * 27 + 16 + (16 + 8 * 9 + 16),
        64 * (8 * 27 + 8 * 9),
    ),
    Golden(Dense(growth=8), (16, 8, 8), (24, 8, 8), 32 + 8 * 16 * 9, 64 * 8 * 16 * 9),
    Golden(
        Dense(growth=8, kernel_size=5, dilation=2, precision=TWO_BITS, shortcut_bits=4),
        (16, 8, 8),
        (24, 8, 8),
        32 + 8 * 16 * 25 + 16,
        64 * 8 * 16 * 25,
    ),
    Golden(Improvement(growth=8), (16, 8, 8), (16, 8, 8), 32 + 8 * 16 * 9, 64 * 8 * 16 * 9),
    Golden(Improvement(growth=16), (16, 8, 8), (16, 8, 8), 32 + 16 * 16 * 9, 64 * 16 * 16 * 9),
    Golden(
        Improvement(growth=8, kernel_size=1, shortcut_bits=8),
        (16, 8, 8),
        (16, 8, 8),
        32 + 8 * 16 + 16,
        64 * 8 * 16,
    ),
    Golden(Transition(channels=8), (16, 8, 8), (8, 4, 4), 32 + 8 * 16, 16 * 8 * 16),
    Golden(
        Transition(channels=8, groups=4, shuffle=8, pool=False, out_bits=4),
        (16, 8, 8),
        (8, 8, 8),
        32 + 8 * 4 + 16,
        64 * 8 * 4,
    ),
    Golden(BiReal(channels=16), (16, 8, 8), (16, 8, 8), 16 * 16 * 9 + 32, 64 * 16 * 16 * 9),
    Golden(
        BiReal(channels=16, stride=2, shortcut_bits=4, padding_value=-1.0),
        (8, 8, 8),
        (16, 4, 4),
        (16 * 8 * 9 + 32) + (16 * 8 + 32),
        16 * (16 * 8 * 9 + 16 * 8),
    ),
    Golden(
        Gated(channels=16, reduction=4),
        (16, 8, 8),
        (16, 8, 8),
        32 + 2 * 16 * 4 + 16 * 16 * 9 + 16,
        2 * 16 * 4 + 64 * 16 * 16 * 9,
    ),
    Golden(
        Gated(channels=16, stride=2),
        (8, 8, 8),
        (16, 4, 4),
        16 + (8 + 16) + 16 * 8 * 9 + 16 + (16 * 8 + 32),
        (8 + 16) + 16 * (16 * 8 * 9 + 16 * 8),
    ),
    # 2 weight bases share one latent weight; 3 activation bases have a shift per channel
    Golden(
        MultiBase(channels=8, weight_bases=2, activation_bases=3),
        (8, 8, 8),
        (8, 8, 8),
        8 * 8 * 9 + 3 * 8 + 6 + 16,
        6 * 64 * 8 * 8 * 9,
    ),
    Golden(
        MultiBase(channels=16, stride=2, weight_bases=1, activation_bases=2),
        (8, 8, 8),
        (16, 4, 4),
        (16 * 8 * 9 + 2 * 8 + 2 + 32) + (16 * 8 + 2 * 8 + 2 + 32),
        2 * 16 * (16 * 8 * 9 + 16 * 8),
    ),
    Golden(ResNet(channels=8), (8, 8, 8), (8, 8, 8), 2 * (8 * 8 * 9 + 16), 2 * 64 * 8 * 8 * 9),
    Golden(
        ResNet(channels=16, stride=2),
        (8, 8, 8),
        (16, 4, 4),
        (16 * 8 * 9 + 32) + (16 * 16 * 9 + 32) + (16 * 8 + 32),
        16 * (16 * 8 * 9 + 16 * 16 * 9 + 16 * 8),
    ),
    Golden(QuickNet(channels=8), (8, 8, 8), (8, 8, 8), 8 * 8 * 9 + 16, 64 * 8 * 8 * 9),
    # the blur's kernel is fixed, so it is not learned, but it multiplies
    Golden(
        QuickNetTransition(channels=16),
        (8, 8, 8),
        (16, 4, 4),
        16 * 8 + 32,
        16 * (8 * 9 + 16 * 8),
    ),
    Golden(
        Boolean(channels=8, slices=2, concat=False),
        (8, 4, 4),
        (16, 4, 4),
        2 * (8 * 8 * 9 + 16),
        2 * 16 * 8 * 8 * 9,
        slices=2,
    ),
    Golden(
        Boolean(channels=8, slices=2),
        (8, 4, 4),
        (32, 4, 4),
        2 * (8 * 8 * 9 + 16),
        2 * 16 * 8 * 8 * 9,
        slices=2,
    ),
    # the half that is not convolved is handed on
    Golden(
        Boolean(channels=8, slices=2),
        (16, 4, 4),
        (32, 4, 4),
        2 * (8 * 8 * 9 + 16),
        2 * 16 * 8 * 8 * 9,
        slices=2,
    ),
    # the shortcut's 1x1 convolution sees both slices at full size
    Golden(
        Boolean(channels=16, stride=2, slices=2),
        (16, 4, 4),
        (64, 2, 2),
        2 * (16 * 16 * 9 + 32) + (16 * 32 + 32),
        2 * 4 * 16 * 16 * 9 + 16 * 16 * 32,
        slices=2,
    ),
    Golden(
        Boolean(channels=8, slices=2, last=True),
        (16, 4, 4),
        (8, 4, 4),
        2 * (8 * 8 * 9 + 16) + 16 + 8,
        2 * 16 * 8 * 8 * 9,
        slices=2,
    ),
    Golden(Classifier(classes=10), (16, 4, 4), (10,), 32 + 160 + 10, 160),
    Golden(Classifier(classes=10, norm=False, relu=False), (16, 4, 4), (10,), 160 + 10, 160),
    Golden(
        Classifier(classes=10, precision=Precision(weights=8, activations=8)),
        (16, 4, 4),
        (10,),
        32 + 160 + 10,
        160,
    ),
    # a stage that keeps its size: its first block, whose input has the channels of its output, and
    # a dilated one
    Golden(
        Boolean(channels=16, slices=2, projected=True),
        (16, 4, 4),
        (64, 4, 4),
        2 * (16 * 16 * 9 + 32) + (16 * 32 + 32),
        2 * 16 * 16 * 16 * 9 + 16 * 16 * 32,
        slices=2,
    ),
    Golden(
        Boolean(channels=8, slices=2, dilation=2),
        (16, 4, 4),
        (32, 4, 4),
        2 * (8 * 8 * 9 + 16),
        2 * 16 * 8 * 8 * 9,
        slices=2,
    ),
    # factors per channel, row and column in place of the gate
    Golden(
        Gated(channels=16, stride=2, scaling="outer"),
        (8, 8, 6),
        (16, 4, 3),
        16 + 16 * 8 * 9 + (16 + 4 + 3) + 16 + (16 * 8 + 32),
        12 * (16 * 8 * 9 + 16 * 8),
    ),
    Golden(StemConv3x3(channels=8), (3, 32, 32), (8, 16, 16), 8 * 27 + 16, 256 * 8 * 27),
    Golden(
        Classifier(classes=10, norm=False, relu=False, prelu=True),
        (16, 4, 4),
        (10,),
        16 + 160 + 10,
        160,
    ),
    Golden(
        Improvement(growth=8, whole=True),
        (16, 8, 8),
        (16, 8, 8),
        32 + 16 * 16 * 9,
        64 * 16 * 16 * 9,
    ),
    # a threshold per input channel, two shifts and a slope per output channel
    Golden(
        ReactResidual(channels=16),
        (16, 8, 8),
        (16, 8, 8),
        16 + 16 * 16 * 9 + 32 + 48,
        64 * 16 * 16 * 9,
    ),
    Golden(
        ReactResidual(channels=16, stride=2),
        (8, 8, 8),
        (16, 4, 4),
        8 + 16 * 8 * 9 + 32 + (16 * 8 + 32) + 48,
        16 * (16 * 8 * 9 + 16 * 8),
    ),
    Golden(
        ReactMobile(channels=16),
        (16, 8, 8),
        (16, 8, 8),
        (16 + 16 * 16 * 9 + 32 + 48) + (16 + 16 * 16 + 32 + 48),
        64 * (16 * 16 * 9 + 16 * 16),
    ),
    # both 1x1 convolutions read the same signs
    Golden(
        ReactMobile(channels=16, stride=2),
        (8, 8, 8),
        (16, 4, 4),
        (8 + 8 * 8 * 9 + 16 + 24) + (8 + 2 * (8 * 8 + 16) + 48),
        16 * (8 * 8 * 9 + 2 * 8 * 8),
    ),
    # per layer: thresholds, weights, norm, slopes, shares, gate with biases, norm
    Golden(
        BNext(channels=16, multiply=True),
        (16, 8, 8),
        (16, 8, 8),
        (16 + 16 * 16 * 9 + 32 + 16 + 16 + (2 * 17 + 16 * 3) + 32)
        + 16
        + (16 + 16 * 16 + 32 + 16 + 16 + (2 * 17 + 16 * 3) + 32),
        64 * (16 * 16 * 9 + 16 * 16) + 4 * 2 * 16,
    ),
    # both 1x1 layers have thresholds of their own
    Golden(
        BNext(channels=16, stride=2, reduction=4),
        (8, 8, 8),
        (16, 4, 4),
        (8 + 8 * 8 * 9 + 16 + 8 + 8 + (2 * 9 + 8 * 3) + 16)
        + 2 * (8 + 8 * 8 + 16 + 8 + 8 + (2 * 9 + 8 * 3) + 16),
        16 * (8 * 8 * 9 + 2 * 8 * 8) + 6 * 2 * 8,
    ),
    # two bases of their own: two convolutions and norms each, one gate each; the shortcut once
    Golden(
        GroupNet(channels=8, bases=2, split=True, merge=False),
        (16, 8, 8),
        (16, 8, 8),
        2 * (2 * (8 * 8 * 9 + 16) + 1),
        2 * 2 * 64 * 8 * 8 * 9,
    ),
    Golden(
        GroupNet(channels=16, stride=2, bases=3),
        (8, 8, 8),
        (16, 4, 4),
        3 * (16 * 8 * 9 + 16 * 16 * 9 + 64) + (16 * 8 + 32),
        16 * (3 * (16 * 8 * 9 + 16 * 16 * 9) + 16 * 8),
    ),
    # four turns of one tensor, each with a factor per filter
    Golden(
        Circulant(channels=8),
        (8, 8, 8),
        (8, 8, 8),
        8 * 8 * 9 + 4 * 8 + 16,
        4 * 64 * 8 * 8 * 9,
    ),
    Golden(
        Circulant(channels=16, stride=2, rotations=2),
        (8, 8, 8),
        (16, 4, 4),
        16 * 8 * 9 + 2 * 16 + 32 + (16 * 8 + 32),
        16 * (2 * 16 * 8 * 9 + 16 * 8),
    ),
    # the norms are of the inputs
    Golden(
        Xnor(channels=16, stride=2),
        (8, 8, 8),
        (16, 4, 4),
        (16 + 16 * 8 * 9) + (32 + 16 * 16 * 9) + (16 * 8 + 32),
        16 * (16 * 8 * 9 + 16 * 16 * 9 + 16 * 8),
    ),
    Golden(
        Xnor(channels=8, scaling="outer", relu=False),
        (8, 8, 6),
        (8, 8, 6),
        2 * (16 + 8 * 8 * 9 + 8 + 8 + 6),
        2 * 48 * 8 * 8 * 9,
    ),
    Golden(
        ResNet(channels=8, precision=TWO_BITS),
        (8, 8, 8),
        (8, 8, 8),
        2 * (8 * 8 * 9 + 16),
        2 * 64 * 8 * 8 * 9,
    ),
    Golden(Classifier(classes=10, bias=False), (16, 4, 4), (10,), 32 + 160, 160),
    Golden(
        StemThumbnail(channels=16, input_norm=True),
        (3, 8, 8),
        (16, 8, 8),
        3 + 16 * 27,
        64 * 16 * 27,
    ),
    Golden(StemConv(channels=8), (3, 8, 8), (8, 8, 8), 8 * 27 + 16, 64 * 8 * 27),
    # without a norm there is a bias: 64 + 2 * 2 - 11 = 57 pixels in steps of 4 give 15, pooled to 7
    Golden(
        StemConv(channels=8, kernel_size=11, stride=4, padding=2, norm="none", pool=3),
        (3, 64, 64),
        (8, 7, 7),
        8 * 363 + 8,
        15 * 15 * 8 * 363,
    ),
    Golden(
        StemConv(channels=8, kernel_size=7, stride=2, norm="before", pool=3, pool_padding=1),
        (3, 32, 32),
        (8, 8, 8),
        6 + 8 * 147,
        256 * 8 * 147,
    ),
    Golden(
        ConvLayer(channels=16, groups=2, norm="none"),
        (8, 8, 8),
        (16, 8, 8),
        16 * 4 * 9 + 16,
        64 * 16 * 4 * 9,
    ),
    Golden(
        ConvLayer(channels=16, kernel_size=5, stride=2, precision=TWO_BITS),
        (8, 8, 8),
        (16, 4, 4),
        16 * 8 * 25 + 32,
        16 * 16 * 8 * 25,
    ),
    # the norm before has the channels of the input, the slopes behind have those of the output
    Golden(
        ConvLayer(
            channels=16, norm="before", activation="prelu", padding_value=-1.0, precision=BINARY
        ),
        (8, 8, 8),
        (16, 8, 8),
        16 + 16 * 8 * 9 + 16,
        64 * 16 * 8 * 9,
    ),
    # the bias of a quantised layer is a node of its own behind the factors
    Golden(
        ConvLayer(channels=16, padding=0, norm="none", activation="none", precision=SCALED),
        (8, 8, 8),
        (16, 6, 6),
        16 * 8 * 9 + 16,
        36 * 16 * 8 * 9,
    ),
    Golden(
        Separable(channels=16, stride=2, precision=TWO_BITS),
        (8, 8, 8),
        (16, 4, 4),
        (8 * 9 + 16) + (16 * 8 + 32),
        16 * (8 * 9 + 16 * 8),
    ),
    Golden(PoolTransition(), (8, 8, 8), (8, 4, 4), 0, 0),
    Golden(
        PoolTransition(method="avg", kernel_size=3, stride=1, padding=1), (8, 8, 6), (8, 8, 6), 0, 0
    ),
    # the pool comes first, so the convolution works on a quarter of the pixels
    Golden(DenseTransition(channels=8), (16, 8, 8), (8, 4, 4), 32 + 8 * 16, 16 * 8 * 16),
    Golden(
        Inception(one=2, three_reduce=3, three=4, five_reduce=5, five=6, pool=7),
        (8, 8, 8),
        (2 + 4 + 6 + 7, 8, 8),
        (8 * (2 + 3 + 5 + 7) + 3 * 4 * 9 + 5 * 6 * 25) + (2 + 3 + 4 + 5 + 6 + 7),
        64 * (8 * (2 + 3 + 5 + 7) + 3 * 4 * 9 + 5 * 6 * 25),
    ),
    Golden(
        Inception(
            one=2,
            three_reduce=3,
            three=4,
            five_reduce=5,
            five=6,
            pool=7,
            norm="after",
            precision=TWO_BITS,
        ),
        (8, 8, 8),
        (2 + 4 + 6 + 7, 8, 8),
        (8 * (2 + 3 + 5 + 7) + 3 * 4 * 9 + 5 * 6 * 25) + 2 * (2 + 3 + 4 + 5 + 6 + 7),
        64 * (8 * (2 + 3 + 5 + 7) + 3 * 4 * 9 + 5 * 6 * 25),
    ),
    Golden(
        Bottleneck(channels=16, precision=TWO_BITS),
        (16, 8, 8),
        (16, 8, 8),
        (4 * 16 + 8) + (4 * 4 * 9 + 8) + (16 * 4 + 32),
        64 * (4 * 16 + 4 * 4 * 9 + 16 * 4),
    ),
    Golden(
        Bottleneck(channels=16, stride=2),
        (8, 8, 8),
        (16, 4, 4),
        (4 * 8 + 8) + (4 * 4 * 9 + 8) + (16 * 4 + 32) + (16 * 8 + 32),
        16 * (4 * 8 + 4 * 4 * 9 + 16 * 4 + 16 * 8),
    ),
    # the stride of the 3x3 convolution leaves the first one at full size
    Golden(
        Bottleneck(channels=16, stride=2, expansion=2, late_stride=True),
        (8, 8, 8),
        (16, 4, 4),
        (8 * 8 + 16) + (8 * 8 * 9 + 16) + (16 * 8 + 32) + (16 * 8 + 32),
        64 * 8 * 8 + 16 * (8 * 8 * 9 + 16 * 8 + 16 * 8),
    ),
    Golden(
        MlpClassifier(classes=10, hidden=(8, 6)),
        (4, 3, 3),
        (10,),
        (36 * 8 + 8) + (8 * 6 + 6) + (6 * 10 + 10),
        36 * 8 + 8 * 6 + 6 * 10,
    ),
    Golden(
        MlpClassifier(classes=10, hidden=(), dropout=0.4, pool=True),
        (16, 4, 4),
        (10,),
        160 + 10,
        160,
    ),
    Golden(
        MlpClassifier(classes=10, hidden=(8,), norm="before", precision=BINARY),
        (4, 3, 3),
        (10,),
        72 + 36 * 8 + (8 * 10 + 10),
        36 * 8 + 8 * 10,
    ),
    Golden(
        MlpClassifier(classes=10, hidden=(8,), dropout=0.0, precision=SCALED),
        (4, 3, 3),
        (10,),
        (36 * 8 + 8) + (8 * 10 + 10),
        36 * 8 + 8 * 10,
    ),
    Golden(
        MlpClassifier(classes=10, hidden=(8,), norm="after", precision=TWO_BITS),
        (4, 3, 3),
        (10,),
        (36 * 8 + 16) + (8 * 10 + 10),
        36 * 8 + 8 * 10,
    ),
    # a quarter of the filters
    Golden(
        SlicedResidual(channels=16, slices=4, write_on=1),
        (16, 8, 8),
        (16, 8, 8),
        32 + 4 * 16 * 9,
        64 * 4 * 16 * 9,
    ),
    # before the convolution one norm serves the shortcut too
    Golden(
        SlicedResidual(channels=16, stride=2, input_scale=True, precision=SCALED),
        (8, 8, 8),
        (16, 4, 4),
        16 + 16 * 8 * 9 + 16 * 8,
        16 * (16 * 8 * 9 + 16 * 8),
    ),
    # behind it, only what is written is normalised
    Golden(
        SlicedResidual(channels=16, slices=2, norm="after"),
        (16, 8, 8),
        (16, 8, 8),
        8 * 16 * 9 + 16,
        64 * 8 * 16 * 9,
    ),
    Golden(
        SlicedResidual(channels=16, stride=2, norm="after"),
        (8, 8, 8),
        (16, 4, 4),
        (16 * 8 * 9 + 32) + (16 * 8 + 32),
        16 * (16 * 8 * 9 + 16 * 8),
    ),
    Golden(
        BinaryBasic(channels=16),
        (16, 8, 8),
        (16, 8, 8),
        2 * (16 * 16 * 9 + 32),
        2 * 64 * 16 * 16 * 9,
    ),
    Golden(
        BinaryBasic(channels=16, stride=2, precision=TWO_BITS),
        (8, 8, 8),
        (16, 4, 4),
        (16 * 8 * 9 + 32) + (16 * 16 * 9 + 32) + (16 * 8 + 32),
        16 * (16 * 8 * 9 + 16 * 16 * 9 + 16 * 8),
    ),
]
ids = [canonical(encode(row.block)) for row in GOLDEN]


def lowered(block: Block, shape: tuple[int, int, int], slices: int = 1) -> Graph:
    b = Builder()
    x = b.add(Input(shape=shape), name="input")
    if slices > 1:
        x = b.add(Quantize(quantizer=MultiSign(k=slices)), x, name="slices")
    b.enter("block", block.kind)
    block.build(b, x)
    b.leave()
    return b.graph()


@pytest.mark.parametrize("row", GOLDEN, ids=ids)
def test_golden_row(row):
    graph = lowered(row.block, row.input, row.slices)
    assert graph.output.torch_shape == row.output
    learned = [p for p in graph.parameters() if not p.is_buffer]
    assert sum(prod(p.shape) for p in learned) == row.params
    assert sum(node.facts.macs for node in graph.nodes) == row.macs


@pytest.mark.parametrize("row", GOLDEN, ids=ids)
def test_torch_agrees(row):
    network = Network(lowered(row.block, row.input, row.slices))
    y = network(torch.randn(2, *row.input))
    assert tuple(y.shape) == (2, *row.output)
    assert sum(p.numel() for p in network.parameters()) == row.params


@pytest.mark.parametrize("row", GOLDEN, ids=ids)
def test_json_round_trip(row):
    assert Block.from_json(encode(row.block), "block") == row.block


def test_every_block_has_a_golden_row():
    assert {row.block.kind for row in GOLDEN} == set(blocks)


@pytest.mark.parametrize("kind", list(blocks))
def test_every_block_says_where_it_stands_and_how_it_is_drawn(kind):
    assert blocks[kind].kind == kind
    assert blocks[kind].place in ("stem", "body", "transition", "head")
    assert 1 <= len(blocks[kind].symbol) <= 2


def test_symbols_are_unique():
    symbols = [block.symbol for block in blocks.values()]
    assert len(set(symbols)) == len(symbols)


def test_a_dense_block_appends_and_keeps_the_rest():
    network = Network(lowered(Dense(growth=4), (6, 5, 5))).eval()
    x = torch.randn(2, 6, 5, 5)
    y = network(x)
    assert torch.equal(y[:, :6], x)
    signs = torch.where(x >= 0, 1.0, -1.0)
    weight = torch.where(network.block.conv.weight >= 0, 1.0, -1.0)
    padded = torch.nn.functional.pad(signs, (1, 1, 1, 1), value=-1.0)
    assert torch.equal(y[:, 6:], torch.nn.functional.conv2d(padded, weight))


def test_an_improvement_block_corrects_the_last_channels():
    network = Network(lowered(Improvement(growth=4), (6, 5, 5))).eval()
    x = torch.randn(2, 6, 5, 5)
    y = network(x)
    assert torch.equal(y[:, :2], x[:, :2])
    correction = y[:, 2:] - x[:, 2:]
    torch.testing.assert_close(correction, correction.round(), atol=1e-4, rtol=0)
    assert correction.abs().max() > 0


def test_an_improvement_block_needs_channels_to_correct():
    with pytest.raises(InfeasibleArchitecture, match=r"block\.?.*last 8 channels.*only 6"):
        lowered(Improvement(growth=8), (6, 5, 5))


@pytest.mark.parametrize("bits", [4, 8, 16, 32])
@pytest.mark.parametrize("block", [Dense, Improvement])
def test_shortcut_bits_are_the_stored_bits(block, bits):
    graph = lowered(block(growth=4, shortcut_bits=bits), (8, 5, 5))
    added = next(n for n in graph.nodes if n.name == "block.store") if bits < 32 else None
    if added is not None:
        assert added.type.stored_bits == bits
        assert added.type.domain is (Domain.CODE if bits <= 8 else Domain.FLOAT)
    assert sum(node.op.kind == "quantize" for node in graph.nodes) == (1 if bits == 32 else 2)


@pytest.mark.parametrize(
    ("precision", "facts"),
    [
        (BINARY, (1, 1)),
        (TWO_BITS, (2, 2)),
        (FULL, (32, 32)),
        (Precision(weights=1, activations=32), (1, 32)),
    ],
)
def test_precision_reaches_the_convolution(precision, facts):
    graph = lowered(Dense(growth=4, precision=precision), (8, 5, 5))
    conv = next(node for node in graph.nodes if node.op.kind == "conv2d")
    assert (conv.facts.w_bits, conv.facts.a_bits) == facts
    assert (conv.type.domain is Domain.ACCUMULATOR) == (precision == BINARY)
    # only one-bit inputs have a level to pad with
    assert conv.op.padding_value == (-1.0 if precision.activations == 1 else 0.0)


def test_bases_share_one_latent_weight():
    graph = lowered(MultiBase(channels=8, weight_bases=3, activation_bases=2), (8, 6, 6))
    (weight,) = [p for p in graph.parameters() if p.name.endswith("weight") and p.bits == 1]
    assert weight.bases == 3
    convs = [node for node in graph.nodes if node.op.kind == "conv2d"]
    assert len(convs) == 6
    assert {node.latent for node in convs} == {convs[0].index}
    network = Network(graph)
    network(torch.randn(2, 8, 6, 6)).square().sum().backward()
    gradients = [p.grad for name, p in network.named_parameters() if "shift" in name]
    # activation bases start apart, else they would stay equal
    assert not torch.allclose(gradients[0], gradients[1])


@pytest.mark.parametrize(
    "make",
    [
        lambda: Dense(growth=0),
        lambda: Dense(kernel_size=2),
        lambda: Dense(dilation=0),
        lambda: Dense(shortcut_bits=1),
        lambda: Dense(precision=Precision(weights=9, activations=1)),
        lambda: Improvement(growth=100_000),
        lambda: Transition(channels=8, groups=9),
        lambda: StemGrouped(channels=24),
        lambda: StemQuickNet(channels=6),
        lambda: StemConv7x7(activation="gelu"),
        lambda: StemBoolNet(slices=3),
        lambda: BiReal(channels=8, stride=3),
        lambda: BiReal(channels=8, padding_value=0.5),
        lambda: Gated(channels=8, reduction=0),
        lambda: Gated(channels=8, scaling="xnor"),
        lambda: MultiBase(channels=8, weight_bases=9),
        lambda: GroupNet(channels=8, bases=9),
        lambda: GroupNet(channels=8, stride=3),
        lambda: Circulant(channels=8, rotations=3),
        lambda: Circulant(channels=8, precision=TWO_BITS),
        lambda: Xnor(channels=8, scaling="inner"),
        lambda: ResNet(channels=8, precision=BINARY),
        lambda: Boolean(channels=8, slices=5),
        lambda: Boolean(channels=8, dilation=0),
        lambda: Classifier(classes=1),
        lambda: Classifier(classes=2, precision=SCALED),
        lambda: Classifier(classes=2, prelu=True),
        lambda: StemConv3x3(stride=3),
        lambda: ReactMobile(channels=8, stride=3),
        lambda: BNext(channels=8, reduction=0),
        lambda: StemConv(channels=8, kernel_size=4),
        lambda: StemConv(channels=8, padding=2),
        lambda: StemConv(channels=8, pool=3, pool_padding=2),
        lambda: ConvLayer(channels=8, norm="batch"),
        lambda: ConvLayer(channels=8, activation="gelu"),
        lambda: ConvLayer(channels=8, groups=9),
        lambda: ConvLayer(channels=8, padding_value=2.0),
        lambda: Separable(channels=8, kernel_size=4),
        lambda: PoolTransition(method="min"),
        lambda: PoolTransition(padding=2),
        lambda: DenseTransition(channels=0),
        lambda: Inception(one=1, three_reduce=1, three=0, five_reduce=1, five=1, pool=1),
        lambda: Bottleneck(channels=10),
        lambda: MlpClassifier(classes=10, dropout=1.0),
        lambda: MlpClassifier(classes=10, hidden=(0,)),
        lambda: SlicedResidual(channels=8, slices=3),
        lambda: SlicedResidual(channels=8, slices=2, write_on=2),
        lambda: SlicedResidual(channels=8, slices=2, stride=2),
        lambda: BinaryBasic(channels=8, padding_value=0.5),
    ],
)
def test_wrong_values_are_refused(make):
    with pytest.raises(InvalidValue):
        make()


def test_an_unknown_block_names_the_place_and_the_nearest():
    with pytest.raises(InvalidValue, match=r"stages\[0\]: .*'dens'.*Did you mean 'dense'"):
        Block.from_json({"kind": "dens"}, "stages[0]")
