"""What every page is built from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dash import dcc, html

from bitfront.dashboard.data import StudyCard, standing
from bitfront.dashboard.figures import CONFIG, blank
from bitfront.dashboard.texts import NONE
from bitfront.search.record import StudyRecord, StudyState, TrialPoint, TrialState

Child = Any


def card(title: str, *children: Child, note: str = "", aside: Child = None, **props: Any) -> Child:
    """A titled section.

    Args:
        title: Of the section.
        *children: Its content.
        note: A sentence below it.
        aside: Controls beside the title.
        **props: Of the section itself, such as ``id`` or ``className``.
    """
    head = [html.H2(title), *([] if aside is None else [html.Div(aside, className="aside")])]
    foot = [html.P(note, className="note")] if note else []
    name = f"card {props.pop('className', '')}".strip()
    return html.Section([html.Header(head), *children, *foot], className=name, **props)


def graph(name: str, height: int, figure: Any = None, *, tools: bool = False) -> Child:
    """A figure of fixed height, so that nothing moves when it arrives.

    Args:
        name: Its id.
        height: In pixels.
        figure: None for one that a callback brings.
        tools: Whether plotly's own buttons appear.
    """
    config: Any = {**CONFIG, "displayModeBar": "hover" if tools else False}
    return dcc.Graph(
        id=name,
        figure=blank() if figure is None else figure,
        config=config,
        style={"height": f"{height}px"},
    )


def facts(pairs: Iterable[tuple[str, Child]], name: str = "facts") -> Child:
    """Titles and values."""
    return html.Dl(
        [html.Div([html.Dt(title), html.Dd(value)]) for title, value in pairs], className=name
    )


def mapping(values: Mapping[str, object]) -> Child:
    """A two-column table of names and values."""
    rows = [
        html.Tr([html.Th(key, scope="row"), html.Td(NONE if value is None else str(value))])
        for key, value in values.items()
    ]
    return html.Div(html.Table(html.Tbody(rows), className="pairs"), className="scroll")


def table(heads: Sequence[str], rows: Iterable[Sequence[Child]]) -> Child:
    """A plain table; it scrolls by itself where it is too wide."""
    head = html.Thead(html.Tr([html.Th(text, scope="col") for text in heads]))
    body = html.Tbody([html.Tr([html.Td(cell) for cell in row]) for row in rows])
    return html.Div(html.Table([head, body], className="plain"), className="scroll")


def empty(sentence: str, hint: str = "") -> Child:
    """What stands where there is nothing yet."""
    second = [html.P(html.Code(hint))] if hint else []
    return html.Div([html.P(sentence), *second], className="empty")


def about(parts: Iterable[str]) -> Child:
    """Short facts in one line, which breaks between them."""
    return html.P([html.Span(part) for part in parts], className="quiet about")


def study_badge(study: StudyRecord, is_running: bool) -> Child:
    """Where a study stands."""
    if is_running:
        return html.Span("running", className="badge running")
    words = {
        StudyState.OPEN: "not running",
        StudyState.FINISHED: "finished",
        StudyState.EXHAUSTED: "exhausted",
    }
    return html.Span(words[study.state], className="badge")


def trial_badge(trial: TrialPoint, on_front: bool) -> Child:
    """Where a trial stands."""
    name = "badge running" if trial.state is TrialState.RUNNING else "badge"
    shown = [html.Span(standing(trial), className=name)]
    if on_front:
        shown.append(html.Span("on the front", className="badge front"))
    return html.Span(shown, className="badges")


def progress(found: StudyCard) -> Child:
    """Trials by state: a bar of what counts towards the budget, and the numbers."""
    counts = found.counts
    done = counts[TrialState.COMPLETE] + counts[TrialState.PRUNED]
    planned = found.study.config.get("trials")
    total = max(planned if isinstance(planned, int) else 0, done, 1)
    bars = [
        html.Span(className=f"bar {name}", style={"width": f"{100 * counts[state] / total:.2f}%"})
        for state, name in ((TrialState.COMPLETE, "complete"), (TrialState.PRUNED, "pruned"))
    ]
    shown = [f"{counts[state]:,} {word}" for state, word in _STATES.items() if counts[state]]
    text = " · ".join(shown) or "no trial yet"
    return html.Div([html.Div(bars, className="progress"), html.Span(text)], className="states")


_STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "stopped early",
    TrialState.RUNNING: "running",
    TrialState.INFEASIBLE: "infeasible",
    TrialState.DUPLICATE: "duplicates",
    TrialState.FAILED: "failed",
}
