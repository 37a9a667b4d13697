"""ReActNet's blocks: signs with learned thresholds, activations with learned shifts.

Pictures: the residual form has one convolution per shortcut; the mobile form is MobileNet's pair of
layers, in which a second 1x1 convolution beside the first doubles the channels::

    x -+-- (pool, conv 1x1, norm) --+               x -+------ (pool) ------+
       +- sign - conv 3x3 - norm - add - act           +- sign - 3x3 - norm - add - act - y

                                                    y -+--------------------+
                                                       +- sign - 1x1 - norm - add -+- concat - act
                                                       +-------- 1x1 - norm - add -+
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from bitfront.spaces.blocks.block import (
    PRELU,
    Block,
    avg_pool_op,
    blocks,
    check_channels,
    check_range,
    conv,
    norm,
    quantize,
)
from bitfront.spaces.blocks.dense import ADD, CONCAT
from bitfront.spaces.blocks.residual import pooled_shortcut
from bitfront.spaces.errors import InfeasibleArchitecture
from bitfront.spaces.graph import Builder
from bitfront.spaces.ops import Shift
from bitfront.spaces.precision import Precision, precision_of
from bitfront.spaces.quantizers import SIGN_WEIGHT, RSign

SHIFT: Final = Shift()
REACT: Final = precision_of(weight=SIGN_WEIGHT, input=RSign())


def rprelu(b: Builder, x: int, name: str = "act") -> int:
    """RPReLU: a learned shift per channel, PReLU, another learned shift.

    ``y = PReLU(x - g) + z``; the shifts start at 0, the slopes at 0.25.

    References:
        Liu et al. 2020, ReActNet (arXiv:2003.03488), Eq. (8).
    """
    x = b.add(SHIFT, x, name=f"{name}_in")
    x = b.add(PRELU, x, name=f"{name}_prelu")
    return b.add(SHIFT, x, name=f"{name}_out")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _React(Block):
    """Parameters of ReActNet's blocks.

    Attributes:
        channels: Channels that it hands on.
        stride: Of the 3x3 convolution.
        precision: Bits of the convolutions.
    """

    channels: int
    stride: int = 1
    precision: Precision = REACT

    def check(self) -> None:
        """Sane sizes."""
        check_channels("channels", self.channels)
        check_range("stride", self.stride, 1, 2)


@blocks.register("react_residual")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReactResidual(_React):
    """Bi-Real's block with learned thresholds and RPReLU behind the addition.

    References:
        Liu et al. 2020, ReActNet (arXiv:2003.03488), Sec. 4.
    """

    kind: ClassVar[str] = "react_residual"
    symbol: ClassVar[str] = "RA"

    def build(self, b: Builder, x: int) -> int:
        """``channels`` channels, ``stride`` times fewer rows and columns."""
        shortcut = pooled_shortcut(b, x, self.channels, self.stride)
        y = quantize(b, x, self.precision.input)
        y = conv(b, y, self.channels, 3, stride=self.stride, weight=self.precision.weight)
        return rprelu(b, b.add(ADD, norm(b, y), shortcut, name="add"))


@blocks.register("react_mobile")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReactMobile(_React):
    """MobileNet's pair of layers: a full 3x3 convolution, then 1x1, each with a shortcut.

    No layer of it is real: the 3x3 convolution keeps the channels, so a pool is enough for its
    shortcut; twice the channels are two 1x1 convolutions side by side, each with the shortcut.

    References:
        Liu et al. 2020, ReActNet (arXiv:2003.03488), Sec. 3 and Fig. 3.
    """

    kind: ClassVar[str] = "react_mobile"
    symbol: ClassVar[str] = "RM"

    def build(self, b: Builder, x: int) -> int:
        """``channels`` channels, ``stride`` times fewer rows and columns.

        Raises:
            InfeasibleArchitecture: If ``channels`` are not those of ``x`` or twice as many.
        """
        given = b.channels(x)
        parts = check_growth(given, self.channels)
        sign, weight = self.precision.input, self.precision.weight
        y = quantize(b, x, sign, "quantize1")
        y = norm(b, conv(b, y, given, 3, stride=self.stride, weight=weight, name="conv1"), "norm1")
        if self.stride > 1:
            x = b.add(avg_pool_op(self.stride, self.stride), x, name="shortcut_pool")
        x = rprelu(b, b.add(ADD, y, x, name="add1"), "act1")
        y = quantize(b, x, sign, "quantize2")
        made = []
        for part in parts:
            z = norm(b, conv(b, y, given, 1, weight=weight, name=f"conv{part}"), f"norm{part}")
            made.append(b.add(ADD, z, x, name=f"add{part}"))
        y = made[0] if len(made) == 1 else b.add(CONCAT, *made, name="concat")
        return rprelu(b, y, "act2")


def check_growth(given: int, channels: int) -> tuple[str, ...]:
    """The names of the parallel 1x1 convolutions that make ``channels`` of ``given`` channels.

    Raises:
        InfeasibleArchitecture: If they are neither as many nor twice as many.
    """
    if channels == given:
        return ("2",)
    if channels == 2 * given:
        return ("2a", "2b")
    raise InfeasibleArchitecture(
        f"The block keeps the channels or doubles them, but got {given} -> {channels}."
    )
