"""``bitfront search`` and ``resume``: start a study, or go on with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bitfront.cli.app import DEFAULT_STORE, Json, StoreUrl, app
from bitfront.cli.output import err, out, write_json

if TYPE_CHECKING:
    from bitfront.search.config import SearchConfig
    from bitfront.search.study import StudyResult

Trials = Annotated[int | None, typer.Option(help="Trials to finish, earlier runs counted.")]
Workers = Annotated[
    int | None, typer.Option(help="Trainings at a time; as many as the machine carries without.")
]
TimeBudget = Annotated[
    str | None, typer.Option(help="Wall-clock time of this run: 90s, 15m, 1h30m.")
]
BudgetKwh = Annotated[float | None, typer.Option(help="Energy that the study may use, in kWh.")]
BudgetCo2 = Annotated[float | None, typer.Option(help="CO2e that the study may cause, in grams.")]
Retrain = Annotated[
    int, typer.Option(help="Train every member of the front again with so many seeds.", min=0)
]


@app.command("search")
def search(
    config: Annotated[Path | None, typer.Argument(help="TOML file; flags override it.")] = None,
    study: Annotated[str | None, typer.Option(help="Name; DATASET-SPACE without one.")] = None,
    store: Annotated[
        str | None,
        typer.Option(
            envvar="BITFRONT_STORE",
            help="Database: a file, sqlite:///PATH or postgresql://HOST/NAME; bitfront.db without.",
        ),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="digits, cifar10, cifar100 or folder:PATH.")
    ] = None,
    data_dir: Annotated[str | None, typer.Option(help="Where archives of data sets lie.")] = None,
    space: Annotated[str | None, typer.Option(help="Search space.")] = None,
    objectives: Annotated[
        str | None, typer.Option(help="What to optimise, with commas: accuracy,energy.")
    ] = None,
    hardware: Annotated[
        str | None, typer.Option(help="Profile for the energy; `bitfront cost --help` lists them.")
    ] = None,
    latency: Annotated[
        str | None,
        typer.Option(
            help="Layer times: cpu or cuda (timed here), or a layer table by name or file."
        ),
    ] = None,
    constraint: Annotated[
        list[str] | None, typer.Option(help='Bound, such as "size_mib<=0.1"; may be repeated.')
    ] = None,
    sampler: Annotated[str | None, typer.Option(help="tpe, nsga2 or random.")] = None,
    trials: Trials = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of a full training.")] = None,
    workers: Workers = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads of one training.")] = None,
    gpus_per_trial: Annotated[float | None, typer.Option(help="GPUs of one training.")] = None,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster to use: auto or HOST:PORT.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of proposals and trainings.")] = None,
    budget_kwh: BudgetKwh = None,
    budget_co2: BudgetCo2 = None,
    time_budget: TimeBudget = None,
    grid: Annotated[
        str | None, typer.Option(help="Electricity: FRA, DEU, ..., WORLD, or gCO2e per kWh.")
    ] = None,
    pue: Annotated[float | None, typer.Option(help="Overhead of the data centre, from 1.")] = None,
    run_dir: Annotated[str | None, typer.Option(help="Where checkpoints lie.")] = None,
    retrain: Retrain = 0,
    json: Json = False,
) -> None:
    """Start a study, or go on with it: the same command does both."""
    from bitfront.search.config import read_settings, seconds_of
    from bitfront.search.study import resolve

    flags: dict[str, Any] = {
        "study": study,
        "store": store,
        "dataset": dataset,
        "data_dir": data_dir,
        "space": space,
        "objectives": objectives,
        "hardware": hardware,
        "latency": latency,
        "constraints": constraint or None,
        "sampler": sampler,
        "trials": trials,
        "epochs": epochs,
        "workers": workers,
        "threads": threads,
        "gpus_per_trial": gpus_per_trial,
        "address": address,
        "seed": seed,
        "budget_kwh": budget_kwh,
        "budget_co2_g": budget_co2,
        "time_budget_s": None if time_budget is None else seconds_of(time_budget),
        "grid": grid,
        "pue": pue,
        "run_dir": run_dir,
    }
    _run(resolve(read_settings(config, flags)), retrain=retrain, json=json)


@app.command("resume")
def resume(
    study: Annotated[str | None, typer.Argument(help="Name; the latest without one.")] = None,
    store: StoreUrl = DEFAULT_STORE,
    trials: Trials = None,
    workers: Workers = None,
    budget_kwh: BudgetKwh = None,
    budget_co2: BudgetCo2 = None,
    time_budget: TimeBudget = None,
    retrain: Retrain = 0,
    json: Json = False,
) -> None:
    """Go on with a study as it was started; only how long and with how many workers may change."""
    from bitfront.cli.studies import find_study
    from bitfront.search import open_store
    from bitfront.search.config import read_settings, seconds_of
    from bitfront.search.study import resolve, resume_settings

    with open_store(store, create=False, read_only=True) as opened:
        settings = resume_settings(store, find_study(opened, study))
    flags = {
        "trials": trials,
        "workers": workers,
        "budget_kwh": budget_kwh,
        "budget_co2_g": budget_co2,
        "time_budget_s": None if time_budget is None else seconds_of(time_budget),
    }
    _run(resolve({**settings, **read_settings(None, flags)}), retrain=retrain, json=json)


def _run(config: SearchConfig, *, retrain: int, json: bool) -> None:
    from bitfront.cli.live import LiveView
    from bitfront.search.record import TrialState
    from bitfront.search.stopping import StopReason
    from bitfront.search.study import run_search
    from bitfront.spaces.errors import InvalidValue

    with LiveView() as view:
        result = run_search(config, progress=view)
    if not result.counts[TrialState.COMPLETE] and not result.is_finished and result.reason is None:
        # nothing in the space meets the constraints: what was asked for cannot be had
        raise InvalidValue(result.message)
    interrupted = result.reason in (StopReason.SIGNAL, StopReason.ERROR)
    retrained = ""
    if retrain and not interrupted and result.front.members:
        from bitfront.search.retraining import retrain_front

        with LiveView() as view:
            again = retrain_front(config, seeds=range(1, retrain + 1), progress=view)
        interrupted = again.reason in (StopReason.SIGNAL, StopReason.ERROR)
        retrained = again.message
    _report(config, result, retrained, json=json)
    if interrupted:
        raise typer.Exit(1)


def _report(config: SearchConfig, result: StudyResult, retrained: str, *, json: bool) -> None:
    from bitfront.cli.studies import front_json, print_front
    from bitfront.search import open_store
    from bitfront.search.carbon import compared, footprint

    with open_store(config.store, create=False, read_only=True) as store:
        again = store.retrainings(result.study.id)
        used = footprint(store.energy(result.study.id), config.grid, config.pue)
    if json:
        write_json(
            {
                **front_json(result.study, result.front, again),
                "counts": {state.value: n for state, n in result.counts.items()},
                "reason": None if result.reason is None else result.reason.value,
                "seconds": result.seconds,
                "energy": {
                    "kwh": used.kwh,
                    "overhead_kwh": used.overhead_kwh,
                    "measured_share": used.measured,
                    "co2e_g": used.grams,
                    "grid": used.grid.name,
                    "g_per_kwh": used.grid.g_per_kwh,
                    "pue": used.pue,
                },
            }
        )
        err.print(result.message, markup=False)
        return
    if result.front.members:
        print_front(result.study, result.front, again)
    method = {0.0: "estimated", 1.0: "measured"}.get(
        used.measured, f"{100 * used.measured:.0f} % measured, the rest estimated"
    )
    year = "" if used.grid.year is None else f" of {used.grid.year}"
    out.print(
        f"The search itself took {used.kwh:.3g} kWh ({method}) and caused {used.grams:.2g} g CO2e "
        f"({used.grid.name} grid{year}, {used.grid.g_per_kwh:g} g/kWh, PUE {used.pue:g}): "
        f"{compared(used.grams)}.",
        markup=False,
    )
    out.print(result.message, markup=False)
    if retrained:
        out.print(retrained, markup=False)
