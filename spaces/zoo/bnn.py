"""BNN: signs and nothing else (Hubara et al. 2016, arXiv:1602.02830)."""

from __future__ import annotations

from typing import Final

from bitfront.spaces.architecture import Architecture
from bitfront.spaces.blocks import Xnor
from bitfront.spaces.precision import BINARY
from bitfront.spaces.zoo.entry import Mismatch, Published, ZooEntry, enter
from bitfront.spaces.zoo.layout import BASIC_18, resnet_layout
from bitfront.spaces.zoo.xnornet import QUOTED, RECIPE

PAPER: Final = "Hubara et al. 2016, Binarized Neural Networks (arXiv:1602.02830)"


def bnn() -> Architecture:
    """ResNet-18's layout; the hard tanh before a sign is the clip of its gradient."""
    return resnet_layout(
        BASIC_18,
        lambda channels, stride: Xnor(
            channels=channels, stride=stride, scaling="none", relu=False, precision=BINARY
        ),
        norm=True,
    )


enter(
    ZooEntry(
        name="bnn-resnet18",
        family="BNN",
        architecture=bnn,
        recipe=RECIPE,
        published=Published(
            top1=42.2,
            size_mb=4,
            size_unit="MiB",
            ops_1e8=1.57,
            about=("size_mb",),
            source=f"{PAPER}, on ResNet-18 as XNOR-Net (arXiv:1603.05279) reports it; {QUOTED}",
        ),
        notes="No factors, no ReLU; the gradient is cut at 1, as by a hard tanh. The shortcut's "
        "1x1 convolution has 32 bits, as the printed size counts it. The schedule for ResNet-18 "
        "was not found; the recipe is that of xnornet-resnet18.",
        mismatches=(
            Mismatch(
                "ops_1e8",
                "Counted 1.63, with 32-bit shortcuts; with binary ones it would be 1.44. The "
                "printed figure seems to have those, and work outside the convolutions, as "
                "Real-to-Binary (arXiv:2003.11535) counts.",
            ),
        ),
    )
)
