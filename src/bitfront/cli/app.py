"""The typer application, and the options that several verbs share."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    name="bitfront",
    help="Search, cost and ship low-bit neural networks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[
    bool, typer.Option("--json", help="One JSON object on stdout, unrounded, nothing else there.")
]
StoreUrl = Annotated[
    str,
    typer.Option(
        "--store",
        envvar="BITFRONT_STORE",
        help="Database: a file, sqlite:///PATH or postgresql://HOST/NAME.",
    ),
]
DEFAULT_STORE = "bitfront.db"


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Search, cost and ship low-bit neural networks."""
    if version:
        from bitfront import __version__

        typer.echo(f"bitfront {__version__}")
        raise typer.Exit


# importing a module of verbs adds them; each loads what is heavy only when it runs
from bitfront.cli import (  # noqa: E402
    bench,  # noqa: F401
    cost,  # noqa: F401
    dashboard,  # noqa: F401
    export,  # noqa: F401
    latency,  # noqa: F401
    layers,  # noqa: F401
    search,  # noqa: F401
    store,  # noqa: F401
    studies,  # noqa: F401
    train,  # noqa: F401
    zoo,  # noqa: F401
)
