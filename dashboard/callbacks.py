"""The wiring: which step answers which change in the browser. Decides nothing itself.

A callback whose output stands outside of the page runs when the page is put in, also where it
shall not, and where it then changes nothing it stops the callbacks that depend on it. So such
outputs (the path, the notice) are set by ``set_props``.
"""

from __future__ import annotations

from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, State, ctx, no_update, set_props
from dash.exceptions import PreventUpdate

from bitfront.dashboard.pages.study import seen as seen_of
from bitfront.dashboard.routes import read_path, trial_path
from bitfront.dashboard.views import Views


def register(app: Dash, views: Views) -> None:
    """Wire a dashboard."""
    app.clientside_callback(  # type: ignore[no-untyped-call]
        ClientsideFunction("bitfront", "arrive"),
        Output("webgl", "data"),
        Input("url", "pathname"),
    )
    app.clientside_callback(  # type: ignore[no-untyped-call]
        ClientsideFunction("bitfront", "reveal"),
        Input("front", "clickData"),
        Input("trials", "cellClicked"),
        prevent_initial_call=True,
    )
    _pages(app, views)
    _news(app, views)
    _figures(app, views)
    _network(app, views)


def _pages(app: Dash, views: Views) -> None:
    @app.callback(
        Output("page", "children"),
        Output("shown", "data"),
        Output("notice", "children"),
        Input("url", "pathname"),
        Input("again", "data"),
        State("shown", "data"),
    )
    def show_page(path: str, _: int | None, shown: list[str] | None) -> Any:
        asked = read_path(path)
        key = [asked.page, asked.study]
        # another trial of the same study is not another page
        if key == shown and asked.page == "study" and ctx.triggered_id != "again":
            raise PreventUpdate
        page, found = views.page(asked)
        return page, key if found else None, None

    @app.callback(
        Input("front", "clickData"),
        Input("trials", "cellClicked"),
        State("seen", "data"),
        prevent_initial_call=True,
    )
    def open_trial(clicked: Any, cell: Any, seen: dict[str, Any]) -> None:
        number = _clicked_point(clicked) if ctx.triggered_id == "front" else _clicked_row(cell)
        if number is not None:
            set_props("url", {"pathname": trial_path(seen["name"], number)})


def _clicked_point(clicked: Any) -> int | None:
    """The trial of a clicked point; None for a published network."""
    number = clicked["points"][0].get("customdata") if clicked else None
    return number if isinstance(number, int) else None


def _clicked_row(cell: Any) -> int | None:
    return int(cell["rowId"]) if cell and cell.get("rowId") is not None else None


def _news(app: Dash, views: Views) -> None:
    @app.callback(
        Output("cards", "children"),
        Output("studies-seen", "data"),
        Output("studies-tick", "disabled"),
        Input("studies-tick", "n_intervals"),
        State("studies-seen", "data"),
        prevent_initial_call=True,
    )
    def refresh_cards(_: int, seen: Any) -> Any:
        news = views.new_cards(seen)
        set_props("notice", {"children": None})
        return (no_update,) * 3 if news is None else news

    @app.callback(
        Output("headline", "children"),
        Output("seen", "data"),
        Output("trials", "rowTransaction"),
        Output("tick", "disabled"),
        Input("tick", "n_intervals"),
        State("seen", "data"),
        prevent_initial_call=True,
    )
    def refresh_study(_: int, seen: dict[str, Any]) -> Any:
        found = views.news(seen)
        set_props("notice", {"children": None})
        if found is None:
            return (no_update,) * 4
        if views.has_new_axes(found, seen):
            set_props("again", {"data": found.study.revision})
            return (no_update,) * 4
        rows = views.transaction(found, seen)
        return views.headline(found), seen_of(found), rows, not found.is_running


def _figures(app: Dash, views: Views) -> None:
    chosen = (
        Input("x-axis", "value"),
        Input("y-axis", "value"),
        Input("feasible", "value"),
    )

    @app.callback(
        Output("front", "figure"),
        Output("front-text", "children"),
        Input("seen", "data"),
        *chosen,
        State("url", "pathname"),
        State("webgl", "data"),
    )
    def draw_front(
        seen: dict[str, Any], x: str, y: str, feasible: list[str], path: str, webgl: bool | None
    ) -> Any:
        return views.front(seen, (x, y), feasible, path, webgl is not False)

    @app.callback(
        Output("front", "figure", allow_duplicate=True),
        Input("url", "pathname"),
        State("seen", "data"),
        *(State(i.component_id, i.component_property) for i in chosen),
        prevent_initial_call=True,
    )
    def move_ring(path: str, seen: dict[str, Any], x: str, y: str, feasible: list[str]) -> Any:
        return views.ring(seen, (x, y), feasible, path)

    @app.callback(Output("hypervolume", "figure"), Input("seen", "data"))
    def draw_hypervolume(seen: dict[str, Any]) -> Any:
        return views.hypervolume(seen)


def _network(app: Dash, views: Views) -> None:
    @app.callback(
        Output("network", "children"),
        Output("detail", "children"),
        Output("opened", "data"),
        Input("url", "pathname"),
        Input("seen", "data"),
        State("opened", "data"),
    )
    def show_network(path: str, seen: dict[str, Any], opened: list[Any] | None) -> Any:
        now = views.opened(seen, path)
        if now == opened:
            raise PreventUpdate
        return *views.network(seen, path), now

    @app.callback(
        Output("layers", "figure"),
        Output("layers-total", "children"),
        Input("profile", "value"),
        State("seen", "data"),
        State("url", "pathname"),
    )
    def draw_layers(profile: str, seen: dict[str, Any], path: str) -> Any:
        return views.layers(seen, path, profile)
