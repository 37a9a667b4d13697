"""Hardware profiles: one TOML file each, every constant with unit, band, kind and source."""

from __future__ import annotations

import math
import tomllib
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.registry import Registry

KINDS: Final = ("read", "derived", "assumed")
SPILL_POLICIES: Final = ("boolnet", "belady")
BODY_QUIRKS: Final = frozenset(
    {
        "float_shortcut_at_int8",
        "slices_share_shortcut_weights",
        "interleaved_counts_once",
        "shortcut_never_spills",
    }
)
"""What published figures of a body do differently."""

OUTER_QUIRKS: Final = frozenset({"stem_costs_int8_macs", "head_costs_its_weights"})
"""How the authors' constants would price the stem and head that their figures leave out."""

REQUIRED: Final = {
    "mac_float16": "pJ",
    "mac_float32": "pJ",
    "logic_scale": "1",
    "batch_norm": "pJ",
    "add": "pJ",
    "mul": "pJ",
    "logic": "pJ",
    "compare": "pJ",
    "prelu": "pJ",
    "feature_sram": "pJ/bit",
    "weight_sram": "pJ/bit",
    "dram": "pJ/bit",
    "static_power": "W",
}
OPTIONAL: Final = {
    "mac_1x1": "pJ",
    "mac_int8": "pJ",
    "rprelu": "pJ",
    "register_file": "pJ/bit",
    "rate_1x1": "MAC/s",
    "rate_int8": "MAC/s",
    "rate_float16": "MAC/s",
    "rate_float32": "MAC/s",
    "dram_rate": "bit/s",
}
SOURCED: Final = (
    "clock_hz",
    "lanes",
    "output_lanes",
    "feature_buffer_bits",
    "weight_buffer_bits",
    "native_bits",
)
"""Plain keys whose origin the table ``[sources]`` tells."""


class Band(NamedTuple):
    """A value with its low and high end."""

    value: float
    low: float
    high: float

    def times(self, factor: float) -> Band:
        """All three, multiplied."""
        return band(self[0] * factor, self[1] * factor, self[2] * factor)

    def plus(self, other: Band) -> Band:
        """Ends add to ends: the constants' errors are taken to go together."""
        return band(self[0] + other[0], self[1] + other[1], self[2] + other[2])


def band(value: float, low: float, high: float) -> Band:
    """A band, without the keywords that a named tuple handles: a search builds 50,000 a second."""
    return tuple.__new__(Band, (value, low, high))


ZERO: Final = Band(0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """One constant of a profile.

    Attributes:
        band: Value, low and high, in ``unit``.
        unit: "pJ", "pJ/bit", "W", "MAC/s", "bit/s" or "1".
        kind: "read", "derived" or "assumed".
        source: Where it comes from.
    """

    band: Band
    unit: str
    kind: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HardwareProfile:
    """A device as numbers.

    Attributes:
        name: Of the profile.
        title: One line for people.
        node_nm: Process node.
        clock_hz: Clock rate.
        lanes: MACs per cycle, where no constant ``rate_*`` says otherwise.
        output_lanes: Outputs that share one feature read.
        feature_buffer_bits: On-chip memory for feature maps.
        weight_buffer_bits: On-chip memory for weights.
        spill_policy: "boolnet" (a convolution's input and output) or "belady" (all live tensors,
            farthest next use leaves first).
        binarised_copy: Convolutions read a packed copy instead of the stored map.
        norm_folds_into_sign: A batch norm before a sign is its threshold and costs nothing.
        sram_writes: Charge the writing of results and the reading of merge operands.
        norm_words: Charge the loading of norm constants and biases.
        weights_resident: Weights that fit stay on chip between inferences.
        native_bits: Operand widths with a path of their own; others round up.
        register_accesses: Operand reads and writes of a MAC in the register file beside it.
        constants: By name.
        sources: Of the plain keys, by name: kind and origin.
        quirks: What published figures do differently, by name.
    """

    name: str
    title: str
    node_nm: int
    clock_hz: float
    lanes: int
    output_lanes: int
    feature_buffer_bits: int
    weight_buffer_bits: int
    spill_policy: str
    binarised_copy: bool
    norm_folds_into_sign: bool
    sram_writes: bool
    norm_words: bool
    weights_resident: bool
    native_bits: tuple[int, ...]
    register_accesses: int = 0
    constants: MappingProxyType[str, Constant]
    sources: MappingProxyType[str, str]
    quirks: MappingProxyType[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def band(self, name: str) -> Band:
        """The constant's band; zero for an optional one that the profile does not have."""
        constant = self.constants.get(name)
        if constant is None and name in OPTIONAL:
            return ZERO
        return self.constants[name].band

    def kinds(self) -> dict[str, int]:
        """How many constants were read, derived and assumed."""
        found = [constant.kind for constant in self.constants.values()]
        return {kind: found.count(kind) for kind in KINDS}

    def native(self, bits: int) -> int:
        """The narrowest native width that holds ``bits``."""
        return min((n for n in self.native_bits if n >= bits), default=bits)

    def rate(self, width: str) -> Band:
        """MACs per second at a width: "1x1", "int8", "float16" or "float32"."""
        if f"rate_{width}" in self.constants:
            return self.band(f"rate_{width}")
        return Band(*[self.clock_hz * self.lanes] * 3)


def parse_profile(text: str, where: str) -> HardwareProfile:
    """Read and check a profile.

    Args:
        text: TOML.
        where: Its name, for error texts.

    Raises:
        InvalidValue: If a key is missing, unknown, or out of range.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidValue(f"{where} must be TOML, but is not: {error}.") from None
    constants = data.pop("constants", {})
    sources = data.pop("sources", {})
    quirks = data.pop("published_quirks", {})
    _check_keys(data, where)
    units = REQUIRED | OPTIONAL
    for wanted, given, what in (
        (REQUIRED, constants, "constant"),
        (dict.fromkeys(SOURCED), sources, "source"),
    ):
        missing = [name for name in wanted if name not in given]
        if missing:
            raise InvalidValue(f"{where} lacks the {what} {missing[0]!r}.")
    for known, given, what in (
        (units, constants, "constant"),
        (SOURCED, sources, "source"),
        (BODY_QUIRKS | OUTER_QUIRKS, quirks, "quirk"),
    ):
        for name in given:
            if name not in known:
                raise InvalidValue(
                    f"{where} has an unknown {what} {name!r}; known: {', '.join(sorted(known))}."
                )
    for name, source in sources.items():
        if not source.startswith(KINDS):
            raise InvalidValue(
                f"{where}: the source of {name} must begin with one of {', '.join(KINDS)}, but is "
                f"{source!r}."
            )
    data["native_bits"] = tuple(sorted(data["native_bits"]))
    return HardwareProfile(
        **data,
        constants=MappingProxyType(
            {
                name: _constant(row, units[name], f"{where}: {name}")
                for name, row in constants.items()
            }
        ),
        sources=MappingProxyType(dict(sources)),
        quirks=MappingProxyType(dict(quirks)),
    )


def _check_keys(data: dict[str, Any], where: str) -> None:
    tables = ("constants", "sources", "quirks")
    plain = {f.name: f.default for f in fields(HardwareProfile) if f.name not in tables}
    for key in data:
        if key not in plain:
            raise InvalidValue(f"{where} has an unknown key {key!r}; known: {', '.join(plain)}.")
    for key, default in plain.items():
        if key not in data and default is MISSING:
            raise InvalidValue(f"{where} lacks the key {key!r}.")
    if data["spill_policy"] not in SPILL_POLICIES:
        raise InvalidValue(
            f"{where}: spill_policy must be one of {', '.join(SPILL_POLICIES)}, but is "
            f"{data['spill_policy']!r}."
        )
    for key in ("clock_hz", "lanes", "output_lanes", "feature_buffer_bits", "weight_buffer_bits"):
        if not data[key] > 0:
            raise InvalidValue(f"{where}: {key} must be positive, but is {data[key]}.")
    if not data["native_bits"] or min(data["native_bits"]) < 1:
        raise InvalidValue(
            f"{where}: native_bits must list positive widths, but is {data['native_bits']}."
        )


def _constant(row: dict[str, Any], unit: str, where: str) -> Constant:
    for key in ("value", "low", "high", "unit", "kind", "source"):
        if key not in row:
            raise InvalidValue(f"{where} lacks {key!r}.")
    band = Band(float(row["value"]), float(row["low"]), float(row["high"]))
    if not all(math.isfinite(v) for v in band) or not 0 <= band.low <= band.value <= band.high:
        raise InvalidValue(f"{where}: 0 <= low <= value <= high must hold, but got {tuple(band)}.")
    if unit in ("MAC/s", "bit/s") and not band.low > 0:
        raise InvalidValue(f"{where}: a rate must be positive, but is {band.low}.")
    if row["unit"] != unit:
        raise InvalidValue(f"{where}: the unit must be {unit!r}, but is {row['unit']!r}.")
    if row["kind"] not in KINDS:
        raise InvalidValue(
            f"{where}: kind must be one of {', '.join(KINDS)}, but is {row['kind']!r}."
        )
    return Constant(band=band, unit=unit, kind=row["kind"], source=row["source"])


_FILES: Final[Registry[str]] = Registry("hardware profile")
for _name in ("boolnet65", "edge7", "eyeriss65", "h200", "horowitz45", "rpi4"):
    _FILES.register(_name)(f"{_name}.toml")


def profile_names() -> tuple[str, ...]:
    """Names of all profiles that ship with bitfront."""
    return tuple(sorted(_FILES))


@cache
def load_profile(name: str) -> HardwareProfile:
    """Load a profile by name.

    Raises:
        InvalidValue: If there is no such profile.
    """
    file = resources.files("bitfront.evaluators.hardware").joinpath(_FILES[name])
    return parse_profile(file.read_text(encoding="utf-8"), name)
