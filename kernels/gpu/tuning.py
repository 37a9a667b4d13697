"""What was timed on a device: for each product that was tried, the fastest way to compute it.

A table is a JSON file of one device. Those that ship with bitfront lie in ``kernels/gpu/tunings``
(none until a device was measured), the user's own in `user_folder`; both are named by `file_name`.
``python -m bitfront.kernels.gpu.bench --tune FILE`` writes one::

    {
        "version": 1,
        "device": "NVIDIA H200",
        "capability": 90,
        "date": "2026-01-31",
        "versions": {"torch": "2.11.0", "triton": "3.6.0"},
        "rows": [
            {
                "case": {
                    "rows": 1,
                    "outputs": 4096,
                    "words": 128,
                    "taps": 1,
                    "groups": 1,
                    "weight_bits": 1,
                    "input_bits": 1,
                    "kind": "sums",
                },
                "route": "popcount",
                "tile": {"rows": 1, "outputs": 8, "words": 128, "warps": 4, "stages": 3},
                "ms": 0.0017,
            }
        ],
    }

A row of the 1-bit tensor cores has the tile of `WarpTile` and its own "stages".
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal, get_args

from bitfront.kernels.finish import Affine, Finish
from bitfront.kernels.geometry import Conv2dGeometry
from bitfront.kernels.gpu.constants import largest_byte_sum
from bitfront.kernels.gpu.dispatch import TENSOR_CORE_CAPABILITIES, TENSOR_CORE_PASSES, Route
from bitfront.kernels.gpu.fragments import WarpTile
from bitfront.kernels.gpu.launch import blocks, power_of_two
from bitfront.kernels.gpu.tensor_core_product import MAX_TAPS, STAGES
from bitfront.kernels.gpu.tiles import FEW_ROWS, SPLIT_WORDS, Tile
from bitfront.kernels.layout import (
    MAX_CODE_BITS,
    MAX_ELEMENTS,
    WORD_BITS,
    CodeFormat,
    require_int,
    word_count,
)

VERSION: Final = 1
MAX_FILE_BYTES: Final = 1 << 22
MAX_ROWS: Final = 10_000

MAX_DISTANCE: Final = 2.0
"""Factors of two, of all sizes together, up to which a timed product speaks for another."""

MAX_WARP_TILES: Final = 32
"""16 x 8 tiles of a warp: 128 sums in the registers of each thread."""

Kind = Literal["sums", "floats", "codes"]
"""What a kernel stores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductCase:
    """What the fastest way to compute a product depends on.

    Attributes:
        rows: M; pixels of the result, for a convolution.
        outputs: Of one group.
        words: Of a row of one group, all taps.
        taps: Of the kernel.
        groups: G.
        weight_bits: Planes of the weight.
        input_bits: Planes of the maps.
        kind: What the kernel stores.

    Raises:
        TypeError: A number is no int.
        ValueError: A number is out of range, or there is no such kind.
    """

    rows: int
    outputs: int
    words: int
    taps: int
    groups: int
    weight_bits: int
    input_bits: int
    kind: Kind

    def __post_init__(self) -> None:
        for name in ("rows", "outputs", "words", "taps", "groups"):
            require_int(name, getattr(self, name), 1, MAX_ELEMENTS)
        for name in ("weight_bits", "input_bits"):
            require_int(name, getattr(self, name), 1, MAX_CODE_BITS)
        if self.kind not in get_args(Kind):
            raise ValueError(
                f"`kind` must be one of {', '.join(get_args(Kind))}, but got {self.kind!r}."
            )

    @classmethod
    def of(
        cls,
        conv: Conv2dGeometry,
        x_format: CodeFormat,
        w_format: CodeFormat,
        finish: Finish | None = None,
    ) -> ProductCase:
        """The case of a convolution.

        Args:
            conv: Its geometry.
            x_format: What the bits of the maps are worth.
            w_format: What the bits of the weight are worth.
            finish: What becomes of the sums.
        """
        return cls(
            rows=conv.rows,
            outputs=conv.group_outputs,
            words=conv.taps * word_count(conv.group_channels),
            taps=conv.taps,
            groups=conv.groups,
            weight_bits=w_format.bits,
            input_bits=x_format.bits,
            kind=_kind(conv, finish),
        )

    def distance(self, other: ProductCase) -> float:
        """Factors of two between rows, outputs, words and groups, added up.

        Infinite where bits, taps or kind differ.

        >>> one = ProductCase(
        ...     rows=1,
        ...     outputs=64,
        ...     words=8,
        ...     taps=1,
        ...     groups=1,
        ...     weight_bits=1,
        ...     input_bits=1,
        ...     kind="sums",
        ... )
        >>> from dataclasses import replace
        >>> one.distance(replace(one, rows=2, words=4)), one.distance(replace(one, taps=9))
        (2.0, inf)
        """
        if self.likeness != other.likeness:
            return math.inf
        return sum(
            abs(math.log2(getattr(self, name) / getattr(other, name)))
            for name in ("rows", "outputs", "words", "groups")
        )

    @property
    def likeness(self) -> tuple[int, int, int, Kind]:
        """What cases must share to be compared."""
        return self.taps, self.weight_bits, self.input_bits, self.kind


def _kind(conv: Conv2dGeometry, finish: Finish | None) -> Kind:
    if isinstance(finish, Affine):
        return "floats"
    # codes of several groups are made outside the kernel where a group does not fill its words
    stores_codes = conv.groups == 1 or conv.group_outputs % WORD_BITS == 0
    return "codes" if finish is not None and stores_codes else "sums"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One way to compute a product.

    Attributes:
        route: Which kernel.
        tile: How the product is cut: a `WarpTile` on the 1-bit tensor cores, else a `Tile`.
        stages: Of the 1-bit tensor cores: steps in shared memory, 2 to 8, or 0.

    Raises:
        TypeError: The tile is not of the route.
        ValueError: There is no such route, tile or number of stages.
    """

    route: Route
    tile: Tile | WarpTile
    stages: int = STAGES

    def __post_init__(self) -> None:
        if self.route not in get_args(Route):
            raise ValueError(
                f"`route` must be one of {', '.join(get_args(Route))}, but got {self.route!r}."
            )
        kind = WarpTile if self.route == "tensor_core" else Tile
        if not isinstance(self.tile, kind):
            raise TypeError(
                f"`tile` must be a {kind.__name__} for the route {self.route}, but got "
                f"{type(self.tile).__name__}."
            )
        if isinstance(self.tile, WarpTile):
            _require_warp_tile(self.tile)
        require_int("stages", self.stages, 0, 8)
        if self.stages == 1:
            raise ValueError("`stages` must be 0 or 2 to 8, but got 1.")


def _require_warp_tile(tile: WarpTile) -> None:
    for name, least, most in (
        ("m_tiles", 1, 8),
        ("n_tiles", 4, MAX_WARP_TILES),
        ("m_warps", 1, 16),
        ("n_warps", 1, 16),
    ):
        value = require_int(name, getattr(tile, name), least, most)
        if value != power_of_two(value):
            raise ValueError(f"`{name}` must be a power of two, but got {value}.")
    if tile.m_tiles * tile.n_tiles > MAX_WARP_TILES or tile.warps > 16:
        raise ValueError(
            f"`m_tiles * n_tiles <= {MAX_WARP_TILES}` and `m_warps * n_warps <= 16` must hold, "
            f"but got {tile}."
        )


def fits(
    choice: Choice, capability: int, case: ProductCase, formats: tuple[CodeFormat, CodeFormat]
) -> bool:
    """Whether a product can be computed in a way that was timed for another.

    Args:
        choice: The way.
        capability: Ten times the compute capability of the device.
        case: The product.
        formats: What the bits of its maps are worth, and those of its weight.
    """
    tile = choice.tile
    if isinstance(tile, WarpTile):
        return (
            capability in TENSOR_CORE_CAPABILITIES
            and case.weight_bits * case.input_bits <= TENSOR_CORE_PASSES
            and case.taps <= MAX_TAPS
        )
    least = 16 if choice.route == "int8" else 1
    if tile.rows < least or tile.outputs < (WORD_BITS if case.kind == "codes" else least):
        return False
    if choice.route == "popcount":
        few = tile.rows <= FEW_ROWS
        return tile.words >= SPLIT_WORDS if few else tile.words == SPLIT_WORDS
    padded = blocks(case.words, tile.words) * tile.words
    return largest_byte_sum(*formats, padded) <= MAX_ELEMENTS


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedChoice:
    """A row of a table.

    Attributes:
        case: The product.
        choice: The fastest way to compute it.
        ms: Its time.

    Raises:
        ValueError: The time is no positive number.
    """

    case: ProductCase
    choice: Choice
    ms: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.ms) and self.ms > 0):
            raise ValueError(f"`ms` must be positive and finite, but got {self.ms}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningTable:
    """What was timed on one device.

    Attributes:
        device: Its name.
        capability: Ten times its compute capability.
        date: Of the last measurement, as 2026-01-31.
        versions: Of the packages that took part.
        rows: One for each product.
    """

    device: str
    capability: int
    date: str
    versions: Mapping[str, str]
    rows: tuple[TimedChoice, ...]


class Tuning:
    """Tables of one device to look products up in.

    Args:
        tables: A later one goes before an earlier one.
    """

    def __init__(self, tables: Sequence[TuningTable] = ()) -> None:
        self.tables = tuple(tables)
        self._choices = {row.case: row.choice for table in tables for row in table.rows}
        self._like: dict[object, list[ProductCase]] = {}
        for case in self._choices:
            self._like.setdefault(case.likeness, []).append(case)

    def choices(self, case: ProductCase) -> Iterator[Choice]:
        """What was fastest for a product, then for the nearest ones up to `MAX_DISTANCE`."""
        if (exact := self._choices.get(case)) is not None:
            yield exact
        like = (other for other in self._like.get(case.likeness, ()) if other != case)
        near = [(case.distance(other), other) for other in like]
        near.sort(key=lambda row: row[0])
        for distance, other in near:
            if distance > MAX_DISTANCE:
                return
            yield self._choices[other]


def file_name(device: str) -> str:
    """The name of a device's table.

    >>> file_name("NVIDIA A100-SXM4-80GB")
    'nvidia-a100-sxm4-80gb.json'
    """
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-") + ".json"


def user_folder() -> Path:
    """Where the user's own tables lie: ``bitfront/tuning`` in the user's cache."""
    cached = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cached).expanduser() / "bitfront" / "tuning"


@cache
def known_tuning(device: str) -> Tuning:
    """The tables of a device that ship with bitfront, then the user's own; read once.

    Raises:
        ValueError: If one is not a table of that device.
    """
    name = file_name(device)
    shipped = resources.files("bitfront.kernels.gpu").joinpath("tunings", name)
    found = []
    if shipped.is_file():
        found.append(parse_table(shipped.read_bytes(), name))
    own = user_folder() / name
    if own.is_file():
        found.append(read_table(own))
    for table in found:
        if table.device != device:
            raise ValueError(f"The tuning {name} must be of {device}, but is of {table.device}.")
    return Tuning(found)


def read_table(path: Path) -> TuningTable:
    """Read a table.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is no table.
    """
    with path.open("rb") as file:
        return parse_table(file.read(MAX_FILE_BYTES + 1), str(path))


def parse_table(text: bytes, where: str) -> TuningTable:
    """Check a table and everything in it.

    Args:
        text: JSON.
        where: What errors call it.

    Raises:
        ValueError: If it is no table, names a thing twice, or is too large.
    """
    try:
        if len(text) > MAX_FILE_BYTES:
            raise ValueError(f"it must have at most {MAX_FILE_BYTES} bytes, but has more.")
        return _table(json.loads(text, object_pairs_hook=_without_doubles))
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"The tuning {where} cannot be used: {error}") from None


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name must stand once, but one stands twice.")
    return found


def _table(data: object) -> TuningTable:
    names = ("version", "device", "capability", "date", "versions", "rows")
    values = _values("a table", data, names)
    if values["version"] != VERSION:
        raise ValueError(f"`version` must be {VERSION}, but is {values['version']!r}.")
    versions, rows = values["versions"], values["rows"]
    if not isinstance(versions, dict):
        raise ValueError(f"`versions` must be an object, but is {versions!r:.40}.")
    texts = {"device": values["device"], "date": values["date"], **versions}
    for name, text in texts.items():
        if not isinstance(text, str) or not 0 < len(text) <= 200:
            raise ValueError(f"`{name}` must be a text of 1 to 200 signs, but is {text!r:.40}.")
    if not isinstance(rows, list) or len(rows) > MAX_ROWS:
        raise ValueError(f"`rows` must be a list of at most {MAX_ROWS} rows.")
    parsed = tuple(_row(number, row) for number, row in enumerate(rows))
    if len({row.case for row in parsed}) < len(parsed):
        raise ValueError("`rows` must have each case once, but one stands twice.")
    return TuningTable(
        device=values["device"],
        capability=require_int("capability", values["capability"], 0),
        date=values["date"],
        versions=dict(versions),
        rows=parsed,
    )


def _row(number: int, data: object) -> TimedChoice:
    where = f"row {number}"
    is_tensor_core = isinstance(data, dict) and data.get("route") == "tensor_core"
    names = ("case", "route", "tile", "ms", *(("stages",) if is_tensor_core else ()))
    values = _values(where, data, names)
    kind: type[Tile | WarpTile] = WarpTile if is_tensor_core else Tile
    case = _values(f"the case of {where}", values["case"], _names(ProductCase))
    tile = _values(f"the tile of {where}", values["tile"], _names(kind))
    ms = values["ms"]
    if isinstance(ms, bool) or not isinstance(ms, int | float):
        raise ValueError(f"`ms` of {where} must be a number, but is {ms!r:.40}.")
    try:
        return TimedChoice(
            case=ProductCase(**case),
            choice=Choice(
                route=values["route"], tile=kind(**tile), stages=values.get("stages", STAGES)
            ),
            ms=float(ms),
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{where}: {error}") from None


def _names(kind: type[ProductCase | Tile | WarpTile]) -> tuple[str, ...]:
    return tuple(each.name for each in fields(kind))


def _values(where: str, data: object, names: Sequence[str]) -> dict[str, Any]:
    """The object that `data` must be, with exactly these names."""
    if not isinstance(data, dict) or data.keys() != set(names):
        found = ", ".join(map(repr, data)) if isinstance(data, dict) else type(data).__name__
        raise ValueError(
            f"{where} must be an object with {', '.join(names)}, but got {found:.200}."
        )
    return data


def table_text(table: TuningTable) -> str:
    """A table as JSON, one row a line: what `parse_table` reads."""
    head = {
        "version": VERSION,
        "device": table.device,
        "capability": table.capability,
        "date": table.date,
        "versions": dict(table.versions),
    }
    lines = ",\n".join(f"  {json.dumps(_plain(row))}" for row in table.rows)
    return f'{json.dumps(head)[:-1]},\n "rows": [\n{lines}\n ]}}\n'


def _plain(row: TimedChoice) -> dict[str, Any]:
    data: dict[str, Any] = {
        "case": asdict(row.case),
        "route": row.choice.route,
        "tile": asdict(row.choice.tile),
        "ms": row.ms,
    }
    if row.choice.route == "tensor_core":
        data["stages"] = row.choice.stages
    return data
