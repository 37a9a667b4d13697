"""Fast front and hypervolume against brute force and against closed forms."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bitfront.search.pareto import hypervolume, non_dominated, ranks

# few distinct values, so that ties and duplicates are common
GRID = st.integers(0, 6).map(float)


def points(dimensions, most=12):
    return st.integers(0, most).flatmap(
        lambda n: arrays(np.float64, (n, dimensions), elements=GRID)
    )


def dominated_by_hand(values):
    return [
        any(all(q <= p) and any(q < p) for q in values) for p in (np.asarray(v) for v in values)
    ]


def volume_by_hand(values, reference):
    """Count the cells of the grid that the points span."""
    axes = [sorted({*values[:, j], r}) for j, r in enumerate(reference)]
    total = 0.0
    for cell in itertools.product(*(range(len(axis) - 1) for axis in axes)):
        low = np.array([axis[i] for axis, i in zip(axes, cell, strict=True)])
        high = np.array([axis[i + 1] for axis, i in zip(axes, cell, strict=True)])
        if np.all(high <= reference) and np.any(np.all(values <= low, axis=1)):
            total += float(np.prod(high - low))
    return total


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4, 5])
def test_front_equals_brute_force(dimensions):
    @settings(deadline=None, max_examples=60)
    @given(points(dimensions))
    def check(values):
        assert (~non_dominated(values)).tolist() == dominated_by_hand(values)

    check()


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
def test_hypervolume_equals_brute_force(dimensions):
    @settings(deadline=None, max_examples=40)
    @given(points(dimensions, most=7), arrays(np.float64, dimensions, elements=GRID))
    def check(values, reference):
        if len(values):
            assert hypervolume(values, reference) == volume_by_hand(values, reference)
        else:
            assert hypervolume(values, reference) == 0.0

    check()


@settings(deadline=None, max_examples=40)
@given(points(2), arrays(np.float64, 2, elements=GRID))
def test_more_dimensions_of_no_depth_change_nothing(values, reference):
    flat = hypervolume(values, reference)
    for extra in (1, 2, 3):
        deep = np.hstack([values, np.zeros((len(values), extra))])
        assert hypervolume(deep, np.append(reference, np.ones(extra))) == pytest.approx(flat)


@settings(deadline=None, max_examples=40)
@given(points(3))
def test_ranks_peel_fronts(values):
    ranked = ranks(values)
    assert (ranked == 0).tolist() == non_dominated(values).tolist()
    for i, j in itertools.permutations(range(len(values)), 2):
        if np.all(values[i] <= values[j]) and np.any(values[i] < values[j]):
            assert ranked[i] < ranked[j]


def test_equal_points_are_all_kept():
    values = np.array([[1.0, 2.0], [1.0, 2.0], [2.0, 1.0], [2.0, 2.0]])
    assert non_dominated(values).tolist() == [True, True, True, False]
    assert non_dominated(np.zeros((3, 4))).all()


@pytest.mark.parametrize("n", [1, 2, 31, 1000])
def test_staircase(n):
    # (i/n, (n-1-i)/n) below (1, 1): columns of width 1/n and height (i+1)/n
    steps = np.arange(n) / n
    front = np.stack([steps, steps[::-1]], axis=1)
    assert non_dominated(front).all()
    assert hypervolume(front, np.ones(2)) == pytest.approx((n + 1) / (2 * n), rel=1e-12)
    # the same prism, one high
    prism = np.hstack([front, np.zeros((n, 1))])
    assert hypervolume(prism, np.ones(3)) == pytest.approx((n + 1) / (2 * n), rel=1e-12)


@pytest.mark.parametrize("m", [2, 3, 4, 5])
def test_simplex_grid(m):
    # all points of {0..k-1}^m / k with coordinate sum k-1: a cell c is dominated iff sum c >= k-1
    k = 4
    grid = np.array([c for c in itertools.product(range(k), repeat=m) if sum(c) == k - 1]) / k
    cells = sum(sum(c) >= k - 1 for c in itertools.product(range(k), repeat=m))
    assert hypervolume(grid, np.ones(m)) == pytest.approx(cells / k**m, rel=1e-12)


@pytest.mark.parametrize("m", [2, 3])
def test_dtlz2_approaches_the_octant_of_a_sphere(m):
    """The front of DTLZ2 is the unit sphere, so HV -> 1 - (its octant's volume) from below."""
    limit = 1 - {2: math.pi / 4, 3: math.pi / 6}[m]
    errors = []
    for n in (8, 32):
        angles = np.linspace(0, math.pi / 2, n)
        if m == 2:
            sphere = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        else:
            a, b = (axis.ravel() for axis in np.meshgrid(angles, angles))
            sphere = np.stack([np.cos(a) * np.cos(b), np.cos(a) * np.sin(b), np.sin(a)], axis=1)
        errors.append(limit - hypervolume(sphere, np.ones(m)))
    assert 0 < errors[1] < errors[0] / 3
    assert errors[1] < 0.05


def test_what_is_not_below_the_reference_adds_nothing():
    front = np.array([[0.5, 0.5], [0.1, 1.0], [1.0, 0.1], [2.0, -5.0]])
    assert hypervolume(front, np.ones(2)) == 0.25
    assert hypervolume(front[1:], np.ones(2)) == 0.0
    assert hypervolume(np.empty((0, 3)), np.ones(3)) == 0.0


def test_large_fronts_are_quick_and_agree():
    random = np.random.default_rng(0)
    values = random.random((20_000, 2))
    kept = values[non_dominated(values)]
    assert not any(
        np.any(np.all(kept < v, axis=1)) for v in values[:500][non_dominated(values)[:500]]
    )
    cloud = random.random((300, 3))
    assert hypervolume(cloud, np.ones(3)) == pytest.approx(
        hypervolume(np.hstack([cloud, np.zeros((300, 1))]), np.ones(4))
    )


@pytest.mark.parametrize("wrong", [np.ones(3), np.array([[np.nan, 1.0]]), np.empty((2, 0))])
def test_wrong_points_are_refused(wrong):
    with pytest.raises(ValueError, match="point|Points"):
        non_dominated(wrong)
