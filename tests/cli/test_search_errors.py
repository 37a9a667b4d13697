"""Wrong use of the searching and reading verbs: one sentence, status 2, nothing half-written."""

from __future__ import annotations

import sqlite3

import pytest


def one_sentence(ran, *parts: str) -> None:
    lines = [line for line in ran.err.splitlines() if line.strip()]
    assert ran.status == 2, ran
    assert ran.out == ""
    assert len(lines) == 1, ran.err
    assert "Traceback" not in ran.err
    for part in parts:
        assert part in lines[0], lines[0]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--dataset", "digit"], ["digit", "'digits'", "cifar10"]),
        (["--space", "meliu"], ["meliu", "melius"]),
        (["--objectives", "accuracy,energie"], ["energie", "'energy'"]),
        (["--objectives", "energy"], ["accuracy"]),
        (["--hardware", "tpu"], ["tpu", "boolnet65"]),
        (["--sampler", "tpee"], ["tpee", "nsga2"]),
        (["--constraint", "size_mib=0.1"], ["size_mib=0.1", "<="]),
        (["--constraint", "sise_mib<=0.1"], ["sise_mib", "size_mib"]),
        (["--constraint", "size_mib<=small"], ["small"]),
        (["--trials", "0"], ["trials", "0"]),
        (["--time-budget", "soon"], ["soon", "90s"]),
        (["--store", "missing/folder/x.db"], ["missing/folder"]),
        (["--store", "mysql://localhost/x"], ["mysql"]),
        (["--store", "postgresql://nobody:secret@127.0.0.1:1/none"], ["127.0.0.1"]),
        (["--dataset", "folder:nowhere"], ["nowhere"]),
        (["--study", "a\nb"], ["control characters"]),
        (["nothing.toml"], ["nothing.toml"]),
    ],
)
def test_search_refuses(bitfront, tmp_path, arguments, parts):
    ran = bitfront("search", *arguments)
    one_sentence(ran, *parts)
    assert "secret" not in ran.err
    # no database, no run folder: nothing was begun
    assert list(tmp_path.iterdir()) == []


def test_a_misspelt_key_in_a_configuration(bitfront, tmp_path):
    (tmp_path / "search.toml").write_text('trails = 10\ndataset = "digits"\n')
    one_sentence(bitfront("search", "search.toml"), "trails", "'trials'", "search.toml")
    assert [p.name for p in tmp_path.iterdir()] == ["search.toml"]


def test_a_configuration_that_is_no_toml(bitfront, tmp_path):
    (tmp_path / "search.toml").write_text("trials: 10\n")
    one_sentence(bitfront("search", "search.toml"), "search.toml", "TOML")


def test_cifar_without_its_files_names_them(bitfront, tmp_path):
    ran = bitfront("search", "--dataset", "cifar10", "--data-dir", "here", timeout=120)
    one_sentence(ran, "cifar-10-binary.tar.gz", str(tmp_path / "here"))
    assert not (tmp_path / "bitfront.db").exists()


@pytest.mark.parametrize("verb", [["front"], ["show"], ["studies"], ["resume"], ["cost", "a/1"]])
def test_reading_a_store_that_is_not_there(bitfront, tmp_path, verb):
    one_sentence(bitfront(*verb), "bitfront.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", [["front"], ["studies"], ["search"], ["store", "check"]])
def test_a_corrupt_database(bitfront, tmp_path, verb):
    content = b"this is not a database, but it is long enough to be looked at" * 20
    (tmp_path / "bitfront.db").write_bytes(content)
    one_sentence(bitfront(*verb), "bitfront.db")
    assert (tmp_path / "bitfront.db").read_bytes() == content


def test_a_database_of_something_else(bitfront, tmp_path):
    with sqlite3.connect(tmp_path / "bitfront.db") as connection:
        connection.execute("create table music (title text)")
    connection.close()
    one_sentence(bitfront("front"), "bitfront.db")


@pytest.mark.parametrize("target", ["../x", "digits/", "digits/knee", "meliusnet22/0"])
def test_export_of_what_is_no_trial(bitfront, target):
    ran = bitfront("export", target)
    assert ran.status == 2
    assert "Traceback" not in ran.err


def test_train_refuses_what_does_not_fit(bitfront):
    one_sentence(bitfront("train", "quicknet", "--dataset", "digits"), "quicknet", "digits")


def test_unknown_flag_is_wrong_use(bitfront):
    ran = bitfront("search", "--tirals", "5")
    assert ran.status == 2
    assert "--tirals" in ran.err
