"""Factors that differ from pixel to pixel: XNOR-Net's K and XNOR-Net++'s outer product."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bitfront.spaces.graph import Facts, Op, ParameterSpec, Role, TensorType, Work
from bitfront.spaces.ops.elementwise import Elementwise
from bitfront.spaces.ops.op import feature_map, ops


@ops.register("channel_mean")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChannelMean(Op):
    """Mean magnitude over the channels of all slices: ``(C, H, W)`` to ``(1, H, W)``.

    With an average pool of a convolution's kernel, stride and padding behind it, it is XNOR-Net's
    K, one factor per pixel of the convolution's sums.

    References:
        Rastegari et al. 2016, XNOR-Net (arXiv:1603.05279), Sec. 3.2.
    """

    kind: ClassVar[str] = "channel_mean"
    fusable: ClassVar[bool] = True

    def infer(self, *inputs: TensorType) -> Facts:
        """One addition per value that is read, one multiplication per pixel."""
        (x,) = inputs
        _, rows, columns = feature_map(x)
        out = TensorType(shape=(1, rows, columns))
        work = (Work("add", x.stored_bits, x.elements), Work("scale", 32, out.elements))
        return Facts(out=out, work=work)


@ops.register("outer_scale")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OuterScale(Elementwise):
    r"""``y_chw = x_chw a_c b_h g_w`` with learned factors per channel, row and column.

    At inference the product of the factors is a constant: one multiplication per element.

    References:
        Bulat and Tzimiropoulos 2019, XNOR-Net++ (arXiv:1909.13863), Case 4.
    """

    kind: ClassVar[str] = "outer_scale"
    function: ClassVar[str] = "scale"

    def params(self, x: TensorType) -> tuple[ParameterSpec, ...]:
        """The factors: ``channels`` (k*C,), ``rows`` (H,), ``columns`` (W,)."""
        _, rows, columns = feature_map(x)
        return (
            ParameterSpec("channels", (x.torch_shape[0],), Role.SCALE),
            ParameterSpec("rows", (rows,), Role.SCALE),
            ParameterSpec("columns", (columns,), Role.SCALE),
        )
