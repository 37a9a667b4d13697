"""Tables of what was timed on a device: reading, looking up, making. No GPU is needed."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib import resources
from math import inf
from pathlib import Path
from typing import Any

import pytest
import torch

from bitfront.kernels import BINARY, CodeFormat, Conv2dGeometry
from bitfront.kernels.finish import Affine, Finish, Requantise, Threshold
from bitfront.kernels.gpu import autotune, bench, tensor_core_product, tuning
from bitfront.kernels.gpu.autotune import (
    PRODUCTS,
    Outcome,
    TunedProduct,
    candidates,
    keep_tuning,
    tune,
)
from bitfront.kernels.gpu.emulation import emulate
from bitfront.kernels.gpu.fragments import WarpTile
from bitfront.kernels.gpu.prepare import choose, choose_way, default_choice
from bitfront.kernels.gpu.tensor_core_product import SMALL
from bitfront.kernels.gpu.tiles import Tile
from bitfront.kernels.gpu.timing import Calls
from bitfront.kernels.gpu.tuning import (
    MAX_ROWS,
    Choice,
    ProductCase,
    TimedChoice,
    Tuning,
    TuningTable,
    file_name,
    fits,
    known_tuning,
    parse_table,
    read_table,
    table_text,
    user_folder,
)

CPU = torch.device("cpu")
DEVICE = "NVIDIA Test 9000"
CASE = ProductCase(
    rows=64, outputs=128, words=16, taps=1, groups=1, weight_bits=1, input_bits=1, kind="sums"
)
PLAIN = Choice(route="int8", tile=Tile(rows=16, outputs=32, words=4, warps=4, stages=2))
COUNTED = Choice(route="popcount", tile=Tile(rows=16, outputs=64, words=4))
GLUON = Choice(route="tensor_core", tile=SMALL, stages=3)
U7 = CodeFormat(bits=7, coding="unsigned")


def matrix(rows: int, outputs: int, depth: int) -> Conv2dGeometry:
    return Conv2dGeometry.of(image=(1, 1, rows, depth), weight=(outputs, 1, 1, depth))


def table(*rows: tuple[ProductCase, Choice], device: str = DEVICE) -> TuningTable:
    return TuningTable(
        device=device,
        capability=90,
        date="2026-01-31",
        versions={"torch": "2.11.0", "triton": "3.6.0"},
        rows=tuple(TimedChoice(case=case, choice=choice, ms=0.5) for case, choice in rows),
    )


TABLE = table((CASE, PLAIN), (replace(CASE, rows=1), COUNTED), (replace(CASE, taps=9), GLUON))


def finish_of(kind: type[Finish], outputs: int) -> Finish:
    flip = torch.zeros(outputs, dtype=torch.bool)
    sums = torch.zeros(outputs, dtype=torch.int32)
    if kind is Affine:
        return Affine(scale=sums.float(), shift=sums.float())
    if kind is Threshold:
        return Threshold(threshold=sums, flip=flip)
    return Requantise(thresholds=torch.stack([sums] * 3), flip=flip)


@pytest.mark.parametrize(
    ("groups", "finish", "kind"),
    [
        (1, None, "sums"),
        (1, Affine, "floats"),
        (1, Threshold, "codes"),
        (1, Requantise, "codes"),
        (2, Affine, "floats"),
        (2, Threshold, "codes"),
        # a group's 16 outputs do not fill a word: the kernel stores sums
        (4, Threshold, "sums"),
    ],
)
def test_the_case_of_a_convolution(groups: int, finish: type[Finish] | None, kind: str) -> None:
    conv = Conv2dGeometry.of(
        image=(2, 5, 6, 128), weight=(64, 3, 3, 128 // groups), padding=1, groups=groups
    )
    made = None if finish is None else finish_of(finish, 64)
    case = ProductCase.of(conv, CodeFormat(bits=2, coding="unsigned"), BINARY, made)
    assert case == ProductCase(
        rows=60,
        outputs=64 // groups,
        words=9 * 4 // groups,
        taps=9,
        groups=groups,
        weight_bits=1,
        input_bits=2,
        kind=kind,
    )


def test_distance_counts_factors_of_two_of_like_products() -> None:
    assert CASE.distance(CASE) == 0
    other = replace(CASE, rows=32, outputs=512, words=8, groups=2)
    assert CASE.distance(other) == other.distance(CASE) == 1 + 2 + 1 + 1
    for change in ({"taps": 9}, {"weight_bits": 2}, {"input_bits": 2}, {"kind": "codes"}):
        assert CASE.distance(replace(CASE, **change)) == inf


def test_the_same_product_goes_before_the_nearest_and_far_ones_are_left_out() -> None:
    near = replace(CASE, rows=128)
    nearer = replace(CASE, outputs=160)
    far = replace(CASE, rows=64 * 8)
    known = Tuning((table((far, COUNTED), (near, COUNTED), (CASE, PLAIN), (nearer, GLUON)),))
    assert list(known.choices(CASE)) == [PLAIN, GLUON, COUNTED]
    assert list(known.choices(replace(CASE, rows=65))) == [PLAIN, GLUON, COUNTED]
    assert list(known.choices(replace(CASE, rows=64 * 16))) == [COUNTED]
    assert list(known.choices(replace(CASE, rows=10**6))) == []
    assert list(known.choices(replace(CASE, kind="floats"))) == []
    assert list(Tuning().choices(CASE)) == []


def test_a_later_table_goes_before_an_earlier_one() -> None:
    known = Tuning((table((CASE, PLAIN)), table((CASE, COUNTED))))
    assert list(known.choices(CASE)) == [COUNTED]


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_text(table_text(TABLE), encoding="utf-8")
    assert read_table(path) == TABLE
    assert read_table(path).rows[2].choice == GLUON
    assert parse_table(table_text(table()).encode(), "empty") == table()


def changed(change: Callable[[dict[str, Any]], object]) -> str:
    data = json.loads(table_text(TABLE))
    change(data)
    return json.dumps(data)


def row(number: int, **values: object) -> Callable[[dict[str, Any]], object]:
    return lambda data: data["rows"][number].update(values)


def tile(number: int, **values: object) -> Callable[[dict[str, Any]], object]:
    return lambda data: data["rows"][number]["tile"].update(values)


def case(**values: object) -> Callable[[dict[str, Any]], object]:
    return lambda data: data["rows"][0]["case"].update(values)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "Expecting value"),
        ("\xff", ""),
        ("[]", "a table must be an object with version, device"),
        ("[" * 100_000, ""),
        ('{"version": 1, "version": 1}', "one stands twice"),
        (changed(lambda data: data.pop("date")), "must be an object with version"),
        (changed(lambda data: data.update(more=1)), "'more'"),
        (changed(lambda data: data.update(version=2)), "`version` must be 1, but is 2"),
        (changed(lambda data: data.update(device="")), "`device` must be a text"),
        (changed(lambda data: data.update(device=7)), "`device` must be a text"),
        (changed(lambda data: data.update(date="x" * 201)), "`date` must be a text"),
        (changed(lambda data: data.update(capability=9.0)), "`capability` must be an int"),
        (changed(lambda data: data.update(versions=[])), "`versions` must be an object"),
        (changed(lambda data: data.update(versions={"torch": 2})), "`torch` must be a text"),
        (changed(lambda data: data.update(rows={})), "`rows` must be a list"),
        (changed(lambda data: data.update(rows=[0] * (MAX_ROWS + 1))), "at most 10000"),
        (changed(lambda data: data["rows"].append(data["rows"][0])), "one stands twice"),
        (changed(lambda data: data["rows"].append(3)), "row 3 must be an object with case"),
        (changed(row(0, route="magic")), "`route` must be one of popcount"),
        (changed(row(0, route=["int8"])), "`route` must be one of popcount"),
        (changed(row(0, route="tensor_core")), "row 0 must be an object with case"),
        (changed(row(0, stages=3)), "row 0 must be an object with case"),
        (changed(row(0, ms="fast")), "`ms` of row 0 must be a number"),
        (changed(row(0, ms=True)), "`ms` of row 0 must be a number"),
        (changed(row(0, ms=0)), "`ms` must be positive and finite"),
        (changed(row(0, ms=float("nan"))), "`ms` must be positive and finite"),
        (changed(row(0, ms=10**400)), "row 0"),
        (changed(row(2, stages=1)), "`stages` must be 0 or 2 to 8"),
        (changed(row(2, stages=9)), "stages"),
        (changed(row(2, tile={"rows": 1})), "the tile of row 2 must be an object with m_tiles"),
        (changed(tile(0, rows=3)), "`rows` must be a power of two"),
        (changed(tile(0, rows=True)), "`rows` must be an int"),
        (changed(tile(0, stages=99)), "stages"),
        (changed(tile(2, m_tiles=16)), "m_tiles"),
        (changed(tile(2, n_tiles=12)), "`n_tiles` must be a power of two"),
        (changed(tile(2, m_tiles=8, n_tiles=8)), "`m_tiles \\* n_tiles <= 32`"),
        (changed(tile(2, m_warps=8, n_warps=4)), "`m_warps \\* n_warps <= 16`"),
        (changed(case(rows=0)), "1 <= rows"),
        (changed(case(rows="1")), "`rows` must be an int"),
        (changed(case(input_bits=9)), "input_bits"),
        (changed(case(kind="bits")), "`kind` must be one of sums"),
        (changed(case(more=1)), "the case of row 0 must be an object with rows"),
    ],
)
def test_what_is_no_table_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=f"The tuning it.json cannot be used: .*{says}"):
        parse_table(text.encode("latin-1"), "it.json")


def test_a_file_that_is_too_large_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "MAX_FILE_BYTES", 100)
    path = tmp_path / "table.json"
    path.write_text(table_text(TABLE), encoding="utf-8")
    with pytest.raises(ValueError, match="at most 100 bytes"):
        read_table(path)


def test_wrong_choices_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="must be a WarpTile for the route tensor_core"):
        Choice(route="tensor_core", tile=PLAIN.tile)
    with pytest.raises(TypeError, match="must be a Tile for the route int8"):
        Choice(route="int8", tile=SMALL)


@pytest.mark.parametrize(
    ("choice", "capability", "change", "expected"),
    [
        (GLUON, 90, {}, True),
        (GLUON, 100, {}, False),
        (GLUON, 90, {"weight_bits": 2, "input_bits": 2}, True),
        (GLUON, 90, {"weight_bits": 2, "input_bits": 3}, False),
        (GLUON, 90, {"taps": 32}, False),
        (PLAIN, 90, {}, True),
        (PLAIN, 100, {"kind": "codes"}, True),
        (replace(PLAIN, tile=Tile(rows=16, outputs=16, words=4)), 90, {"kind": "codes"}, False),
        (replace(PLAIN, tile=Tile(rows=8, outputs=16, words=4)), 90, {}, False),
        (replace(PLAIN, tile=Tile(rows=16, outputs=8, words=4)), 90, {}, False),
        # int32 does not hold sums of 127 * 127 as long
        (PLAIN, 90, {"words": 1 << 20, "weight_bits": 7, "input_bits": 7}, False),
        (COUNTED, 90, {}, True),
        (replace(COUNTED, tile=Tile(rows=16, outputs=64, words=8)), 90, {}, False),
        (replace(COUNTED, tile=Tile(rows=8, outputs=64, words=8)), 90, {}, True),
        (replace(COUNTED, tile=Tile(rows=8, outputs=64, words=2)), 90, {}, False),
        (replace(COUNTED, tile=Tile(rows=8, outputs=16, words=8)), 90, {"kind": "codes"}, False),
    ],
)
def test_which_way_fits_which_product(
    choice: Choice, capability: int, change: dict[str, Any], expected: bool
) -> None:
    product = replace(CASE, **change)
    formats = tuple(
        CodeFormat(bits=bits, coding="unsigned")
        for bits in (product.input_bits, product.weight_bits)
    )
    assert fits(choice, capability, product, formats) is expected


def test_a_row_that_does_not_fit_leaves_the_next_one_or_the_default() -> None:
    product = TunedProduct(conv=matrix(64, 128, 512))
    weight = autotune._weight(product, CPU)
    chosen = partial(choose_way, product.conv, BINARY, weight, None)
    default = default_choice(choose(100, product.conv, BINARY, BINARY), product.case)
    assert product.case == CASE
    assert chosen() == chosen(Tuning()) == default
    assert chosen(Tuning((table((CASE, PLAIN)),))) == PLAIN
    # the interpreter has no 1-bit tensor cores
    assert chosen(Tuning((table((CASE, GLUON)),))) == default
    near = replace(CASE, rows=32)
    assert chosen(Tuning((table((CASE, GLUON), (near, PLAIN)),))) == PLAIN


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    known_tuning.cache_clear()
    folder = tmp_path / "bitfront" / "tuning"
    folder.mkdir(parents=True)
    assert user_folder() == folder
    return folder


def test_the_user_s_table_of_a_device_is_found_by_its_name(own: Path) -> None:
    assert known_tuning(DEVICE).tables == ()
    known_tuning.cache_clear()
    assert file_name(DEVICE) == "nvidia-test-9000.json"
    (own / file_name(DEVICE)).write_text(table_text(TABLE), encoding="utf-8")
    assert known_tuning(DEVICE).tables == (TABLE,)
    # read once
    assert known_tuning(DEVICE) is known_tuning(DEVICE)


def test_a_table_of_another_device_or_a_damaged_one_is_refused(own: Path) -> None:
    path = own / file_name(DEVICE)
    path.write_text(table_text(table(device="Other")), encoding="utf-8")
    with pytest.raises(ValueError, match=f"must be of {DEVICE}, but is of Other"):
        known_tuning(DEVICE)
    path.write_text(table_text(TABLE)[:-9], encoding="utf-8")
    with pytest.raises(ValueError, match=f"The tuning {path} cannot be used"):
        known_tuning(DEVICE)


def test_without_a_cache_folder_of_its_own_it_is_that_of_the_home(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/somebody")
    assert user_folder() == Path("/somebody/.cache/bitfront/tuning")


def test_every_table_that_ships_is_of_the_device_of_its_name() -> None:
    folder = resources.files("bitfront.kernels.gpu").joinpath("tunings")
    for file in folder.iterdir() if folder.is_dir() else ():
        assert file.name == file_name(parse_table(file.read_bytes(), file.name).device)


@pytest.mark.parametrize("capability", [80, 90, 100])
@pytest.mark.parametrize("product", PRODUCTS[::7], ids=lambda product: product.name)
def test_candidates_fit_and_the_default_is_the_first(
    capability: int, product: TunedProduct
) -> None:
    formats = (product.x_format, product.w_format)
    ways = candidates(capability, product, 160 << 10)
    assert ways[0] == default_choice(choose(capability, product.conv, *formats), product.case)
    assert 3 < len(ways) == len(set(ways)) < 30
    assert all(fits(way, capability, product.case, formats) for way in ways)
    assert {way.route for way in ways} <= {"popcount", "int8", "tensor_core"}
    if capability == 100:
        assert not any(isinstance(way.tile, WarpTile) for way in ways)
    # what needs more shared memory is left out
    small = candidates(capability, product, 40 << 10)
    assert set(small) <= set(ways)
    for way in small[1:]:
        if isinstance(way.tile, WarpTile):
            assert way.stages * (way.tile.rows + way.tile.columns) * 64 <= 40 << 10


def test_products_differ_and_an_old_device_has_no_candidates() -> None:
    assert len({product.case for product in PRODUCTS}) == len(PRODUCTS)
    with pytest.raises(ValueError, match=r"8\.0 or higher"):
        candidates(75, PRODUCTS[0], 1 << 16)


def test_candidates_of_the_tensor_cores_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    def launch(kernel: Any, count: int, arguments: dict[str, Any], warps: int) -> None:
        emulate(kernel, count, arguments)

    def timer(ways: Sequence[Calls]) -> list[dict[str, float]]:
        return [{"ms": 1.0 + (n + 1) % len(ways)} for n in range(len(ways))]

    monkeypatch.setattr(tensor_core_product, "launch", launch)
    for product in (
        TunedProduct(conv=matrix(300, 65, 520)),
        TunedProduct(
            conv=Conv2dGeometry.of(image=(1, 16, 17, 33), weight=(64, 3, 3, 33), padding=1),
            kind="codes",
        ),
    ):
        outcome = tune(product, CPU, capability=90, shared_bytes=227 << 10, timer=timer)
        assert outcome.refused == {}
        assert outcome.inexact == []
        ways = candidates(90, product, 227 << 10)
        assert outcome.timed == len(ways) >= 7
        assert {way.route for way in ways} == {"tensor_core"}
        assert outcome.row == TimedChoice(case=product.case, choice=ways[-1], ms=1.0)


def test_tiles_for_few_rows_are_exact_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def launch(kernel: Any, count: int, arguments: dict[str, Any], warps: int) -> None:
        emulate(kernel, count, arguments)

    monkeypatch.setattr(tensor_core_product, "launch", launch)
    two = CodeFormat(bits=2, coding="symmetric")
    product = TunedProduct(conv=matrix(16, 40, 520), x_format=two, w_format=two)
    outcome = tune(
        product, CPU, capability=90, timer=lambda ways: [{"ms": 1.0 + n} for n in range(len(ways))]
    )
    ways = candidates(90, product, 99 << 10)
    gluon = [way for way in ways if isinstance(way.tile, WarpTile)]
    assert {way.tile.rows for way in gluon} == {16, 64}
    assert outcome.timed == len(gluon)
    assert outcome.inexact == []
    # the others need a device or the interpreter
    assert outcome.refused.keys() == {str(way) for way in ways} - {str(way) for way in gluon}
    assert all("must be on a CUDA device" in reason for reason in outcome.refused.values())


def outcome_of(product: TunedProduct) -> Outcome:
    row = TimedChoice(case=product.case, choice=PLAIN, ms=0.25)
    return Outcome(row=row, default_ms=0.5, timed=3, refused={}, inexact=[])


def test_a_second_run_goes_on_where_the_time_was_used_up(tmp_path: Path) -> None:
    path, clock = tmp_path / "table.json", iter(range(0, 1000, 10))
    keep = partial(keep_tuning, path, DEVICE, 90, products=PRODUCTS[:4], budget_s=15.0)
    said = keep(outcome_of, clock=lambda: float(next(clock)))
    assert [row["name"] for row in said["found"]] == [PRODUCTS[0].name]
    assert said["found"][0]["ms"] == 0.25
    assert said["skipped"] == [product.name for product in PRODUCTS[1:4]]
    assert [row.case for row in read_table(path).rows] == [PRODUCTS[0].case]
    assert said["used_if_at"].endswith("bitfront/tuning/nvidia-test-9000.json")
    begun: list[str] = []
    said = keep(outcome_of, clock=lambda: 0.0, progress=begun.append)
    assert begun == [product.name for product in PRODUCTS[1:4]]
    assert [row.case for row in read_table(path).rows] == [each.case for each in PRODUCTS[:4]]
    assert [each.name for each in tmp_path.iterdir()] == ["table.json"]


def test_a_product_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    path = tmp_path / "table.json"

    def failing(product: TunedProduct) -> Outcome:
        if product == PRODUCTS[0]:
            raise RuntimeError("CUDA error: out of memory")
        return outcome_of(product)

    said = keep_tuning(path, DEVICE, 90, failing, products=PRODUCTS[:3])
    assert said["failed"] == {PRODUCTS[0].name: "RuntimeError: CUDA error: out of memory"}
    assert [row.case for row in read_table(path).rows] == [each.case for each in PRODUCTS[1:3]]


def test_another_device_s_file_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    for text, says in ((table_text(table(device="Other")), "is of Other"), ("{}", "cannot be")):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=says):
            keep_tuning(path, DEVICE, 90, outcome_of, products=PRODUCTS[:1])
        assert path.read_text(encoding="utf-8") == text


@pytest.mark.skipif(torch.cuda.is_available(), reason="it would run")
def test_without_a_device_nothing_is_tuned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.main(["--tune", str(tmp_path / "table.json")]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "needs a CUDA device" in printed.err
    assert printed.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_tuner_runs_real_kernels_in_the_interpreter() -> None:
    script = Path(__file__).with_name("interpreted_tuning.py")
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout
