"""The benchmark measures what it says: exactness first, every contender named, honest ratios."""

import xml.etree.ElementTree as ET
from typing import Any

import pytest
import torch

from bitfront.kernels import cpu
from bitfront.kernels.bench import ConvCase, GemmCase, InexactKernel, draw, run, table_rows

CASES = (ConvCase(channels=40, size=5, batch=2), GemmCase(rows=3, outputs=33, depth=70))


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    return run(cases=CASES, rounds=2)


def test_every_case_has_its_contenders_and_ratios(result: dict[str, Any]) -> None:
    assert [case["name"] for case in result["cases"]] == ["conv3x3 40x5x5 b2", "gemm 3x33x70"]
    for case in result["cases"]:
        names = {(row["precision"], row["name"]): row for row in case["contenders"]}
        assert {("fp32", "onnxruntime"), ("1-bit", "bitfront with packing")} <= set(names)
        best = min(r["ms"] for (p, _), r in names.items() if p == "fp32" and r["ms"] is not None)
        ours = names["1-bit", "bitfront with packing"]["ms"]
        assert case["ratios"]["fp32 / bitfront with packing"] == best / ours
        chain = names["1-bit", "bitfront packed chain"]
        assert case["share_of_limit"] == chain["macs_per_s"] / result["limit_macs_per_s"]
        assert chain["macs_per_s"] == pytest.approx(case["macs"] / chain["ms"] * 1e3)
    assert CASES[0].macs == 2 * 25 * 40 * 40 * 9
    assert CASES[1].macs == 3 * 33 * 70


def test_threads_are_given_back(result: dict[str, Any]) -> None:
    before = torch.get_num_threads()
    run(cases=CASES[1:], rounds=2, threads=before + 1)
    assert torch.get_num_threads() == before


def test_a_wrong_kernel_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = cpu.Product.__call__
    monkeypatch.setattr(cpu.Product, "__call__", lambda self, words: right(self, words) + 1)
    with pytest.raises(InexactKernel, match="must equal torch's"):
        run(cases=CASES, rounds=2)


def test_the_table_and_the_plot_show_every_case(result: dict[str, Any]) -> None:
    assert [row[0] for row in table_rows(result)] == [case["name"] for case in result["cases"]]
    texts = [e.text for e in ET.fromstring(draw(result)).iter() if e.tag.endswith("text")]
    for case in result["cases"]:
        assert case["name"] in texts
        assert sum(t.startswith("fp32") for t in texts if t) >= 2


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(ValueError, match="variant must be one of portable"):
        run(cases=CASES, rounds=2, variant="mmx")
