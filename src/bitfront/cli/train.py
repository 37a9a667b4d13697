"""``bitfront train``: train one network and keep its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bitfront.cli.app import DEFAULT_STORE, Json, StoreUrl, app
from bitfront.cli.output import err, out, percent, write_json


@app.command("train")
def train(
    target: Annotated[
        str, typer.Argument(help="A network of the zoo, an architecture file, or STUDY/N.")
    ],
    dataset: Annotated[
        str, typer.Option(help="digits, cifar10, cifar100 or folder:PATH.")
    ] = "digits",
    data_dir: Annotated[Path, typer.Option(help="Where archives of data sets lie.")] = Path("data"),
    recipe: Annotated[
        Path | None, typer.Option(help="JSON file of a recipe; the target's own without one.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Instead of the recipe's.", min=1)] = None,
    batch_size: Annotated[int | None, typer.Option(help="Instead of the recipe's.", min=1)] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Instead of the recipe's.")] = None,
    seed: Annotated[int, typer.Option(help="Of weights, order and augmentation.", min=0)] = 0,
    twin: Annotated[bool, typer.Option("--twin", help="Train the 32-bit twin instead.")] = False,
    fit: Annotated[
        bool,
        typer.Option("--fit", help="Give the target the data set's input size and classes."),
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU threads.", min=1)] = None,
    to: Annotated[
        Path | None, typer.Option("--to", help="Folder for the checkpoint; resumed if it is there.")
    ] = None,
    store: StoreUrl = DEFAULT_STORE,
    json: Json = False,
) -> None:
    """Train a network, report validation after each epoch and the test split at the end."""
    import json as json_
    from dataclasses import replace

    from bitfront.cli.target import fitted, resolve
    from bitfront.evaluators.training import Trainer, load_dataset
    from bitfront.spaces.candidate import Candidate
    from bitfront.spaces.errors import InvalidValue
    from bitfront.spaces.recipe import Recipe

    resolved = resolve(target, store)
    architecture = resolved.architecture.twin() if twin else resolved.architecture
    chosen = resolved.recipe or Recipe()
    if recipe is not None:
        try:
            chosen = Recipe.from_json(json_.loads(recipe.read_text(encoding="utf-8")), str(recipe))
        except (OSError, UnicodeDecodeError, json_.JSONDecodeError) as error:
            raise InvalidValue(f"The recipe {str(recipe)!r} cannot be read: {error}.") from None
    changes: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
    }
    changes = {name: value for name, value in changes.items() if value is not None}
    if "epochs" in changes:
        changes["warmup_epochs"] = min(chosen.warmup_epochs, changes["epochs"])
    chosen = replace(chosen, **changes)
    data = load_dataset(dataset, data_dir=data_dir)
    if fit:
        architecture = fitted(architecture, data.input, data.classes)
    elif (architecture.input, architecture.classes) != (data.input, data.classes):
        raise InvalidValue(
            f"{resolved.name} is for images of {architecture.input} and {architecture.classes} "
            f"classes, but {data.name} has {data.input} and {data.classes}; --fit adapts it."
        )
    candidate = Candidate(architecture=architecture, recipe=chosen)
    trainer = Trainer(candidate, data, seed=seed, device=device, threads=threads)
    if to is not None and to.exists():
        trainer.load(to)
        err.print(f"Resumed from {to} at epoch {trainer.epoch}.", markup=False)
    while trainer.epoch < chosen.epochs:
        result = trainer.run_epoch()
        if to is not None:
            trainer.save(to)
        err.print(
            f"epoch {result.epoch:>4}/{chosen.epochs}  train loss {result.train_loss:.4f}  "
            f"validation {percent(result.validation_accuracy)}  {result.seconds:.1f} s",
            markup=False,
        )
    validation = trainer.evaluate("validation")
    test = trainer.evaluate("test")
    if json:
        write_json(
            {
                "name": resolved.name,
                "dataset": data.name,
                "dataset_digest": data.digest,
                "seed": seed,
                "epochs": trainer.epoch,
                "validation_accuracy": validation.accuracy,
                "test_accuracy": test.accuracy,
                "checkpoint": None if to is None else str(to),
            }
        )
        return
    out.print(
        f"{resolved.name} on {data.name}, seed {seed}: validation {percent(validation.accuracy)}, "
        f"test {percent(test.accuracy)}.",
        markup=False,
    )
