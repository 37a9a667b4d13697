"""What is reported of a GPU benchmark, and its plot. No times here are measured."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from bitfront.kernels.gpu import bench
from bitfront.kernels.gpu.peers import Absent, Contender
from bitfront.kernels.gpu.report import draw
from bitfront.kernels.gpu.roofline import (
    Limits,
    gemm_case,
)

H200 = Limits(multiprocessors=132, clock_hz=1.755e9, bytes_per_s=4.3e12)


def result() -> dict[str, Any]:
    """Made up, for the plot alone: its times are no measurement."""
    case = gemm_case(4096, 4096, 4096)
    ways = [
        Contender("cuBLAS", "bf16", 16, 16, (int,)),
        Absent("BitBLAS", "W1A8", "the package bitblas is not installed"),
        Contender("<b1> & more", "1-bit", 1, 32, (int, int), "binary"),
    ]
    rows = [bench.measured(case, ways, H200, [{"ms": 0.2}, {"ms": 0.04}])]
    return {
        "device": "made up <device>",
        "date": "2026-01-31",
        "versions": {"torch": "0", "triton": "0"},
        "limits": bench.plain_limits(H200, rows),
        "cases": rows,
    }


def test_what_is_reported_of_a_case() -> None:
    made = result()
    first, absent, ours = made["cases"][0]["contenders"]
    macs = 4096**3
    assert first["macs_per_s"] == pytest.approx(macs / 0.2e-3)
    assert first["bytes"] == 3 * 4096 * 4096 * 2
    assert "roofline_ms" not in first
    assert absent["ms"] is None
    assert absent["absent"] == "the package bitblas is not installed"
    assert ours["copies"] == 2
    assert ours["share_of_limit"] == pytest.approx(macs / 0.04e-3 / H200.binary_macs_per_s)
    assert ours["share_of_roofline"] == ours["roofline_ms"] / 0.04
    assert made["cases"][0]["ratios"] == {"bf16 / <b1> & more": 5.0}
    assert made["limits"]["bf16_macs_per_s"] == first["macs_per_s"]


def test_the_plot_shows_points_below_roofs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = result()
    drawn = draw(made)
    root = ElementTree.fromstring(drawn)
    space = "{http://www.w3.org/2000/svg}"
    titles = [title.text for title in root.iter(f"{space}title")]
    assert titles == [
        "gemm 4096x4096x4096, bf16 cuBLAS: 0.2 ms",
        "gemm 4096x4096x4096, 1-bit <b1> & more: 0.04 ms",
    ]
    texts = [text.text or "" for text in root.iter(f"{space}text")]
    assert "Binary products on made up <device>" in texts
    for roof in ("1-bit tensor cores, 4100 T/s", "bf16, as measured, 344 T/s", "popcount, 119 T/s"):
        assert roof in texts
    assert "memory, 4.30 TB/s, as measured" in texts
    dots = [dot for dot in root.iter(f"{space}circle") if len(dot)]
    # more products a byte lie to the right, more a second higher
    (x1, y1), (x2, y2) = ((float(dot.get("cx", 0)), float(dot.get("cy", 0))) for dot in dots)
    assert x1 < x2
    assert y1 > y2
    kept, plot = tmp_path / "gpu.json", tmp_path / "gpu.svg"
    kept.write_text(json.dumps(made), encoding="utf-8")
    assert bench.main(["--read", str(kept), "--plot", str(plot)]) == 0
    assert plot.read_text(encoding="utf-8") == drawn
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "change",
    [
        {"cases": []},
        {"cases": 3},
        {"cases": [{"name": "a"}]},
        {"limits": {}},
        {"limits": {"bytes_per_s": 0}},
        {"versions": {}},
    ],
    ids=repr,
)
def test_what_is_no_result_is_not_drawn(
    change: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="The result must"):
        draw({**result(), **change})
    kept = tmp_path / "gpu.json"
    kept.write_text(json.dumps({**result(), **change}), encoding="utf-8")
    assert bench.main(["--read", str(kept), "--plot", str(tmp_path / "a.svg")]) == 1
    assert "The result must" in capsys.readouterr().err
