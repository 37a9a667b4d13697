"""``bitfront export``: take a trained network away, checked after writing."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bitfront import __version__
from bitfront.cli.app import DEFAULT_STORE, Json, StoreUrl, app
from bitfront.cli.output import err, out, write_json

if TYPE_CHECKING:
    from bitfront.evaluators.training import DataSet
    from bitfront.export import Verification, Winner
    from bitfront.search.record import StudyRecord
    from bitfront.search.store import Store


@app.command("export")
def export(
    target: Annotated[
        str,
        typer.Argument(help="STUDY/N, STUDY/knee, or a JSON export (*.json) with its weights."),
    ],
    format: Annotated[str, typer.Option(help="Any of json, pt2, onnx, with commas.")] = "json",
    to: Annotated[Path, typer.Option("--to", help="Folder to write to.")] = Path("exports"),
    data_dir: Annotated[
        Path | None, typer.Option(help="Where archives of data sets lie; as in the search without.")
    ] = None,
    store: StoreUrl = DEFAULT_STORE,
    json: Json = False,
) -> None:
    """Write a trained network in one or more formats; each is read back and compared."""
    from contextlib import ExitStack

    from bitfront.evaluators.training import load_dataset
    from bitfront.export import exporters
    from bitfront.search import open_store
    from bitfront.spaces.errors import InvalidValue

    formats = list(dict.fromkeys(part.strip() for part in format.split(",") if part.strip()))
    if not formats:
        raise InvalidValue(f"format must name one of {', '.join(exporters)}, but is {format!r}.")
    chosen = [(name, exporters[name]) for name in formats]
    with ExitStack() as stack:
        source: Source | None = None
        if target.endswith(".json"):
            from bitfront.export.json import read

            winner = read(target)
            data = load_dataset(winner.data.name, data_dir=data_dir or "data")
        else:
            opened = stack.enter_context(open_store(store, create=False))
            source, winner, data = _stored(opened, target, data_dir)
        results = []
        for name, exporter in chosen:
            path = exporter.write(winner, to)
            result = exporter.verify(winner, path, data)
            results.append(result)
            if source is not None:
                source.record(name, path, result)
            if not json:
                out.print(result.text, markup=False)
    if json:
        write_json({"name": winner.name, "exports": [r.json() for r in results]})
    failed = sum(not r.passed for r in results)
    if failed:
        err.print(f"{failed} of {len(results)} files do not compute what the network computes.")
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The trial that is exported.

    Attributes:
        store: Where it is.
        study: Its study.
        number: Its number.
    """

    store: Store
    study: StudyRecord
    number: int

    def record(self, name: str, path: Path, result: Verification) -> None:
        """Keep in the store that a file was written, and how its check ended."""
        from bitfront.search.record import ExportRecord

        self.store.add_export(
            self.study.id,
            ExportRecord(
                trial=self.number,
                format=name,
                path=str(path.absolute()),
                verified=result.passed,
                flips=result.images - result.equal_predictions,
                images=result.images,
                created_at=time.time(),
            ),
        )


def _stored(store: Store, target: str, data_dir: Path | None) -> tuple[Source, Winner, DataSet]:
    """The trained network of a trial, and the data that it was trained on.

    Raises:
        InvalidValue: If the target is no trial, or the data has changed.
        StoreError: If there is no such trial, or its weights were not kept.
    """
    from bitfront.cli.target import trial_number
    from bitfront.evaluators.training import load_dataset, weights_file
    from bitfront.export import Provenance, TrainedOn, Winner
    from bitfront.search.winner import trained_trial
    from bitfront.spaces.errors import InvalidValue

    name, slash, number = target.rpartition("/")
    if not slash or not (number == "knee" or (number.isascii() and number.isdigit())):
        raise InvalidValue(
            "What is exported is STUDY/N, STUDY/knee or a JSON export (*.json), but got "
            f"{target!r}."
        )
    study = store.load_study(name)
    chosen = trial_number(store, study, number)
    found = trained_trial(store, study, chosen)
    data = load_dataset(
        str(study.config["dataset"]), data_dir=data_dir or str(study.config["data_dir"])
    )
    if data.digest != study.dataset_digest:
        raise InvalidValue(
            f"The study {study.name!r} was made with data of digest {study.dataset_digest[:12]}, "
            f"but {data.name} is {data.digest[:12]} now."
        )
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", study.name).strip("-._") or "study"
    winner = Winner(
        name=f"{plain[:80]}-{chosen}",
        architecture=found.architecture,
        recipe=found.recipe,
        weights=weights_file(found.weights),
        data=TrainedOn.of(data),
        measurements=found.measurements,
        provenance=Provenance(
            study=study.name,
            trial=chosen,
            seed=int(found.provenance["seed"]),
            bitfront=__version__,
        ),
    )
    return Source(store=store, study=study, number=chosen), winner, data
