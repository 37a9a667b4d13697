"""The page of a study: its front, its progress and its trials; a network beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import dash_ag_grid as dag
from dash import dcc, html

from bitfront.dashboard import texts
from bitfront.dashboard.axes import Axis, default_axes
from bitfront.dashboard.data import Snapshot, StudyCard, bests, picks, table_rows
from bitfront.dashboard.pages.parts import (
    Child,
    about,
    card,
    empty,
    facts,
    graph,
    mapping,
    progress,
    study_badge,
)
from bitfront.dashboard.routes import HOME, trial_path
from bitfront.search.record import EnergyEntry

FRONT_HEIGHT: Final = 430
PAGE_ROWS: Final = 15
_ROW_PX: Final = 36
_HEAD_PX: Final = 56
_FOOT_PX: Final = 46
FEASIBLE: Final = "feasible"
# what people look for in a column
_FILTERS: Final = {"maximize": "greaterThanOrEqual", "minimize": "lessThanOrEqual"}

# colours come from the style sheet, so that the grid follows dark mode
_THEME: Final = (
    "themeQuartz.withParams({backgroundColor: 'var(--card)', foregroundColor: 'var(--ink)', "
    "headerBackgroundColor: 'var(--card)', borderColor: 'var(--line)', accentColor: "
    "'var(--blue)', chromeBackgroundColor: 'var(--card)', browserColorScheme: 'inherit', "
    f"fontFamily: 'inherit', fontSize: 13, rowHeight: {_ROW_PX}, headerHeight: {_HEAD_PX}, "
    "wrapperBorder: false, spacing: 7})"
)


def study_page(
    snapshot: Snapshot, energy: Sequence[EnergyEntry], note: str, refresh_ms: int
) -> Child:
    """A study; its figures and its network come by callbacks.

    Args:
        snapshot: The study.
        energy: Its ledger.
        note: Which published networks are drawn beside it.
        refresh_ms: How often it looks for news while it runs.
    """
    found = snapshot.axes
    return html.Div(
        [
            dcc.Interval(id="tick", interval=refresh_ms, disabled=not snapshot.is_running),
            dcc.Store(id="seen", data=seen(snapshot)),
            dcc.Store(id="opened"),
            html.Nav(dcc.Link("Studies", href=HOME), className="crumbs"),
            html.Div(headline(snapshot, energy), id="headline"),
            html.Div(
                [
                    _front_card(found, note),
                    html.Div(id="network", className="card network"),
                ],
                className="split",
            ),
            html.Div(id="detail"),
            html.Div(
                [
                    card(
                        "Hypervolume",
                        graph("hypervolume", 260),
                        note="Area between the front and the study's frozen reference point: "
                        "fraction of accuracy × decades of cost.",
                    ),
                    card("Configuration", mapping(_config(snapshot)), className="tall"),
                ],
                className="split",
            ),
            _trials_card(snapshot, found),
        ],
        className="page",
    )


def seen(snapshot: Snapshot) -> dict[str, Any]:
    """What the browser holds of a study; goes back with the next look for news."""
    study = snapshot.study
    return {
        "id": study.id,
        "created_at": study.created_at,
        "name": study.name,
        "revision": study.revision,
        "running": snapshot.is_running,
        "last": snapshot.trials[-1].number if snapshot.trials else -1,
        "axes": [axis.key for axis in snapshot.axes],
        "front": [m.number for m in snapshot.front.members],
    }


def headline(snapshot: Snapshot, energy: Sequence[EnergyEntry]) -> Child:
    """Name, standing and key figures."""
    study, front = snapshot.study, snapshot.front
    space = study.config.get("space")
    known = [study.dataset, *([str(space)] if space else []), texts.moment(study.created_at)]
    pairs: list[tuple[str, Child]] = [
        *bests(front),
        ("On the front", texts.counted(len(front.members), "network")),
        ("Hypervolume", f"{front.hypervolume:.3f}" if front.members else texts.NONE),
        ("Spent by the search", _spent(energy)),
    ]
    lines: list[Child] = [
        html.Header(
            [html.H1(study.name), study_badge(study, snapshot.is_running)], className="title"
        ),
        about(known),
    ]
    if study.message and not snapshot.is_running:
        lines.append(html.P(study.message, className="quiet"))
    return [*lines, facts(pairs, "facts wide"), progress(_as_card(snapshot))]


def _as_card(snapshot: Snapshot) -> StudyCard:
    return StudyCard(
        study=snapshot.study,
        counts=snapshot.counts,
        bests=(),
        members=len(snapshot.front.members),
        hypervolume=None,
        is_running=snapshot.is_running,
    )


def _spent(energy: Sequence[EnergyEntry]) -> str:
    if not energy:
        return texts.NONE
    methods = sorted({entry.method for entry in energy})
    total = texts.electricity(sum(entry.kwh for entry in energy))
    return f"{total} ({' and '.join(methods)})"


def _front_card(found: Sequence[Axis], note: str) -> Child:
    x, y = default_axes(found)
    options = [{"label": axis.title, "value": axis.key} for axis in found]
    controls = [
        html.Label(["Up", _choice("y-axis", options, y.key)]),
        html.Label(["Across", _choice("x-axis", options, x.key)]),
        dcc.Checklist(
            id="feasible",
            options=[{"label": "Eligible only", "value": FEASIBLE}],
            value=[FEASIBLE],
            className="check",
        ),
    ]
    return card(
        "Pareto front",
        html.Div(controls, className="controls"),
        graph("front", FRONT_HEIGHT, tools=True),
        html.P(id="front-text", className="unseen"),
        note=note,
        className="front",
    )


def _choice(name: str, options: list[dict[str, str]], value: str) -> Child:
    return dcc.Dropdown(
        id=name, options=options, value=value, clearable=False, searchable=False, className="choice"
    )


def picks_panel(snapshot: Snapshot) -> Child:
    """What to pick, while no trial is."""
    study = snapshot.study
    found = picks(snapshot.front)
    if not found:
        waiting = "The front appears with the first complete trial."
        return [html.H2("Which one to take?"), empty(waiting)]
    items = []
    for pick in found:
        shown = [
            texts.quantity(pick.trial.value(o.name), o.unit) for o in snapshot.front.objectives
        ]
        link = dcc.Link(
            [html.Strong(pick.why), html.Span(f"#{pick.trial.number} · {' · '.join(shown)}")],
            href=trial_path(study.name, pick.trial.number),
        )
        items.append(html.Li(link))
    return [
        html.H2("Which one to take?"),
        html.Ul(items, className="picks"),
        html.P(
            "Click a point of the front or a row of the table to see its network.", className="hint"
        ),
    ]


def _config(snapshot: Snapshot) -> dict[str, object]:
    study = snapshot.study
    reference = {
        o.name: texts.quantity(study.reference_point[o.name], o.unit) for o in study.objectives
    }
    config = {key: _flat(value) for key, value in sorted(study.config.items())}
    return {
        "reference point": ", ".join(f"{name} {text}" for name, text in reference.items()),
        # what was left to its default says nothing
        **{key: value for key, value in config.items() if value not in (None, "")},
        "seed": study.seed,
        "data digest": study.dataset_digest[:12],
    }


def _flat(value: object) -> object:
    if isinstance(value, Mapping):
        return " ".join(str(v) for v in value.values())
    if isinstance(value, list | tuple):
        return ", ".join(str(_flat(v)) for v in value) or None
    return value


def _trials_card(snapshot: Snapshot, found: Sequence[Axis]) -> Child:
    rows = table_rows(snapshot)
    # a running study fills its first page soon, and nothing shall move then
    shown = PAGE_ROWS if snapshot.is_running else min(max(len(rows), 3), PAGE_ROWS)
    grid = dag.AgGrid(
        id="trials",
        rowData=list(rows),
        columnDefs=columns(found),
        defaultColDef={
            "sortable": True,
            "resizable": True,
            "minWidth": 92,
            "wrapHeaderText": True,
            "suppressHeaderMenuButton": True,
        },
        columnSize="responsiveSizeToFit",
        getRowId="params.data.number.toString()",
        dashGridOptions={
            "theme": {"function": _THEME},
            "pagination": True,
            "paginationPageSize": PAGE_ROWS,
            "paginationPageSizeSelector": [PAGE_ROWS, 50, 200],
            "rowSelection": {
                "mode": "singleRow",
                "checkboxes": False,
                "enableClickSelection": True,
            },
            "enableCellTextSelection": True,
            "animateRows": False,
            "localeText": {"noRowsToShow": "No trial yet"},
        },
        style={"height": f"{_HEAD_PX + _FOOT_PX + _ROW_PX * shown + 2}px"},
    )
    return card("Trials", grid, note="Click a row to see its network; a head sorts and filters.")


def columns(found: Sequence[Axis]) -> list[dict[str, Any]]:
    """Columns of the table of trials; see ``table_rows`` for the fields."""
    number = {"filter": "agNumberColumnFilter", "type": "rightAligned"}
    measured = [
        {
            "field": f"m{i}",
            "headerName": axis.head,
            **number,
            "minWidth": 128,
            "filterParams": {"defaultOption": _FILTERS.get(axis.direction, "inRange")},
            "valueFormatter": {"function": _format(axis.unit)},
        }
        for i, axis in enumerate(found)
    ]
    return [
        {"field": "number", "headerName": "#", **number, "minWidth": 72, "pinned": "left"},
        {"field": "state", "headerName": "State", "filter": "agTextColumnFilter", "minWidth": 130},
        {"field": "front", "headerName": "Front", "filter": "agTextColumnFilter"},
        *measured,
        {"field": "epochs", "headerName": "Epochs", **number, "minWidth": 104},
        {
            "field": "seconds",
            "headerName": "Seconds",
            **number,
            "minWidth": 110,
            "valueFormatter": {"function": _format("s")},
        },
        {"field": "started", "headerName": "Started", "minWidth": 150},
    ]


def _format(unit: str) -> str:
    form = {"fraction": ".2%", "OPs": ".3~s", "parameters": ".3~s", "bytes": ".3~s", "s": ".1f"}
    shown = f"d3.format('{form.get(unit, '.3~r')}')(params.value)"
    return f"params.value == null ? '–' : {shown}"
