"""The list of studies."""

from __future__ import annotations

from collections.abc import Sequence

from dash import dcc, html

from bitfront.dashboard.data import StudyCard
from bitfront.dashboard.pages.parts import Child, about, empty, facts, progress, study_badge
from bitfront.dashboard.routes import study_path
from bitfront.dashboard.texts import NONE, counted, moment

Seen = list[list[float | int | bool]]


def studies_page(cards: Sequence[StudyCard], refresh_ms: int) -> Child:
    """All studies as cards; refreshes itself while one of them is running."""
    return html.Div(
        [
            html.H1("Studies"),
            dcc.Interval(id="studies-tick", interval=refresh_ms, disabled=not any_running(cards)),
            dcc.Store(id="studies-seen", data=signature(cards)),
            html.Div(study_cards(cards), id="cards"),
        ],
        className="page",
    )


def any_running(cards: Sequence[StudyCard]) -> bool:
    """Whether a driver is at work on one of the studies."""
    return any(c.is_running for c in cards)


def signature(cards: Sequence[StudyCard]) -> Seen:
    """Changes when something that the cards show has changed."""
    return [[c.study.id, c.study.created_at, c.study.revision, c.is_running] for c in cards]


def study_cards(cards: Sequence[StudyCard]) -> Child:
    """The cards, or what to do when there is none."""
    if not cards:
        return empty(
            "This store holds no study yet. A search puts one in:",
            "bitfront search --dataset digits --trials 50",
        )
    return html.Div([_card(c) for c in cards], className="cards")


def _card(found: StudyCard) -> Child:
    study = found.study
    space = study.config.get("space")
    members = counted(found.members, "network")
    volume = NONE if found.hypervolume is None else f"{found.hypervolume:.3f}"
    return dcc.Link(
        [
            html.Header([html.H2(study.name), study_badge(study, found.is_running)]),
            about([study.dataset, *([str(space)] if space else []), moment(study.created_at)]),
            facts([*found.bests, ("Hypervolume", volume), ("On the front", members)]),
            progress(found),
        ],
        href=study_path(study.name),
        className="card study",
    )
