"""Timed calls take turns, disturbed ones are made again, and agreement is what its formula says."""

import time
from time import thread_time

import pytest
from scipy.stats import kendalltau

from bitfront.evaluators.latency import CpuClock, agreement, take_turns
from bitfront.evaluators.latency.pace import Pace, pace_of
from bitfront.evaluators.latency.timing import latency_of, quiet_runs, warm_up
from bitfront.spaces.errors import InvalidValue


class Clock:
    """A clock that each call moves by the next of its durations, in ms."""

    name = "a clock"
    warm_up_s = 0.0

    def __init__(self, durations, readings=()):
        self.durations = iter(durations)
        self.pace = Readings(readings)
        self.now = 0.0

    def read(self):
        return self.now

    def call(self):
        self.now += next(self.durations) / 1e3

    def seconds(self, call):
        start = self.now
        call()
        return self.now - start

    def runs(self, run, count, patience_s):
        return quiet_runs(run, count, self.pace, patience_s)


class Readings:
    """A machine of known speed."""

    def __init__(self, readings):
        self.readings = iter(readings)

    def read(self):
        return next(self.readings, 1.0)


def test_quantiles_are_those_of_the_times():
    found = latency_of([0.001 * n for n in range(1, 12)])
    assert found.median_ms == pytest.approx(6)
    assert (found.p10_ms, found.p90_ms) == (pytest.approx(2), pytest.approx(10))
    assert (found.min_ms, found.repeats, found.redone) == (1, 11, 0)


def test_calls_on_a_quiet_machine_all_count():
    made = Clock([9, 9, 5, 5, 5.4, 5.4])
    found = take_turns({"a": made.call}, made, repeats=4)["a"]
    assert (found.median_ms, found.min_ms) == (pytest.approx(5.2), pytest.approx(5))
    assert found.redone == 0
    assert next(made.durations, None) is None


def test_calls_beside_a_slow_reading_are_made_again():
    # before the first call, then after each: the second reading spoils two calls
    made = Clock([1, 1, 8, 8, 5, 5], readings=(1.0, 1.3, 1.05))
    found = take_turns({"a": made.call}, made, repeats=2)["a"]
    assert (found.median_ms, found.repeats, found.redone) == (pytest.approx(5), 2, 2)


def test_patience_ends():
    made = Clock([1, 1, 8, 8], readings=[2.0] * 9)
    found = take_turns({"a": made.call}, made, repeats=2, patience_s=0.0)["a"]
    assert (found.median_ms, found.redone) == (pytest.approx(8), 0)


def test_contenders_are_disturbed_together():
    # two turns of warming up, two beside the slow reading, two that count
    made = Clock([*[1, 1] * 2, 9, 6, 9, 4, 5, 4, 5, 4], readings=(1.0, 1.2, 1.0))
    found = take_turns({"a": made.call, "b": made.call}, made, repeats=2)
    assert [found[name].median_ms for name in "ab"] == [pytest.approx(5), pytest.approx(4)]
    assert [found[name].redone for name in "ab"] == [2, 2]


def test_a_pace_is_relative_to_the_fastest_median():
    times = iter([5, 5, 9, 5, 5, *[4, 4, 1, 4, 4], *[6, 6, 6, 6, 99], *[4] * 5])
    made = Clock(times)
    found = Pace(made.read, made.call, calibration_s=0.0)
    # a single lucky reading is no speed
    assert found.read() == 1.0
    assert found.read() == pytest.approx(1.5)
    assert found.read() == pytest.approx(1.0)


def test_the_pace_of_this_machine():
    found = pace_of(thread_time)
    assert pace_of(thread_time) is found
    readings = [found.read() for _ in range(20)]
    assert all(reading >= 1 for reading in readings)


@pytest.mark.parametrize("repeats", [0, 1, 2_000_000])
def test_numbers_of_repeats_that_are_refused(repeats):
    with pytest.raises(InvalidValue, match="from 2 to 1000000"):
        take_turns({}, CpuClock(1), repeats=repeats)


def test_the_clocks_of_a_cpu():
    assert (CpuClock(1).name, CpuClock(2).name) == ("CPU time of the thread", "wall clock")
    # a sleeping thread takes wall-clock time alone
    assert CpuClock(1).seconds(lambda: time.sleep(0.02)) < 0.01
    assert CpuClock(2).seconds(lambda: time.sleep(0.02)) >= 0.02
    runs, redone = CpuClock(1).runs(lambda: 7, 3, patience_s=0.0)
    assert runs == [7, 7, 7]
    assert redone >= 0


def test_a_device_is_warmed_up_for_as_long_as_it_takes():
    made = Clock([1] * 3)
    runs = []
    warm_up(lambda: runs.append(time.monotonic()), made)
    assert len(runs) == 2
    made.warm_up_s = 0.05
    begin = time.monotonic()
    warm_up(lambda: runs.append(time.sleep(0.01)), made)
    assert time.monotonic() - begin >= 0.05


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
