"""Non-dominated points and the hypervolume that they dominate.

Every objective is minimised here; ``front.py`` applies directions at the edge.

Symbols:
    values, points   (n, m)   n points in m objectives, all minimised
    reference        (m,)     the worst point that counts
    front            (f, m)   its non-dominated points

References:
    Kung, Luccio, Preparata 1975 (sorting for two dimensions).
    While, Bradstreet, Barone 2012, "A fast way of calculating exact hypervolumes" (WFG).
"""

from __future__ import annotations

import math
from bisect import bisect_left

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def non_dominated(values: Floats) -> NDArray[np.bool_]:
    """Mark the points that no other point dominates.

    p dominates q if p <= q in every objective and p < q in one; equal points do not dominate each
    other, so all copies of a front point are marked.

    Args:
        values: (n, m), minimised. O(n log n) for m <= 2, O(n f) otherwise.

    Returns:
        (n,), True on the front.

    Raises:
        ValueError: If a value is not finite.
    """
    values = _checked(values)
    if not len(values):
        return np.zeros(0, dtype=np.bool_)
    distinct, where = np.unique(values, axis=0, return_inverse=True)
    # np.unique sorts by the first objective, then by the second, ...: no point dominates an
    # earlier one
    kept = _front_2d(distinct) if values.shape[1] <= 2 else _front_nd(distinct)
    return kept[where.reshape(-1)]


def _front_2d(ordered: Floats) -> NDArray[np.bool_]:
    last = ordered[:, -1]
    lowest = np.minimum.accumulate(last)
    kept = np.ones(len(ordered), dtype=np.bool_)
    kept[1:] = last[1:] < lowest[:-1]
    return kept


def _front_nd(ordered: Floats) -> NDArray[np.bool_]:
    kept = np.zeros(len(ordered), dtype=np.bool_)
    left = np.arange(len(ordered))
    while len(left):
        first = ordered[left[0]]
        kept[left[0]] = True
        left = left[np.any(ordered[left] < first, axis=1)]
    return kept


def ranks(values: Floats) -> NDArray[np.int64]:
    """Number the fronts: 0 for the non-dominated points, 1 for those that are when these are gone.

    Args:
        values: (n, m), minimised.

    Returns:
        (n,).
    """
    values = _checked(values)
    ranked = np.zeros(len(values), dtype=np.int64)
    left = np.arange(len(values))
    rank = 0
    while len(left):
        front = non_dominated(values[left])
        ranked[left[front]] = rank
        left = left[~front]
        rank += 1
    return ranked


def hypervolume(points: Floats, reference: Floats) -> float:
    """Volume of what the points dominate and what dominates the reference.

    HV = volume of the union over p of the boxes [p, reference]. A point that is not below the
    reference in every objective adds nothing.

    Args:
        points: (n, m), minimised; n may be 0.
        reference: (m,).

    Returns:
        The exact volume: a sweep for m = 2 and 3, WFG beyond.

    Raises:
        ValueError: If a value is not finite or the shapes do not fit.
    """
    reference = np.asarray(reference, dtype=np.float64)
    points = _checked(np.asarray(points, dtype=np.float64).reshape(-1, len(reference)))
    _checked(reference.reshape(1, -1))
    below = points[np.all(points < reference, axis=1)]
    front = np.unique(below[non_dominated(below)], axis=0)
    if not len(front):
        return 0.0
    if front.shape[1] == 1:
        return float(reference[0] - front[0, 0])
    if front.shape[1] == 2:
        return _area(front, reference)
    if front.shape[1] == 3:
        return _volume(front, reference)
    return _wfg(front, reference)


def _area(front: Floats, reference: Floats) -> float:
    """A staircase; the front ascends in the first objective and so descends in the second."""
    ceilings = np.concatenate([reference[1:], front[:-1, 1]])
    return float(np.sum((reference[0] - front[:, 0]) * (ceilings - front[:, 1])))


def _volume(front: Floats, reference: Floats) -> float:
    """Sweep the third objective upwards and keep the staircase of the first two."""
    x_max, y_max, z_max = (float(r) for r in reference)
    # x ascends and y descends along the staircase; its two ends are walls
    xs, ys = [-math.inf, x_max], [y_max, -math.inf]
    volume = area = 0.0
    z_before = 0.0
    for x, y, z in front[np.argsort(front[:, 2], kind="stable")].tolist():
        volume += area * (z - z_before)
        z_before = z
        at = bisect_left(xs, x)
        if ys[at - 1] <= y or (xs[at] == x and ys[at] <= y):
            continue
        # the new step covers the old ones that it dominates, and adds what they left
        end, left, ceiling = at, x, ys[at - 1]
        while ys[end] >= y:
            area += (xs[end] - left) * (ceiling - y)
            left, ceiling = xs[end], ys[end]
            end += 1
        area += (xs[end] - left) * (ceiling - y)
        xs[at:end], ys[at:end] = [x], [y]
    return volume + area * (z_max - z_before)


def _wfg(front: Floats, reference: Floats) -> float:
    """HV(S) = sum over i of HV({p_i}) - HV(what the later points share with p_i)."""
    if len(front) == 1:
        return float(np.prod(reference - front[0]))
    ordered = front[np.argsort(-front[:, -1], kind="stable")]
    total = 0.0
    for i, point in enumerate(ordered):
        total += float(np.prod(reference - point))
        shared = np.maximum(ordered[i + 1 :], point)
        if len(shared):
            limited = np.unique(shared[non_dominated(shared)], axis=0)
            total -= _wfg(limited, reference)
    return total


def _checked(values: Floats) -> Floats:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or not values.shape[1]:
        raise ValueError(f"Points must be of shape (n, m), m >= 1, but are of {values.shape}.")
    if not np.isfinite(values).all():
        raise ValueError("The values of a point must be finite.")
    return values
