"""A table of layer times: where and how it was measured, and what a network takes by it.

As a file it is JSON, and can be shipped beside a hardware profile as ``NAME.latency.json``::

    {"format": "bitfront-layer-table", "version": 1,
     "setting": {"device": "cpu", "machine": ..., "kernels": ..., "versions": ..., ...},
     "layers": [{"layer": {...}, "median_ms": ..., "measured_at": ...}, ...]}
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Final, NamedTuple

from bitfront.evaluators.files import replace_file
from bitfront.evaluators.hardware.profile import profile_names
from bitfront.evaluators.latency.timing import Latency
from bitfront.evaluators.measurement import Measurement
from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.value import Value, added, canonical, decode, digest_of, encode

DEVICES: Final = ("cpu", "cuda")
MAPS: Final = ("float32", "bfloat16")
SUFFIX: Final = ".latency.json"
FORMAT: Final = "bitfront-layer-table"
VERSION: Final = 1
MAX_BYTES: Final = 64 * 1024 * 1024
MAX_LAYERS: Final = 1_000_000
# a layer that takes longer than this was not measured but mistyped
_MAX_MS: Final = 1e9


class MissingLayers(InvalidValue):
    """A table has no time for some layers of a network.

    Attributes:
        layers: Their texts.
    """

    def __init__(self, message: str, layers: Sequence[str]) -> None:
        super().__init__(message)
        self.layers = tuple(layers)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LatencySetting(Value):
    """Where and how layers are timed.

    Attributes:
        device: "cpu" or "cuda".
        machine: Name of the processor or of the GPU.
        kernels: Instruction set of the kernels: "avx2"; "Triton, sm_90" on a GPU.
        versions: Of what runs: "bitfront 1.0, torch 2.13.0".
        threads: Threads that share one operation; 1 on a GPU, whose host only queues them.
        batch: Images of one call.
        maps: Of floats between the layers: "float32", or "bfloat16" on a GPU.
    """

    device: str
    machine: str
    kernels: str
    versions: str
    threads: int = 1
    batch: int = 1
    maps: str = added("float32")

    def check(self) -> None:
        """The device is known, the texts are not empty, the numbers are positive."""
        if self.device not in DEVICES:
            raise InvalidValue(
                f"device must be one of {', '.join(DEVICES)}, but is {self.device!r}."
            )
        for name in ("machine", "kernels", "versions"):
            if not 1 <= len(getattr(self, name)) <= 1000:
                raise InvalidValue(f"{name} must have 1 to 1000 characters.")
        for name in ("threads", "batch"):
            if not 1 <= getattr(self, name) <= 1024:
                raise InvalidValue(f"{name} must be 1 to 1024, but is {getattr(self, name)}.")
        if self.device == "cuda" and self.threads != 1:
            raise InvalidValue(
                f"threads must be 1 on the device cuda, where the host only queues the work, but "
                f"is {self.threads}."
            )
        accepted = MAPS if self.device == "cuda" else MAPS[:1]
        if self.maps not in accepted:
            raise InvalidValue(
                f"maps must be {' or '.join(accepted)} on the device {self.device}, but are "
                f"{self.maps!r}."
            )

    @property
    def place(self) -> str:
        """Where: what must agree for latencies to be compared."""
        parts = [self.machine, self.kernels]
        if self.device == "cpu":
            parts.append(f"{self.threads} thread{'s' if self.threads > 1 else ''}")
        if self.maps != MAPS[0]:
            parts.append(f"{self.maps} maps")
        return ", ".join([*parts, f"batch {self.batch}"])

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON."""
        return digest_of(canonical(encode(self)))


class LayerTime(NamedTuple):
    """What one layer takes.

    Attributes:
        layer: Its text, from `layers_of`.
        times: Median, quantiles, repeats.
        measured_at: Seconds since 1970-01-01 UTC.
    """

    layer: str
    times: Latency
    measured_at: float


class LayerTable:
    """Layer times of one setting.

    Args:
        setting: Where and how.
        times: Of its layers; of several times of one layer the last counts.
    """

    def __init__(self, setting: LatencySetting, times: Iterable[LayerTime] = ()) -> None:
        self.setting = setting
        self._times = {time.layer: time for time in times}

    def __len__(self) -> int:
        return len(self._times)

    def __iter__(self) -> Iterator[LayerTime]:
        return iter(self._times.values())

    def __contains__(self, layer: object) -> bool:
        return layer in self._times

    def __getitem__(self, layer: str) -> LayerTime:
        return self._times[layer]

    def add(self, times: Iterable[LayerTime]) -> None:
        """Add layers, or replace their times."""
        self._times.update({time.layer: time for time in times})

    def missing(self, layers: Iterable[str]) -> tuple[str, ...]:
        """The layers without a time, each once."""
        return tuple(dict.fromkeys(layer for layer in layers if layer not in self._times))

    @property
    def redone(self) -> int:
        """Layers for which disturbed runs were made again."""
        return sum(time.times.redone > 0 for time in self)

    @property
    def dates(self) -> tuple[str, str] | None:
        """First and last day of its measurements, UTC; None while it is empty."""
        at = [time.measured_at for time in self]
        if not at:
            return None
        first, last = (datetime.fromtimestamp(t, UTC).date() for t in (min(at), max(at)))
        return first.isoformat(), last.isoformat()

    def latency(self, layers: Sequence[str]) -> Measurement:
        """The sum of the layers' medians in ms, with the sums of their 10 and 90 % quantiles.

        Args:
            layers: Of a network, from `layers_of`.

        Raises:
            MissingLayers: If there is no time for one of them: nothing is interpolated.
        """
        missing = self.missing(layers)
        if missing:
            raise MissingLayers(
                f"The layer table of {self.setting.place} has no time for {len(missing)} of "
                f"{len(set(layers))} layers, the first: {shown(missing[0])}.",
                missing,
            )
        times = [self._times[layer].times for layer in layers]
        value = sum(t.median_ms for t in times)
        return Measurement(
            objective="latency",
            value=value,
            unit="ms",
            method="estimated",
            low=min(value, sum(t.p10_ms for t in times)),
            high=max(value, sum(t.p90_ms for t in times)),
            repeats=min((t.repeats for t in times), default=1),
            hardware=self.setting.place,
            versions=self.setting.versions,
        )

    def json(self) -> dict[str, Any]:
        """Plain data; ``from_json`` reads it back."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "setting": encode(self.setting),
            "layers": [
                {
                    "layer": json.loads(time.layer),
                    **time.times._asdict(),
                    "measured_at": time.measured_at,
                }
                for time in self
            ],
        }

    @classmethod
    def from_json(cls, data: Any, where: str) -> LayerTable:
        """Read a table.

        Raises:
            InvalidValue: If it is none, or a newer bitfront wrote it.
        """
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise InvalidValue(f"{where} must be a layer table, with format {FORMAT!r}.")
        if data.get("version") != VERSION:
            raise InvalidValue(
                f"{where} must have version {VERSION}, but has {data.get('version')!r}."
            )
        setting = decode(LatencySetting, data.get("setting"), f"{where}: setting")
        rows = data.get("layers")
        if not isinstance(rows, list) or len(rows) > MAX_LAYERS:
            raise InvalidValue(f"{where}: layers must be a list of at most {MAX_LAYERS}.")
        return cls(setting, [_row(row, f"{where}: layers[{n}]") for n, row in enumerate(rows)])


def shown(layer: str) -> str:
    """A layer in a few words: ``binary conv2d 64x56x56 -> 64x56x56``."""
    data = json.loads(layer)

    def size(part: Mapping[str, Any]) -> str:
        slices = f" x{part['slices']}" if part["slices"] > 1 else ""
        return "x".join(map(str, part["shape"])) + slices

    reads = " + ".join(size(part) for part in data.get("reads", ()))
    kinds = [op["kind"] for op in data.get("ops", ())]
    main = [kind for kind in kinds if kind in ("conv2d", "linear") and kind != data["kind"]]
    arrow = f"{reads} ->" if reads else ""
    return " ".join(filter(None, [data["kind"], *main[:1], arrow, size(data["writes"])]))


def write_table(table: LayerTable, path: Path) -> None:
    """Write a table to a file, whole or not at all.

    Raises:
        InvalidValue: If the system refuses.
    """
    rows = table.json()
    # a line for each layer: files of one table are compared line by line
    layers = ",\n".join(json.dumps(row, allow_nan=False) for row in rows.pop("layers"))
    head = json.dumps(rows, indent=1)[:-2]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, f'{head},\n "layers": [\n{layers}\n]}}\n'.encode())
    except OSError as error:
        raise InvalidValue(f"{path} cannot be written: {error.strerror or error}.") from None


def read_table(path: Path) -> LayerTable:
    """Read a table's file.

    Raises:
        InvalidValue: If it cannot be read, or is no table.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InvalidValue(f"{path} must be at most {MAX_BYTES} bytes.")
        return _parsed(path.read_bytes(), str(path))
    except OSError as error:
        raise InvalidValue(f"{path} cannot be read: {error.strerror or error}.") from None


def table_names() -> tuple[str, ...]:
    """Names of the tables that ship with bitfront."""
    names = (file.name for file in _shipped().iterdir())
    return tuple(sorted(n.removesuffix(SUFFIX) for n in names if n.endswith(SUFFIX)))


def find_table(name: str) -> LayerTable:
    """The table that ships under a name, or that of a file.

    Raises:
        InvalidValue: If there is none.
    """
    if name in table_names():
        file = _shipped().joinpath(name + SUFFIX)
        return _parsed(file.read_bytes(), name)
    path = Path(name).expanduser()
    if name in profile_names():
        known = ", ".join(table_names())
        raise InvalidValue(
            f"No layer times were recorded for the hardware {name!r} yet: record them on such a "
            f"device (bitfront latency TARGET --save {name}{SUFFIX}, with --device cuda on a GPU) "
            f"and name that file{' or one of ' if known else ''}{known}; a table answers for the "
            "layers that it holds."
        )
    if path.suffix != ".json" and not path.exists():
        known = ", ".join(table_names()) or "none"
        raise InvalidValue(
            f"A layer table must be a file (NAME{SUFFIX}) or one of those that ship with bitfront "
            f"({known}), but is {name!r}."
        )
    return read_table(path)


def _shipped() -> Traversable:
    return resources.files("bitfront.evaluators.hardware")


def _parsed(content: bytes, where: str) -> LayerTable:
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        raise InvalidValue(f"{where} must be JSON, but is not.") from None
    return LayerTable.from_json(data, where)


def _row(data: Any, where: str) -> LayerTime:
    if not isinstance(data, dict) or not isinstance(data.get("layer"), dict):
        raise InvalidValue(f"{where} must be an object with a layer.")
    numbers: dict[str, Any] = {}
    for name in (*Latency._fields, "measured_at"):
        value = data.get(name)
        whole = name in ("repeats", "redone")
        kinds = int if whole else (int, float)
        if not isinstance(value, kinds) or isinstance(value, bool) or not math.isfinite(value):
            raise InvalidValue(
                f"{where}.{name} must be a {'whole ' * whole}number, but is {value!r}."
            )
        if value < 0 or (name.endswith("_ms") and value > _MAX_MS):
            raise InvalidValue(f"{where}.{name} must be 0 to {_MAX_MS:g}, but is {value!r}.")
        numbers[name] = value
    at = float(numbers.pop("measured_at"))
    times = Latency(**numbers)
    if not times.min_ms <= times.p10_ms <= times.median_ms <= times.p90_ms or times.repeats < 1:
        raise InvalidValue(f"{where} must have min <= p10 <= median <= p90, from 1 repeat.")
    layer = data["layer"]
    try:
        text = canonical(layer)
        shown(text)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InvalidValue(f"{where}.layer must be a layer of packed inference.") from None
    return LayerTime(text, times, at)
