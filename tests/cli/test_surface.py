"""The command line's verbs and options, as a golden list: changing them is deliberate."""

from __future__ import annotations

import typer.main

from bitfront.cli import app

SURFACE = {
    "bench kernels": "--device --json --plot --rounds --threads --to --tune --variant",
    "cost": (
        "TARGET --convention --hardware --json --layers --no-quirks --quirks --scope --store --twin"
    ),
    "dashboard": "--host --port --store",
    "export": "TARGET --data-dir --format --json --store --to",
    "front": "STUDY --json --store",
    "latency": (
        "TARGET --batch --device --hardware --input --json --layers --maps --repeats --save "
        "--store --table --threads --twin"
    ),
    "layers list": "--json --store",
    "layers load": "FILE --store",
    "layers record": (
        "FILE --batch --classes --device --input --json --maps --networks --repeats --samples "
        "--seed --space --store --threads"
    ),
    "layers save": "FILE --store --table",
    "resume": (
        "STUDY --budget-co2 --budget-kwh --json --retrain --store --time-budget --trials --workers"
    ),
    "search": (
        "CONFIG --address --budget-co2 --budget-kwh --constraint --data-dir --dataset "
        "--epochs --gpus-per-trial --grid --hardware --json --latency --objectives --pue --retrain "
        "--run-dir --sampler --seed --space --store --study --threads --time-budget "
        "--trials --workers"
    ),
    "show": "STUDY[/N] --json --store",
    "store backup": "--store --to",
    "store check": "--json --store",
    "store upgrade": "--json --store",
    "studies": "--json --store",
    "studies delete": "STUDY --store --yes -y",
    "studies list": "--json --store",
    "studies rename": "STUDY NAME --store",
    "train": (
        "TARGET --batch-size --data-dir --dataset --device --epochs --fit --json "
        "--learning-rate --recipe --seed --store --threads --to --twin"
    ),
    "zoo": "NAME --family --json",
}


def surface(command, name: str = "") -> dict[str, str]:
    found = {}
    options: list[str] = []
    arguments: list[str] = []
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            arguments.append(_name(parameter))
        else:
            options += [*parameter.opts, *parameter.secondary_opts]
    children = getattr(command, "commands", {})
    if name and (not children or options):
        found[name] = " ".join([*arguments, *sorted(options)])
    for child, inner in children.items():
        found |= surface(inner, f"{name} {child}".strip())
    return found


def _name(argument) -> str:
    return argument.metavar or argument.name.upper()


def test_the_surface_is_the_golden_one():
    assert surface(typer.main.get_command(app)) == SURFACE
