"""ResNets of one or two bits per weight or input: BWN, TTQ, HWGQ, LQ-Net, SYQ, DoReFa, TBN.

All keep the stem, the classifier and the shortcut's 1x1 convolutions at 32 bits. So counted, they
have the printed sizes of 4 MB (binary weights) and 5.3 MB (two bits per weight) in MiB.
"""

from __future__ import annotations

from functools import partial
from typing import Final, NamedTuple

from bitfront.spaces.architecture import Architecture
from bitfront.spaces.blocks import ResNet
from bitfront.spaces.precision import Precision, precision_of
from bitfront.spaces.quantizers import (
    DoReFa,
    HalfWave,
    LqNet,
    LqNetWeight,
    Syq,
    Ternary,
    Ttq,
    XnorSign,
)
from bitfront.spaces.recipe import Recipe
from bitfront.spaces.zoo import resnet
from bitfront.spaces.zoo.entry import Mismatch, Published, ZooEntry, enter
from bitfront.spaces.zoo.layout import BASIC_18, BASIC_34, resnet_layout
from bitfront.spaces.zoo.xnornet import RECIPE, xnornet

QUOTED: Final = "size and operations: as later tables of the field quote them"


def quantised_resnet(precision: Precision, counts: tuple[int, ...] = BASIC_18) -> Architecture:
    """A ResNet of basic blocks whose 3x3 convolutions are quantised."""
    return resnet_layout(
        counts,
        lambda channels, stride: ResNet(channels=channels, stride=stride, precision=precision),
    )


class _Method(NamedTuple):
    name: str
    precision: Precision
    source: str
    recipe: Recipe
    notes: str


BWN: Final = _Method(
    "bwn",
    precision_of(weight=XnorSign()),
    "Rastegari et al. 2016, XNOR-Net (arXiv:1603.05279)",
    resnet.RECIPE,
    "Binary weights with a factor per filter, 32-bit inputs. Its authors' schedule for ResNet-18 "
    "was not found; the recipe is ResNet's.",
)
TTQ: Final = _Method(
    "ttq",
    precision_of(weight=Ttq()),
    "Zhu et al. 2017, Trained Ternary Quantization (arXiv:1612.01064)",
    resnet.RECIPE,
    "Ternary weights with two learned factors per layer, 32-bit inputs. The original starts from "
    "trained 32-bit weights; the recipe is ResNet's.",
)
HWGQ: Final = _Method(
    "hwgq",
    precision_of(weight=XnorSign(), input=HalfWave(width=2)),
    "Cai et al. 2017, HWGQ-Net (arXiv:1702.00953)",
    resnet.RECIPE,
    "Weights are BWN's. The quantizer stands behind the ReLU, which it contains. The recipe is "
    "ResNet's.",
)
LQNET: Final = _Method(
    "lqnet",
    precision_of(weight=LqNetWeight(width=1), input=LqNet(width=2)),
    "Zhang et al. 2018, LQ-Nets (arXiv:1807.10029)",
    Recipe(
        optimizer="sgd",
        learning_rate=0.1,
        weight_decay=5e-5,
        epochs=110,
        batch_size=256,
        augmentation="resized-crop-flip",
    ),
    "The released code has the norms before the convolutions and quantises the shortcut's 1x1 "
    "convolution too; it lowers the learning rate in steps.",
)
SYQ: Final = _Method(
    "syq",
    precision_of(weight=Syq(width=1), input=DoReFa(width=2)),
    "Faraone et al. 2018, SYQ (arXiv:1807.00301)",
    resnet.RECIPE,
    "Binary weights with a learned factor per position of the kernel. The original starts from "
    "trained 32-bit weights; the recipe is ResNet's.",
)
DOREFA: Final = _Method(
    "dorefa",
    Precision(weights=2, activations=2),
    "Zhou et al. 2016, DoReFa-Net (arXiv:1606.06160)",
    Recipe(
        optimizer="adamw",
        learning_rate=2e-4,
        epochs=90,
        batch_size=256,
        augmentation="resized-crop-flip",
    ),
    "The recipe is Larq's for DoReFa-Net.",
)

_OPERATIONS: Final = (
    "Counted {counted}, by the product of both widths over 64. The table that prints this figure "
    "has the same for 1/2 and 2/2 bits; by the product only 2/2 comes to it."
)
_SIZE: Final = (
    "Counted {counted}; other binary ResNet-34s, of nearly the same parameters, are printed with "
    "5.23. No count that gives 5.1 was found."
)


def _enter(
    method: _Method,
    top1: float,
    size_mb: float,
    ops_1e8: float,
    *,
    depth: int = 18,
    convention: str = "full",
    about: tuple[str, ...] = ("ops_1e8",),
    mismatches: tuple[Mismatch, ...] = (),
) -> None:
    counts = {18: BASIC_18, 34: BASIC_34}[depth]
    enter(
        ZooEntry(
            name=f"{method.name}-resnet{depth}",
            family="k-bit ResNet",
            architecture=partial(quantised_resnet, method.precision, counts),
            recipe=method.recipe,
            published=Published(
                top1=top1,
                size_mb=size_mb,
                size_unit="MiB",
                ops_1e8=ops_1e8,
                about=about,
                source=f"{method.source}; {QUOTED}",
            ),
            notes=f"{method.notes} The shortcut's 1x1 convolutions have 32 bits, as the printed "
            "size counts them.",
            convention=convention,
            mismatches=mismatches,
        )
    )


_OPS_18: Final = (Mismatch("ops_1e8", _OPERATIONS.format(counted="1.90")),)


def _both_34(size: str) -> tuple[Mismatch, ...]:
    return (
        Mismatch("ops_1e8", _OPERATIONS.format(counted="2.48")),
        Mismatch("size_mb", _SIZE.format(counted=size)),
    )


_enter(BWN, 60.8, 4, 18.1, convention="hpi", about=())
_enter(TTQ, 66.6, 5.3, 18.1, convention="hpi", about=())
_enter(HWGQ, 59.6, 4, 2.4, mismatches=_OPS_18)
_enter(HWGQ, 64.3, 5.1, 3.4, depth=34, mismatches=_both_34("5.23"))
_enter(LQNET, 62.6, 4, 2.4, mismatches=_OPS_18)
_enter(LQNET, 66.6, 5.1, 3.4, depth=34, mismatches=_both_34("5.26"))
_enter(SYQ, 55.4, 4, 2.4, mismatches=_OPS_18)
_enter(DOREFA, 62.6, 5.3, 2.4)


def tbn(counts: tuple[int, ...] = BASIC_18) -> Architecture:
    """XNOR-Net's ResNet with ternary inputs, which have no scaling."""
    precision = precision_of(weight=XnorSign(), input=Ternary(threshold=0.5, relative=True))
    return xnornet(scaling="none", precision=precision, counts=counts)


def _enter_tbn(
    depth: int,
    counts: tuple[int, ...],
    top1: float,
    top5: float,
    size_mb: float,
    mismatches: tuple[Mismatch, ...] = (),
) -> None:
    enter(
        ZooEntry(
            name=f"tbn-resnet{depth}",
            family="TBN",
            architecture=partial(tbn, counts),
            recipe=RECIPE,
            published=Published(
                top1=top1,
                top5=top5,
                size_mb=size_mb,
                size_unit="MiB",
                about=("size_mb",),
                source="Wan et al. 2018, TBN (ECCV 2018), as quoted by Bethge et al. 2019, Back to "
                "Simplicity (arXiv:1906.08637)",
            ),
            notes="Binary weights with a factor per filter; an input is 0 below half of its "
            "image's mean magnitude. The released code (dnvtmf/TBN) keeps a running mean of it. A "
            "ternary value takes two bits. The recipe is that of xnornet-resnet18.",
            mismatches=mismatches,
        )
    )


_enter_tbn(18, BASIC_18, 55.6, 74.2, 4.0)
_enter_tbn(34, BASIC_34, 58.2, 81.0, 5.1, (Mismatch("size_mb", _SIZE.format(counted="5.23")),))
