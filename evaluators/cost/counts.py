"""Counting operations, parameters and size, by each paper's convention.

=============  ==============================================================================
convention     rule
=============  ==============================================================================
``hpi``        convolutions only (no classifier); OPs = BOPs/64 + FLOPs; a batch norm has 2
               parameters per channel; size in MiB (BinaryDenseNet, ResNetE, MeliusNet)
``reactnet``   as ``hpi``, with the classifier in FLOPs (ReActNet, Bi-Real)
``larq``       every MAC by the precision of its operands, classifier and blur included; no OPs
``full``       every MAC, a w x a-bit one as w*a/64; plus element-wise work, reported apart
``fvbitcore``  every MAC of a b-bit layer as b/32 of a FLOP, b the wider of its weight and input;
               a batch norm 2 FLOPs per value (1 without a learned scale); all parameters of such
               a layer have b bits, all others 32; a latent weight with several bases counts once
=============  ==============================================================================

A MAC is one operation. With 32 (or 16) bits on either side it is a FLOP; else it is a BOP. ``hpi``
and ``reactnet`` divide BOPs by 64 whatever the width, which no paper defines for more than one
bit: such a count is marked ``extended``, and a search goes by ``full``.

What the fields mean by ``fvbitcore``: ``flops`` are the MACs that are FLOPs and the batch norms,
``bops`` the other MACs, so the tool's "#flops" is their sum; ``ops`` is its "#speed up flops". The
tool also counts one FLOP per input value where a model calls torch's adaptive average pool, which
depends on how the model is written and is left out here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from bitfront.evaluators.cost.packing import packed, unpacked
from bitfront.evaluators.cost.sums import sums_of
from bitfront.evaluators.cost.tally import Tally, tally
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.graph import Facts, Graph, Node
from bitfront.spaces.plan import Plan

CONVENTIONS: Final = ("hpi", "reactnet", "larq", "full", "fvbitcore")
BITS_PER_MIB: Final = 8 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What one convention counts for one sample.

    Attributes:
        convention: Name of the convention.
        params: Parameters; 2 per channel of a batch norm; several bases of one latent weight
            count each, since each is stored. ``fvbitcore`` counts what is trained instead.
        params_binary: Parameters stored with fewer than 16 bits.
        flops: Floating-point MACs.
        bops: Quantised MACs; in ``full`` each times its weight and input bits.
        ops: The convention's sum of both; None where it has no such sum.
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


_OPS: dict[Facts, int] = {}
_LIMIT: Final = 500_000


def _tally_of(graph: Graph) -> Tally:
    """Sum over all op applications; one that is met for the first time is remembered."""
    total = 0
    for node in graph.nodes:
        found = _OPS.get(node[4])
        if found is None:
            if len(_OPS) >= _LIMIT:
                _OPS.clear()
            found = _OPS[node[4]] = packed(tally(node))
        total += found
    return Tally._make(unpacked(total, len(Tally._fields)))


def count(graph: Graph, convention: str = "hpi", *, plan: Plan | None = None) -> Counts:
    """Count a lowered network by a convention.

    Args:
        graph: The lowered network.
        convention: One of ``CONVENTIONS``.
        plan: Of the graph, where it is at hand: counting is then faster, the figures are the same.

    Raises:
        InvalidValue: If the convention is unknown.

    References:
        BMXNet v2 ``print_summary`` for ``hpi``; larq ``models.summary`` for ``larq``; the authors'
        answers in ReActNet's issues 1, 17, 19 and 23 for ``reactnet``; hpi-xnor/fvbitcore
        ``flop_count_table`` for ``fvbitcore``.
    """
    if convention not in CONVENTIONS:
        known = ", ".join(CONVENTIONS)
        raise InvalidValue(f"The convention must be one of {known}, but is {convention!r}.")
    t = _tally_of(graph) if plan is None else sums_of(plan).tally
    if convention == "fvbitcore":
        return _fvbitcore(graph, t)
    params, params_binary, param_bits = t.params, t.params_binary, t.param_bits
    stored: dict[int, set[object]] = {}
    for index in graph.shared:
        # a base derived from another node's weights is stored once per distinct code
        node = graph.nodes[index]
        seen = stored.setdefault(node.latent, {_stored_code(graph.nodes[node.latent])})
        code = _stored_code(node)
        if code in seen:
            again = tally(node)
            params -= again.params
            params_binary -= again.params_binary
            param_bits -= again.param_bits
        seen.add(code)
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


def _stored_code(node: Node) -> object:
    """What a file holds of a layer's weights: the codes of their quantizer."""
    weight = getattr(node.op, "weight", None)
    return node.op if weight is None else weight.stored


def _fvbitcore(graph: Graph, t: Tally) -> Counts:
    params, binary, bits = t.fv_params, t.fv_binary, t.fv_param_bits
    for index in graph.shared:
        again = tally(graph.nodes[index])
        params -= again.fv_params
        binary -= again.fv_binary
        bits -= again.fv_param_bits
    return Counts(
        convention="fvbitcore",
        params=params,
        params_binary=binary,
        flops=t.conv_float + t.linear_float + t.other_float + t.fv_norm,
        bops=t.conv_code + t.linear_code,
        ops=t.fv_mac_bits / 32 + t.fv_norm,
        size_mib=bits / BITS_PER_MIB,
        elementwise=t.elementwise,
        extended=False,
    )
