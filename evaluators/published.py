"""Published figures of the zoo beside what is counted here, with the difference.

A figure is *reproduced* if the counted value rounds to the printed digits. What else a network's
source counts, or why a figure is known to be off, is data of its entry (``ZooEntry.convention``,
``ZooEntry.mismatches``), so the table, the card of a network and the tests say the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any, Final

from bitfront.evaluators.cost import Counts, count, estimate_energy
from bitfront.evaluators.hardware.profile import load_profile
from bitfront.spaces.graph import Graph, Role
from bitfront.spaces.plan import plan
from bitfront.spaces.zoo import ZooEntry

ENERGY_PROFILE: Final = "boolnet65"
"""All published energies are BoolNet's, of the body between stem and head."""

ENERGY_SLACK: Final = 0.02
"""The profile is a fit: it comes within 2 % of the table that it was fitted to."""

BYTES_PER_UNIT: Final = {"MiB": 2**20, "MB": 10**6}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One published figure and its counted counterpart.

    Attributes:
        figure: Its key in ``Published``.
        unit: Of both values.
        published: As printed.
        counted: Here; None where the convention has no such figure.
        tolerance: Largest difference that the printed digits allow.
        mismatch: Why it is known not to be reproduced; "" if it is expected to be.
    """

    figure: str
    unit: str
    published: float
    counted: float | None
    tolerance: float
    mismatch: str = ""

    @property
    def difference(self) -> float | None:
        """Counted less published."""
        return None if self.counted is None else self.counted - self.published

    @property
    def reproduced(self) -> bool:
        """Whether the counted value rounds to the printed one."""
        # the factor allows for decimal digits that binary floats cannot hold
        return self.difference is not None and abs(self.difference) <= self.tolerance * (1 + 1e-9)

    def json(self) -> dict[str, Any]:
        """Plain data, the derived values included."""
        return {**asdict(self), "difference": self.difference, "reproduced": self.reproduced}


def printed_tolerance(printed: float, *, about: bool = False) -> float:
    """Half a unit of the last digit that was printed; a whole one behind a "~".

    ``4.05`` gives 0.005, ``4.0`` gives 0.05, the integer ``4`` gives 0.5.
    """
    exponent = Decimal(repr(printed)).as_tuple().exponent
    # inf and nan have letters instead
    digits = exponent if isinstance(exponent, int) else 0
    return float(Decimal(10) ** digits) * (1.0 if about else 0.5)


def compare(entry: ZooEntry, graph: Graph | None = None) -> tuple[Comparison, ...]:
    """Count everything that an entry's source prints of its cost.

    Args:
        entry: Of the zoo.
        graph: Its lowered architecture, where that is at hand.

    Returns:
        Its printed figures of cost, in the order of ``Published``; accuracies are not counted.
    """
    graph = entry.architecture().lower() if graph is None else graph
    published: dict[str, Any] = dict(entry.published)
    counts = count(graph, entry.convention)
    unit = published.get("size_unit", "MiB")
    why = {mismatch.figure: mismatch.why for mismatch in entry.mismatches}
    sources: dict[str, tuple[str, Callable[[], float | None]]] = {
        "size_mb": (unit, lambda: _size_bytes(graph, counts) / BYTES_PER_UNIT[unit]),
        "ops_1e8": ("1e8", lambda: None if counts.ops is None else counts.ops / 1e8),
        "energy_mj": ("mJ", lambda: _energy_mj(graph, entry.published_storage_bits)),
        "params": ("", lambda: counts.params),
        "params_1e6": ("1e6", lambda: counts.params / 1e6),
    }
    found = []
    for figure, (unit_, counted) in sources.items():
        printed = published.get(figure)
        if printed is None:
            continue
        tolerance = printed_tolerance(printed, about=figure in published.get("about", ()))
        if figure == "energy_mj":
            tolerance += ENERGY_SLACK * printed
        found.append(
            Comparison(
                figure=figure,
                unit=unit_,
                published=printed,
                counted=counted(),
                tolerance=tolerance,
                mismatch=why.get(figure, ""),
            )
        )
    return tuple(found)


def _size_bytes(graph: Graph, counts: Counts) -> float:
    size = counts.size_mib * 2**20
    if counts.convention == "larq":
        # Larq counts the fixed kernels of a blur too
        specs = [spec for node in graph.nodes for spec in node.facts.params]
        size += sum(4 * spec.count for spec in specs if spec.role is Role.BUFFER)
    return size


def _energy_mj(graph: Graph, storage_bits: int | None) -> float:
    profile = load_profile(ENERGY_PROFILE)
    energy = estimate_energy(plan(graph), profile, scope="body", storage_bits=storage_bits)
    return energy.total_mj
