"""``bitfront store``: upgrade, check and back up a database."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from bitfront.cli.app import DEFAULT_STORE, Json, StoreUrl, app
from bitfront.cli.output import out, write_json

store_app = typer.Typer(help="Upgrade, check and back up a database.", no_args_is_help=True)
app.add_typer(store_app, name="store")


@store_app.command("upgrade")
def upgrade(store: StoreUrl = DEFAULT_STORE, json: Json = False) -> None:
    """Bring a database to the schema of this bitfront, in one transaction."""
    from bitfront.search.store import maintenance

    before, after = maintenance.upgrade(store)
    if json:
        write_json({"before": before, "after": after})
    elif before == after:
        out.print(f"The schema is up to date ({after}).")
    else:
        out.print(f"Upgraded from schema {before} to {after}.")


@store_app.command("check")
def check(store: StoreUrl = DEFAULT_STORE, json: Json = False) -> None:
    """Check that a database is whole; status 1 if it is not."""
    from bitfront.search.store import maintenance

    found = maintenance.check(store)
    if json:
        write_json(asdict(found))
    else:
        for problem in found.problems:
            out.print(problem, markup=False)
        out.print("The database is whole." if not found.problems else "The database has problems.")
    if found.problems:
        raise typer.Exit(1)


@store_app.command("backup")
def backup(
    to: Annotated[str, typer.Option("--to", help="File to write; it must not exist yet.")],
    store: StoreUrl = DEFAULT_STORE,
) -> None:
    """Copy a SQLite database, also while a search writes to it."""
    from bitfront.search.store import maintenance

    maintenance.backup(store, to)
    out.print(f"Wrote {to}.", markup=False)
