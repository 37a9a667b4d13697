"""The steps that callbacks take: from what the browser sends to what it gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from dash import Patch

from bitfront.dashboard import figures, published
from bitfront.dashboard.axes import Axis, default_axes
from bitfront.dashboard.data import Snapshot, Snapshots, table_rows
from bitfront.dashboard.network import layer_costs
from bitfront.dashboard.pages import shell, studies, study, trial
from bitfront.dashboard.pages.parts import Child
from bitfront.dashboard.routes import Route, read_path
from bitfront.dashboard.scatter import Scatter, place_of, scatter
from bitfront.dashboard.trial import trial_view
from bitfront.evaluators.hardware.profile import load_profile
from bitfront.search.front import hypervolume_history
from bitfront.search.store import StoreReader, UnknownRecord
from bitfront.spaces.errors import BitfrontError

Seen = Mapping[str, Any]


class Views:
    """Reads what a page shows and builds it; knows nothing of callbacks.

    Args:
        store: Is only read.
        refresh_ms: How often a page looks for news while a study is running.
    """

    def __init__(self, store: StoreReader, refresh_ms: int) -> None:
        self._store = store
        self._refresh_ms = refresh_ms
        self._snapshots = Snapshots(store)

    # pages

    def page(self, asked: Route) -> tuple[Child, bool]:
        """A page, and whether it is the one that was asked for rather than an excuse."""
        try:
            if asked.page == "studies":
                return studies.studies_page(self._snapshots.cards(), self._refresh_ms), True
            if asked.page == "study":
                return self.study_page(self._snapshots.named(asked.study)), True
        except BitfrontError as error:
            return shell.problem_page(str(error)), False
        return shell.problem_page("There is no such page."), True

    def study_page(self, snapshot: Snapshot) -> Child:
        """The page of a study."""
        energy = self._store.energy(snapshot.study.id)
        note = published.comparison(snapshot)
        return study.study_page(snapshot, energy, note, self._refresh_ms)

    def new_cards(self, seen: studies.Seen) -> tuple[Child, studies.Seen, bool] | None:
        """The cards, their signature and whether to stop looking; None without news."""
        cards = self._snapshots.cards()
        now = studies.signature(cards)
        if now == seen:
            return None
        return studies.study_cards(cards), now, not studies.any_running(cards)

    # a study

    def snapshot(self, seen: Seen) -> Snapshot:
        """The study that the browser shows, as it is now.

        Raises:
            UnknownRecord: If it was deleted meanwhile.
        """
        found = self._snapshots.of(seen["id"], seen["created_at"])
        if found is None:
            raise UnknownRecord(f"The study {seen['name']!r} has been deleted.")
        return found

    def news(self, seen: Seen) -> Snapshot | None:
        """The study if something changed since the browser looked, else None."""
        known = (seen["id"], seen["created_at"], seen["revision"], seen["running"])
        return self.snapshot(seen) if self._snapshots.is_stale(*known) else None

    def headline(self, snapshot: Snapshot) -> Child:
        """Name, standing and key figures of a study."""
        return study.headline(snapshot, self._store.energy(snapshot.study.id))

    def transaction(self, snapshot: Snapshot, seen: Seen) -> dict[str, Any]:
        """What changed in the table of trials since the browser looked."""
        before, now = set(seen["front"]), {m.number for m in snapshot.front.members}
        rows = table_rows(snapshot, since=seen["revision"], also=before ^ now)
        return {
            "add": [row for row in rows if row["number"] > seen["last"]],
            "update": [row for row in rows if row["number"] <= seen["last"]],
            "async": False,
        }

    def has_new_axes(self, snapshot: Snapshot, seen: Seen) -> bool:
        """Whether a study has something to be drawn over that its page does not offer yet."""
        return bool(seen["axes"] != [axis.key for axis in snapshot.axes])

    def front(
        self, seen: Seen, keys: tuple[str, str], feasible: Sequence[str], path: str, webgl: bool
    ) -> tuple[go.Figure, str]:
        """The figure of the front, and the same in words."""
        snapshot = self.snapshot(seen)
        drawn = _scatter(snapshot, keys, feasible)
        beside = published.published_points(snapshot, drawn.x, drawn.y)
        selected = read_path(path).trial
        figure = figures.front_figure(drawn, beside, selected=selected, webgl=webgl)
        return figure, figures.describe(drawn)

    def ring(self, seen: Seen, keys: tuple[str, str], feasible: Sequence[str], path: str) -> Patch:
        """Moves the ring of the front's figure."""
        snapshot, number = self.snapshot(seen), read_path(path).trial
        found = None if number is None else snapshot.trial(number)
        x, y = _axes_of(snapshot, keys)
        place = place_of(found, x, y, feasible_only=study.FEASIBLE in feasible)
        patch = Patch()
        for name, values in figures.ring(place).items():
            patch["data"][0][name] = values
        return patch

    def hypervolume(self, seen: Seen) -> go.Figure:
        """The figure of the hypervolume."""
        found = self.snapshot(seen)
        study_ = found.study
        history = hypervolume_history(found.trials, study_.objectives, study_.reference_point)
        return figures.hypervolume_figure(history)

    # a trial

    def opened(self, seen: Seen, path: str) -> list[Any]:
        """What the panel and the detail show; equal when they need no change."""
        snapshot, number = self.snapshot(seen), read_path(path).trial
        members = [m.number for m in snapshot.front.members]
        if number is None:
            return [snapshot.study.id, None, members]
        found = snapshot.trial(number)
        revision = None if found is None else found.revision
        return [snapshot.study.id, number, revision, number in members]

    def network(self, seen: Seen, path: str) -> tuple[Child, Child]:
        """The panel beside the front, and the detail below."""
        snapshot, number = self.snapshot(seen), read_path(path).trial
        if number is None:
            return study.picks_panel(snapshot), None
        try:
            view = trial_view(self._store, snapshot.study, number)
        except UnknownRecord as error:
            return trial.missing_panel(snapshot.study, str(error)), None
        on_front = any(m.number == number for m in snapshot.front.members)
        return trial.network_panel(view, on_front), trial.detail(view)

    def layers(self, seen: Seen, path: str, profile: str) -> tuple[go.Figure, str]:
        """Energy and operations by layer, and the total in words."""
        number = read_path(path).trial
        view = trial_view(self._store, self.snapshot(seen).study, -1 if number is None else number)
        if view.network is None:
            return figures.blank(view.problem), ""
        energy, layers = layer_costs(view.network, load_profile(profile))
        return figures.layers_figure(layers), trial.energy_sentence(energy)


def _scatter(snapshot: Snapshot, keys: tuple[str, str], feasible: Sequence[str]) -> Scatter:
    x, y = _axes_of(snapshot, keys)
    return scatter(snapshot, x, y, feasible_only=study.FEASIBLE in feasible)


def _axes_of(snapshot: Snapshot, keys: tuple[str, str]) -> tuple[Axis, Axis]:
    found = {axis.key: axis for axis in snapshot.axes}
    x, y = default_axes(snapshot.axes)
    return found.get(keys[0], x), found.get(keys[1], y)
