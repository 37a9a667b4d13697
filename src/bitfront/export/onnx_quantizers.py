"""The ONNX form of every activation quantizer.

A form computes what ``q`` computes, operation by operation where both round: a level of the file is
the network's to the last bit. Learned parameters are constants of the file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

from onnx import TensorProto

from bitfront.export.onnx_graph import Emitter
from bitfront.spaces.graph import Node
from bitfront.spaces.quantizers import (
    DoReFa,
    HalfWave,
    LqNet,
    Lsq,
    MultiSign,
    Pact,
    Quantizer,
    Symmetric,
    Ternary,
)
from bitfront.spaces.quantizers.learned import MIN_STEP
from bitfront.spaces.registry import Registry

QuantizerForm = Callable[[Emitter, Node, Quantizer, str], object]
"""Computes ``emitter.name(node)``, the value of a quantize node, from a tensor."""

quantizer_forms: Final[Registry[QuantizerForm]] = Registry("ONNX form of a quantizer")


@quantizer_forms.register("identity")
def _identity(e: Emitter, node: Node, quantizer: Quantizer, x: str) -> None:
    e.add("Identity", x, out=e.name(node))


@quantizer_forms.register("half")
def _half(e: Emitter, node: Node, quantizer: Quantizer, x: str) -> None:
    out = e.name(node)
    x = e.add("Clip", x, e.constant(-65504), e.constant(65504), out=f"{out}.clipped")
    x = e.add("Cast", x, out=f"{out}.half", to=TensorProto.FLOAT16)
    e.add("Cast", x, out=out, to=TensorProto.FLOAT)


def _sign(e: Emitter, node: Node, quantizer: Quantizer, x: str) -> None:
    _signs(e, x, e.constant(0), e.name(node))


for kind in ("sign", "approx_sign", "swish_sign", "progressive_sign"):
    quantizer_forms.register(kind)(_sign)


@quantizer_forms.register("rsign")
def _rsign(e: Emitter, node: Node, quantizer: Quantizer, x: str) -> None:
    shape = [-1, *[1] * (len(node.type.shape) - 1)]
    _signs(e, x, e.parameter(node, "threshold", shape), e.name(node))


@quantizer_forms.register("multi_sign")
def _multi_sign(e: Emitter, node: Node, quantizer: Quantizer, x: str) -> None:
    out = e.name(node)
    shifts = cast(MultiSign, quantizer).shifts()
    shifted = [
        e.add("Add", x, e.constant(s), out=f"{out}.shifted{j}") for j, s in enumerate(shifts)
    ]
    slices = e.add("Concat", *shifted, out=f"{out}.slices", axis=1)
    _signs(e, slices, e.constant(0), out)


def _signs(e: Emitter, x: str, threshold: str, out: str) -> None:
    """+1 from the threshold on, else -1."""
    positive = e.add("GreaterOrEqual", x, threshold, out=f"{out}.positive")
    e.add("Where", positive, e.constant(1), e.constant(-1), out=out)


@quantizer_forms.register("heaviside")
def _heaviside(e: Emitter, node: Node, quantizer: Quantizer, x: str) -> None:
    out = e.name(node)
    positive = e.add("GreaterOrEqual", x, e.constant(0), out=f"{out}.positive")
    e.add("Cast", positive, out=out, to=TensorProto.FLOAT)


@quantizer_forms.register("ternary")
def _ternary(e: Emitter, node: Node, quantizer: Quantizer, x: str) -> None:
    ternary, out = cast(Ternary, quantizer), e.name(node)
    cut = e.constant(ternary.threshold)
    if ternary.relative:
        axes = e.integers(*range(1, len(node.type.shape) + 1))
        mean = e.add("Abs", x, out=f"{out}.magnitude")
        mean = e.add("ReduceMean", mean, axes, out=f"{out}.mean", keepdims=1)
        cut = e.add("Mul", mean, cut, out=f"{out}.cut")
    above = e.add("Greater", x, cut, out=f"{out}.above")
    below = e.add("Less", x, e.add("Neg", cut, out=f"{out}.low"), out=f"{out}.below")
    rest = e.add("Where", below, e.constant(-1), e.constant(0), out=f"{out}.rest")
    e.add("Where", above, e.constant(1), rest, out=out)


@quantizer_forms.register("dorefa")
def _dorefa(e: Emitter, node: Node, quantizer: Quantizer, x: str) -> None:
    out = e.name(node)
    n = e.constant(2 ** cast(DoReFa, quantizer).width - 1)
    x = e.add("Clip", x, e.constant(0), e.constant(1), out=f"{out}.clipped")
    e.add("Div", _rounded(e, x, n, out), n, out=out)


@quantizer_forms.register("symmetric")
def _symmetric(e: Emitter, node: Node, quantizer: Quantizer, x: str) -> None:
    symmetric, out = cast(Symmetric, quantizer), e.name(node)
    n, limit = e.constant(2 ** (symmetric.width - 1) - 1), e.constant(symmetric.limit)
    x = e.add("Div", x, limit, out=f"{out}.share")
    x = e.add("Clip", x, e.constant(-1), e.constant(1), out=f"{out}.clipped")
    x = e.add("Div", _rounded(e, x, n, out), n, out=f"{out}.level")
    e.add("Mul", x, limit, out=out)


def _rounded(e: Emitter, x: str, n: str, out: str) -> str:
    """``round(n x)``, the number of the level."""
    return e.add("Round", e.add("Mul", x, n, out=f"{out}.steps"), out=f"{out}.code")


@quantizer_forms.register("hwgq")
def _hwgq(e: Emitter, node: Node, quantizer: Quantizer, x: str) -> None:
    wave, out = cast(HalfWave, quantizer), e.name(node)
    step = e.constant(wave.step)
    steps = e.add("Div", x, step, out=f"{out}.steps")
    number = e.add("Sub", steps, e.constant(0.5), out=f"{out}.lowered")
    number = e.add("Ceil", number, out=f"{out}.ceiling")
    number = e.add("Clip", number, e.constant(1), e.constant(wave.top), out=f"{out}.code")
    level = e.add("Mul", number, step, out=f"{out}.level")
    positive = e.add("Greater", x, e.constant(0), out=f"{out}.positive")
    e.add("Where", positive, level, e.constant(0), out=out)


@quantizer_forms.register("pact")
def _pact(e: Emitter, node: Node, quantizer: Quantizer, x: str) -> None:
    (alpha,) = e.network.quantizer_parameters(node.index)
    limit, step = (e.constant(v.numpy()) for v in cast(Pact, quantizer).scale(alpha))
    x = e.add("Max", x, e.constant(0), out=f"{e.name(node)}.positive")
    x = e.add("Min", x, limit, out=f"{e.name(node)}.clipped")
    _stepped(e, x, step, e.name(node))


@quantizer_forms.register("lsq")
def _lsq(e: Emitter, node: Node, quantizer: Quantizer, x: str) -> None:
    lsq, out = cast(Lsq, quantizer), e.name(node)
    size, _ = e.network.quantizer_parameters(node.index)
    step = e.constant(size.clamp_min(MIN_STEP).numpy())
    x = e.add("Div", x, step, out=f"{out}.steps")
    x = e.add("Clip", x, e.constant(-lsq.low), e.constant(lsq.high), out=f"{out}.clipped")
    e.add("Mul", e.add("Round", x, out=f"{out}.code"), step, out=out)


def _stepped(e: Emitter, x: str, step: str, out: str) -> None:
    """The nearest multiple of a step."""
    steps = e.add("Div", x, step, out=f"{out}.steps")
    e.add("Mul", e.add("Round", steps, out=f"{out}.code"), step, out=out)


@quantizer_forms.register("lq_net")
def _lq_net(e: Emitter, node: Node, quantizer: Quantizer, x: str) -> None:
    """From the lowest level on, each threshold that is passed gives the next."""
    out = e.name(node)
    (basis,) = e.network.quantizer_parameters(node.index)
    (levels,), _ = cast(LqNet, quantizer).ascending(basis)
    thresholds = (levels[1:] + levels[:-1]) / 2
    level = e.constant(levels[0].numpy())
    for i, threshold in enumerate(thresholds, start=1):
        above = e.add("Greater", x, e.constant(threshold.numpy()), out=f"{out}.above{i}")
        name = out if i == len(thresholds) else f"{out}.level{i}"
        level = e.add("Where", above, e.constant(levels[i].numpy()), level, out=name)
