"""Counting operations, parameters and size, by each paper's convention.

============  =================================================================================
convention    rule
============  =================================================================================
``hpi``       convolutions only (no classifier); OPs = BOPs/64 + FLOPs; a batch norm has 2
              parameters per channel; size in MiB (BinaryDenseNet, ResNetE, MeliusNet)
``reactnet``  as ``hpi``, with the classifier in FLOPs (ReActNet, Bi-Real)
``larq``      every MAC by the precision of its operands, classifier and blur included; no OPs
``full``      every MAC, a w x a-bit one as w*a/64; plus element-wise work, reported apart
============  =================================================================================

A MAC is one operation. With 32 (or 16) bits on either side it is a FLOP; else it is a BOP. ``hpi``
and ``reactnet`` divide BOPs by 64 whatever the width, which no paper defines for more than one
bit: such a count is marked ``extended``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.graph import Facts, Graph, Node, Role

CONVENTIONS: Final = ("hpi", "reactnet", "larq", "full")
BITS_PER_MIB: Final = 8 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What one convention counts for one sample.

    Attributes:
        convention: Name of the convention.
        params: Parameters; 2 per channel of a batch norm; several bases of one latent weight
            count each, since each is stored.
        params_binary: Parameters stored with fewer than 16 bits.
        flops: Floating-point MACs.
        bops: Quantised MACs; in ``full`` each times its weight and input bits.
        ops: ``flops + bops / 64``; None where the convention has no such sum.
        size_mib: Size of the parameters.
        elementwise: Element-wise evaluations outside MACs (norms, activations, additions, pools).
        extended: The convention was stretched to widths that no paper defines for it.
    """

    convention: str
    params: int
    params_binary: int
    flops: int
    bops: int
    ops: float | None
    size_mib: float
    elementwise: int
    extended: bool

    def json(self) -> dict[str, Any]:
        """Plain data, unrounded."""
        return asdict(self)


class Tally(NamedTuple):
    """What one op application adds, before any convention."""

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


_TALLIES: dict[Facts, Tally] = {}
_LIMIT: Final = 500_000


def _tally(node: Node) -> Tally:
    facts = node.facts
    params = params_binary = param_bits = norm_channels = 0
    for spec in facts.params:
        if spec.role is Role.STATISTIC:
            norm_channels = spec.count
        elif spec.role is not Role.NORM and spec.role is not Role.BUFFER:
            params += spec.count
            param_bits += spec.count * spec.bits
            if spec.bits < 16:
                params_binary += spec.count
    # a batch norm folds to one factor and one offset per channel, learned or not
    params += 2 * norm_channels
    param_bits += 64 * norm_channels
    quantised = facts.w_bits < 16 and facts.a_bits < 16
    product = facts.w_bits * facts.a_bits
    macs = (0, facts.macs, facts.macs * product) if quantised else (facts.macs, 0, 0)
    none = (0, 0, 0)
    kind = node.op.kind
    tally = Tally(
        params,
        params_binary,
        param_bits,
        sum(work.count for work in facts.work),
        *(macs if kind == "conv2d" else none),
        *(macs if kind == "linear" else none),
        facts.macs if kind not in ("conv2d", "linear") else 0,
        int(quantised and product > 1),
    )
    if len(_TALLIES) >= _LIMIT:
        _TALLIES.clear()
    _TALLIES[facts] = tally
    return tally


def count(graph: Graph, convention: str = "hpi") -> Counts:
    """Count a lowered network by a convention.

    Args:
        graph: The lowered network.
        convention: One of ``CONVENTIONS``.

    Raises:
        InvalidValue: If the convention is unknown.

    References:
        BMXNet v2 ``print_summary`` for ``hpi``; larq ``models.summary`` for ``larq``; the authors'
        answers in ReActNet's issues 1, 17, 19 and 23 for ``reactnet``.
    """
    if convention not in CONVENTIONS:
        known = ", ".join(CONVENTIONS)
        raise InvalidValue(f"The convention must be one of {known}, but is {convention!r}.")
    rows = [_TALLIES.get(node[4]) or _tally(node) for node in graph.nodes]
    t = Tally(*map(sum, zip(*rows, strict=True)))
    params, params_binary, param_bits = t.params, t.params_binary, t.param_bits
    stored: dict[int, set[object]] = {}
    for index in graph.shared:
        # a base derived from another node's weights is stored once per distinct quantizer
        node = graph.nodes[index]
        seen = stored.setdefault(node.latent, {graph.nodes[node.latent].op})
        if node.op in seen:
            params -= rows[index][0]
            params_binary -= rows[index][1]
            param_bits -= rows[index][2]
        seen.add(node.op)
    flops, code_macs, bit_macs = t.conv_float, t.conv_code, t.conv_bits
    if convention != "hpi":
        flops += t.linear_float
        code_macs += t.linear_code
        bit_macs += t.linear_bits
    if convention in ("larq", "full"):
        flops += t.other_float
    bops = bit_macs if convention == "full" else code_macs
    return Counts(
        convention=convention,
        params=params,
        params_binary=params_binary,
        flops=flops,
        bops=bops,
        ops=None if convention == "larq" else flops + bops / 64,
        size_mib=param_bits / BITS_PER_MIB,
        elementwise=t.elementwise,
        extended=t.wide > 0 and convention in ("hpi", "reactnet"),
    )
