"""View values to figures; pure, and free of any text that is not escaped.

Colours come from Okabe and Ito's palette, which stays distinct in every kind of colour blindness,
toned to be read on white and on dark paper; the style sheet exchanges text and grid for dark mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from bitfront.dashboard.axes import Axis, title_of
from bitfront.dashboard.network import LayerCost
from bitfront.dashboard.published import PublishedPoint
from bitfront.dashboard.scatter import Cloud, Scatter
from bitfront.dashboard.texts import plot_text, quantity
from bitfront.search.front import HistoryPoint
from bitfront.search.record import CurvePoint

BLUE: Final = "#1f78b4"
ORANGE: Final = "#d98a00"
GREEN: Final = "#149174"
PINK: Final = "#bf6b9b"
VERMILION: Final = "#cf5a11"
GREY: Final = "#8791a0"
INK: Final = "#1c2733"
GRID: Final = "#e6eaef"
FONT: Final = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
# beyond so many points, SVG gets slow
MANY: Final = 1500
# beyond so many members, the points of a front get smaller
CROWDED: Final = 40
LOG_SPAN: Final = 10.0
SELECTED: Final = "selected"
_COUNTED: Final = ("OPs", "parameters", "bytes")

CONFIG: Final[Any] = {
    "showSendToCloud": False,
    "displaylogo": False,
    "responsive": True,
    # a map would be fetched from elsewhere; no figure here has one
    "topojsonURL": "/assets/",
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
}

_AXIS: Final[dict[str, Any]] = {
    "gridcolor": GRID,
    "linecolor": GRID,
    "zeroline": False,
    "spikecolor": GREY,
    "spikethickness": 1,
    "automargin": True,
    "title": {"standoff": 12, "font": {"size": 13}},
}
_TEMPLATE: Final = go.layout.Template(
    layout={
        "font": {"family": FONT, "size": 13, "color": INK},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 8, "r": 12, "t": 8, "b": 8},
        "hoverlabel": {
            "bgcolor": INK,
            "bordercolor": INK,
            "align": "left",
            "font": {"family": FONT, "size": 13, "color": "#ffffff"},
        },
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font_size": 12},
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "barcornerradius": 2,
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": GREY, "activecolor": BLUE},
    }
)


def blank(text: str = "") -> go.Figure:
    """An empty figure that says why."""
    figure = go.Figure(layout={"template": _TEMPLATE})
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    if text:
        figure.add_annotation(
            text=plot_text(text), showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper"
        )
    return figure


# the front


def front_figure(
    scatter: Scatter,
    published: Sequence[PublishedPoint] = (),
    *,
    selected: int | None = None,
    webgl: bool = True,
) -> go.Figure:
    """The trials over two axes, the front joined by its staircase.

    Args:
        scatter: The trials.
        published: Networks of the literature, where comparable.
        selected: Trial that is ringed.
        webgl: Whether many points may be drawn by WebGL.

    Returns:
        A figure whose first trace, named ``SELECTED``, rings the selected trial. Every trial's
        point has its number as ``customdata``.
    """
    if scatter.is_empty and not published:
        return blank("No trial has a value on both axes yet.")
    count = sum(len(c.numbers) for c in (scatter.dominated, scatter.excluded))
    # WebGL is drawn above SVG, so it is all of one kind, or the front would be covered
    kind = go.Scattergl if webgl and count > MANY else go.Scatter
    figure = go.Figure(layout={"template": _TEMPLATE, "hovermode": "closest"})
    halo = {"size": 20, "color": "rgba(0,0,0,0)", "line": {"color": ORANGE, "width": 3}}
    figure.add_trace(
        kind(**ring(scatter.place(selected)), mode="markers", marker=halo, name=SELECTED)
    ).update_traces(showlegend=False, hoverinfo="skip")
    excluded, dominated, front = scatter.excluded, scatter.dominated, scatter.front
    if len(excluded.numbers):
        style = {"symbol": "x-thin", "size": 7, "line": {"width": 1.4, "color": VERMILION}}
        figure.add_trace(_points(kind, excluded, "Not eligible", style, 0.6))
    if len(dominated.numbers):
        small = len(dominated.numbers) > MANY
        style = {"color": GREY, "size": 4 if small else 7}
        figure.add_trace(_points(kind, dominated, "Dominated", style, 0.35 if small else 0.5))
    if published:
        figure.add_trace(_published(kind, published))
    if len(front.numbers):
        crowded = len(front.numbers) > CROWDED
        edge = {"color": "#ffffff", "width": 0 if crowded else 1.5}
        style = {"color": BLUE, "size": 6 if crowded else 10, "line": edge}
        trace = _points(kind, front, "Front", style, 1.0)
        if scatter.is_stepped:
            shape = "vh" if scatter.x.direction == "maximize" else "hv"
            trace.update(mode="lines+markers", line={"color": BLUE, "width": 2, "shape": shape})
        figure.add_trace(trace)
    clouds = (front, dominated, excluded)
    x_log = spans_decades([*(v for c in clouds for v in c.x), *(p.x for p in published)])
    y_log = spans_decades([*(v for c in clouds for v in c.y), *(p.y for p in published)])
    # zoom survives a refresh, and nothing else
    view = f"{scatter.x.key} {scatter.y.key} {x_log} {y_log}"
    return figure.update_layout(
        xaxis=_axis(scatter.x, x_log), yaxis=_axis(scatter.y, y_log), uirevision=view
    )


def spans_decades(values: Sequence[float]) -> bool:
    """Whether values are better drawn over a logarithmic axis: they span more than tenfold."""
    return bool(values) and min(values) > 0 and max(values) > LOG_SPAN * min(values)


def ring(place: tuple[float, float] | None) -> dict[str, list[float]]:
    """The trace of ``front_figure`` that rings a place, or nothing."""
    return {"x": [] if place is None else [place[0]], "y": [] if place is None else [place[1]]}


def _points(kind: Any, cloud: Cloud, name: str, marker: dict[str, Any], opacity: float) -> Any:
    return kind(
        x=cloud.x,
        y=cloud.y,
        mode="markers",
        name=name,
        marker={**marker, "opacity": opacity},
        customdata=cloud.numbers.tolist(),
        hovertext=cloud.labels,
        hovertemplate="%{hovertext}<extra></extra>",
    )


def _published(kind: Any, published: Sequence[PublishedPoint]) -> Any:
    return kind(
        x=[p.x for p in published],
        y=[p.y for p in published],
        mode="markers",
        name="Published",
        marker={"symbol": "diamond", "size": 9, "color": PINK},
        hovertext=[p.label for p in published],
        hovertemplate="%{hovertext}<extra></extra>",
    )


def _axis(axis: Axis, is_log: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"title": {"text": plot_text(axis.title)}}
    if is_log:
        # 1, 2 and 5 of each decade; plotly's own would repeat bare digits
        found.update(type="log", dtick="D2")
    if axis.unit == "fraction":
        return {**found, "tickformat": ".1~%"}
    return {**found, "tickformat": "~s" if axis.unit in _COUNTED else "~g"}


def hypervolume_figure(history: Sequence[HistoryPoint]) -> go.Figure:
    """The hypervolume over the trials that may enter the front, as they finished."""
    if not history:
        return blank("No trial is complete yet.")
    figure = go.Figure(layout={"template": _TEMPLATE, "uirevision": "hypervolume"})
    figure.add_trace(
        go.Scatter(
            x=[p.evaluated for p in history],
            y=[p.hypervolume for p in history],
            mode="lines" if len(history) > 1 else "markers",
            line={"color": BLUE, "width": 2, "shape": "hv"},
            fill="tozeroy",
            fillcolor="rgba(31,120,180,0.08)",
            customdata=[[p.number, p.members] for p in history],
            hovertemplate="%{y:.3f} after %{x} trials<br>%{customdata[1]} on the front"
            "<br>last: #%{customdata[0]}<extra></extra>",
        )
    )
    figure.update_layout(showlegend=False)
    figure.update_xaxes(title_text="Complete trials", tickformat=",d")
    figure.update_yaxes(title_text="Hypervolume", rangemode="tozero")
    return figure


# one network


def layers_figure(layers: Sequence[LayerCost]) -> go.Figure:
    """Energy by term, and operations by kind, of every layer."""
    labels = [plot_text(layer.label) for layer in layers]
    names = [plot_text(layer.name) for layer in layers]
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.07)
    bars: list[tuple[int, str, str, list[float]]] = [
        (1, "Compute", BLUE, [p.compute_mj for p in layers]),
        (1, "SRAM", ORANGE, [p.sram_mj for p in layers]),
        (1, "DRAM", PINK, [p.dram_mj for p in layers]),
        (2, "FLOPs", GREY, [float(p.flops) for p in layers]),
        (2, "BOPs/64", GREEN, [p.bops / 64 for p in layers]),
    ]
    for row, name, colour, values in bars:
        shown = "%{y:.3~g} mJ" if row == 1 else "%{y:.3~s}"
        figure.add_trace(
            go.Bar(
                x=labels,
                y=values,
                name=name,
                marker={"color": colour},
                customdata=names,
                hovertemplate=f"<b>%{{x}}</b> %{{customdata}}<br>{name}: {shown}<extra></extra>",
            ),
            row=row,
            col=1,
        )
    figure.update_layout(template=_TEMPLATE, barmode="stack", bargap=0.25, uirevision="layers")
    figure.update_layout(legend_traceorder="normal")
    figure.update_xaxes(type="category", showgrid=False, tickangle=-60 if len(layers) > 16 else 0)
    figure.update_yaxes(title_text="Energy (mJ)", tickformat="~g", row=1, col=1)
    figure.update_yaxes(title_text="Operations", tickformat="~s", row=2, col=1)
    return figure


def curve_figure(curve: Sequence[CurvePoint]) -> go.Figure:
    """Accuracy and losses over the epochs."""
    epochs = [p.epoch for p in curve]
    mode = "lines" if len(curve) > 1 else "markers"
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.08)
    lines: list[tuple[int, str, str, list[float], str]] = [
        (1, "Validation accuracy", BLUE, [p.validation_accuracy for p in curve], ".1%"),
        (2, "Validation loss", ORANGE, [p.validation_loss for p in curve], ".3f"),
        (2, "Training loss", GREY, [p.train_loss for p in curve], ".3f"),
    ]
    for row, name, colour, values, shown in lines:
        figure.add_trace(
            go.Scatter(
                x=epochs,
                y=values,
                name=name,
                mode=mode,
                line={"color": colour, "width": 2},
                hovertemplate=f"{name}: %{{y:{shown}}}<extra></extra>",
            ),
            row=row,
            col=1,
        )
    figure.update_layout(template=_TEMPLATE, hovermode="x unified", uirevision="curve")
    figure.update_yaxes(title_text="Accuracy", tickformat=".0%", row=1, col=1)
    figure.update_yaxes(title_text="Loss", row=2, col=1)
    figure.update_xaxes(title_text="Epoch", tickformat="d", row=2, col=1)
    return figure


def describe(scatter: Scatter) -> str:
    """The figure of the front in one sentence, for those who cannot see it."""
    found = f"{len(scatter.front.numbers)} of "
    found += f"{len(scatter.front.numbers) + len(scatter.dominated.numbers)} eligible trials form "
    found += f"the front of {title_of(scatter.y.objective, '')} over "
    found += title_of(scatter.x.objective, "")
    if len(scatter.front.numbers):
        low, high = scatter.front.x[0], scatter.front.x[-1]
        found += f", from {quantity(float(low), scatter.x.unit)}"
        found += f" to {quantity(float(high), scatter.x.unit)}"
    return found + "."
