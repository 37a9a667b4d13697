"""Optuna's study, in memory: a mirror of the trials in the store that samplers look into.

Our tables are the truth. The mirror is rebuilt from them by ``replay``, trial by trial: its numbers
equal ours because every trial that was asked is a row, refused ones included. What a sampler keeps
for itself (the generations of NSGA-II and their parents) travels in the trial's ``attributes``.

===========  =========  ===================================================================
our state    Optuna's   because
===========  =========  ===================================================================
COMPLETE     COMPLETE   with its values
PRUNED       PRUNED     TPE reads it as a bad trial, NSGA-II not at all
INFEASIBLE   PRUNED     with its violations, which TPE ranks by
DUPLICATE    FAIL       ignored: a copy would count twice
FAILED       FAIL       ignored
RUNNING      RUNNING    TPE's constant liar keeps away from it
===========  =========  ===================================================================
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import optuna
from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, create_trial
from optuna.trial import TrialState as OptunaState

from bitfront.search.record import StudyObjective, TrialRecord, TrialState
from bitfront.search.samplers import samplers, seed_of

STATES: Final = {
    TrialState.COMPLETE: OptunaState.COMPLETE,
    TrialState.PRUNED: OptunaState.PRUNED,
    TrialState.INFEASIBLE: OptunaState.PRUNED,
    TrialState.DUPLICATE: OptunaState.FAIL,
    TrialState.FAILED: OptunaState.FAIL,
    TrialState.RUNNING: OptunaState.RUNNING,
}
# Optuna keeps constraints among the system attributes; ours are stored by themselves
_CONSTRAINT: Final = "constraints"


class Asker:
    """Asks a sampler, and tells it how its proposals ended.

    Args:
        sampler: Name of a registered sampler.
        seed: Of the study.
        objectives: Of the study; values are told in this order.
    """

    def __init__(self, sampler: str, seed: int, objectives: Sequence[StudyObjective]) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._build = samplers[sampler]
        self._seed = seed
        self._objectives = tuple(objectives)
        self._study = optuna.create_study(
            directions=[
                StudyDirection.MINIMIZE if o.is_cost else StudyDirection.MAXIMIZE
                for o in self._objectives
            ],
            sampler=self._sampler(0),
            storage=optuna.storages.InMemoryStorage(),
        )
        self._trials: dict[int, Trial] = {}
        self._asked = 0
        self._shared: dict[str, Any] = {}

    @property
    def asked(self) -> int:
        """Trials so far: the number of the next one."""
        return self._asked

    def ask(self) -> Trial:
        """Begin the next trial; its number is ``trial.number``."""
        self._study.sampler = self._sampler(self._asked)
        trial = self._study.ask()
        self._trials[trial.number] = trial
        self._asked += 1
        return trial

    def attributes(self, trial: Trial) -> dict[str, Any]:
        """What ``replay`` needs of a trial whose questions are all answered; JSON data.

        ``study`` is what the sampler wrote into its study since the last call.
        """
        now = self._shared_now()
        changed = {key: value for key, value in now.items() if self._shared.get(key) != value}
        self._shared = now
        return {
            "parameters": trial.params,
            "distributions": {
                name: json.loads(distribution_to_json(d)) for name, d in trial.distributions.items()
            },
            "system": {
                key: value
                for key, value in self._mirrored(trial.number).system_attrs.items()
                if not key.startswith(_CONSTRAINT)
            },
            "study": changed,
        }

    def constrain(self, number: int, violations: Mapping[str, float]) -> None:
        """Tell violations of a trial under way; each name once, not positive means kept."""
        trial = self._trials[number]
        for name, violation in violations.items():
            trial.set_constraint(name, violation)

    def tell(self, number: int, state: TrialState, values: Mapping[str, float]) -> None:
        """Tell how a trial under way ended.

        Args:
            number: Of the trial.
            state: Ours; not RUNNING.
            values: By objective; read only where the trial is COMPLETE.
        """
        self._study.tell(number, self._ordered(state, values), state=STATES[state])
        del self._trials[number]

    def replay(self, trial: TrialRecord) -> None:
        """Add a trial from the store; in the order of their numbers, without a gap.

        Raises:
            ValueError: If it is not the next one.
        """
        if trial.number != self._asked:
            raise ValueError(f"The next trial must be {self._asked}, but is {trial.number}.")
        attributes = trial.attributes
        values = {m.objective: m.value for m in reversed(trial.measurements)}
        frozen = create_trial(
            state=STATES[trial.state],
            values=self._ordered(trial.state, values),
            params=dict(attributes["parameters"]),
            distributions={
                name: json_to_distribution(json.dumps(d))
                for name, d in attributes["distributions"].items()
            },
            system_attrs=dict(attributes["system"]),
            constraints=dict(trial.constraints),
        )
        self._study.add_trial(frozen)
        self._asked += 1
        storage = self._study._storage
        for key, value in attributes["study"].items():
            storage.set_study_system_attr(self._study._study_id, key, value)
            self._shared[key] = value
        if trial.state is TrialState.RUNNING:
            added = self._mirrored(trial.number)
            self._trials[trial.number] = Trial(self._study, added._trial_id)

    def _mirrored(self, number: int) -> FrozenTrial:
        return self._study.get_trials(deepcopy=False)[number]

    def _ordered(self, state: TrialState, values: Mapping[str, float]) -> list[float] | None:
        if state is not TrialState.COMPLETE:
            return None
        return [values[o.name] for o in self._objectives]

    def _sampler(self, asked: int) -> BaseSampler:
        return self._build(seed_of(self._seed, "sampler", asked, bits=32))

    def _shared_now(self) -> dict[str, Any]:
        return dict(self._study._storage.get_study_system_attrs(self._study._study_id))
