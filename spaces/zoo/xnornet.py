"""XNOR-Net and XNOR-Net++: binary convolutions whose sums are scaled."""

from __future__ import annotations

from functools import partial
from typing import Final

from bitfront.spaces.architecture import Architecture, Stage
from bitfront.spaces.blocks import Classifier, ConvLayer, PoolTransition, StemConv, Xnor
from bitfront.spaces.blocks.xnor import XNOR
from bitfront.spaces.precision import BINARY, Precision
from bitfront.spaces.recipe import Recipe
from bitfront.spaces.zoo.entry import Mismatch, Published, ZooEntry, enter
from bitfront.spaces.zoo.layout import BASIC_18, resnet_layout

PAPER: Final = "Rastegari et al. 2016, XNOR-Net (arXiv:1603.05279)"
PLUS_PLUS: Final = "Bulat and Tzimiropoulos 2019, XNOR-Net++ (arXiv:1909.13863)"
QUOTED: Final = "size and operations: as later tables of the field quote them"

RECIPE: Final = Recipe(
    optimizer="adamw",
    learning_rate=1e-3,
    epochs=100,
    batch_size=256,
    t_clip=1.0,
    augmentation="resized-crop-flip",
)


def xnornet(
    scaling: str = "input", precision: Precision = XNOR, counts: tuple[int, ...] = BASIC_18
) -> Architecture:
    """ResNet's layout with the norm before each binary convolution.

    Args:
        scaling: Of the sums: "input", "outer" or "none".
        precision: Of the 3x3 convolutions.
        counts: Blocks per stage.
    """
    return resnet_layout(
        counts,
        lambda channels, stride: Xnor(
            channels=channels, stride=stride, scaling=scaling, precision=precision
        ),
        norm=True,
        relu=True,
    )


_SHORTCUT: Final = (
    "Two 3x3 convolutions per shortcut, which is a 32-bit 1x1 convolution where sizes change: with "
    "it the network has the printed size, with a binary one 3.4 MiB."
)
_COUNTED: Final = (
    "Counted 1.63: the stem 1.18, the 32-bit shortcuts 0.19, the binary convolutions 0.26. With "
    "binary shortcuts it would be 1.44. The printed figure lies between: it seems to have binary "
    "shortcuts and work outside the convolutions, as Real-to-Binary (arXiv:2003.11535) counts."
)


def xnornet_alexnet() -> Architecture:
    """AlexNet with binary convolutions, the fully connected layers among them, but the last."""

    def layer(channels: int, kernel_size: int = 3, padding: int | None = None) -> ConvLayer:
        return ConvLayer(
            channels=channels,
            kernel_size=kernel_size,
            padding=padding,
            norm="before",
            activation="none",
            precision=XNOR,
        )

    pool = PoolTransition(kernel_size=3)
    return Architecture(
        input=(3, 224, 224),
        stem=StemConv(channels=96, kernel_size=11, stride=4, padding=2, pool=3),
        stages=(
            Stage(blocks=(layer(256, 5),), transition=pool),
            Stage(blocks=(layer(384), layer(384), layer(256)), transition=pool),
            Stage(blocks=(layer(4096, 6, padding=0), layer(4096, 1))),
        ),
        head=Classifier(classes=1000, bias=False),
    )


enter(
    ZooEntry(
        name="xnornet-resnet18",
        family="XNOR-Net",
        architecture=xnornet,
        recipe=RECIPE,
        published=Published(
            top1=51.2,
            top5=73.2,
            size_mb=4,
            size_unit="MiB",
            ops_1e8=1.59,
            about=("size_mb",),
            source=f"{PAPER}; {QUOTED}",
        ),
        notes=f"{_SHORTCUT} Its authors' schedule for ResNet-18 was not found; the recipe is a "
        "usual one. BoolNet's energy (arXiv:2106.06991, Fig. 5) assumes 16-bit feature maps.",
        published_storage_bits=16,
        mismatches=(
            Mismatch(
                "ops_1e8",
                f"{_COUNTED} Two other tables print 1.67 (ReActNet's, Bi-Real Net's) and 1.47 "
                "(1.20 of it floating-point, so without 32-bit shortcuts): no one network and rule "
                "give all three.",
            ),
        ),
    )
)
enter(
    ZooEntry(
        name="xnornet++-resnet18",
        family="XNOR-Net",
        architecture=partial(xnornet, scaling="outer", precision=BINARY),
        recipe=RECIPE,
        published=Published(
            top1=57.1,
            size_mb=4,
            size_unit="MiB",
            ops_1e8=1.59,
            about=("size_mb",),
            source=f"{PLUS_PLUS}; {QUOTED}",
        ),
        notes=f"{_SHORTCUT} The factors are the outer product of three vectors, per channel, row "
        "and column, and need the image's size to be that of training. Its authors' schedule was "
        "not found; the recipe is that of xnornet-resnet18.",
        mismatches=(Mismatch("ops_1e8", _COUNTED),),
    )
)
enter(
    ZooEntry(
        name="xnornet-alexnet",
        family="XNOR-Net",
        architecture=xnornet_alexnet,
        recipe=Recipe(
            optimizer="adamw",
            learning_rate=1e-3,
            epochs=100,
            batch_size=1200,
            t_clip=1.0,
            augmentation="resized-crop-flip",
        ),
        published=Published(
            top1=44.2, top5=69.2, size_mb=22.77, size_unit="MiB", source=f"{PAPER}; size: Larq Zoo"
        ),
        notes="Without factors per input pixel, as the released code and Larq have it. Their norms "
        "have no learned scale and their latent weights are kept within -1 and 1. Batch size and "
        "epochs are Larq's, whose training reaches 44.96. Images must have 224x224 pixels or so: "
        "the 6x6 convolution meets a map of 6x6.",
        convention="larq",
    )
)
