"""What the GPU benchmark counts: work, bytes, limits, ratios, goals."""

from typing import Any

import pytest

from bitfront.kernels.gpu.roofline import (
    CASES,
    GOALS,
    Goal,
    Limits,
    conv_case,
    gemm_case,
    ratios,
)


def test_work_and_bytes_of_a_case() -> None:
    matrix = gemm_case(8, 4096, 1000)
    assert matrix.name == "gemm 8x4096x1000"
    assert matrix.is_matrix
    assert matrix.macs == 8 * 4096 * 1000
    # 1000 bits are 32 words
    assert matrix.bytes(1, 32) == (8 + 4096) * 128 + 8 * 4096 * 4
    assert matrix.bytes(16, 16) == (8 + 4096) * 2000 + 8 * 4096 * 2
    assert matrix.bytes(8, 32, weight_bits=1) == 8 * 1000 + 4096 * 128 + 8 * 4096 * 4
    conv = conv_case(64, 56, 256)
    assert conv.name == "conv3x3 64x56x56 b256"
    assert not conv.is_matrix
    pixels = 256 * 56 * 56
    assert conv.macs == pixels * 64 * 64 * 9
    assert conv.bytes(1, 1) == pixels * 8 + 64 * 9 * 8 + pixels * 8
    assert conv.bytes(8, 32) == pixels * 64 + 64 * 9 * 64 + pixels * 64 * 4


def test_the_cases_are_those_of_the_goals() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names) == 13
    assert {name for goal in GOALS for name in goal.cases} == set(names)
    assert {"gemm 8192x8192x8192", "conv3x3 512x7x7 b256", "gemm 1x16384x16384"} <= set(names)


def test_limits_of_an_h200() -> None:
    h200 = Limits(multiprocessors=132, clock_hz=1.755e9, bytes_per_s=4.3e12)
    assert h200.popcount_macs_per_s == pytest.approx(119e12, rel=0.01)
    assert h200.binary_macs_per_s == pytest.approx(4100e12, rel=0.01)
    square = gemm_case(4096, 4096, 4096)
    rate = h200.binary_macs_per_s
    assert h200.least_ms(square.macs, rate, square.bytes(1, 1)) == square.macs / rate * 1e3
    vector = gemm_case(1, 4096, 4096)
    assert h200.least_ms(vector.macs, rate, vector.bytes(1, 32)) == pytest.approx(
        vector.bytes(1, 32) / 4.3e12 * 1e3
    )


def test_ratios_are_to_the_fastest_peer_of_a_precision() -> None:
    rows = [
        {"name": "cuBLAS", "precision": "bf16", "ms": 8.0},
        {"name": "other", "precision": "bf16", "ms": 6.0},
        {"name": "b1", "precision": "1-bit", "ms": 1.5},
        {"name": "b1, XOR", "precision": "XOR", "ms": 3.0},
        {"name": "BitBLAS", "precision": "W1A8", "ms": None},
    ]
    assert ratios(rows) == {"bf16 / b1": 4.0, "XOR / b1": 2.0}


def ran(name: str, **ms: float | None) -> dict[str, Any]:
    precisions = {"ours": "1-bit", "slower": "1-bit", "peer": "bf16", "better": "bf16"}
    rows = [{"name": key, "precision": precisions[key], "ms": value} for key, value in ms.items()]
    return {"name": name, "contenders": rows}


def test_a_goal_is_met_in_the_worst_of_its_cases() -> None:
    goal = Goal(name="fast", cases=("a", "b"), peer="bf16", target=5.0)
    good = ran("a", ours=1.0, slower=9.0, peer=8.0, better=7.0)
    outcome = goal.outcome([good, ran("b", ours=2.0, peer=10.0), ran("c", ours=1.0, peer=1.0)])
    assert outcome == {
        "name": "fast",
        "cases": ["a", "b"],
        "target": 5.0,
        "value": 5.0,
        "met": True,
    }
    assert goal.outcome([good, ran("b", ours=2.1, peer=10.0)])["met"] is False
    # what was skipped, or had no peer, is neither met nor missed
    for other in ([], [ran("b", ours=2.0)], [ran("b", ours=2.0, peer=None)], [ran("b", peer=1.0)]):
        outcome = goal.outcome([good, *other])
        assert outcome["value"] is outcome["met"] is None


def test_a_goal_may_be_a_share_of_the_popcount_limit() -> None:
    goal = next(goal for goal in GOALS if not goal.peer)
    rows = [
        {"name": "popcount", "precision": "1-bit", "ms": 1.0, "share_of_limit": 0.75},
        {"name": "b1", "precision": "1-bit", "ms": 0.5, "share_of_limit": 0.1},
    ]
    outcome = goal.outcome([{"name": goal.cases[0], "contenders": rows}])
    assert (outcome["value"], outcome["met"]) == (0.75, True)
