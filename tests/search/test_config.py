"""The configuration of a search: layers, names, constraints, what a study keeps."""

import json

import pytest

from bitfront.search.config import FIXED, VERSION, SearchConfig, read_settings, seconds_of
from bitfront.search.constraint import Constraint, check_together, parse_constraint
from bitfront.spaces.errors import InvalidValue


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_json_round_trip():
    config = SearchConfig.from_json(
        {
            "study": "ärger 7",
            "objectives": ["accuracy", "ops", "size_mib"],
            "constraints": ["size_mib<=0.1", "accuracy>0.5"],
            "sampler": "nsga2",
            "workers": 3,
            "gpus_per_trial": 0.25,
            "budget_co2_g": 12,
        }
    )
    data = json.loads(json.dumps(config.json()))
    assert SearchConfig.from_json(data) == config
    assert data["constraints"] == ["size_mib<=0.1", "accuracy>0.5"]
    assert data["version"] == VERSION
    assert config.budget_co2_g == 12.0
    assert [o.direction for o in config.study_objectives] == ["maximize", "minimize", "minimize"]


def test_what_is_stored_names_neither_study_nor_store():
    config = SearchConfig(store="postgresql://ann:secret@db/bits", study="mine")
    assert not {"store", "study"} & set(config.stored())
    assert "secret" not in json.dumps(config.stored())


def test_flags_win_over_the_file_and_the_file_over_defaults(tmp_path):
    path = write(tmp_path / "c.toml", 'trials = 7\nepochs = 3\nconstraints = ["ops <= 1e5"]\n')
    settings = read_settings(path, {"trials": 9, "seed": None})
    assert settings == {"trials": 9, "epochs": 3, "constraints": ["ops<=100000.0"]}
    config = SearchConfig.resolve(settings)
    assert (config.trials, config.epochs, config.seed, config.space) == (9, 3, 0, "melius")


def test_lists_may_be_texts_with_commas():
    settings = read_settings(None, {"objectives": "accuracy, ops", "constraints": "ops<1e6"})
    assert settings == {"objectives": ["accuracy", "ops"], "constraints": ["ops<1000000.0"]}


def test_paths_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = {"dataset": "folder:images", "data_dir": "d", "run_dir": "r"}
    settings = read_settings(None, flags)
    assert settings["dataset"] == f"folder:{tmp_path}/images"
    assert settings["data_dir"] == f"{tmp_path}/d"
    assert settings["run_dir"] == f"{tmp_path}/r"


def test_a_grid_may_be_a_number(tmp_path):
    path = write(tmp_path / "c.toml", "grid = 120.5\n")
    assert SearchConfig.resolve(read_settings(path)).grid == "120.5"


def test_an_unknown_setting_suggests_the_nearest(tmp_path):
    path = write(tmp_path / "c.toml", "trails = 7\n")
    with pytest.raises(InvalidValue, match=r"unknown setting 'trails'. Did you mean 'trials'\?"):
        read_settings(path)
    with pytest.raises(InvalidValue, match="Did you mean 'sampler'"):
        SearchConfig.from_json({"samplr": "tpe"})


@pytest.mark.parametrize(
    ("content", "says"),
    [("trials =", "must be TOML"), ("[trials]\nx = 1", "must be a whole number")],
)
def test_a_broken_file_is_one_sentence(tmp_path, content, says):
    path = write(tmp_path / "c.toml", content)
    with pytest.raises(InvalidValue, match=says):
        SearchConfig.resolve(read_settings(path))


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(InvalidValue, match="cannot be read: No such file"):
        read_settings(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"dataset": "digit"}, "Did you mean 'digits'"),
        ({"space": "melis"}, "Did you mean 'melius'"),
        ({"sampler": "nsga"}, "Did you mean 'nsga2'"),
        ({"objectives": ["accuracy", "enrgy"]}, "Did you mean 'energy'"),
        ({"objectives": []}, "at least one of accuracy"),
        ({"objectives": ["ops", "energy"]}, "at least one of accuracy"),
        ({"objectives": ["accuracy", "accuracy"]}, "distinct"),
        ({"hardware": "boolnet"}, "Did you mean 'boolnet65'"),
        ({"hardware": ""}, "'energy' needs a hardware profile: hardware must be one of boolnet65"),
        (
            {"hardware": "", "objectives": ["accuracy", "ops"], "constraints": ["energy<=1"]},
            "'energy' needs a hardware profile",
        ),
        ({"constraints": ["energy=1"]}, "must be OBJECTIVE"),
        ({"constraints": ["enrgy<=1"]}, "Did you mean 'energy'"),
        ({"constraints": ["ops<=1", "ops>=2"]}, "No value of ops keeps both"),
        ({"constraints": "ops<=1"}, "must be a list"),
        ({"trials": 0}, "trials must be 1 to"),
        ({"trials": 1.5}, "must be a whole number"),
        ({"epochs": True}, "must be a whole number"),
        ({"seed": -1}, "seed must be 0 to"),
        ({"seed": 2**63}, "seed must be 0 to"),
        ({"workers": 0}, "workers must be 1 to"),
        ({"gpus_per_trial": 1.5}, "whole number or below 1"),
        ({"time_budget_s": 0.0}, "time_budget_s must be positive"),
        ({"budget_kwh": -1.0}, "budget_kwh must be positive"),
        ({"pue": 0.5}, "pue must be at least 1"),
        ({"grid": "MARS"}, "A grid must be one of"),
        ({"address": "somewhere"}, "'auto' or HOST:PORT"),
        ({"study": "a\nb"}, "control characters"),
        ({"store": ""}, "store must name"),
        ({"version": VERSION + 1}, "a newer bitfront wrote it"),
    ],
)
def test_what_breaks_a_rule_is_one_sentence(settings, says):
    with pytest.raises(InvalidValue, match=says) as caught:
        SearchConfig.resolve(settings)
    assert "\n" not in str(caught.value)


def test_a_search_may_do_without_hardware():
    config = SearchConfig.resolve({"hardware": "", "objectives": ["accuracy", "params"]})
    assert config.hardware == ""


def test_the_study_has_a_name_by_default():
    assert SearchConfig().name == "digits-melius"
    assert SearchConfig(dataset="folder:/a/b").name == "folder-melius"


def test_going_on_takes_what_was_not_given_from_the_study():
    stored = SearchConfig(epochs=3, trials=5, seed=4, workers=1).stored()
    config = SearchConfig.resolve({"trials": 50, "study": "x"}, stored)
    assert (config.epochs, config.trials, config.seed, config.workers) == (3, 50, 4, 1)


OTHER = {
    "dataset": "cifar10",
    "space": "other",
    "objectives": ["accuracy", "ops"],
    "hardware": "horowitz45",
    "latency": "/a.latency.json",
    "constraints": ["ops<=5.0"],
    "sampler": "random",
    "epochs": 7,
    "seed": 9,
}


@pytest.mark.parametrize("key", FIXED)
def test_a_study_keeps_what_makes_trials_comparable(key, monkeypatch):
    from bitfront.spaces import spaces

    monkeypatch.setitem(spaces._things, "other", spaces["melius"])
    stored = SearchConfig().stored()
    with pytest.raises(InvalidValue, match=f"has {key} .* a study keeps its"):
        SearchConfig.resolve({key: OTHER[key]}, stored)


@pytest.mark.parametrize(
    ("text", "value", "violation"),
    [
        ("energy<=2e-3", 0.001, -0.5),
        ("energy<=2e-3", 0.002, 0.0),
        ("energy <= 2e-3", 0.003, 0.5),
        ("accuracy>=0.8", 0.6, 0.25),
        ("accuracy >= 0.8", 1.0, -0.25),
        ("memory<=0", 3, 3),
    ],
)
def test_violations_are_shares_of_the_bound(text, value, violation):
    assert parse_constraint(text).violation(value) == pytest.approx(violation)


@pytest.mark.parametrize("text", ["ops<5", "ops>5"])
def test_a_strict_bound_is_violated_where_it_is_met(text):
    assert parse_constraint(text).violation(5) > 0
    assert parse_constraint(text[:3] + text[3] + "=5").violation(5) == 0


def test_a_constraint_has_one_text():
    constraint = parse_constraint(" size_mib <= .1 ")
    assert constraint.text == "size_mib<=0.1"
    assert Constraint.from_json(constraint.text) == constraint


@pytest.mark.parametrize("text", ["", "ops", "ops<=", "ops<=x", "ops<=1<=2", "ops=<1", "<=1"])
def test_what_is_no_constraint_is_refused(text):
    with pytest.raises(InvalidValue, match="must be OBJECTIVE"):
        parse_constraint(text)


@pytest.mark.parametrize("text", ["ops<=nan", "ops<=inf"])
def test_a_bound_is_finite(text):
    with pytest.raises(InvalidValue, match="finite"):
        parse_constraint(text)


def test_bounds_that_meet_can_be_kept_unless_one_is_strict():
    check_together((parse_constraint("ops<=5"), parse_constraint("ops>=5")))
    with pytest.raises(InvalidValue, match="No value"):
        check_together((parse_constraint("ops<5"), parse_constraint("ops>=5")))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("1.5s", 1.5), ("15m", 900), ("1h30m", 5400), ("2d", 172_800)],
)
def test_durations(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "5x", "-1", "1m1h"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(InvalidValue, match="A duration must be like"):
        seconds_of(text)
