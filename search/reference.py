"""The reference of a study: the worst costs that count, fixed when it is created."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from bitfront.evaluators.hardware.profile import load_profile
from bitfront.evaluators.latency import MissingLayers
from bitfront.evaluators.measurement import Measurement
from bitfront.search.config import SearchConfig
from bitfront.search.layers import LayerSource, costs_of
from bitfront.search.stopping import Interrupted
from bitfront.spaces import RandomChoose, Task, spaces
from bitfront.spaces.errors import InfeasibleArchitecture

SAMPLES: Final = 64
MARGIN: Final = 1.1


def worst_costs(
    config: SearchConfig,
    task: Task,
    layers: LayerSource | None = None,
    keep_on: Callable[[], bool] = lambda: True,
) -> dict[str, float]:
    """The reference of each objective that is minimised, fixed when a study is created.

    1.1 x the largest cost among 64 random candidates of the space, drawn with the study's
    seed; where a constraint bounds the objective more tightly, 1.1 x that bound.

    Args:
        config: Of the search.
        task: What the space is asked for.
        layers: Of the latency, where it is needed; missing ones are timed.
        keep_on: Asked between the candidates.

    Raises:
        Interrupted: If ``keep_on`` says no.
        InfeasibleArchitecture: If no sampled candidate can be built.
        MissingLayers: If none of them can be costed by a layer table of elsewhere.
    """
    hardware = load_profile(config.hardware) if config.hardware else None
    rows: list[dict[str, Measurement]] = []
    failure: InfeasibleArchitecture | MissingLayers | None = None
    for index in range(SAMPLES):
        if not keep_on():
            raise Interrupted(
                "Interrupted before the study was begun; layers that were timed are kept, and the "
                "same command goes on from there."
            )
        choose = RandomChoose(f"{config.seed}:reference:{index}")
        try:
            candidate = spaces[config.space](choose, task)
            rows.append(costs_of(candidate.architecture, hardware, layers))
        except (InfeasibleArchitecture, MissingLayers) as error:
            failure = error
    if not rows and failure is not None:
        raise failure
    worst = {}
    for objective in config.targets:
        if objective.direction == "minimize":
            largest = max(row[objective.name].value for row in rows)
            bounds = [
                c.bound
                for c in config.constraints
                if c.objective == objective.name and c.is_upper and c.bound > 0
            ]
            worst[objective.name] = MARGIN * min([largest, *bounds])
    return worst
