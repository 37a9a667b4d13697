"""What a verb works on: a network of the zoo, an architecture file, or a trial of a study."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitfront.spaces.architecture import Architecture, read_architecture
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.recipe import Recipe

if TYPE_CHECKING:
    from bitfront.search.record import StudyRecord
    from bitfront.search.store import Store

MAX_FILE_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A resolved TARGET.

    Attributes:
        name: As it is shown.
        architecture: Of the network.
        recipe: How it is trained, where the target says so.
    """

    name: str
    architecture: Architecture
    recipe: Recipe | None = None


def resolve(target: str, store_url: str) -> Target:
    """Find what a TARGET names.

    Args:
        target: A zoo name, an architecture file, or STUDY/N.
        store_url: Where studies are.

    Raises:
        InvalidValue: If it names nothing, or what it names is broken.
    """
    path = Path(target)
    if target.endswith(".json") or path.is_file():
        return _from_file(path)
    from bitfront.spaces.zoo import zoo

    if target in zoo:
        entry = zoo[target]
        return Target(name=target, architecture=entry.architecture(), recipe=entry.recipe)
    study, slash, number = target.rpartition("/")
    if slash and (number == "knee" or (number.isascii() and number.isdigit())):
        return _from_study(study, number, store_url)
    try:
        zoo[target]
    except InvalidValue as error:
        raise InvalidValue(
            f"A TARGET is a network of the zoo, an architecture file (*.json) or STUDY/N. {error}"
        ) from None
    raise AssertionError  # pragma: no cover - the look-up above raises


def trial_number(store: Store, study: StudyRecord, number: str) -> int:
    """The number of a trial: itself, or "knee" for the knee of the study's front.

    Raises:
        InvalidValue: If the front is empty.
    """
    if number != "knee":
        return int(number)
    from bitfront.search import front_of, knee

    best = front_of(store.points(study.id), study.objectives, study.reference_point)
    chosen = knee(best)
    if chosen is None:
        raise InvalidValue(f"The study {study.name!r} has no complete trial yet, so no knee.")
    return chosen.number


def _from_study(name: str, number: str, store_url: str) -> Target:
    from bitfront.search import open_store

    with open_store(store_url, create=False, read_only=True) as store:
        study = store.load_study(name)
        trial = store.trial(study.id, trial_number(store, study, number))
    candidate = trial.candidate
    if candidate is None:
        raise InvalidValue(
            f"{name}/{trial.number} is {trial.state.value} and has no network: {trial.error}"
        )
    return Target(
        name=f"{name}/{trial.number}",
        architecture=candidate.architecture,
        recipe=candidate.recipe,
    )


def _from_file(path: Path) -> Target:
    try:
        if path.exists() and not path.is_file():
            raise InvalidValue(
                f"An architecture file must be a file, but {str(path)!r} is a folder or a device."
            )
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InvalidValue(
                f"An architecture file has at most {MAX_FILE_BYTES} bytes, but {str(path)!r} has "
                f"{path.stat().st_size}."
            )
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidValue(
            f"The architecture file {str(path)!r} cannot be read: {error.strerror}."
        ) from None
    except UnicodeDecodeError:
        raise InvalidValue(
            f"The architecture file {str(path)!r} must be UTF-8 text, but is not."
        ) from None
    return Target(name=str(path), architecture=read_architecture(text, str(path)))


def fitted(
    architecture: Architecture, input_shape: tuple[int, int, int], classes: int
) -> Architecture:
    """The same network for images of another size and another number of classes.

    Raises:
        InvalidValue: If its head has no number of classes.
    """
    if "classes" not in {f.name for f in fields(architecture.head)}:
        raise InvalidValue(f"A {architecture.head.kind!r} head has no number of classes.")
    head: Any = replace(architecture.head, **{"classes": classes})
    return replace(architecture, input=input_shape, head=head)
