"""The tables of the field, as printed in the talks and pages that this project starts from.

Each row names the networks of the zoo that stand for it, best first. A row whose networks are not
in the zoo says why; a family says what of it is left out.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Method(NamedTuple):
    """A row of a table: a method at one depth.

    Attributes:
        method: As printed.
        bits: Weights/activations.
        layers: About so many; "" if the table does not say.
        accuracy: Printed top-1, or top-1 / top-5, in percent.
        size: Printed, with its "~".
        ops: Printed, in 1e8.
        network: In the zoo.
        why: Why it is not there.
    """

    method: str
    bits: str
    layers: str
    accuracy: str
    size: str
    ops: str
    network: str
    why: str = "no entry"


class Family(NamedTuple):
    """A family of networks.

    Attributes:
        name: Of the family.
        source: Where it was published.
        networks: Names in the zoo, or patterns of names.
        left_out: What the family has and the zoo has not, with the reason.
    """

    name: str
    source: str
    networks: tuple[str, ...]
    left_out: str = ""


BY_METHOD: Final = (
    Method("BWN", "1/32", "18", "60.8", "4MB", "18.1", "bwn-resnet18"),
    Method("TTQ", "2/32", "18", "66.6", "5.3MB", "18.1", "ttq-resnet18"),
    Method("HWGQ", "1/2", "18", "59.6", "4MB", "~2.4", "hwgq-resnet18"),
    Method("HWGQ", "1/2", "34", "64.3", "5.1MB", "~3.4", "hwgq-resnet34"),
    Method("LQ-Net", "1/2", "18", "62.6", "4MB", "~2.4", "lqnet-resnet18"),
    Method("LQ-Net", "1/2", "34", "66.6", "5.1MB", "~3.4", "lqnet-resnet34"),
    Method("SYQ", "1/2", "18", "55.4", "4MB", "~2.4", "syq-resnet18"),
    Method("DoReFa", "2/2", "18", "62.6", "5.3MB", "~2.4", "dorefa-resnet18"),
    Method("Ensemble", "(1/1)x6", "18", "61.0", "", "", "ensemble-resnet18"),
    Method("Circulant-CNN", "(1/1)x4", "18", "61.4", "", "", "circulant-resnet18"),
    Method("ABC-Net", "(1/1)x5", "18", "65.0", "8.7MB", "7.8", "abcnet-resnet18"),
    Method("GroupNet", "(1/1)x5", "18", "67.0", "9.2MB", "2.68", "groupnet-resnet18"),
    Method("GroupNet", "(1/1)x5", "34", "70.5", "15.3MB", "4.13", "groupnet-resnet34"),
    Method("BNN", "1/1", "18", "42.2", "~4MB", "1.57", "bnn-resnet18"),
    Method("BNN", "1/1", "34", "", "~5.1MB", "", "bnn-resnet34", "only a size is printed"),
    Method("XNOR-Net", "1/1", "18", "51.2", "~4MB", "1.59", "xnornet-resnet18"),
    Method("Bi-RealNet", "1/1", "18", "56.4", "~4MB", "1.63", "birealnet18"),
    Method("Bi-RealNet", "1/1", "34", "62.2", "~5.1MB", "1.93", "birealnet34"),
    Method("XNOR-Net++", "1/1", "18", "57.1", "~4MB", "1.59", "xnornet++-resnet18"),
    Method("Bi-RealNet (MeliusNet)", "1/1", "18", "60.6", "~4MB", "1.14", "resnet-e18-grouped"),
    Method("Bi-RealNet (MeliusNet)", "1/1", "34", "63.7", "~5.1MB", "1.43", "resnet-e34-grouped"),
    Method("BinaryDenseNet", "1/1", "18", "60.7", "~4MB", "2.58", "binarydensenet28"),
    Method("BinaryDenseNet", "1/1", "34", "62.5", "~5.1MB", "2.71", "binarydensenet37"),
    Method("Strong Baseline", "1/1", "18", "60.9", "~4MB", "1.82", "strong-baseline"),
    Method(
        "BinaryDenseNet (MeliusNet)",
        "1/1",
        "18",
        "62.6",
        "~4MB",
        "2.09",
        "binarydensenet28-grouped",
    ),
    Method(
        "BinaryDenseNet (MeliusNet)",
        "1/1",
        "34",
        "64.2",
        "~5.1MB",
        "2.20",
        "binarydensenet37-grouped",
    ),
    Method("MeliusNet A", "1/1", "18", "63.4", "~4MB", "1.62", "meliusnet-a"),
    Method("MeliusNet B", "1/1", "34", "65.7", "~5.1MB", "1.96", "meliusnet-b"),
    Method("ResNet", "32/32", "18", "69.3", "46.8MB", "18.1", "resnet18-fp"),
    Method("ResNet", "32/32", "34", "73.3", "87.2MB", "36.6", "resnet34-fp"),
)

BY_SIZE: Final = (
    Method("XNOR-ResNet18", "1/1", "", "51.2 / 73.2", "~4.0MB", "", "xnornet-resnet18"),
    Method("TBN-ResNet18", "1/2", "", "55.6 / 74.2", "~4.0MB", "", "tbn-resnet18"),
    Method("Bi-Real-ResNet18", "1/1", "", "56.4 / 79.5", "~4.0MB", "", "birealnet18"),
    Method("BinaryResNetE18", "1/1", "", "58.1 / 80.6", "~4.0MB", "", "resnet-e18"),
    Method("BinaryDenseNet28", "1/1", "", "60.7 / 82.4", "~4.0MB", "", "binarydensenet28"),
    Method("TBN-ResNet34", "1/2", "", "58.2 / 81.0", "~5.1MB", "", "tbn-resnet34"),
    Method("Bi-Real-ResNet34", "1/1", "", "62.2 / 83.9", "~5.1MB", "", "birealnet34"),
    Method("BinaryDenseNet37", "1/1", "", "62.5 / 83.9", "~5.1MB", "", "binarydensenet37"),
    Method(
        "BinaryDenseNet37-dilated",
        "1/1",
        "",
        "63.7 / 84.7",
        "~5.1MB",
        "",
        "binarydensenet37-dilated",
    ),
    Method("BinaryDenseNet45", "1/1", "", "63.7 / 84.8", "7.4MB", "", "binarydensenet45"),
    Method("full-precision ResNet18", "32/32", "", "69.3 / 89.2", "46.8MB", "", "resnet18-fp"),
    Method("full-precision AlexNet", "32/32", "", "56.6 / 80.2", "249MB", "", "alexnet-fp"),
)

BY_POWER: Final = (
    Method("AlexNet", "32/32", "", "", "240 MB", "7.2", "alexnet-grouped-fp"),
    Method("GoogLeNet", "32/32", "", "", "", "15.5", "googlenet-fp"),
    Method("VGG-19", "32/32", "", "", "550 MB", "196", "vgg19-fp"),
    Method("ResNet-152", "32/32", "", "", "240 MB", "113", "resnet152-fp"),
)

FAMILIES: Final = (
    Family(
        "MeliusNet",
        "arXiv:2001.05936",
        ("meliusnet*", "naivenet*"),
    ),
    Family("BinaryDenseNet", "arXiv:1906.08637", ("binarydensenet*",)),
    Family(
        "BinaryResNetE",
        "arXiv:1906.08637",
        ("resnet-e*", "resnet18-v1-*"),
    ),
    Family(
        "Bi-Real Net",
        "arXiv:1808.00278",
        ("birealnet*",),
        "50 and 152 layers",
    ),
    Family("Real-to-Binary, Strong Baseline", "arXiv:2003.11535", ("real-to-binary", "strong-*")),
    Family("BoolNet", "arXiv:2106.06991", ("boolnet*",)),
    Family("XNOR-Net, XNOR-Net++, BNN", "arXiv:1603.05279", ("xnornet*", "bnn-*")),
    Family("ReActNet", "arXiv:2003.03488", ("reactnet*",), "B and C"),
    Family("QuickNet", "arXiv:2011.09398", ("quicknet*",)),
    Family("BNext", "arXiv:2211.12933", ("bnext*",), "the variant with 8-bit layers"),
    Family(
        "several bases or networks: ABC-Net, GroupNet, Ensemble, Circulant-CNN",
        "arXiv:1711.11294, arXiv:1811.10413",
        ("abcnet*", "groupnet*", "ensemble*", "circulant*"),
    ),
    Family(
        "few bits: BWN, TTQ, HWGQ, LQ-Net, SYQ, DoReFa, TBN, LSQ",
        "arXiv:1603.05279, arXiv:1612.01064, arXiv:1702.00953, arXiv:1807.10029, "
        "arXiv:1606.06160, arXiv:1902.08153",
        ("bwn-*", "ttq-*", "hwgq-*", "lqnet-*", "syq-*", "dorefa-*", "tbn-*", "vgg-small-lsq*"),
    ),
    Family(
        "32 bit: ResNet, AlexNet, MobileNet, VGG, GoogLeNet",
        "arXiv:1512.03385 and others",
        ("*-fp", "*-fp-*"),
    ),
)
