"""Hardware profiles: one TOML file each, every constant with unit, band, kind and source."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, fields
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from bitfront.spaces.errors import InvalidValue
from bitfront.spaces.registry import Registry

KINDS: Final = ("read", "derived", "assumed")
SPILL_POLICIES: Final = ("boolnet", "belady")
QUIRKS: Final = frozenset(
    {
        "float_shortcut_at_int8",
        "slices_share_shortcut_weights",
        "interleaved_counts_once",
        "shortcut_never_spills",
    }
)
REQUIRED: Final = (
    "mac_float16",
    "mac_float32",
    "logic_scale",
    "batch_norm",
    "add",
    "mul",
    "logic",
    "compare",
    "prelu",
    "feature_sram",
    "weight_sram",
    "dram",
    "static_power",
)
OPTIONAL: Final = ("mac_1x1", "mac_int8")


class Band(NamedTuple):
    """A value with its low and high end."""

    value: float
    low: float
    high: float

    def times(self, factor: float) -> Band:
        """All three, multiplied."""
        return Band(self.value * factor, self.low * factor, self.high * factor)

    def plus(self, other: Band) -> Band:
        """Ends add to ends: the constants' errors are taken to go together."""
        return Band(self.value + other[0], self.low + other[1], self.high + other[2])


ZERO: Final = Band(0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """One constant of a profile.

    Attributes:
        band: Value, low and high, in ``unit``.
        unit: "pJ", "pJ/bit", "W" or "1".
        kind: "read", "derived" or "assumed".
        source: Where it comes from.
    """

    band: Band
    unit: str
    kind: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HardwareProfile:
    """An accelerator as numbers.

    Attributes:
        name: Of the profile.
        title: One line for people.
        node_nm: Process node.
        clock_hz: Clock rate.
        lanes: MACs per cycle.
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
        constants: By name.
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
    constants: MappingProxyType[str, Constant]
    quirks: MappingProxyType[str, str]

    def band(self, name: str) -> Band:
        """The constant's band."""
        return self.constants[name].band

    def native(self, bits: int) -> int:
        """The narrowest native width that holds ``bits``."""
        return min((n for n in self.native_bits if n >= bits), default=bits)


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
    quirks = data.pop("published_quirks", {})
    plain = [f.name for f in fields(HardwareProfile) if f.name not in ("constants", "quirks")]
    for key in data:
        if key not in plain:
            raise InvalidValue(f"{where} has an unknown key {key!r}; known: {', '.join(plain)}.")
    for key in plain:
        if key not in data:
            raise InvalidValue(f"{where} lacks the key {key!r}.")
    if data["spill_policy"] not in SPILL_POLICIES:
        raise InvalidValue(
            f"{where}: spill_policy must be one of {', '.join(SPILL_POLICIES)}, but is "
            f"{data['spill_policy']!r}."
        )
    for key in ("clock_hz", "lanes", "output_lanes", "feature_buffer_bits", "weight_buffer_bits"):
        if not data[key] > 0:
            raise InvalidValue(f"{where}: {key} must be positive, but is {data[key]}.")
    missing = [name for name in REQUIRED if name not in constants]
    if missing:
        raise InvalidValue(f"{where} lacks the constant {missing[0]!r}.")
    for name in constants:
        if name not in REQUIRED + OPTIONAL:
            raise InvalidValue(f"{where} has an unknown constant {name!r}.")
    for name in quirks:
        if name not in QUIRKS:
            raise InvalidValue(
                f"{where} has an unknown quirk {name!r}; known: {', '.join(sorted(QUIRKS))}."
            )
    data["native_bits"] = tuple(sorted(data["native_bits"]))
    return HardwareProfile(
        **data,
        constants=MappingProxyType(
            {name: _constant(row, f"{where}: {name}") for name, row in constants.items()}
        ),
        quirks=MappingProxyType(dict(quirks)),
    )


def _constant(row: dict[str, Any], where: str) -> Constant:
    for key in ("value", "low", "high", "unit", "kind", "source"):
        if key not in row:
            raise InvalidValue(f"{where} lacks {key!r}.")
    band = Band(float(row["value"]), float(row["low"]), float(row["high"]))
    if not all(math.isfinite(v) for v in band) or not 0 <= band.low <= band.value <= band.high:
        raise InvalidValue(f"{where}: 0 <= low <= value <= high must hold, but got {tuple(band)}.")
    if row["kind"] not in KINDS:
        raise InvalidValue(f"{where}: kind must be one of {', '.join(KINDS)}.")
    return Constant(band=band, unit=row["unit"], kind=row["kind"], source=row["source"])


_FILES: Final[Registry[str]] = Registry("hardware profile")
for _name in ("boolnet65", "horowitz45"):
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
