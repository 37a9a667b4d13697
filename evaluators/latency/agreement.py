"""How well sums of layer times agree with networks that were timed end to end."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import sqrt
from typing import NamedTuple


class Agreement(NamedTuple):
    """Of pairs (sum over the table, end to end).

    Attributes:
        networks: Number of pairs.
        mean_error: Mean of ``|sum / whole - 1|``.
        worst_error: Largest of these.
        bias: Mean of ``sum / whole - 1``.
        kendall_tau: Rank correlation tau-b; None below two networks, or where all are equal.
    """

    networks: int
    mean_error: float
    worst_error: float
    bias: float
    kendall_tau: float | None


def agreement(pairs: Sequence[tuple[float, float]]) -> Agreement | None:
    """Compare predicted with measured latencies, all positive; None without a pair."""
    if not pairs:
        return None
    errors = [predicted / measured - 1 for predicted, measured in pairs]
    sizes = [abs(error) for error in errors]
    count = len(pairs)
    return Agreement(count, sum(sizes) / count, max(sizes), sum(errors) / count, _tau(pairs))


def _tau(pairs: Sequence[tuple[float, float]]) -> float | None:
    # tau-b = (concordant - discordant) / sqrt(pairs untied in x * pairs untied in y)
    balance = untied_x = untied_y = 0
    for (x, y), (u, v) in combinations(pairs, 2):
        across, up = (x > u) - (x < u), (y > v) - (y < v)
        balance += across * up
        untied_x += across != 0
        untied_y += up != 0
    return balance / sqrt(untied_x * untied_y) if untied_x and untied_y else None
