"""What surrounds every page."""

from __future__ import annotations

from dash import dcc, html

from bitfront.dashboard.pages.parts import Child
from bitfront.dashboard.routes import HOME


def shell(store_url: str) -> Child:
    """The frame: a head, a place for notices, and a place for the page.

    Args:
        store_url: Where the store is, passwords masked.
    """
    return html.Div(
        [
            dcc.Location(id="url", refresh="callback-nav"),
            dcc.Store(id="shown"),
            dcc.Store(id="webgl"),
            # a change of it builds the page anew
            dcc.Store(id="again"),
            html.Header(
                [
                    dcc.Link(
                        [html.Span(className="mark"), "bitfront"], href=HOME, className="brand"
                    ),
                    html.Span(store_url, className="where", title="Store, opened read-only"),
                ],
                className="top",
            ),
            html.Div(id="notice", role="status"),
            html.Main(html.Div(className="waiting"), id="page"),
        ],
        className="shell",
    )


def problem_page(sentence: str) -> Child:
    """What stands where a page cannot be shown."""
    alert = html.Div(
        [html.H1("This cannot be shown"), html.P(sentence)], className="card problem", role="alert"
    )
    return html.Div([alert, html.P(dcc.Link("All studies", href=HOME))], className="page")
