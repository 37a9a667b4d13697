"""``bitfront dashboard``: look at studies in a browser."""

from __future__ import annotations

from typing import Annotated

import typer

from bitfront.cli.app import DEFAULT_STORE, StoreUrl, app
from bitfront.cli.output import err


@app.command("dashboard")
def dashboard(
    store: StoreUrl = DEFAULT_STORE,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0: any.", min=0, max=65535)] = 8050,
) -> None:
    """Show studies, fronts and architectures in a browser; reads only, listens on loopback."""
    from bitfront.dashboard import create_app, serve
    from bitfront.search import open_store

    opened = open_store(store, create=False, read_only=True)
    serve(
        create_app(opened),
        host=host,
        port=port,
        ready=lambda url: err.print(f"bitfront dashboard on {url} (Ctrl-C ends it)", markup=False),
    )
