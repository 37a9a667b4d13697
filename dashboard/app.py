"""The dashboard as a WSGI application: everything it needs comes from this machine."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from dash import Dash, html, set_props
from flask import Response

from bitfront.dashboard.callbacks import register
from bitfront.dashboard.pages.shell import shell
from bitfront.dashboard.views import Views
from bitfront.search.store import StoreReader
from bitfront.spaces.errors import BitfrontError

REFRESH_S: Final = 2.0
_LOGGER: Final = logging.getLogger(__name__)

_INDEX: Final = """<!DOCTYPE html>
<html lang="en">
<head>
{%metas%}
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{%title%}</title>
<link rel="icon" href="/assets/mark.svg" type="image/svg+xml">
{%css%}
</head>
<body>
<noscript>The dashboard of bitfront needs JavaScript.</noscript>
{%app_entry%}
{%config%}
{%scripts%}
{%renderer%}
</body>
</html>"""


def create_app(store: StoreReader, *, refresh_s: float = REFRESH_S) -> Dash:
    """Build the dashboard of a store.

    It only reads, and it loads nothing from another host: the pages forbid the browser to.

    Args:
        store: An open store; ``open_store(..., read_only=True)`` is all it takes.
        refresh_s: How often a page looks for news while a study is running.
    """
    app = Dash(
        __name__,
        title="bitfront",
        update_title="",
        index_string=_INDEX,
        assets_folder=str(Path(__file__).parent / "assets"),
        pages_folder="",
        use_pages=False,
        serve_locally=True,
        suppress_callback_exceptions=True,
        on_error=_report,
        add_log_handler=False,
        enable_mcp=False,
    )
    app.enable_dev_tools(debug=False)
    app.layout = shell(store.url)
    register(app, Views(store, refresh_ms=round(1000 * refresh_s)))
    policy = _policy(app)

    def secure(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = policy
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    app.server.after_request(secure)
    return app


def _policy(app: Dash) -> str:
    """What the browser may load: from here only, whatever a library would like to fetch."""
    rules = {
        "default-src": "'self'",
        # plotly's WebGL compiles its draw calls
        "script-src": " ".join(["'self'", "'unsafe-eval'", *app.csp_hashes()]),
        # plotly and the grid write their own style elements
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data: blob:",
        "font-src": "'self' data:",
        "object-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _report(error: Exception) -> None:
    """Say what went wrong above the page, which stays as it is."""
    if isinstance(error, BitfrontError):
        sentence = str(error)
    else:
        _LOGGER.error("A callback of the dashboard failed.", exc_info=error)
        name = type(error).__name__
        sentence = f"The dashboard met a fault of its own ({name}); its log has the details."
    set_props("notice", {"children": html.P(sentence, className="problem")})
