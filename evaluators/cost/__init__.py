"""What a network costs before anybody trains it: counts, memory, energy. Pure arithmetic."""

from bitfront.evaluators.cost.counts import CONVENTIONS, Counts, count
from bitfront.evaluators.cost.energy import (
    PJ_PER_MJ,
    SCOPES,
    Energy,
    GroupEnergy,
    estimate_energies,
    estimate_energy,
)
from bitfront.evaluators.cost.memory import peak_memory_bytes

__all__ = [
    "CONVENTIONS",
    "PJ_PER_MJ",
    "SCOPES",
    "Counts",
    "Energy",
    "GroupEnergy",
    "count",
    "estimate_energies",
    "estimate_energy",
    "peak_memory_bytes",
]
