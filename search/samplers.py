"""Samplers: who answers a space's questions.

A sampler is built anew before every question round, with a seed that follows from the study's seed
and the number of the round. So it keeps nothing that is not in the study's trials, and a study that
is gone on with asks the same as one that was never interrupted.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from bitfront.spaces.choose import Decision, T
from bitfront.spaces.registry import Registry

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.trial import Trial

Factory = Callable[[int], "BaseSampler"]
"""From a seed, 0 <= seed < 2^32, to a sampler of Optuna."""

samplers: Final[Registry[Factory]] = Registry("sampler")


@samplers.register("tpe")
def _tpe(seed: int) -> BaseSampler:
    """Tree-structured Parzen estimators, joint over the parameters that occur together.

    The constant liar keeps parallel workers apart: a trial under way counts as a bad one.
    """
    from optuna.exceptions import ExperimentalWarning
    from optuna.samplers import TPESampler

    with warnings.catch_warnings():
        # grouping is the only way in which Optuna models conditional parameters jointly
        warnings.simplefilter("ignore", ExperimentalWarning)
        return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)


@samplers.register("nsga2")
def _nsga2(seed: int) -> BaseSampler:
    """NSGA-II, an evolution in generations of 50."""
    from optuna.samplers import NSGAIISampler

    return NSGAIISampler(seed=seed)


@samplers.register("random")
def _random(seed: int) -> BaseSampler:
    """Uniformly at random: the yardstick."""
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)


def seed_of(study_seed: int, purpose: str, number: int, *, bits: int = 63) -> int:
    """A seed for one purpose and number of a study, 0 <= seed < 2^bits, bits <= 64."""
    digest = hashlib.sha256(f"{study_seed}:{purpose}:{number}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> (64 - bits)


class OptunaChoose:
    """Answers a space's questions from a trial of Optuna.

    Ordered options reach Optuna as their index, so that neighbours are near.

    Attributes:
        decisions: The answers so far, by name.
    """

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self.decisions: dict[str, Decision] = {}

    def option(self, name: str, options: Sequence[T]) -> T:
        """Choose one of unordered options."""
        chosen: T = self._trial.suggest_categorical(name, list(options))
        return self._kept(name, chosen)

    def ordered(self, name: str, options: Sequence[T]) -> T:
        """Choose one of options that are numbers in ascending order."""
        return self._kept(name, options[self._trial.suggest_int(name, 0, len(options) - 1)])

    def number(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Choose a real number, ``low <= x <= high``, uniformly or in its logarithm."""
        return self._kept(name, float(self._trial.suggest_float(name, low, high, log=log)))

    def _kept(self, name: str, value: T) -> T:
        if name in self.decisions:
            raise ValueError(f"A space asks each name once, but asked {name!r} twice.")
        self.decisions[name] = value
        return value
