from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitfront.spaces import InvalidValue, RandomChoose, replay


def ask(choose):
    """A small conditional space: only some trials ask about ``b`` and ``rate``."""
    a = choose.option("a", ("x", "y", "z"))
    if a == "x":
        return a, choose.ordered("b", (1, 2, 4))
    return a, choose.number("rate", 1e-4, 1e-1, log=True)


@given(st.integers())
def test_a_seed_gives_one_answer(seed):
    assert ask(RandomChoose(seed)) == ask(RandomChoose(seed))


@given(st.integers())
def test_replay_repeats_the_answers_and_the_decisions(seed):
    first = RandomChoose(seed)
    answers = ask(first)
    again = replay(first.decisions)
    assert ask(again) == answers
    assert again.decisions == first.decisions
    assert list(again.decisions) == list(first.decisions)


def test_replay_asks_only_what_is_new():
    otherwise = RandomChoose(0)
    choose = replay({"a": "x"}, otherwise)
    a, b = ask(choose)
    assert a == "x"
    assert otherwise.decisions == {"b": b}
    assert choose.decisions == {"a": "x", "b": b}


def test_replay_leaves_out_what_is_not_asked():
    choose = replay({"a": "y", "rate": 0.01, "b": 4})
    assert ask(choose) == ("y", 0.01)
    assert choose.decisions == {"a": "y", "rate": 0.01}


@pytest.mark.parametrize(
    ("decisions", "text"),
    [
        ({}, "lack an answer for 'a'"),
        ({"a": "w"}, "'a' cannot be 'w'"),
        ({"a": "x", "b": 3}, "'b' cannot be 3"),
        ({"a": "y", "rate": 0.5}, "'rate' cannot be 0.5"),
        ({"a": "y", "rate": "fast"}, "'rate' cannot be 'fast'"),
    ],
)
def test_replay_refuses_what_does_not_fit(decisions, text):
    with pytest.raises(InvalidValue, match=text):
        ask(replay(decisions))


def test_a_name_is_asked_once():
    choose = RandomChoose(0)
    choose.option("a", (1, 2))
    with pytest.raises(ValueError, match="asked 'a' twice"):
        choose.ordered("a", (1, 2))


def test_random_answers_are_uniform():
    counts = Counter(RandomChoose(seed).option("a", ("x", "y", "z")) for seed in range(3000))
    assert set(counts) == {"x", "y", "z"}
    assert min(counts.values()) > 850


@given(st.integers(), st.floats(1e-8, 1.0), st.floats(1.0, 1e8), st.booleans())
def test_numbers_stay_in_their_range(seed, low, high, log):
    assert low <= RandomChoose(seed).number("n", low, high, log=log) <= high


def test_log_numbers_are_uniform_in_the_exponent():
    numbers = [RandomChoose(seed).number("n", 1e-4, 1.0, log=True) for seed in range(2000)]
    assert 0.45 < sum(n < 1e-2 for n in numbers) / len(numbers) < 0.55
