"""Numbers and units as people read them, and the paths of pages."""

import doctest

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitfront.dashboard import texts
from bitfront.dashboard.routes import Route, read_path, study_path, trial_path
from bitfront.evaluators.measurement import Measurement


def test_examples():
    result = doctest.testmod(texts)
    assert result.attempted == 10
    assert result.failed == 0


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"),
        (0.000958, "0.000958"),
        (0.0000201, "0.0000201"),
        (2.5e-7, "2.50e-07"),
        (1.0, "1"),
        (99.95, "100"),
        (-3.14159, "-3.14"),
        (12345.6, "12,346"),
        (3.2e9, "3.20e+09"),
    ],
)
def test_number(value, shown):
    assert texts.number(value) == shown


@given(st.floats(1e-5, 999, allow_nan=False))
@settings(deadline=None)
def test_number_keeps_three_digits(value):
    assert float(texts.number(value)) == pytest.approx(value, rel=5.1e-3)


@pytest.mark.parametrize(
    ("value", "shown"), [(999_400, "999 k"), (999_600, "1 M"), (1.5e9, "1.5 G"), (999, "999")]
)
def test_prefixed_does_not_round_to_a_thousand(value, shown):
    assert texts.prefixed(value) == shown


def test_band_of_a_measurement():
    found = Measurement(
        objective="energy", value=2.0, unit="mJ", method="estimated", low=1.5, high=3.0
    )
    assert texts.band(found) == "1.5 to 3 mJ"
    exact = Measurement(objective="ops", value=10.0, unit="OPs", method="analytic")
    assert texts.band(exact) == texts.NONE


def test_plot_text_escapes():
    assert texts.plot_text("<b>a & b</b>") == "&lt;b&gt;a &amp; b&lt;/b&gt;"


@given(st.text(min_size=1, max_size=60), st.integers(0, 10**12))
@settings(deadline=None)
def test_paths_are_read_back(name, number):
    literal = name in ("%2E", "%2E%2E")
    try:
        name.encode()
    except UnicodeEncodeError:
        return
    expected = name.replace("%2E", ".") if literal else name
    assert read_path(study_path(name)) == Route(page="study", study=expected)
    assert read_path(trial_path(name, number)) == Route(page="study", study=expected, trial=number)


@pytest.mark.parametrize("name", [".", "..", "a/b", "a?b#c", "%2F", " ", "études", "</script>"])
def test_awkward_names_make_one_safe_segment(name):
    path = study_path(name)
    assert path.count("/") == 2
    assert path.split("/")[2].lower() not in (".", "..", "%2e", "%2e%2e")
    assert read_path(path).study == name


@pytest.mark.parametrize(
    "path", ["/studies", "/study/a/trial", "/study/a/trial/-1", "/study/a/trial/x", "/study/a/b/1"]
)
def test_other_paths_are_unknown(path):
    assert read_path(path).page == "unknown"


def test_home():
    assert read_path(None) == read_path("/") == Route(page="studies")
