"""The benchmark measures what it says: exactness first, every contender named, honest ratios."""

import xml.etree.ElementTree as ET
from copy import deepcopy
from typing import Any

import pytest
import torch

from bitfront.kernels import cpu
from bitfront.kernels.bench import ConvCase, GemmCase, InexactKernel, draw, run, table_rows
from bitfront.kernels.native_library import load

CASES = (ConvCase(channels=40, size=5, batch=2), GemmCase(rows=3, outputs=33, depth=70))


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    return run(cases=CASES, rounds=2, threads=[1, 2])


def test_every_case_has_its_contenders_and_ratios(result: dict[str, Any]) -> None:
    assert [one["threads"] for one in result["runs"]] == [1, 2]
    for one in result["runs"]:
        assert [case["name"] for case in one["cases"]] == ["conv3x3 40x5x5 b2", "gemm 3x33x70"]
        for case in one["cases"]:
            names = {(row["precision"], row["name"]): row for row in case["contenders"]}
            assert {("fp32", "onnxruntime"), ("1-bit", "bitfront with packing")} <= set(names)
            times = [r["ms"] for (p, _), r in names.items() if p == "fp32" and r["ms"] is not None]
            ours = names["1-bit", "bitfront with packing"]["ms"]
            assert case["ratios"]["fp32 / bitfront with packing"] == min(times) / ours
            for name in ("bitfront kernel", "bitfront packed chain"):
                row = names["1-bit", name]
                share = row["macs_per_s"] / one["limit_macs_per_s"]
                assert case["shares_of_limit"][name] == share
                assert row["macs_per_s"] == pytest.approx(case["macs"] / row["ms"] * 1e3)
    assert CASES[0].macs == 2 * 25 * 40 * 40 * 9
    assert CASES[1].macs == 3 * 33 * 70


def test_the_limit_counts_its_rounds() -> None:
    library = load()
    assert library is not None
    for variant in library.variants:
        macs = library.peak(variant, 1000)
        assert macs > 0
        assert library.peak(variant, 3000) == 3 * macs


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    run(cases=CASES[1:], rounds=2, threads=[before + 1])
    assert torch.get_num_threads() == before


def test_a_wrong_kernel_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = cpu.Product.__call__
    monkeypatch.setattr(cpu.Product, "__call__", lambda self, *a: right(self, *a).add_(1))
    with pytest.raises(InexactKernel, match="must equal torch's"):
        run(cases=CASES, rounds=2)


def test_the_table_and_the_plot_show_every_case(result: dict[str, Any]) -> None:
    texts = [e.text or "" for e in ET.fromstring(draw(result)).iter() if e.tag.endswith("text")]
    assert any(text.startswith("1 thread,") for text in texts)
    assert any(text.startswith("2 threads,") for text in texts)
    for one in result["runs"]:
        rows = table_rows(one)
        assert [row[0] for row in rows] == [case["name"] for case in one["cases"]]
        assert all(len(row) == 11 for row in rows)
        assert f"popcount limit {one['limit_macs_per_s'] / 1e12:.2f}" in texts
        for case in one["cases"]:
            assert case["name"] in texts
            for name in ("bitfront with packing", "bitfront packed chain"):
                assert any(t.endswith(f"{case['ratios'][f'fp32 / {name}']:.1f}x") for t in texts)


def test_what_is_absent_is_drawn_and_listed_as_such(result: dict[str, Any]) -> None:
    bare = deepcopy(result)
    for row in bare["runs"][0]["cases"][0]["contenders"]:
        if row["precision"] == "int8":
            row["ms"] = None
    assert draw(bare).count(">absent<") == draw(result).count(">absent<") + 1
    assert table_rows(bare["runs"][0])[0][3] == "-"


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(ValueError, match="variant must be one of portable"):
        run(cases=CASES, rounds=2, variant="mmx")
