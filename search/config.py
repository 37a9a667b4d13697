"""The configuration of a search: one validated type, from a TOML file and flags.

Three layers, the later ones win: the defaults (or, for a study that exists, what it was started
with), the file, the flags. ``read_settings`` collects file and flags; ``SearchConfig.resolve`` lays
them over the rest. A study keeps what makes its trials comparable (``FIXED``); how long and with
how many workers to search may change from run to run.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from bitfront.evaluators.hardware.profile import load_profile, profile_names
from bitfront.evaluators.objective import Objective, objectives
from bitfront.evaluators.training.data import datasets
from bitfront.search.carbon import DEFAULT_GRID, DEFAULT_PUE, carbon_g
from bitfront.search.constraint import Constraint, check_together
from bitfront.search.record import MAX_SEED, StudyObjective, check_name
from bitfront.search.samplers import samplers
from bitfront.spaces import spaces
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.value import Value, decode, encode

VERSION: Final = 1
DATA_DIR: Final = "data"
# what a study keeps for good: trials under other settings could not be compared
FIXED: Final = (
    "dataset",
    "space",
    "objectives",
    "hardware",
    "latency",
    "constraints",
    "sampler",
    "epochs",
    "seed",
)
# what names a study rather than describing it; a store may hold a password, so it is not kept
_NAMING: Final = ("study", "store")
_LISTS: Final = ("objectives", "constraints")
_DURATION: Final = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SearchConfig(Value):
    """How to search.

    Attributes:
        study: Name of the study; "" stands for DATASET-SPACE.
        store: A SQLite file or a postgresql:// URL.
        dataset: "digits", "cifar10", "cifar100" or "folder:PATH".
        data_dir: Where archives of data sets lie, and are downloaded to.
        space: Name of the search space.
        objectives: What to optimise; at least one that needs training.
        hardware: Profile for the energy; "" for none.
        latency: "cpu" or "cuda" times layers on this machine; else a layer table, by name or file.
        constraints: Bounds that every member of the front keeps.
        sampler: "tpe", "nsga2" or "random".
        trials: Trials to finish; infeasible, duplicate and failed ones do not count.
        epochs: Epochs of a full training.
        workers: Trainings at a time; None: as many as CPUs and GPUs carry.
        threads: CPU threads of one training.
        gpus_per_trial: GPUs of one training, 0 for none; None shares out those that are there.
        address: "auto" or HOST:PORT of a Ray cluster; None starts one on this machine.
        seed: Of the study: it decides proposals and trainings.
        time_budget_s: Wall-clock seconds of this run.
        budget_kwh: Electrical energy that the study may use, all its runs together.
        budget_co2_g: Carbon dioxide that it may cause, in grams.
        grid: Electricity: a code such as "FRA" or "WORLD", or a number of gCO2e per kWh.
        pue: Energy of the data centre per energy of its computers, at least 1.
        run_dir: Where checkpoints lie; None: ``bitfront-runs`` beside the store.
        version: Of this format.
    """

    study: str = ""
    store: str = "bitfront.db"
    dataset: str = "digits"
    data_dir: str = DATA_DIR
    space: str = "melius"
    objectives: tuple[str, ...] = ("accuracy", "energy")
    hardware: str = "boolnet65"
    latency: str = "cpu"
    constraints: tuple[Constraint, ...] = ()
    sampler: str = "tpe"
    trials: int = 50
    epochs: int = 20
    workers: int | None = None
    threads: int = 1
    gpus_per_trial: float | None = None
    address: str | None = None
    seed: int = 0
    time_budget_s: float | None = None
    budget_kwh: float | None = None
    budget_co2_g: float | None = None
    grid: str = DEFAULT_GRID
    pue: float = DEFAULT_PUE
    run_dir: str | None = None
    version: int = VERSION

    def check(self) -> None:
        """Every name is known and every number in its range."""
        check_name(self.name)
        if not self.latency:
            raise InvalidValue("latency must be cpu, cuda, or name a layer table, but is empty.")
        if not self.store:
            raise InvalidValue("store must name a file or a postgresql:// URL, but is empty.")
        datasets[self.dataset.partition(":")[0]]
        spaces[self.space]
        samplers[self.sampler]
        self._check_objectives()
        check_together(self.constraints)
        _within("trials", self.trials, 1, 1_000_000)
        _within("epochs", self.epochs, 1, 100_000)
        _within("workers", self.workers, 1, 10_000)
        _within("threads", self.threads, 1, 1024)
        _within("seed", self.seed, 0, MAX_SEED)
        _within("gpus_per_trial", self.gpus_per_trial, 0, 64)
        if self.gpus_per_trial is not None and self.gpus_per_trial % 1 and self.gpus_per_trial > 1:
            raise InvalidValue(
                f"gpus_per_trial must be a whole number or below 1, but is {self.gpus_per_trial}."
            )
        for name in ("time_budget_s", "budget_kwh", "budget_co2_g"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise InvalidValue(f"{name} must be positive, but is {value}.")
        # raises where grid or pue is out of its range
        carbon_g(0.0, self.grid, self.pue)
        if self.address is not None and not _is_address(self.address):
            raise InvalidValue(f"address must be 'auto' or HOST:PORT, but is {self.address!r}.")
        if self.version != VERSION:
            raise InvalidValue(
                f"A search configuration must have version {VERSION}, but has {self.version}: "
                "a newer bitfront wrote it."
            )

    def _check_objectives(self) -> None:
        chosen = [objectives[name] for name in self.objectives]
        if len(set(self.objectives)) != len(chosen):
            raise InvalidValue(f"objectives must be distinct, but are {list(self.objectives)}.")
        if all(o.needs != "training" for o in chosen):
            trained = ", ".join(name for name, o in objectives.items() if o.needs == "training")
            raise InvalidValue(
                f"objectives must have at least one of {trained}, but are {list(self.objectives)}."
            )
        if self.hardware:
            load_profile(self.hardware)
        for objective in (*chosen, *(c.target for c in self.constraints)):
            if objective.needs == "hardware" and not self.hardware:
                raise InvalidValue(
                    f"The objective {objective.name!r} needs a hardware profile: hardware must be "
                    f"one of {', '.join(profile_names())}."
                )

    @property
    def needs_latency(self) -> bool:
        """Whether an objective or a constraint is the latency."""
        bounded = [c.target for c in self.constraints]
        return any(o.needs == "layers" for o in (*self.targets, *bounded))

    @property
    def name(self) -> str:
        """Name of the study."""
        return self.study or default_name(self.dataset, self.space)

    @property
    def targets(self) -> tuple[Objective, ...]:
        """The objectives, from their registry."""
        return tuple(objectives[name] for name in self.objectives)

    @property
    def study_objectives(self) -> tuple[StudyObjective, ...]:
        """The objectives as a store keeps them."""
        return tuple(
            StudyObjective(name=o.name, unit=o.unit, direction=o.direction) for o in self.targets
        )

    def json(self) -> dict[str, Any]:
        """Plain data; ``from_json`` reads it back to an equal configuration."""
        return {**encode(self), "constraints": [c.text for c in self.constraints]}

    def stored(self) -> dict[str, Any]:
        """What is kept in the study's row: all but the names of study and store."""
        return {key: value for key, value in self.json().items() if key not in _NAMING}

    @classmethod
    def from_json(cls, data: Any, where: str = "search") -> SearchConfig:
        """Read a configuration.

        Raises:
            InvalidValue: If a key is unknown, or a value breaks a rule.
        """
        if isinstance(data, dict):
            version = data.get("version", VERSION)
            if isinstance(version, int) and version > VERSION:
                raise InvalidValue(
                    f"{where} must have at most version {VERSION}, but has {version}: a newer "
                    "bitfront wrote it."
                )
            _check_keys(data, where)
        return decode(cls, data, where)

    @classmethod
    def resolve(
        cls, settings: Mapping[str, Any], stored: Mapping[str, Any] | None = None
    ) -> SearchConfig:
        """Lay settings over the defaults, or over what a study was started with.

        Args:
            settings: What ``read_settings`` gave.
            stored: The configuration in the study's row; None for a new study.

        Raises:
            InvalidValue: If a setting breaks a rule, or differs from what the study keeps.
        """
        # a relative default would mean another folder when the study is gone on with elsewhere
        defaults = {"data_dir": str(Path(DATA_DIR).absolute())}
        config = cls.from_json({**defaults, **(stored or {}), **settings})
        if stored is not None:
            config.require_same_study(stored)
        return config

    def require_same_study(self, stored: Mapping[str, Any]) -> None:
        """Refuse to go on with a study under other settings than it was started with.

        Raises:
            InvalidValue: If a setting that the study keeps differs.
        """
        mine, defaults = self.json(), SearchConfig().json()
        for key in FIXED:
            # an older bitfront did not know every setting
            kept = stored.get(key, defaults[key])
            if mine[key] != kept:
                raise InvalidValue(
                    f"The study {self.name!r} has {key} {kept!r}, but got {mine[key]!r}: a "
                    f"study keeps its {', '.join(FIXED[:-1])} and {FIXED[-1]}; give the new "
                    "search another study name."
                )


def read_settings(
    path: Path | str | None = None, flags: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Collect the settings of a TOML file and of flags, which win.

    Args:
        path: Of the file; its keys are the fields of ``SearchConfig``.
        flags: By field; None stands for "not given". Lists may be texts with commas.

    Returns:
        Only what was given, each key a field. Paths are absolute, so that a study can be gone on
        with from another folder.

    Raises:
        InvalidValue: If the file cannot be read or is no TOML, or a key is unknown.
    """
    settings = {} if path is None else _read_toml(Path(path))
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    _check_keys(given, "The command line")
    settings.update(given)
    for key in _LISTS:
        value = settings.get(key)
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        if isinstance(value, tuple | list):
            settings[key] = list(value)
    if isinstance(settings.get("grid"), int | float):
        settings["grid"] = str(settings["grid"])
    for key in ("data_dir", "run_dir"):
        if isinstance(settings.get(key), str):
            settings[key] = str(Path(settings[key]).expanduser().absolute())
    table = settings.get("latency")
    if isinstance(table, str) and table.endswith(".json"):
        settings["latency"] = str(Path(table).expanduser().absolute())
    spec = settings.get("dataset")
    if isinstance(spec, str) and spec.startswith("folder:") and spec != "folder:":
        folder = Path(spec.removeprefix("folder:")).expanduser().absolute()
        settings["dataset"] = f"folder:{folder}"
    if isinstance(settings.get("constraints"), list):
        texts = [Constraint.from_json(text).text for text in settings["constraints"]]
        settings["constraints"] = list(dict.fromkeys(texts))
    return settings


def default_name(dataset: str, space: str) -> str:
    """Name of a study that was given none."""
    return f"{str(dataset).partition(':')[0]}-{space}"


def seconds_of(text: str) -> float:
    """Read a duration: "90", "90s", "15m", "1h30m", "2d".

    Raises:
        InvalidValue: If it is none.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        raise InvalidValue(f"A duration must be like 90s, 15m, 1h30m or 2d, but is {text!r}.")
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidValue(
            f"The configuration {path} cannot be read: {error.strerror or error}."
        ) from None
    except UnicodeDecodeError:
        raise InvalidValue(f"The configuration {path} must be UTF-8 text, but is not.") from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidValue(f"The configuration {path} must be TOML, but is not: {error}.") from None
    _check_keys(data, str(path))
    return data


def _check_keys(data: Mapping[str, Any], where: str) -> None:
    known = [f.name for f in fields(SearchConfig)]
    for key in data:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise InvalidValue(
                f"{where} has an unknown setting {key!r}.{hint} Known: {', '.join(known)}."
            )


def _is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return text == "auto" or (bool(host) and port.isdecimal() and 0 < int(port) < 65536)


def _within(name: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        raise InvalidValue(f"{name} must be {low} to {high}, but is {value}.")
