"""Residual blocks: one shortcut per binary convolution, its gated form, and the 32-bit original."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from bitfront.spaces.blocks.block import (
    PRELU,
    RELU,
    Block,
    avg_pool_op,
    blocks,
    check_channels,
    check_range,
    check_storage,
    conv,
    norm,
    quantize,
    store,
)
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.graph import Builder, Domain
from bitfront.spaces.ops import (
    Add,
    Conv2d,
    GlobalAvgPool,
    Mul,
    OuterScale,
    Scale,
    Shift,
    Sigmoid,
)
from bitfront.spaces.precision import BINARY, FULL, Precision
from bitfront.spaces.quantizers import ShiftedSign
from bitfront.spaces.value import added

ADD = Add()
MUL = Mul()
OUTER = OuterScale()


def pooled_shortcut(b: Builder, x: int, channels: int, stride: int) -> int:
    """Bi-Real's shortcut: average pool, 32-bit 1x1 convolution, batch norm where sizes change."""
    if stride == 1 and b.channels(x) == channels:
        return x
    if stride > 1:
        x = b.add(avg_pool_op(stride, stride), x, name="shortcut_pool")
    return norm(b, conv(b, x, channels, 1, name="shortcut_conv"), "shortcut_norm")


def strided_shortcut(b: Builder, x: int, channels: int, stride: int) -> int:
    """ResNet's shortcut: 32-bit 1x1 convolution with a stride, batch norm where sizes change."""
    if stride == 1 and b.channels(x) == channels:
        return x
    return norm(b, conv(b, x, channels, 1, stride=stride, name="shortcut_conv"), "shortcut_norm")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Residual(Block):
    """Parameters of the residual blocks.

    Attributes:
        channels: Filters.
        stride: Of the convolution.
    """

    channels: int
    stride: int = 1

    def check(self) -> None:
        """Sane sizes."""
        check_channels("channels", self.channels)
        check_range("stride", self.stride, 1, 2)


@blocks.register("bireal")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BiReal(_Residual):
    """Quantise, 3x3 convolution, batch norm, plus a shortcut of its own.

    Attributes:
        precision: Bits of the convolution.
        shortcut_bits: Bits in which the feature map is stored.
        padding_value: What a one-bit input is padded with: 0 (Bi-Real) or -1 (ResNetE).

    References:
        Liu et al. 2018, Bi-Real Net (arXiv:1808.00278).
    """

    kind: ClassVar[str] = "bireal"
    symbol: ClassVar[str] = "B"
    precision: Precision = BINARY
    shortcut_bits: int = 32
    padding_value: float = 0.0

    def check(self) -> None:
        """Known widths and padding."""
        _Residual.check(self)
        check_storage("shortcut_bits", self.shortcut_bits)
        if self.padding_value not in (-1.0, 0.0, 1.0):
            raise InvalidValue(f"padding_value must be -1, 0 or 1, but is {self.padding_value}.")

    def build(self, b: Builder, x: int) -> int:
        """``channels`` channels, ``stride`` times fewer rows and columns."""
        shortcut = pooled_shortcut(b, x, self.channels, self.stride)
        y = quantize(b, x, self.precision.input)
        y = conv(
            b,
            y,
            self.channels,
            3,
            stride=self.stride,
            weight=self.precision.weight,
            padding_value=self.padding_value,
        )
        y = b.add(ADD, norm(b, y), shortcut, name="add")
        return store(b, y, self.shortcut_bits, normalised=True)


@blocks.register("gated")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gated(_Residual):
    """Real-to-Binary's block: a gate computed from the input scales the binary convolution.

    norm, sign, 3x3 convolution, times gate, PReLU, plus shortcut; the gate is global average pool,
    linear to c/8, ReLU, linear to the filters, sigmoid, both without bias.

    Attributes:
        precision: Bits of the 3x3 convolution.
        reduction: Divides the channels inside the gate.
        scaling: "gate", or "outer" for XNOR-Net++'s learned factors per channel, row and column in
            its place, which is the paper's Strong Baseline.

    References:
        Martinez et al. 2020, Real-to-Binary (arXiv:2003.11535), Sec. 4.1 and Fig. 1.
    """

    kind: ClassVar[str] = "gated"
    symbol: ClassVar[str] = "G"
    precision: Precision = BINARY
    reduction: int = 8
    scaling: str = added("gate")

    def check(self) -> None:
        """A sane reduction, a known scaling."""
        _Residual.check(self)
        check_range("reduction", self.reduction, 1, 64)
        if self.scaling not in ("gate", "outer"):
            raise InvalidValue(f"scaling must be 'gate' or 'outer', but is {self.scaling!r}.")

    def build(self, b: Builder, x: int) -> int:
        """``channels`` channels, ``stride`` times fewer rows and columns."""
        shortcut = pooled_shortcut(b, x, self.channels, self.stride)
        x = norm(b, x)
        gate = self._gate(b, x) if self.scaling == "gate" else None
        y = quantize(b, x, self.precision.input)
        y = conv(b, y, self.channels, 3, stride=self.stride, weight=self.precision.weight)
        y = b.add(OUTER, y, name="factors") if gate is None else b.add(MUL, y, gate, name="gate")
        return b.add(ADD, b.add(PRELU, y, name="prelu"), shortcut, name="add")

    def _gate(self, b: Builder, x: int) -> int:
        gate = b.add(GlobalAvgPool(), x, name="gate_pool")
        inner = max(1, b.channels(x) // self.reduction)
        gate = b.add(RELU, conv(b, gate, inner, 1, name="gate_squeeze"), name="gate_relu")
        gate = conv(b, gate, self.channels, 1, name="gate_excite")
        return b.add(Sigmoid(), gate, name="gate_sigmoid")


@cache
def _shift(initial: float) -> Shift:
    return Shift(initial=initial)


def _spaced(i: int, count: int) -> float:
    """The i-th of ``count`` evenly spaced values in [-1, 1]."""
    return 0.0 if count == 1 else -1 + 2 * i / (count - 1)


@blocks.register("multi_base")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MultiBase(_Residual):
    """ABC-Net's convolution: several binary bases of one latent weight tensor.

    The sum over weight bases i and activation bases j of ``a_ij conv(B_i, A_j)``, batch norm,
    plus shortcut; where sizes change, the shortcut's 1x1 convolution has bases too. Each activation
    base is the sign of a shifted input; the learned shifts start evenly spaced in [-1, 1], as the
    weights' u do.

    Attributes:
        weight_bases: M, binary tensors derived from one latent tensor.
        activation_bases: N, binary maps derived from one input.
        precision: 1/1, or 32/32: the twin has one convolution for the sum over the bases.

    References:
        Lin et al. 2017, ABC-Net (arXiv:1711.11294), Eqs. (3) to (6).
    """

    kind: ClassVar[str] = "multi_base"
    symbol: ClassVar[str] = "M"
    weight_bases: int = 5
    activation_bases: int = 5
    precision: Precision = added(BINARY)

    def check(self) -> None:
        """1 to 8 bases, a known precision."""
        _Residual.check(self)
        check_range("weight_bases", self.weight_bases, 1, 8)
        check_range("activation_bases", self.activation_bases, 1, 8)
        if self.precision not in (BINARY, FULL):
            raise InvalidValue(
                "precision must be 1/1 or 32/32, without quantizers of its own, but is "
                f"{self.precision.label}; the bases bring their quantizers."
            )

    def build(self, b: Builder, x: int) -> int:
        """``channels`` channels, ``stride`` times fewer rows and columns."""
        shortcut = x
        if self.stride > 1 or b.channels(x) != self.channels:
            shortcut = norm(b, self._convolved(b, x, 1, "shortcut_"), "shortcut_norm")
        return b.add(ADD, norm(b, self._convolved(b, x, 3)), shortcut, name="add")

    def _convolved(self, b: Builder, x: int, kernel_size: int, prefix: str = "") -> int:
        if self.precision == FULL:
            name = f"{prefix}conv"
            return conv(b, x, self.channels, kernel_size, stride=self.stride, name=name)
        total = latent = None
        for j in range(self.activation_bases):
            shift = _shift(_spaced(j, self.activation_bases))
            codes = b.add(shift, x, name=f"{prefix}shift{j}")
            codes = quantize(b, codes, name=f"{prefix}sign{j}")
            for i in range(self.weight_bases):
                op = Conv2d(
                    out_channels=self.channels,
                    kernel_size=kernel_size,
                    stride=self.stride,
                    padding=kernel_size // 2,
                    weight=ShiftedSign(u=_spaced(i, self.weight_bases)),
                )
                y = b.add(op, codes, name=f"{prefix}conv{i}_{j}", latent=latent)
                latent = y if latent is None else latent
                y = b.add(Scale(per_channel=False), y, name=f"{prefix}scale{i}_{j}")
                if total is not None:
                    y = b.add(ADD, total, y, name=f"{prefix}sum{i}_{j}")
                total = y
        # both counts of bases are at least 1
        return x if total is None else total


@blocks.register("resnet")
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ResNet(_Residual):
    """The basic block: two 3x3 convolutions, one shortcut; k-bit networks quantise the 3x3s.

    The shortcut's 1x1 convolution stays at 32 bits: so counted, binary and ternary ResNets have
    their published sizes.

    Attributes:
        precision: Bits of the 3x3 convolutions. Their inputs come from a ReLU, so that one-bit
            signs, which would all be +1, are refused.

    References:
        He et al. 2016, ResNet (arXiv:1512.03385).
    """

    kind: ClassVar[str] = "resnet"
    symbol: ClassVar[str] = "R"
    precision: Precision = added(FULL)

    def check(self) -> None:
        """Inputs that a ReLU leaves something of."""
        _Residual.check(self)
        if self.precision.input.domain is Domain.BIPOLAR:
            raise InvalidValue(
                "The inputs of a 'resnet' block are positive, so activations must have 2 or more "
                f"bits, but the quantizer is {self.precision.input.kind!r}."
            )

    def build(self, b: Builder, x: int) -> int:
        """``channels`` channels, ``stride`` times fewer rows and columns."""
        shortcut = strided_shortcut(b, x, self.channels, self.stride)
        weight, given = self.precision.weight, self.precision.input
        y = quantize(b, x, given, "quantize1")
        y = conv(b, y, self.channels, 3, stride=self.stride, weight=weight, name="conv1")
        y = b.add(RELU, norm(b, y, "norm1"), name="relu1")
        y = quantize(b, y, given, "quantize2")
        y = norm(b, conv(b, y, self.channels, 3, weight=weight, name="conv2"), "norm2")
        return b.add(RELU, b.add(ADD, y, shortcut, name="add"), name="relu2")
