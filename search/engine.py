"""The engine of a search: what to try next, and what became of it. It knows no workers.

Cost first: a proposal is lowered and costed before anything is trained. What cannot be lowered or
violates a constraint is INFEASIBLE, what was trained before or is being trained is a DUPLICATE;
both are rows, and the next one is asked. What is accepted is a RUNNING row before it is handed out,
so whatever happens to this process, the store knows every trial, and a new engine goes on from
there: it replays the rows into the sampler and queues the RUNNING ones again.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Final

from bitfront.evaluators.hardware.profile import load_profile
from bitfront.evaluators.latency import MissingLayers
from bitfront.evaluators.measurement import Measurement
from bitfront.search.asking import Asker
from bitfront.search.config import SearchConfig
from bitfront.search.front import Front, front_of
from bitfront.search.layers import LayerSource, costs_of
from bitfront.search.record import (
    EnergyEntry,
    StudyRecord,
    StudyState,
    TrialPoint,
    TrialRecord,
    TrialState,
    new_trial,
)
from bitfront.search.samplers import OptunaChoose, seed_of
from bitfront.search.store import Store
from bitfront.spaces import Candidate, Task, spaces
from bitfront.spaces.errors import InfeasibleArchitecture

MAX_REFUSED: Final = 200
MAX_FAILED: Final = 20
COUNTED: Final = (TrialState.COMPLETE, TrialState.PRUNED)
_REFUSED: Final = (TrialState.INFEASIBLE, TrialState.DUPLICATE)


def _always() -> bool:
    return True


class Engine:
    """Proposes trials and books their ends.

    Args:
        store: Open for writing; this process drives the study.
        study: To search.
        config: Of the search.
        task: What the space is asked for.
        layers: Of the latency, where it is needed.

    Attributes:
        counts: Trials by state.
        live: Trials that were handed out and have not ended, by number.
        front: Of all trials so far.
    """

    def __init__(
        self,
        store: Store,
        study: StudyRecord,
        config: SearchConfig,
        task: Task,
        layers: LayerSource | None = None,
    ) -> None:
        self._store = store
        self._study = study
        self._config = config
        self._task = task
        self._space = spaces[config.space]
        self._layers = layers
        self._hardware = load_profile(config.hardware) if config.hardware else None
        self._asker = Asker(config.sampler, config.seed, study.objectives)
        self._queue: deque[int] = deque()
        self._known: dict[str, int] = {}
        self._refused: list[TrialRecord] = []
        self._failed: list[TrialRecord] = []
        self.live: dict[int, TrialRecord] = {}
        self.counts: Counter[TrialState] = Counter()
        for trial in store.trials(study.id):
            self._asker.replay(trial)
            self.counts[trial.state] += 1
            if trial.state in (TrialState.COMPLETE, TrialState.RUNNING):
                self._known[trial.candidate_digest or ""] = trial.number
            if trial.state is TrialState.RUNNING:
                self._queue.append(trial.number)
        self._evaluated = list(store.points(study.id, states=[TrialState.COMPLETE]))
        self.front: Front = self._find_front()

    @property
    def counted(self) -> int:
        """Trials that count towards the budget: COMPLETE and PRUNED."""
        return sum(self.counts[state] for state in COUNTED)

    @property
    def under_way(self) -> set[int]:
        """Numbers of the trials that are RUNNING: handed out, or waiting to be queued again."""
        return {*self.live, *self._queue}

    @property
    def is_stuck(self) -> bool:
        """Whether asking on makes no sense: nothing but refusals, or nothing but failures."""
        return len(self._refused) >= MAX_REFUSED or len(self._failed) >= MAX_FAILED

    @property
    def is_over(self) -> bool:
        """Whether nothing is under way and nothing will be proposed."""
        if self.live or self._queue:
            return False
        return self.is_stuck or self.counted >= self._config.trials

    def propose(
        self, keep_on: Callable[[], bool] = _always, *, patience_s: float = 1.0
    ) -> TrialRecord | None:
        """Hand out the next trial to train, which is RUNNING from now on.

        Args:
            keep_on: Asked between proposals; False ends the call.
            patience_s: With trials under way, the caller is needed elsewhere after so long.

        Returns:
            The trial; None if there is none now (``is_over``: and never will be).
        """
        if self._queue:
            trial = self._store.requeue(self._study.id, self._queue.popleft())
            self.live[trial.number] = trial
            return trial
        deadline = time.monotonic() + patience_s
        while (
            self.counted + len(self.live) < self._config.trials
            and not self.is_stuck
            and keep_on()
            and not (self.live and time.monotonic() > deadline)
        ):
            trial = self._ask()
            if trial.state is TrialState.RUNNING:
                self._refused.clear()
                self.live[trial.number] = trial
                return trial
            self._refused.append(trial)
        return None

    def finish(
        self,
        number: int,
        state: TrialState,
        *,
        measurements: Iterable[Measurement] = (),
        error: str = "",
        energy: Iterable[EnergyEntry] = (),
    ) -> TrialRecord:
        """Book the end of a live trial.

        Args:
            number: Of the trial.
            state: COMPLETE, PRUNED or FAILED.
            measurements: Of the training.
            error: Why it failed.
            energy: For the ledger, in the same transaction.

        Returns:
            The trial as it is stored.

        Raises:
            StoreConflict: If it shall be COMPLETE without full fidelity or an objective.
        """
        measured = list(measurements)
        values = {m.objective: m.value for m in measured}
        late = {
            c.text: c.violation(values[c.objective])
            for c in self._config.constraints
            if c.objective in values
        }
        trial = self._store.finish_trial(
            self._study.id,
            number,
            state=state,
            measurements=measured,
            constraints=late,
            error=error,
            energy=energy,
        )
        self._asker.constrain(number, late)
        self._asker.tell(
            number, state, {m.objective: m.value for m in reversed(trial.measurements)}
        )
        del self.live[number]
        self.counts[TrialState.RUNNING] -= 1
        self.counts[state] += 1
        if state is not TrialState.COMPLETE:
            self._known.pop(trial.candidate_digest or "", None)
        if state is TrialState.FAILED:
            self._failed.append(trial)
        else:
            self._failed.clear()
        if trial.is_eligible:
            self._evaluated.append(_without_documents(trial))
            self.front = self._find_front()
        return trial

    def verdict(self) -> tuple[StudyState, str]:
        """Where the study stands, and one sentence for the user."""
        done, wanted = self.counted, self._config.trials
        finished = f"{done} of {wanted} trials are finished"
        waiting = len(self.under_way)
        if waiting:
            finished += f" and {waiting} under way"
        elif done >= wanted:
            return StudyState.FINISHED, f"All {wanted} trials are finished."
        elif len(self._refused) >= MAX_REFUSED:
            return StudyState.EXHAUSTED, f"{finished}; {self._why_refused()}"
        elif len(self._failed) >= MAX_FAILED:
            return (
                StudyState.OPEN,
                f"{finished}, and the last {MAX_FAILED} failed; trial {self._failed[-1].number}: "
                f"{self._failed[-1].error}",
            )
        return StudyState.OPEN, f"{finished}: the same command goes on from there."

    def _why_refused(self) -> str:
        count = Counter(trial.state for trial in self._refused)
        total = len(self._refused)
        if count[TrialState.DUPLICATE] == total:
            return f"the space is exhausted, the last {total} proposals were evaluated before."
        texts = " and ".join(c.text for c in self._config.constraints) or "being buildable"
        if all("layer table" in trial.constraints for trial in self._refused):
            last = self._refused[-1].error
            return f"the last {total} proposals have layers without a time. {last}"
        if count[TrialState.INFEASIBLE] == total:
            return (
                f"{texts} cannot be met, the last {total} proposals violate it"
                f"{self._nearest_miss()}."
            )
        return (
            f"of the last {total} proposals {count[TrialState.INFEASIBLE]} violate {texts} and "
            f"{count[TrialState.DUPLICATE]} were evaluated before."
        )

    def _nearest_miss(self) -> str:
        """The costs of the refused trial that violates the constraints least."""
        missed = [trial for trial in self._refused if trial.measurements]
        if not missed:
            return ""
        nearest = min(missed, key=lambda t: sum(max(0.0, v) for v in t.constraints.values()))
        bounded = dict.fromkeys(c.objective for c in self._config.constraints)
        costs = [m for name in bounded if (m := nearest.measurement(name)) is not None]
        shown = ", ".join(f"{m.objective} {m.value:.4g} {m.unit}" for m in costs)
        return f"; the nearest, trial {nearest.number}, has {shown}"

    def _ask(self) -> TrialRecord:
        """Ask the sampler once; store and return what came of it: RUNNING or refused."""
        asked = self._asker.ask()
        choose = OptunaChoose(asked)
        candidate: Candidate | None = None
        state = TrialState.RUNNING
        error = ""
        costs: dict[str, Measurement] = {}
        violations: dict[str, float] = {}
        duplicate_of: int | None = None
        try:
            candidate = self._space(choose, self._task)
            duplicate_of = self._known.get(candidate.digest)
            costs = costs_of(candidate.architecture, self._hardware, self._layers)
        except InfeasibleArchitecture as reason:
            state, error = TrialState.INFEASIBLE, str(reason)
            violations = {"architecture": 1.0}
        except MissingLayers as reason:
            state, error = TrialState.INFEASIBLE, str(reason)
            violations = {"layer table": 1.0}
        else:
            violations = {
                c.text: c.violation(costs[c.objective].value)
                for c in self._config.constraints
                if c.objective in costs
            }
            broken = [name for name, violation in violations.items() if violation > 0]
            if broken:
                state = TrialState.INFEASIBLE
                error = f"It violates {' and '.join(broken)}."
            elif duplicate_of is not None:
                state = TrialState.DUPLICATE
        trial = new_trial(
            asked.number,
            decisions=choose.decisions,
            candidate=candidate,
            state=state,
            seed=seed_of(self._config.seed, "training", asked.number),
            full_fidelity=self._task.epochs if candidate is None else candidate.recipe.epochs,
            now=time.time(),
            measurements=costs.values(),
            constraints=violations,
            attributes=self._asker.attributes(asked),
            error=error,
            duplicate_of=duplicate_of if state is TrialState.DUPLICATE else None,
        )
        self._store.add_trial(self._study.id, trial)
        self.counts[state] += 1
        self._asker.constrain(trial.number, violations)
        if state is TrialState.RUNNING:
            self._known[trial.candidate_digest or ""] = trial.number
        else:
            self._asker.tell(trial.number, state, {})
        return trial

    def _find_front(self) -> Front:
        return front_of(self._evaluated, self._study.objectives, self._study.reference_point)


def _without_documents(trial: TrialRecord) -> TrialPoint:
    return TrialPoint(**{f.name: getattr(trial, f.name) for f in fields(TrialPoint)})
