"""Timed calls take turns, noisy rounds are taken again, and agreement is what its formula says."""

import pytest
from scipy.stats import kendalltau

from bitfront.evaluators.latency import agreement, take_turns, timing
from bitfront.evaluators.latency.timing import latency_of
from bitfront.spaces.errors import InvalidValue


class Clock:
    """A clock that each call moves by the next of its durations, in ms."""

    def __init__(self, durations):
        self.durations = iter(durations)
        self.now = 0.0

    def read(self):
        return self.now

    def call(self):
        self.now += next(self.durations) / 1e3


@pytest.fixture
def clock(monkeypatch):
    def use(*durations):
        made = Clock(durations)
        monkeypatch.setattr(timing, "clock_of", lambda threads: ("a clock", made.read))
        return made

    return use


def test_quantiles_are_those_of_the_times():
    found = latency_of([0.001 * n for n in range(1, 12)])
    assert found.median_ms == pytest.approx(6)
    assert (found.p10_ms, found.p90_ms) == (pytest.approx(2), pytest.approx(10))
    assert (found.min_ms, found.repeats, found.redone) == (1, 11, 0)
    assert found.spread == pytest.approx(6)
    assert found.is_noisy


def test_a_quiet_round_is_taken_once(clock):
    made = clock(9, 9, 5, 5, 5.4, 5.4)
    found = take_turns({"a": made.call}, repeats=4, threads=1)["a"]
    assert (found.median_ms, found.min_ms, found.redone) == (
        pytest.approx(5.2),
        pytest.approx(5),
        0,
    )
    assert next(made.durations, None) is None


def test_a_noisy_round_is_taken_again_and_the_quietest_counts(clock):
    warm = (1, 1)
    noisy, worse, quiet = (5, 8, 8, 8), (1, 8, 8, 8), (6, 6, 6, 6.1)
    made = clock(*warm, *noisy, *warm, *worse, *warm, *quiet)
    found = take_turns({"a": made.call}, repeats=4, threads=1)["a"]
    assert (found.median_ms, found.redone) == (pytest.approx(6), 2)


def test_retries_end(clock):
    made = clock(*[1, 1, 5, 8, 8, 8] * 3)
    found = take_turns({"a": made.call}, repeats=4, threads=1, retries=2)["a"]
    assert (found.median_ms, found.redone) == (pytest.approx(8), 2)


def test_contenders_are_judged_by_one_round(clock):
    # a and b take turns: the first round is noisy for b alone, and is taken again for both
    first = (1, 1, 1, 1, 5, 5, 5, 9, 5, 9)
    second = (1, 1, 1, 1, 7, 6, 7, 6, 7, 6)
    made = clock(*first, *second)
    found = take_turns({"a": made.call, "b": made.call}, repeats=3, threads=1)
    assert found["a"].median_ms == pytest.approx(7)
    assert found["b"].median_ms == pytest.approx(6)


@pytest.mark.parametrize("repeats", [0, 1, 2_000_000])
def test_numbers_of_repeats_that_are_refused(repeats):
    with pytest.raises(InvalidValue, match="from 2 to 1000000"):
        take_turns({}, repeats=repeats, threads=1)


def test_agreement_by_hand():
    found = agreement([(1.1, 1.0), (1.8, 2.0), (4.0, 4.0)])
    assert found.networks == 3
    assert found.mean_error == pytest.approx(0.2 / 3)
    assert found.worst_error == pytest.approx(0.1)
    assert found.bias == pytest.approx(0)
    assert found.kendall_tau == 1
    assert agreement([]) is None
    assert agreement([(1, 2)]).kendall_tau is None


@pytest.mark.parametrize("seed", range(20))
def test_the_rank_correlation_is_scipys(seed):
    import random

    draw = random.Random(seed)
    pairs = [(draw.randint(1, 6), draw.randint(1, 6)) for _ in range(12)]
    expected = kendalltau([x for x, _ in pairs], [y for _, y in pairs]).statistic
    assert agreement(pairs).kendall_tau == pytest.approx(expected)
