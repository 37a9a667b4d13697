"""``bitfront studies``, ``show`` and ``front``: reading what searches have found."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bitfront.cli.app import DEFAULT_STORE, Json, StoreUrl, app
from bitfront.cli.output import (
    millijoules,
    milliseconds,
    out,
    percent,
    scaled,
    write_json,
    write_table,
)

if TYPE_CHECKING:
    from bitfront.evaluators.latency import Agreement
    from bitfront.evaluators.measurement import Measurement
    from bitfront.search.front import Front
    from bitfront.search.record import Retraining, StudyRecord, TrialPoint, TrialRecord
    from bitfront.search.store import Store

studies_app = typer.Typer(help="List, rename and delete studies.", invoke_without_command=True)
app.add_typer(studies_app, name="studies")

Study = Annotated[
    str | None, typer.Argument(help="Name of a study; without one, the only or the latest.")
]


@studies_app.callback()
def studies_root(
    context: typer.Context, store: StoreUrl = DEFAULT_STORE, json: Json = False
) -> None:
    """List, rename and delete studies; without a verb, list them."""
    if context.invoked_subcommand is None:
        list_studies(store=store, json=json)


@studies_app.command("list")
def list_studies(store: StoreUrl = DEFAULT_STORE, json: Json = False) -> None:
    """List the studies of a database."""
    from bitfront.search import open_store

    with open_store(store, create=False, read_only=True) as opened:
        counts = opened.counts()
        rows: list[dict[str, Any]] = []
        for study in opened.list_studies():
            rows.append(
                {
                    "name": study.name,
                    "state": study.state.value,
                    "dataset": study.dataset,
                    "objectives": [o.name for o in study.objectives],
                    "trials": {s.value: n for s, n in counts.get(study.id, {}).items()},
                    "created_at": study.created_at,
                }
            )
    if json:
        write_json({"studies": rows})
        return
    if not rows:
        out.print("No study yet; `bitfront search` starts one.")
        return
    write_table(
        "Studies",
        ("name", "state", "data set", "objectives", "complete", "pruned", "failed", "created"),
        [
            (
                row["name"],
                row["state"],
                row["dataset"],
                ", ".join(row["objectives"]),
                row["trials"].get("COMPLETE", 0),
                row["trials"].get("PRUNED", 0),
                row["trials"].get("FAILED", 0),
                when(row["created_at"]),
            )
            for row in rows
        ],
        left=4,
    )


@studies_app.command("rename")
def rename(study: str, name: str, store: StoreUrl = DEFAULT_STORE) -> None:
    """Give a study another name."""
    from bitfront.search import open_store

    with open_store(store, create=False) as opened:
        opened.rename_study(opened.load_study(study).id, name)
    out.print(f"{study} is now {name}.", markup=False)


@studies_app.command("delete")
def delete(
    study: str,
    store: StoreUrl = DEFAULT_STORE,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a study, all its trials and their checkpoints."""
    from bitfront.search import open_store
    from bitfront.search.config import SearchConfig
    from bitfront.search.runs import run_folder
    from bitfront.search.study import resume_settings

    with open_store(store, create=False) as opened:
        found = opened.load_study(study)
        if not yes:
            typer.confirm(f"Delete the study {study!r} and all its trials?", abort=True)
        opened.delete_study(found.id)
        config = SearchConfig.from_json(resume_settings(store, found))
        run_folder(config, found).remove()
    out.print(f"Deleted {study}.", markup=False)


@app.command("show")
def show(
    target: Annotated[
        str | None, typer.Argument(metavar="STUDY[/N]", help="A study, or one of its trials.")
    ] = None,
    store: StoreUrl = DEFAULT_STORE,
    json: Json = False,
) -> None:
    """Show a study, or one trial of it: decisions, measurements, learning curve."""
    from bitfront.search import open_store

    with open_store(store, create=False, read_only=True) as opened:
        head, slash, number = (target or "").rpartition("/")
        if slash and number.isascii() and number.isdigit():
            study = find_study(opened, head)
            trial = opened.trial(study.id, int(number))
            retrained = [r for r in opened.retrainings(study.id) if r.trial == trial.number]
            _show_trial(study, trial, retrained, json=json)
            return
        study = find_study(opened, target)
        points = opened.points(study.id)
    if json:
        write_json({**study_json(study), "trials": [point_json(p) for p in points]})
        return
    names = [o.name for o in study.objectives]
    write_table(
        f"{study.name}: {study.dataset}, {study.state.value.lower()}",
        ("trial", "state", "epochs", *names),
        [
            (p.number, p.state.value, p.fidelity, *[shown(p.measurement(name)) for name in names])
            for p in points
        ],
        left=2,
    )
    if study.message:
        out.print(study.message, markup=False)


@app.command("front")
def front(study: Study = None, store: StoreUrl = DEFAULT_STORE, json: Json = False) -> None:
    """Show the Pareto front of a study, its hypervolume and what retraining gave."""
    from bitfront.search import front_of, open_store

    with open_store(store, create=False, read_only=True) as opened:
        found = find_study(opened, study)
        points = opened.points(found.id)
        best = front_of(points, found.objectives, found.reference_point)
        retrained = opened.retrainings(found.id)
    if json:
        write_json(front_json(found, best, retrained))
        return
    print_front(found, best, retrained)


def find_study(store: Store, name: str | None) -> StudyRecord:
    """The study of that name; without one, the only or the latest.

    Raises:
        StoreError: If there is none.
    """
    from bitfront.search.store import UnknownRecord

    if name:
        return store.load_study(name)
    studies = store.list_studies()
    if not studies:
        raise UnknownRecord(
            f"The store {store.url} has no study yet; `bitfront search` starts one."
        )
    return max(studies, key=lambda s: (s.created_at, s.id))


def print_front(study: StudyRecord, best: Front, retrained: tuple[Retraining, ...]) -> None:
    """Print a front as a table."""
    from bitfront.evaluators.latency import agreement
    from bitfront.search import knee
    from bitfront.search.layers import latency_pairs, measured_latency

    chosen = knee(best)
    names = columns_of(study)
    tested = {r.trial for r in retrained}
    found = agreement(latency_pairs(best.members))
    header = ["trial", *[title for title, _ in names]]
    if found is not None:
        header.append("end to end")
    if tested:
        header += ["seeds", "validation, retrained", "test"]
    rows = []
    for point in best.members:
        mark = " (knee)" if chosen is not None and point.number == chosen.number else ""
        row: list[object] = [f"{point.number}{mark}"]
        row += [shown(point.measurement(name)) for _, name in names]
        if found is not None:
            row.append(shown(measured_latency(point)))
        if tested:
            mine = [r for r in retrained if r.trial == point.number]
            row += [
                len(mine),
                spread([r.validation_accuracy for r in mine]),
                spread([r.test_accuracy for r in mine]),
            ]
        rows.append(row)
    write_table(f"Pareto front of {study.name}", header, rows)
    out.print(f"Hypervolume {best.hypervolume:.4f} against {reference_text(study)}.", markup=False)
    if found is not None:
        out.print(_agreement_text(found), markup=False)


def columns_of(study: StudyRecord) -> list[tuple[str, str]]:
    """Titles and names of the measurements that a table of trials shows: objectives first."""
    titles = {
        "accuracy": "accuracy",
        "energy": "energy",
        "latency": "latency",
        "ops": "OPs",
        "size_mib": "size",
        "params": "parameters",
        "memory": "memory",
    }
    names = [o.name for o in study.objectives]
    names += [name for name in ("ops", "size_mib") if name not in names]
    return [(titles.get(name, name), name) for name in names]


def _agreement_text(found: Agreement) -> str:
    text = (
        f"Latencies are sums of layer times; {found.networks} of the front timed end to end: mean "
        f"error {100 * found.mean_error:.1f} %, largest {100 * found.worst_error:.1f} %"
    )
    tau = found.kendall_tau
    return text + ("." if tau is None else f", rank correlation {tau:.2f} (Kendall's tau).")


def reference_text(study: StudyRecord) -> str:
    """The frozen reference point in words."""
    parts = [f"{name} {value:.4g}" for name, value in study.reference_point.items()]
    return "the frozen reference " + ", ".join(parts)


def shown(measurement: Measurement | None) -> str:
    """A measurement for people."""
    if measurement is None:
        return "-"
    if measurement.unit == "fraction":
        return percent(measurement.value)
    if measurement.unit == "mJ":
        return millijoules(measurement.value)
    if measurement.unit == "ms":
        return milliseconds(measurement.value)
    if measurement.unit == "MiB":
        value = measurement.value
        return f"{value:.3g} MiB" if value >= 1 else f"{value * 1024:.3g} KiB"
    return scaled(measurement.value)


def spread(values: list[float]) -> str:
    """Mean and sample standard deviation of accuracies."""
    if not values:
        return "-"
    from bitfront.search.retrained import spread_of

    found = spread_of(values)
    if found.deviation is None:
        return percent(found.mean)
    return f"{100 * found.mean:.2f} ± {100 * found.deviation:.2f} %"


def when(seconds: float) -> str:
    """A time in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def study_json(study: StudyRecord) -> dict[str, Any]:
    """A study as plain data."""
    return {
        "study": study.name,
        "state": study.state.value,
        "message": study.message,
        "dataset": study.dataset,
        "dataset_digest": study.dataset_digest,
        "seed": study.seed,
        "objectives": [
            {"name": o.name, "unit": o.unit, "direction": o.direction} for o in study.objectives
        ],
        "reference_point": dict(study.reference_point),
        "config": dict(study.config),
        "created_at": study.created_at,
    }


def point_json(point: TrialPoint) -> dict[str, Any]:
    """A trial without its documents as plain data."""
    from bitfront.spaces.value import encode

    return {
        "number": point.number,
        "state": point.state.value,
        "fidelity": point.fidelity,
        "full_fidelity": point.full_fidelity,
        "attempt": point.attempt,
        "seed": point.seed,
        "candidate_digest": point.candidate_digest,
        "architecture_digest": point.architecture_digest,
        "decisions": dict(point.decisions),
        "constraints": dict(point.constraints),
        "measurements": [encode(m) for m in point.measurements],
        "energy_kwh": point.energy_kwh,
        "started_at": point.started_at,
        "finished_at": point.finished_at,
        "duplicate_of": point.duplicate_of,
    }


def front_json(
    study: StudyRecord, best: Front, retrained: tuple[Retraining, ...]
) -> dict[str, Any]:
    """A front as plain data."""
    from bitfront.evaluators.latency import agreement
    from bitfront.search import knee
    from bitfront.search.layers import latency_pairs

    chosen = knee(best)
    found = agreement(latency_pairs(best.members))
    members = []
    for point in best.members:
        row = point_json(point)
        row["values"] = {m.objective: m.value for m in reversed(point.measurements)}
        row["retrainings"] = [
            {
                "seed": r.seed,
                "epochs": r.epochs,
                "validation_accuracy": r.validation_accuracy,
                "test_accuracy": r.test_accuracy,
            }
            for r in retrained
            if r.trial == point.number
        ]
        members.append(row)
    return {
        **study_json(study),
        "hypervolume": best.hypervolume,
        "knee": None if chosen is None else chosen.number,
        "members": members,
        "latency_agreement": None if found is None else found._asdict(),
    }


def _show_trial(
    study: StudyRecord, trial: TrialRecord, retrained: list[Retraining], *, json: bool
) -> None:
    if json:
        import json as json_

        candidate = trial.candidate_json
        write_json(
            {
                "study": study.name,
                **point_json(trial),
                "candidate": None if candidate is None else json_.loads(candidate),
                "curve": [
                    {
                        "epoch": p.epoch,
                        "train_loss": p.train_loss,
                        "validation_loss": p.validation_loss,
                        "validation_accuracy": p.validation_accuracy,
                        "seconds": p.seconds,
                    }
                    for p in trial.curve
                ],
                "error": trial.error,
                "checkpoint": trial.checkpoint,
            }
        )
        return
    write_table(
        f"{study.name}/{trial.number}: {trial.state.value}, "
        f"{trial.fidelity} of {trial.full_fidelity} epochs",
        ("decision", "value"),
        sorted(trial.decisions.items()),
    )
    if trial.error:
        out.print(trial.error, markup=False)
    write_table(
        "Measurements",
        ("objective", "method", "value", "low", "high"),
        [
            (
                m.objective,
                m.method + (f" on {m.hardware}" if m.hardware else ""),
                shown(m),
                "-" if m.low is None else f"{m.low:.4g} {m.unit}",
                "-" if m.high is None else f"{m.high:.4g} {m.unit}",
            )
            for m in trial.measurements
        ],
        left=2,
    )
    write_table(
        "Learning curve",
        ("epoch", "train loss", "validation loss", "validation accuracy", "seconds"),
        [
            (
                p.epoch,
                f"{p.train_loss:.4f}",
                f"{p.validation_loss:.4f}",
                percent(p.validation_accuracy),
                f"{p.seconds:.2f}",
            )
            for p in trial.curve
        ],
    )
    if retrained:
        write_table(
            "Retrained from scratch",
            ("seed", "validation", "test"),
            [(r.seed, percent(r.validation_accuracy), percent(r.test_accuracy)) for r in retrained],
        )
