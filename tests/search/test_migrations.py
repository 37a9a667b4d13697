"""The migrations build the tables of the code, and old stores are opened by today's code."""

import re
import shutil
import sqlite3
from importlib.resources import files
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import inspect, text

from bitfront.search.front import front_of, knee
from bitfront.search.record import TrialState
from bitfront.search.store import (
    StoreError,
    StudyBusy,
    backup,
    check,
    maintenance,
    migrating,
    open_store,
    upgrade,
)
from bitfront.search.store import connection as connections
from bitfront.search.store.connection import WRITES
from bitfront.search.store.schema import VERSION, VERSION_TABLE, metadata

ASSETS = Path(__file__).parent / "assets"


def described(connection):
    """Everything that reflection tells of the tables."""
    found = inspect(connection)
    return {
        name: {
            "columns": [
                (c["name"], str(c["type"]), c["nullable"]) for c in found.get_columns(name)
            ],
            "primary key": found.get_pk_constraint(name),
            "foreign keys": sorted(
                (k["name"], k["constrained_columns"], k["referred_table"], k["options"])
                for k in found.get_foreign_keys(name)
            ),
            "unique": sorted(
                (u["name"], u["column_names"]) for u in found.get_unique_constraints(name)
            ),
            "indexes": sorted(
                (i["name"], i["column_names"], bool(i["unique"])) for i in found.get_indexes(name)
            ),
        }
        for name in found.get_table_names()
        if name != VERSION_TABLE
    }


def test_migrations_build_the_tables_of_the_code(store):
    with store._engine.execution_options(**{WRITES: True}).begin() as connection:
        assert maintenance.schema_differences(connection) == []
        migrated = described(connection)
        metadata.drop_all(connection)
        assert described(connection) == {}
        metadata.create_all(connection)
        assert described(connection) == migrated
    assert set(migrated) == set(metadata.tables)


def test_the_version_of_the_code_is_the_newest_migration(store):
    assert migrating.head_version() == VERSION
    with store._engine.connect() as connection:
        assert connections.stored_version(connection) == VERSION


def test_versions_sort_as_texts():
    names = sorted(
        p.name for p in (files("bitfront.search.store.migrations") / "versions").iterdir()
    )
    numbered = [n for n in names if n.endswith(".py") and n != "__init__.py"]
    assert all(re.fullmatch(r"\d{4}_\w+\.py", n) for n in numbered)
    assert numbered[-1].startswith(VERSION)


# upgrades: the present schema plays the old one


@pytest.fixture
def next_version(tmp_path, monkeypatch):
    """Add a migration 0003, made with the template; return the text of its body to be set."""
    folder = tmp_path / "migrations%1"
    shutil.copytree(str(files("bitfront.search.store.migrations")), folder)
    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))

    def add(body):
        script = command.revision(config, message="Add a column", rev_id="0003")
        path = Path(script.path)
        content = path.read_text()
        compile(content, str(path), "exec")
        path.write_text(content.replace("    pass\n", body))
        # each run fills in the connection of its own configuration
        monkeypatch.setattr(migrating, "migrations_config", lambda: config)
        for module in (maintenance, connections):
            monkeypatch.setattr(module, "VERSION", "0003")

    return add


WIDER = """
    with op.batch_alter_table("trials") as batch:
        batch.add_column(sa.Column("note", sa.Text(), nullable=True))
        batch.alter_column("attempt", existing_type=sa.BigInteger(), type_=sa.Integer())
"""


def test_an_upgrade_keeps_everything(store, store_url, make_study, run_trial, next_version):
    study = make_study(store)
    for number in range(3):
        run_trial(store, study.id, number)
    before = store.trials(study.id)
    next_version(WIDER)
    with pytest.raises(StoreError, match="run `bitfront store upgrade"):
        open_store(store_url, create=False)
    assert upgrade(store_url) == (VERSION, "0003")
    assert upgrade(store_url) == ("0003", "0003")
    with open_store(store_url, create=False) as upgraded:
        # a table that is rebuilt with foreign keys on would take curves and measurements along
        assert upgraded.trials(study.id) == before
        with upgraded._engine.connect() as connection:
            assert connection.execute(text("SELECT count(note), count(*) FROM trials")).one() == (
                0,
                3,
            )
            assert any("note" in d for d in maintenance.schema_differences(connection))


def test_a_failed_upgrade_changes_nothing(
    store, store_url, make_study, run_trial, next_version, monkeypatch
):
    study = make_study(store)
    run_trial(store, study.id, 0)
    before = store.trials(study.id)
    next_version(WIDER + '    op.execute("SELECT * FROM nowhere")\n')
    with pytest.raises(StoreError, match="nowhere"):
        upgrade(store_url)
    monkeypatch.undo()
    with open_store(store_url, create=False) as again:
        assert again.trials(study.id) == before
    assert check(store_url).problems == ()


def test_an_upgrade_that_loses_parents_is_undone(
    store, store_url, make_study, run_trial, next_version
):
    if store_url.startswith("postgresql"):
        pytest.skip("its foreign keys cannot be switched off")
    run_trial(store, make_study(store).id, 0)
    next_version('    op.execute("DELETE FROM trials")\n')
    with pytest.raises(StoreError, match="rows of curve_points have no row of trials"):
        upgrade(store_url)
    with store._engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM trials")).scalar() == 1


def test_no_upgrade_beside_a_driver(store, store_url, make_study, next_version):
    lease = store.acquire_lease(make_study(store).id)
    next_version(WIDER)
    with pytest.raises(StudyBusy, match=rf"in use by process {lease.pid}"):
        upgrade(store_url)
    store.release_lease(lease)
    assert upgrade(store_url) == (VERSION, "0003")


def test_what_cannot_be_upgraded(tmp_path, store, store_url):
    assert upgrade(store_url) == (VERSION, VERSION)
    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE x (y)")
    with pytest.raises(StoreError, match="is not a bitfront store"):
        upgrade(str(tmp_path / "other.db"))
    for version, match in (("0099", "upgrade bitfront"), ("0000", "cannot be upgraded")):
        with store._engine.begin() as connection:
            connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '{version}'"))
        with pytest.raises(StoreError, match=match):
            upgrade(store_url)


# old stores


@pytest.mark.parametrize("dump", sorted(ASSETS.glob("store_v*.sql")), ids=lambda path: path.stem)
def test_an_old_store_is_opened_by_todays_code(tmp_path, dump):
    path = str(tmp_path / "old.db")
    with sqlite3.connect(path) as connection:
        connection.executescript(dump.read_text())
    connection.close()
    upgrade(path)
    assert check(path).problems == ()
    with open_store(path, create=False) as store:
        study = store.load_study("old <study>")
        states = [t.state for t in store.points(study.id)]
        assert states == [
            *[TrialState.COMPLETE] * 3,
            TrialState.PRUNED,
            TrialState.INFEASIBLE,
            TrialState.DUPLICATE,
            TrialState.FAILED,
            TrialState.RUNNING,
        ]
        front = front_of(store.points(study.id), study.objectives, study.reference_point)
        assert [t.number for t in front.members] == [1, 0]
        assert front.hypervolume == pytest.approx(
            0.81 * 1.2041199826559248 + 0.09 * 0.6020599913279624
        )
        assert knee(front).number == 0
        waiting = store.trial(study.id, 7)
        assert (waiting.attempt, waiting.checkpoint) == (2, "/runs/old/7")
        assert waiting.candidate.recipe.epochs == 2
        assert sum(e.kwh for e in store.energy(study.id)) == pytest.approx(0.005)
        assert store.driver(study.id) is None
        assert store.retrainings(study.id)[0].test_accuracy == 0.88
        assert store.exports(study.id)[0].images == 297
        store.requeue(study.id, 7)


# check and backup


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        ("DELETE FROM measurements WHERE objective = 'accuracy'", "a measurement of accuracy"),
        ("UPDATE trials SET fidelity = 2", "COMPLETE after 2 of 3 epochs"),
        ("UPDATE trials SET fidelity = 2", "a curve of 3 epochs but fidelity 2"),
        ("UPDATE trials SET state = 'DUPLICATE', duplicate_of = 9", "a duplicate of trial 9"),
        ("UPDATE trials SET energy_kwh = 1", "1.0 kWh but 0.0 kWh in the ledger"),
        ("UPDATE trials SET candidate_digest = 'x'", "digests that are not those of its candidate"),
        (
            "UPDATE trials SET candidate = replace(candidate, '\"version\":1', '\"version\":9')",
            "a newer bitfront",
        ),
        ("UPDATE trials SET candidate = '{'", "cannot be read"),
        ("UPDATE trials SET decisions = '{'", "cannot be read"),
        ("UPDATE trials SET state = 'ODD'", "cannot be read"),
        ("UPDATE studies SET objectives = '[]'", "cannot be read"),
        ("ALTER TABLE trials ADD COLUMN more INTEGER", "not those of schema"),
        ("DROP INDEX ix_trials_study_id_state", "not those of schema"),
    ],
)  # fmt: skip
def test_a_check_finds_what_is_wrong(store, store_url, make_study, run_trial, damage, problem):
    run_trial(store, make_study(store).id, 0)
    found = check(store_url)
    assert (found.problems, found.studies, found.trials, found.version) == ((), 1, 1, VERSION)
    with store._engine.execution_options(**{WRITES: True}).begin() as connection:
        connection.exec_driver_sql(damage)
    assert any(problem in p for p in check(store_url).problems), check(store_url).problems


def test_a_check_finds_orphans_and_reads_many_pages(tmp_path, store_of_trials, monkeypatch):
    monkeypatch.setattr(maintenance, "_PAGE", 2)
    path = tmp_path / "b.db"
    store_of_trials(path, 5)
    assert check(str(path)).problems == ()
    connection = sqlite3.connect(path)
    connection.execute("DELETE FROM trials WHERE number = 4")
    connection.execute("UPDATE trials SET energy_kwh = 1 WHERE number = 3")
    connection.commit()
    connection.close()
    problems = check(str(path)).problems
    assert "3 rows of curve_points have no row of trials." in problems
    assert "Trial 3 of 'first' has 1.0 kWh but 0.0 kWh in the ledger." in problems
    assert len(problems) == 3


def test_a_backup_is_a_store(tmp_path, make_study, run_trial):
    url = str(tmp_path / "b.db")
    with open_store(url, create=True) as store:
        study = make_study(store)
        run_trial(store, study.id, 0)
        backup(url, tmp_path / "copy.db")
        run_trial(store, study.id, 1)
        with open_store(str(tmp_path / "copy.db"), create=False) as copy:
            assert copy.trials(study.id) == store.trials(study.id, limit=1)
    assert check(str(tmp_path / "copy.db")).problems == ()
    # reading alone leaves SQLite's empty side files
    assert {p.name.partition("-")[0] for p in tmp_path.iterdir()} == {"b.db", "copy.db"}
