"""The primitive ops: attributes, and the facts that each declares of itself.

Every op is a frozen value without torch. Its torch form stands in ``network``; costs, exporters
and drawings keep one table from op kind to function each.
"""

from bitfront.spaces.ops.dropout import Dropout
from bitfront.spaces.ops.elementwise import (
    Add,
    Blend,
    Elementwise,
    FilterScale,
    Mul,
    Or,
    Prelu,
    Relu,
    Scale,
    Shift,
    Sigmoid,
    Xnor,
)
from bitfront.spaces.ops.layers import (
    BatchNorm,
    Conv2d,
    Input,
    Linear,
    Quantize,
)
from bitfront.spaces.ops.merges import Mean
from bitfront.spaces.ops.op import (
    accumulator_bits,
    ops,
)
from bitfront.spaces.ops.pools import (
    AvgPool,
    Blur,
    GlobalAvgPool,
    MaxPool,
    Pool,
    SliceMean,
)
from bitfront.spaces.ops.scaling import ChannelMean, OuterScale
from bitfront.spaces.ops.views import (
    Concat,
    Flatten,
    Interleave,
    Slice,
)

__all__ = [
    "Add",
    "AvgPool",
    "BatchNorm",
    "Blend",
    "Blur",
    "ChannelMean",
    "Concat",
    "Conv2d",
    "Dropout",
    "Elementwise",
    "FilterScale",
    "Flatten",
    "GlobalAvgPool",
    "Input",
    "Interleave",
    "Linear",
    "MaxPool",
    "Mean",
    "Mul",
    "Or",
    "OuterScale",
    "Pool",
    "Prelu",
    "Quantize",
    "Relu",
    "Scale",
    "Shift",
    "Sigmoid",
    "Slice",
    "SliceMean",
    "Xnor",
    "accumulator_bits",
    "ops",
]
