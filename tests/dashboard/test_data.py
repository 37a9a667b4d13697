"""From the store to view values."""

import random
import time

import numpy as np
import pytest
from sqlalchemy import event

from bitfront.dashboard import published
from bitfront.dashboard.axes import Axis, default_axes
from bitfront.dashboard.data import KEPT_STUDIES, Snapshots, picks, standing, table_rows
from bitfront.dashboard.scatter import place_of, scatter
from bitfront.dashboard.trial import spread, trial_view
from bitfront.evaluators.measurement import Measurement
from bitfront.search.front import front_of
from bitfront.search.record import StudyObjective, TrialState
from bitfront.search.store import UnknownRecord, open_store

ACCURACY = Axis(objective="accuracy", unit="fraction", direction="maximize")
ENERGY = Axis(objective="energy", unit="mJ", direction="minimize")


@pytest.fixture
def snapshot(store):
    return Snapshots(store).named("digits-melius")


@pytest.fixture
def fresh(tmp_path):
    """A store of its own, open for writing."""
    with open_store(str(tmp_path / "bitfront.db"), create=True) as opened:
        yield opened


def counting(store):
    """The statements that a store has run since."""
    found = []
    event.listen(
        store._engine, "before_cursor_execute", lambda c, k, text, *rest: found.append(text)
    )
    return found


class TestSnapshots:
    def test_holds_what_the_store_holds(self, store, study, snapshot):
        assert snapshot.trials == store.points(study.id)
        assert snapshot.front == front_of(snapshot.trials, study.objectives, study.reference_point)
        assert snapshot.counts == store.counts()[study.id]
        assert not snapshot.is_running

    def test_an_unknown_name_is_refused(self, store):
        with pytest.raises(UnknownRecord, match="digits-melius"):
            Snapshots(store).named("digits-meliu")

    def test_statements_do_not_grow_with_trials(self, fresh, seeds):
        counts = []
        for name, trials in (("few", 3), ("many", 30)):
            seeds.fill(fresh, name, trials)
            statements = counting(fresh)
            Snapshots(fresh).named(name)
            counts.append(len(statements))
        assert counts[0] == counts[1]

    def test_only_what_changed_is_read_again(self, fresh, seeds):
        study = seeds.fill(fresh, "s", 20)
        snapshots = Snapshots(fresh)
        before = snapshots.named("s")
        seeds.add(fresh, study.id, 20, next(seeds.proposals(7)), random.Random(0))
        after = snapshots.named("s")
        assert [t.number for t in after.trials] == list(range(21))
        assert after.trials == fresh.points(study.id)
        # the others are the same objects, so they were not read
        assert all(a is b for a, b in zip(after.trials, before.trials, strict=False))

    def test_an_id_that_is_given_again_is_another_study(self, fresh, seeds):
        first = seeds.fill(fresh, "first", 5)
        snapshots = Snapshots(fresh)
        snapshots.named("first")
        fresh.delete_study(first.id)
        second = seeds.fill(fresh, "second", 1)
        assert second.id == first.id
        assert len(snapshots.named("second").trials) == 1
        assert snapshots.of(first.id, first.created_at) is None

    def test_a_restored_store_is_read_anew(self, tmp_path, seeds):
        from bitfront.search.store import backup

        path, copy = tmp_path / "a.db", tmp_path / "b.db"
        with open_store(str(path), create=True) as store:
            study = seeds.fill(store, "s", 4)
            backup(str(path), copy)
            seeds.add(store, study.id, 4, next(seeds.proposals(7)), random.Random(0))
            snapshots = Snapshots(store)
            assert len(snapshots.named("s").trials) == 5
        with open_store(str(copy), create=False) as restored:
            snapshots._store = restored
            assert len(snapshots.named("s").trials) == 4

    def test_few_studies_are_kept(self, fresh, seeds):
        snapshots = Snapshots(fresh)
        for i in range(KEPT_STUDIES + 3):
            seeds.fill(fresh, f"s{i}", 1)
            snapshots.named(f"s{i}")
        assert len(snapshots._kept) == KEPT_STUDIES

    def test_a_driver_makes_it_running(self, fresh, seeds):
        study = seeds.fill(fresh, "s", 2)
        snapshots = Snapshots(fresh)
        before = snapshots.named("s")
        known = (study.id, study.created_at, before.study.revision, before.is_running)
        assert not snapshots.is_stale(*known)
        lease = fresh.acquire_lease(study.id)
        assert snapshots.is_stale(*known)
        assert snapshots.named("s").is_running
        fresh.release_lease(lease)
        assert not snapshots.named("s").is_running


class TestCards:
    def test_say_what_the_studies_hold(self, store, snapshot, seeds):
        cards = {c.study.name: c for c in Snapshots(store).cards()}
        assert list(cards) == ["large images", "fresh", seeds.MARKUP, "digits-melius"]
        found = cards["digits-melius"]
        assert found.members == len(snapshot.front.members)
        assert found.hypervolume == snapshot.front.hypervolume
        assert found.counts == snapshot.counts
        best = max(m.value("accuracy") for m in snapshot.front.members)
        assert dict(found.bests)["Validation accuracy"] == f"{100 * best:.1f} %"
        assert " to " in dict(found.bests)["Energy per inference"]

    def test_an_empty_study_has_no_values(self, store):
        found = next(c for c in Snapshots(store).cards() if c.study.name == "fresh")
        assert found.members == 0
        assert found.hypervolume is None
        assert {text for _, text in found.bests} == {"–"}

    def test_an_unchanged_study_is_not_read_again(self, store):
        snapshots = Snapshots(store)
        snapshots.cards()
        statements = counting(store)
        snapshots.cards()
        assert not [s for s in statements if "FROM measurements" in s]


class TestAxes:
    def test_objectives_come_first(self, snapshot):
        keys = [axis.key for axis in snapshot.axes]
        assert keys[:2] == ["accuracy", "energy"]
        assert set(keys) == {"accuracy", "energy", "ops", "params", "size_mib", "memory"}
        assert default_axes(snapshot.axes) == (ENERGY, ACCURACY)

    def test_another_profile_is_another_axis(self, fresh, seeds):
        study = seeds.fill(fresh, "s", 3)
        for trial in fresh.points(study.id):
            if trial.value("energy") is not None:
                other = Measurement(
                    objective="energy",
                    value=5.0,
                    unit="mJ",
                    method="estimated",
                    hardware="horowitz45",
                )
                fresh.add_measurements(study.id, trial.number, [other])
        found = Snapshots(fresh).named("s")
        axis = next(a for a in found.axes if a.key == "energy@horowitz45")
        assert axis.title == "Energy per inference (mJ) on horowitz45"
        assert axis.value(found.trials[0]) == 5.0
        assert ENERGY.value(found.trials[0]) != 5.0

    def test_a_single_objective_has_two_axes_all_the_same(self, fresh, seeds):
        objective = StudyObjective(name="accuracy", unit="fraction", direction="maximize")
        seeds.fill(fresh, "s", 3, objectives=(objective,))
        x, y = default_axes(Snapshots(fresh).named("s").axes)
        assert (x.key, y.key) == ("energy", "accuracy")

    def test_an_unknown_objective_has_no_direction_in_a_title(self):
        axis = Axis(objective="joy<b>", unit="smiles")
        assert axis.title == "joy<b> (smiles)"
        assert axis.direction == ""


class TestScatter:
    def test_front_is_that_of_the_study(self, snapshot):
        found = scatter(snapshot, ENERGY, ACCURACY)
        assert set(found.front.numbers) == {m.number for m in snapshot.front.members}
        assert list(found.front.x) == sorted(found.front.x)
        assert found.is_stepped

    def test_only_eligible_trials_by_default(self, snapshot):
        found = scatter(snapshot, ENERGY, ACCURACY)
        eligible = {t.number for t in snapshot.trials if t.is_eligible}
        assert set(found.front.numbers) | set(found.dominated.numbers) == eligible
        assert not len(found.excluded.numbers)

    def test_the_others_on_request(self, snapshot):
        found = scatter(snapshot, ENERGY, ACCURACY, feasible_only=False)
        pruned = {t.number for t in snapshot.trials if t.state is TrialState.PRUNED}
        assert pruned
        assert set(found.excluded.numbers) == pruned
        both = scatter(snapshot, ENERGY, Axis(objective="ops", unit="OPs"), feasible_only=False)
        infeasible = {t.number for t in snapshot.trials if t.state is TrialState.FAILED}
        assert infeasible <= set(both.excluded.numbers)

    def test_nothing_dominates_the_front(self, snapshot):
        size = Axis(objective="size_mib", unit="MiB", direction="minimize")
        found = scatter(snapshot, size, ACCURACY)
        for x, y in zip(found.front.x, found.front.y, strict=True):
            better = (found.dominated.x <= x) & (found.dominated.y >= y)
            assert not np.any(better & ((found.dominated.x < x) | (found.dominated.y > y)))

    def test_without_directions_the_front_is_not_joined(self, snapshot):
        found = scatter(snapshot, ENERGY, Axis(objective="accuracy", unit="fraction"))
        assert not found.is_stepped
        assert set(found.front.numbers) == {m.number for m in snapshot.front.members}

    def test_places(self, snapshot):
        found = scatter(snapshot, ENERGY, ACCURACY)
        for trial in snapshot.trials:
            assert found.place(trial.number) == place_of(trial, ENERGY, ACCURACY)
        assert place_of(None, ENERGY, ACCURACY) is None

    def test_labels_say_number_and_costs(self, snapshot):
        label = scatter(snapshot, ENERGY, ACCURACY).front.labels[0]
        for text in ("<b>#", "Validation accuracy: ", " µJ", " OPs", " KiB"):
            assert text in label

    def test_an_empty_study_is_empty(self, store):
        assert scatter(Snapshots(store).named("fresh"), ENERGY, ACCURACY).is_empty


class TestTableAndPicks:
    def test_a_row_per_trial(self, snapshot):
        rows = table_rows(snapshot)
        assert [r["number"] for r in rows] == [t.number for t in snapshot.trials]
        for row, trial in zip(rows, snapshot.trials, strict=True):
            assert row["m0"] == trial.value("accuracy")
            assert row["m1"] == trial.value("energy")
            assert row["state"] == standing(trial)
        members = {m.number for m in snapshot.front.members}
        assert {r["number"] for r in rows if r["front"]} == members

    def test_rows_since_a_revision(self, snapshot):
        last = max(snapshot.trials, key=lambda t: t.revision)
        rows = table_rows(snapshot, since=last.revision - 1, also={0})
        assert {r["number"] for r in rows} == {0, last.number}

    def test_picks(self, snapshot):
        found = picks(snapshot.front)
        assert [p.why for p in found] == [
            "Best balance (knee of the front)",
            "Highest validation accuracy",
            "Lowest energy per inference",
        ]
        assert found[1].trial is snapshot.front.members[0]
        assert found[2].trial is snapshot.front.members[-1]

    def test_no_front_no_picks(self, store):
        assert picks(Snapshots(store).named("fresh").front) == ()


class TestPublished:
    @pytest.mark.parametrize(
        ("dataset", "comparable"),
        [
            ("digits", False),
            ("cifar10", False),
            ("folder:/data/imagenet", True),
            ("folder:/data/ILSVRC2012/", True),
            ("folder:/data/imagenet-sketch", False),
            ("folder:/imagenet/flowers", False),
        ],
    )
    def test_only_on_the_same_data(self, dataset, comparable):
        assert published.is_comparable(dataset) is comparable

    @pytest.mark.parametrize(
        ("dataset", "comparable"), [("cifar10", True), ("cifar100", False), ("digits", False)]
    )
    def test_figures_for_other_data_stay_with_it(self, dataset, comparable):
        assert published.is_comparable(dataset, "cifar10") is comparable
        assert not published.is_comparable("folder:/data/imagenet", "cifar10")

    def test_none_on_digits_and_said_so(self, snapshot):
        assert published.published_points(snapshot, ENERGY, ACCURACY) == ()
        assert "none is comparable with a study on digits" in published.comparison(snapshot)

    def test_published_accuracy_over_costs_of_our_own(self, store):
        found = Snapshots(store).named("large images")
        points = {p.name: p for p in published.published_points(found, ENERGY, ACCURACY)}
        assert points["meliusnet22"].y == 0.636
        assert points["resnet18-fp"].x > points["birealnet18"].x > 0
        assert "arXiv:2001.05936" in points["meliusnet22"].label
        assert not any(name.endswith("cifar10") for name in points)

    def test_without_a_value_on_an_axis_nothing_is_drawn(self, store):
        found = Snapshots(store).named("large images")
        assert published.published_points(found, Axis(objective="joy", unit=""), ACCURACY) == ()


class TestTrial:
    def test_everything_of_a_trial(self, store, study, snapshot):
        best = snapshot.front.members[0]
        view = trial_view(store, study, best.number)
        assert view.record == store.trial(study.id, best.number)
        assert view.candidate.digest == best.candidate_digest
        assert view.network is not None
        assert view.problem == ""
        assert view.profile == "boolnet65"
        assert [r.seed for r in view.retrainings] == [1, 2, 3]
        assert {e.format for e in view.exports} == {"onnx", "pt2"}

    def test_decisions_without_a_network(self, fresh, seeds):
        from bitfront.search.record import new_trial

        study = seeds.fill(fresh, "s", 0)
        trial = new_trial(
            0,
            decisions={"stages": 2},
            candidate=None,
            state=TrialState.INFEASIBLE,
            seed=1,
            full_fidelity=3,
            now=time.time(),
            error="A shape does not fit.",
        )
        fresh.add_trial(study.id, trial)
        view = trial_view(fresh, study, 0)
        assert view.network is None
        assert view.problem == "A shape does not fit."

    def test_a_candidate_of_a_newer_version_is_said(self, fresh, seeds):
        from dataclasses import replace

        study = seeds.fill(fresh, "s", 1)
        old = fresh.trial(study.id, 0)
        text = old.candidate_json.replace('"version":1', '"version":99')
        fresh.add_trial(study.id, replace(old, number=1, candidate_json=text))
        view = trial_view(fresh, study, 1)
        assert view.network is None
        assert "newer bitfront" in view.problem

    def test_no_such_trial(self, store, study):
        with pytest.raises(UnknownRecord, match="no trial 999"):
            trial_view(store, study, 999)

    def test_spread(self):
        assert spread([0.9]).deviation is None
        found = spread([0.9, 0.92, 0.94])
        assert (found.mean, found.deviation) == (pytest.approx(0.92), pytest.approx(0.02))
