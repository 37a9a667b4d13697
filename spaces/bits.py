"""Bits and quantizers of the space ``field``, asked for and read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Final

from bitfront.spaces.bodies import Body
from bitfront.spaces.choose import Choose
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.precision import BINARY, Precision, precision_of
from bitfront.spaces.quantizers import (
    IDENTITY,
    SIGN,
    SIGN_WEIGHT,
    DoReFa,
    DoReFaWeight,
    HalfWave,
    Heaviside,
    LqNet,
    LqNetWeight,
    Lsq,
    LsqWeight,
    MagnitudeSign,
    Pact,
    Quantizer,
    RSign,
    Syq,
    Ternary,
    TernaryScaled,
    Ttq,
    XnorSign,
)
from bitfront.spaces.questions import STAGE_BITS, Answers, anchors_of

BITS: Final = ("binary", "mixed", "uniform")
STAGE_CODES: Final = (2, 4)
UNIFORM_WEIGHTS: Final = (1, 2, 3, 4, 8)
UNIFORM_INPUTS: Final = (1, 2, 3, 4, 8, 32)
UNIFORM_CODES: Final = (2, 3, 4, 8, 32)


def _weights(bits: int) -> dict[str, Quantizer]:
    return {
        "dorefa": DoReFaWeight(width=bits),
        "lsq": LsqWeight(width=bits),
        "lq_net": LqNetWeight(width=bits),
    }


def _inputs(bits: int) -> dict[str, Quantizer]:
    return {
        "dorefa": DoReFa(width=bits),
        "pact": Pact(width=bits),
        "lsq": Lsq(width=bits),
        "lq_net": LqNet(width=bits),
        "hwgq": HalfWave(width=bits),
    }


WEIGHTS: Final[Mapping[int, Mapping[str, Quantizer]]] = {
    1: {
        "sign": SIGN_WEIGHT,
        "magnitude_sign": MagnitudeSign(),
        "xnor_sign": XnorSign(),
        "lq_net": LqNetWeight(width=1),
        "syq": Syq(width=1),
    },
    2: {
        **_weights(2),
        "syq": Syq(width=2),
        "ternary": Ternary(),
        "twn": TernaryScaled(),
        "ttq": Ttq(),
    },
    3: _weights(3),
    4: _weights(4),
    8: {"dorefa": DoReFaWeight(width=8), "lsq": LsqWeight(width=8)},
}
INPUTS: Final[Mapping[int, Mapping[str, Quantizer]]] = {
    1: {"sign": SIGN, "rsign": RSign(), "heaviside": Heaviside()},
    2: {**_inputs(2), "ternary": Ternary(), "tbn": Ternary(threshold=0.5, relative=True)},
    3: _inputs(3),
    4: _inputs(4),
    8: {"dorefa": DoReFa(width=8), "pact": Pact(width=8), "lsq": Lsq(width=8)},
    32: {"identity": IDENTITY},
}

_precision = cache(precision_of)


def ask_precisions(
    choose: Choose, names: Sequence[str], bodies: Sequence[Body], convolutions: Sequence[int]
) -> list[Precision]:
    """Bits of each stage, and the quantizers of each width that occurs.

    Args:
        choose: Answers.
        names: Of the stages.
        bodies: Of the stages.
        convolutions: Quantised ones of each stage.
    """
    widths = _ask_widths(choose, names, bodies, convolutions)
    free = [pair for pair, body in zip(widths, bodies, strict=True) if body.bits != "own"]
    weights = _ask_quantizers(choose, "weights", WEIGHTS, [pair[0] for pair in free])
    inputs = _ask_quantizers(choose, "inputs", INPUTS, [pair[1] for pair in free])
    return [
        BINARY if body.bits == "own" else _precision(weights[pair[0]], inputs[pair[1]])
        for pair, body in zip(widths, bodies, strict=True)
    ]


def _ask_widths(
    choose: Choose, names: Sequence[str], bodies: Sequence[Body], convolutions: Sequence[int]
) -> list[tuple[int, int]]:
    """Bits of the weights and of the inputs, stage by stage."""
    needs = [body.bits for body in bodies]
    if all(need == "own" for need in needs):
        return [(1, 1)] * len(needs)
    # without a stage that can be binary there is nothing but one width for all
    bits = choose.option("bits", BITS) if "any" in needs else "uniform"
    if bits == "uniform":
        weights = choose.ordered("weight_bits", UNIFORM_WEIGHTS)
        if "codes" in needs:
            return [(weights, choose.ordered("code_bits", UNIFORM_CODES))] * len(needs)
        return [(weights, choose.ordered("activation_bits", UNIFORM_INPUTS))] * len(needs)
    binary = set(range(len(needs)))
    if bits == "mixed":
        binary = anchors_of(
            [0 if need == "codes" else n for need, n in zip(needs, convolutions, strict=True)]
        )
    widths = []
    for s, (name, need) in enumerate(zip(names, needs, strict=True)):
        if need == "codes":
            weights = choose.ordered(f"{name}.weight_bits", STAGE_BITS)
            widths.append((weights, choose.ordered(f"{name}.code_bits", STAGE_CODES)))
        elif need == "own" or s in binary:
            widths.append((1, 1))
        else:
            weights = choose.ordered(f"{name}.weight_bits", STAGE_BITS)
            widths.append((weights, choose.ordered(f"{name}.activation_bits", STAGE_BITS)))
    return widths


def _ask_quantizers(
    choose: Choose,
    side: str,
    known: Mapping[int, Mapping[str, Quantizer]],
    widths: Sequence[int],
) -> dict[int, Quantizer]:
    chosen = {}
    for bits in dict.fromkeys(widths):
        options = known[bits]
        names = tuple(options)
        # a question with one answer is none
        name = names[0] if len(names) == 1 else choose.option(f"{bits}bit.{side}", names)
        chosen[bits] = options[name]
    return chosen


def read_precisions(
    names: Sequence[str], bodies: Sequence[Body], precisions: Sequence[Precision]
) -> Answers:
    """The answers to ``ask_precisions`` that give the stages these precisions."""
    asked = [
        (name, body.bits, precision)
        for name, body, precision in zip(names, bodies, precisions, strict=True)
        if body.bits != "own"
    ]
    widths = [(p.weights, p.activations) for _, _, p in asked]
    if all(
        pair == (1, 1) for pair, (_, need, _) in zip(widths, asked, strict=True) if need == "any"
    ):
        yield "bits", "binary"
    else:
        yield "bits", "mixed" if len(set(widths)) > 1 else "uniform"
    for name, _, precision in asked:
        for prefix in ("", f"{name}."):
            yield f"{prefix}weight_bits", precision.weights
            yield f"{prefix}code_bits", precision.activations
            yield f"{prefix}activation_bits", precision.activations
        yield from _read_quantizer("weights", WEIGHTS, precision.weight)
        yield from _read_quantizer("inputs", INPUTS, precision.input)


def _read_quantizer(
    side: str, known: Mapping[int, Mapping[str, Quantizer]], quantizer: Quantizer
) -> Answers:
    bits = quantizer.bits
    if bits not in known:
        raise InvalidValue(f"{side} have one of {', '.join(map(str, known))} bits, not {bits}.")
    for name, option in known[bits].items():
        if option == quantizer:
            yield f"{bits}bit.{side}", name
            return
    raise InvalidValue(
        f"{bits}-bit {side} are quantised by one of {', '.join(known[bits])}, but these by "
        f"{quantizer}."
    )
