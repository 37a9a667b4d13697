"""Published networks by name; importing this package fills the registry.

An entry builds its architecture when it is asked for one, so listing the zoo costs nothing.
"""

from bitfront.spaces.zoo import (
    abcnet,
    binarydensenet,
    bireal,
    boolnet,
    meliusnet,
    quicknet,
    realtobinary,
    resnet,
    resnete,
)
from bitfront.spaces.zoo.entry import Published, ZooEntry, get, zoo

__all__ = [
    "Published",
    "ZooEntry",
    "abcnet",
    "binarydensenet",
    "bireal",
    "boolnet",
    "get",
    "meliusnet",
    "quicknet",
    "realtobinary",
    "resnet",
    "resnete",
    "zoo",
]
