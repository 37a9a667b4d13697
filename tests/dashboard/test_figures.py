"""Figures, read through ``figure.data``."""

import numpy as np
import plotly.graph_objects as go
import pytest

from bitfront.dashboard import figures
from bitfront.dashboard.axes import Axis
from bitfront.dashboard.data import Snapshots
from bitfront.dashboard.network import layer_costs
from bitfront.dashboard.published import PublishedPoint
from bitfront.dashboard.scatter import Cloud, Scatter, scatter
from bitfront.dashboard.trial import trial_view
from bitfront.evaluators.hardware.profile import load_profile
from bitfront.search.front import hypervolume_history

ACCURACY = Axis(objective="accuracy", unit="fraction", direction="maximize")
ENERGY = Axis(objective="energy", unit="mJ", direction="minimize")


def cloud(points, first=0):
    return Cloud(
        numbers=np.arange(first, first + len(points)),
        x=np.array([p[0] for p in points], dtype=float),
        y=np.array([p[1] for p in points], dtype=float),
        labels=tuple(f"#{first + i}" for i in range(len(points))),
    )


def drawn(front, dominated=(), excluded=(), x=ENERGY, y=ACCURACY, stepped=True):
    return Scatter(
        x=x,
        y=y,
        front=cloud(front),
        dominated=cloud(dominated, 100),
        excluded=cloud(excluded, 100_000),
        is_stepped=stepped,
    )


def trace(figure, name):
    return next(t for t in figure.data if t.name == name)


class TestFront:
    def test_traces(self, store):
        snapshot = Snapshots(store).named("digits-melius")
        found = scatter(snapshot, ENERGY, ACCURACY)
        figure = figures.front_figure(found)
        assert [t.name for t in figure.data] == [figures.SELECTED, "Dominated", "Front"]
        front = trace(figure, "Front")
        assert list(front.customdata) == [int(n) for n in found.front.numbers]
        assert list(front.x) == list(found.front.x)
        assert front.line.shape == "hv"
        assert front.mode == "lines+markers"
        assert trace(figure, "Dominated").marker.opacity < 1

    def test_logarithmic_only_above_tenfold(self):
        narrow = figures.front_figure(drawn([(1.0, 0.5), (9.0, 0.9)]))
        wide = figures.front_figure(drawn([(1.0, 0.5), (11.0, 0.9)]))
        assert narrow.layout.xaxis.type is None
        assert wide.layout.xaxis.type == "log"
        assert wide.layout.yaxis.type is None
        zero = figures.front_figure(drawn([(0.0, 0.5), (11.0, 0.9)]))
        assert zero.layout.xaxis.type is None

    def test_a_gain_across_steps_the_other_way(self):
        figure = figures.front_figure(drawn([(0.5, 1.0), (0.9, 2.0)], x=ACCURACY, y=ENERGY))
        assert trace(figure, "Front").line.shape == "vh"

    def test_unjoined_without_directions(self):
        figure = figures.front_figure(drawn([(1.0, 0.5), (2.0, 0.9)], stepped=False))
        assert trace(figure, "Front").mode == "markers"

    def test_the_selected_trial_is_ringed(self):
        found = drawn([(1.0, 0.5), (2.0, 0.9)], dominated=[(3.0, 0.6)])
        ring = figures.front_figure(found, selected=100).data[0]
        assert (ring.name, list(ring.x), list(ring.y)) == (figures.SELECTED, [3.0], [0.6])
        assert not figures.front_figure(found, selected=None).data[0].x
        assert not figures.front_figure(found, selected=77).data[0].x

    def test_many_points_are_drawn_by_webgl_all_of_them(self):
        many = [(1.0 + i, 0.1) for i in range(figures.MANY + 1)]
        found = drawn([(1.0, 0.5)], dominated=many)
        assert {type(t) for t in figures.front_figure(found).data} == {go.Scattergl}
        assert {type(t) for t in figures.front_figure(found, webgl=False).data} == {go.Scatter}
        assert {type(t) for t in figures.front_figure(drawn([(1.0, 0.5)])).data} == {go.Scatter}

    def test_excluded_and_published(self):
        point = PublishedPoint(name="net", x=50.0, y=0.7, label="<b>net</b>")
        found = drawn([(1.0, 0.5)], excluded=[(2.0, 0.4)])
        figure = figures.front_figure(found, [point])
        assert list(trace(figure, "Not eligible").customdata) == [100_000]
        shown = trace(figure, "Published")
        assert list(shown.x) == [50.0]
        # a click on it opens no trial
        assert shown.customdata is None
        assert figure.layout.xaxis.type == "log"

    def test_empty(self):
        figure = figures.front_figure(drawn([]))
        assert not figure.data
        assert "No trial" in figure.layout.annotations[0].text

    def test_markup_in_a_name_is_escaped(self):
        axis = Axis(objective='<a href="http://x">joy</a>', unit="<b>u</b>", direction="minimize")
        figure = figures.front_figure(drawn([(1.0, 0.5)], x=axis))
        title = '&lt;a href="http://x"&gt;joy&lt;/a&gt; (&lt;b&gt;u&lt;/b&gt;)'
        assert figure.layout.xaxis.title.text == title

    def test_in_words(self):
        words = figures.describe(drawn([(1.0, 0.5), (2.0, 0.9)], dominated=[(3.0, 0.6)]))
        assert words.startswith("2 of 3 eligible trials form the front of Validation accuracy")
        assert "from 1 mJ to 2 mJ" in words


class TestHypervolume:
    def test_never_falls(self, store, study):
        points = store.points(study.id)
        history = hypervolume_history(points, study.objectives, study.reference_point)
        found = figures.hypervolume_figure(history).data[0]
        assert list(found.x) == list(range(1, len(history) + 1))
        assert list(found.y) == sorted(found.y)
        assert found.y[-1] == Snapshots(store).named(study.name).front.hypervolume

    def test_empty(self):
        assert "No trial" in figures.hypervolume_figure(()).layout.annotations[0].text


class TestNetwork:
    @pytest.fixture
    def view(self, store, study):
        best = Snapshots(store).named(study.name).front.members[0]
        return trial_view(store, study, best.number)

    def test_layers(self, view):
        energy, layers = layer_costs(view.network, load_profile("boolnet65"))
        figure = figures.layers_figure(layers)
        names = ["Compute", "SRAM", "DRAM", "FLOPs", "BOPs/64"]
        assert [t.name for t in figure.data] == names
        assert list(figure.data[0].x) == [layer.label for layer in layers]
        drawn_mj = sum(sum(t.y) for t in figure.data[:3])
        assert 0.9 * energy.total_mj < drawn_mj <= energy.total_mj
        assert figure.layout.barmode == "stack"

    def test_curve(self, view):
        figure = figures.curve_figure(view.record.curve)
        assert [t.name for t in figure.data] == [
            "Validation accuracy",
            "Validation loss",
            "Training loss",
        ]
        assert list(figure.data[0].y) == [p.validation_accuracy for p in view.record.curve]

    def test_a_single_epoch_is_a_point(self, view):
        assert figures.curve_figure(view.record.curve[:1]).data[0].mode == "markers"


def test_nothing_is_loaded_from_elsewhere():
    assert figures.CONFIG["showSendToCloud"] is False
    assert figures.CONFIG["displaylogo"] is False
    assert figures.CONFIG["topojsonURL"].startswith("/")
