"""What one op application adds to the counts, before any convention."""

from __future__ import annotations

from typing import NamedTuple

from bitfront.spaces.graph import BUFFERS, Node, Role


class Tally(NamedTuple):
    """What one op application adds, before any convention; ``fv`` is for fvbitcore."""

    params: int
    params_binary: int
    param_bits: int
    elementwise: int
    conv_float: int
    conv_code: int
    conv_bits: int
    linear_float: int
    linear_code: int
    linear_bits: int
    other_float: int
    wide: int
    fv_params: int
    fv_binary: int
    fv_param_bits: int
    fv_norm: int
    fv_mac_bits: int


def tally(node: Node) -> Tally:
    """The figures of one op application."""
    facts, kind = node.facts, node.op.kind
    params = params_binary = param_bits = norm_channels = learned = 0
    scaled = False
    for spec in facts.params:
        if spec.role is Role.STATISTIC:
            norm_channels = spec.count
        elif spec.role is not Role.NORM and spec.role is not Role.BUFFER:
            params += spec.count
            param_bits += spec.count * spec.bits
            if spec.bits < 16:
                params_binary += spec.count
        if spec.role not in BUFFERS:
            learned += spec.count
        scaled = scaled or (spec.role is Role.NORM and spec.name == "weight")
    # a batch norm folds to one factor and one offset per channel, learned or not
    params += 2 * norm_channels
    param_bits += 64 * norm_channels
    quantised = facts.w_bits < 16 and facts.a_bits < 16
    product = facts.w_bits * facts.a_bits
    wider = max(facts.w_bits, facts.a_bits) if facts.macs else 32
    macs = (0, facts.macs, facts.macs * product) if quantised else (facts.macs, 0, 0)
    none = (0, 0, 0)
    elementwise = sum(work.count for work in facts.work)
    return Tally(
        params,
        params_binary,
        param_bits,
        elementwise,
        *(macs if kind == "conv2d" else none),
        *(macs if kind == "linear" else none),
        facts.macs if kind not in ("conv2d", "linear") else 0,
        int(quantised and product > 1),
        fv_params=learned,
        fv_binary=learned if wider < 16 else 0,
        fv_param_bits=learned * wider,
        fv_norm=elementwise * (1 + scaled) if norm_channels else 0,
        fv_mac_bits=facts.macs * wider,
    )
