"""What the steps of a plan add up to: the tally behind the counts, the demand behind the energy.

Networks of one search share most of their steps, so the amounts of a step are remembered by its
signature. The sums of the latest plan are kept: a search asks for several of its costs in turn.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from bitfront.evaluators.cost.demand import (
    FIRST_OPERATION,
    Demand,
    demand,
    step_amounts,
)
from bitfront.evaluators.cost.packing import unpacked
from bitfront.evaluators.cost.tally import Tally
from bitfront.spaces.plan import Plan


class Sums(NamedTuple):
    """Sums over all steps of a plan.

    Attributes:
        plan: What was summed.
        tally: Figures behind every counting convention.
        whole: Operations, reads and loads.
        working_sets: Per step, bits of a main layer's stored input and output together.
    """

    plan: Plan
    tally: Tally
    whole: Demand
    working_sets: tuple[int, ...]


_STEPS: dict[tuple[object, ...], tuple[int, int]] = {}
_LIMIT: Final = 500_000
_latest: list[Sums] = []


def sums_of(plan: Plan) -> Sums:
    """Sum up a plan."""
    if _latest and _latest[0].plan is plan:
        return _latest[0]
    steps, working_sets = zip(*_steps_of(plan), strict=True)
    amounts = unpacked(sum(steps), FIRST_OPERATION)
    tally = Tally._make(amounts[: len(Tally._fields)])
    sums = Sums(plan, tally, demand(amounts), working_sets)
    _latest[:] = [sums]
    return sums


def demands_of(plan: Plan) -> list[Demand]:
    """What every step of a plan does."""
    return [
        demand(unpacked(amounts, FIRST_OPERATION), working_set)
        for amounts, working_set in _steps_of(plan)
    ]


def _steps_of(plan: Plan) -> list[tuple[int, int]]:
    known = _STEPS.get
    rows = [known(group[6]) for group in plan.groups]
    if None in rows:
        if len(_STEPS) >= _LIMIT:
            _STEPS.clear()
        for step, row in enumerate(rows):
            if row is None:
                group = plan.groups[step]
                rows[step] = _STEPS[group.signature] = step_amounts(plan, group)
    return rows  # type: ignore[return-value]  # none is None any more
