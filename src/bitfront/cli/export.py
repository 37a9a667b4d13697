"""``bitfront export``: take a trained network away, checked after writing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bitfront.cli.app import DEFAULT_STORE, Json, StoreUrl, app
from bitfront.cli.output import err, out, write_json

if TYPE_CHECKING:
    from bitfront.export import Winner
    from bitfront.search.record import StudyRecord
    from bitfront.search.store import Store


@app.command("export")
def export(
    target: Annotated[
        str,
        typer.Argument(help="STUDY/N, STUDY/knee, or a JSON export (*.json) with its weights."),
    ],
    format: Annotated[str, typer.Option(help="Any of json, pt2, onnx, with commas.")] = "json",  # noqa: A002
    to: Annotated[Path, typer.Option("--to", help="Folder to write to.")] = Path("exports"),
    data_dir: Annotated[
        Path | None, typer.Option(help="Where archives of data sets lie; as in the search without.")
    ] = None,
    store: StoreUrl = DEFAULT_STORE,
    json: Json = False,
) -> None:
    """Write a trained network in one or more formats; each is read back and compared."""
    from bitfront.evaluators.training import load_dataset
    from bitfront.export import exporters
    from bitfront.search import open_store
    from bitfront.spaces.errors import InvalidValue

    formats = list(dict.fromkeys(part.strip() for part in format.split(",") if part.strip()))
    if not formats:
        raise InvalidValue(f"format must name one of {', '.join(exporters)}, but is {format!r}.")
    chosen = [(name, exporters[name]) for name in formats]
    found: tuple[Store, StudyRecord, int] | None = None
    if target.endswith(".json"):
        from bitfront.export.json import read

        winner, spec, folder = read(target), "", str(data_dir or "data")
        spec = winner.data.name
    else:
        opened = open_store(store, create=False)
        study, number, winner, folder = _stored_winner(opened, target)
        found = (opened, study, number)
        spec = str(study.config["dataset"])
    data = load_dataset(spec, data_dir=data_dir or folder)
    results = []
    for name, exporter in chosen:
        path = exporter.write(winner, to)
        result = exporter.verify(winner, path, data)
        results.append(result)
        if found is not None:
            _record(*found, name, path, result)
        if not json:
            out.print(result.text, markup=False)
    if found is not None:
        found[0].close()
    if json:
        write_json({"name": winner.name, "exports": [r.json() for r in results]})
    failed = [r for r in results if not r.passed]
    if failed:
        err.print(f"{len(failed)} of {len(results)} files do not compute what the network computes.")
        raise typer.Exit(1)


def _stored_winner(store: Store, target: str) -> tuple[StudyRecord, int, Winner, str]:
    """The trained network of a trial.

    Raises:
        InvalidValue: If the target is no trial, or its weights were not kept.
    """
    from bitfront.cli.studies import find_study
    from bitfront.cli.target import trial_number
    from bitfront.export import Provenance, TrainedOn, Winner
    from bitfront.evaluators.training import load_dataset
    from bitfront.search.study import trained
    from bitfront.spaces.errors import InvalidValue

    name, slash, number = target.rpartition("/")
    if not slash or not (number == "knee" or (number.isascii() and number.isdigit())):
        raise InvalidValue(
            "What is exported is STUDY/N, STUDY/knee or a JSON export (*.json), but got "
            f"{target!r}."
        )
    study = find_study(store, name)
    chosen = trial_number(store, study, number)
    found = trained(store, study, chosen)
    folder = str(study.config.get("data_dir", "data"))
    data = load_dataset(str(study.config["dataset"]), data_dir=folder)
    if data.digest != study.dataset_digest:
        raise InvalidValue(
            f"The study {study.name!r} was made with data of digest {study.dataset_digest[:12]}, "
            f"but {data.name} is {data.digest[:12]} now."
        )
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", study.name).strip("-._") or "study"
    winner = Winner(
        name=f"{plain[:80]}-{chosen}",
        architecture=found.candidate.architecture,
        recipe=found.candidate.recipe,
        weights=Path(found.weights),
        data=TrainedOn.of(data),
        measurements=found.measurements,
        provenance=Provenance(
            study=study.name,
            trial=chosen,
            seed=found.seed,
            started=found.started,
            finished=found.finished,
            bitfront=found.bitfront,
        ),
    )
    return study, chosen, winner, folder


def _record(store, study, number, name, path, result) -> None:  # type: ignore[no-untyped-def]
    import time

    from bitfront.search.record import ExportRecord

    store.add_export(
        study.id,
        ExportRecord(
            trial=number,
            format=name,
            path=str(Path(path).absolute()),
            verified=result.passed,
            flips=result.images - result.equal_predictions,
            images=result.images,
            created_at=time.time(),
        ),
    )
