"""What operations cost on a hardware profile: one band per operation, remembered."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from math import sqrt
from typing import Final

from bitfront.evaluators.cost.demand import (
    ADDER_LEVEL,
    FOLDED,
    MAC,
    OPERATIONS,
    RPRELU,
    Operation,
    adder_levels,
)
from bitfront.evaluators.hardware.profile import ZERO, Band, HardwareProfile
from bitfront.spaces.errors import InvalidValue

# energy of one full-adder bit at 45 nm, pJ (Horowitz' adders, as QTools interpolates them)
ADDER_BIT_PJ: Final = 0.003125

# element-wise functions: constant, and whether it scales with the bits it works on
_WORK: Final = {
    "batch_norm": ("batch_norm", False),
    "sign": ("compare", True),
    "quantize": ("mul", False),
    "relu": ("compare", True),
    "prelu": ("prelu", False),
    "sigmoid": ("mul", False),
    "add": ("add", True),
    "mul": ("mul", False),
    "scale": ("mul", False),
    "filter_scale": ("mul", False),
    "shift": ("add", False),
    "xnor": ("logic", False),
    "or": ("logic", False),
    "max_pool": ("compare", True),
    "maximum": ("compare", True),
    "avg_pool": ("add", True),
}
WORK_FUNCTIONS: Final = frozenset(_WORK)


def adder_pj(bits: int) -> float:
    """Energy of an integer addition at 45 nm: a line through Horowitz' 16- and 32-bit adders."""
    return ADDER_BIT_PJ * bits


def multiplier_pj(w_bits: int, a_bits: int) -> float:
    """Energy of an integer multiplication at 45 nm, through Horowitz' 8 and 32 bits."""
    return 0.002995 * w_bits * a_bits + 0.00104 * sqrt(w_bits * a_bits)


def mac_width(profile: HardwareProfile, w_bits: int, a_bits: int) -> str:
    """The unit a MAC runs on: "float32", "float16", "int8" (any integers) or "1x1"."""
    w, a = profile.native(w_bits), profile.native(a_bits)
    if max(w, a) >= 32:
        return "float32"
    if max(w, a) >= 16:
        return "float16"
    return "1x1" if w == a == 1 else "int8"


def mac_band(profile: HardwareProfile, w_bits: int, a_bits: int, fan_in: int) -> Band:
    """Energy of one MAC in pJ.

    With ``e = 0.003125`` pJ per adder bit and the profile's logic scale:
    1x1 bits cost ``0.3 e + 2 e`` (xnor, popcount tree); 1xa bits ``0.3 e a + e (a + ceil log2 K)``
    (a multiplexer and an accumulator); wxa bits
    ``0.002995 w a + 0.00104 sqrt(w a) + e (w + a + ceil log2 K)``. Floats, and what a profile
    lists, have constants of their own.

    Args:
        profile: Hardware.
        w_bits: Bits of the weight.
        a_bits: Bits of the input value.
        fan_in: K, products that are summed.
    """
    levels = _level_band(profile, w_bits, a_bits).times(adder_levels(fan_in))
    return _mac_band(profile, w_bits, a_bits).plus(levels)


def _listed(profile: HardwareProfile, w_bits: int, a_bits: int) -> Band | None:
    """The constant that a profile has for a MAC of these widths."""
    w, a = profile.native(w_bits), profile.native(a_bits)
    width = mac_width(profile, w_bits, a_bits)
    if width == "int8" and not (max(w, a) == 8 and min(w, a) > 1):
        return None
    name = f"mac_{width}"
    return profile.band(name) if name in profile.constants else None


def _mac_band(profile: HardwareProfile, w_bits: int, a_bits: int) -> Band:
    """A MAC without the adder levels."""
    listed = _listed(profile, w_bits, a_bits)
    if listed is not None:
        return listed
    w, a = profile.native(w_bits), profile.native(a_bits)
    if w == a == 1:
        pj = 2.3 * ADDER_BIT_PJ
    elif min(w, a) == 1:
        pj = 1.3 * adder_pj(max(w, a))
    else:
        pj = multiplier_pj(w, a) + adder_pj(w + a)
    return profile.band("logic_scale").times(pj)


def _level_band(profile: HardwareProfile, w_bits: int, a_bits: int) -> Band:
    """One adder level: a bit more of accumulator; a popcount tree has it in its price."""
    popcount = mac_width(profile, w_bits, a_bits) == "1x1"
    if popcount or _listed(profile, w_bits, a_bits) is not None:
        return ZERO
    return profile.band("logic_scale").times(ADDER_BIT_PJ)


def work_band(profile: HardwareProfile, function: str, bits: int) -> Band:
    """Energy of one element-wise evaluation in pJ; adders and comparators scale with the bits.

    Raises:
        InvalidValue: If nobody gave the function a price.
    """
    if function.startswith(FOLDED):
        if profile.norm_folds_into_sign:
            return ZERO
        return work_band(profile, function.removeprefix(FOLDED), bits)
    if function == RPRELU:
        if RPRELU in profile.constants:
            return profile.band(RPRELU)
        shift = work_band(profile, "shift", bits)
        return work_band(profile, "prelu", bits).plus(shift.times(2.0))
    if function not in _WORK:
        raise InvalidValue(
            f"Element-wise work must be one of {', '.join(sorted(_WORK))}, but is {function!r}."
        )
    constant, scales = _WORK[function]
    band = profile.band(constant)
    return band.times(min(bits, 32) / 32) if scales else band


class _Column(dict[int, Band]):
    """One price by an operation's place in ``OPERATIONS``, worked out when first asked for."""

    def __init__(self, price: Callable[[Operation], Band]) -> None:
        super().__init__()
        self._price = price

    def __missing__(self, place: int) -> Band:
        band = self[place] = self._price(OPERATIONS[place])
        return band


class Prices:
    """What a profile charges.

    Attributes:
        compute: pJ of an operation.
        registers: pJ of a MAC's accesses to the register file beside it; None without one.
        seconds: Time of a MAC on all lanes together; None where no time is charged.
        read: pJ of a bit of a stored feature map that MACs read.
        result: pJ of a bit that a step stores or merges; None where reads include it.
        weight: pJ of a bit of a weight that MACs read.
        dram: pJ of a bit that crosses the border.
        power: W that flow whatever is computed.
        dram_rate: Bits per second that can cross the border; None: any number.
    """

    __slots__ = (
        "compute",
        "dram",
        "dram_rate",
        "power",
        "read",
        "registers",
        "result",
        "seconds",
        "weight",
    )

    def __init__(self, profile: HardwareProfile) -> None:
        self.compute = _Column(partial(_compute, profile))
        registers = _Column(partial(_registers, profile))
        self.registers = registers if profile.register_accesses else None
        self.power = profile.band("static_power")
        seconds = _Column(partial(_seconds, profile))
        self.seconds = seconds if self.power.high else None
        feature = profile.band("feature_sram")
        self.read = feature.times(1 / profile.output_lanes)
        self.result = feature if profile.sram_writes else None
        self.weight = profile.band("weight_sram")
        self.dram = profile.band("dram")
        rate = profile.band("dram_rate")
        self.dram_rate = rate if rate.value else None


def _compute(profile: HardwareProfile, operation: Operation) -> Band:
    if operation.function == MAC:
        return _mac_band(profile, operation.bits, operation.a_bits)
    if operation.function == ADDER_LEVEL:
        return _level_band(profile, operation.bits, operation.a_bits)
    return work_band(profile, operation.function, operation.bits)


def _registers(profile: HardwareProfile, operation: Operation) -> Band:
    if operation.function != MAC:
        return ZERO
    operand = max(profile.native(operation.bits), profile.native(operation.a_bits))
    return profile.band("register_file").times(profile.register_accesses * operand)


def _seconds(profile: HardwareProfile, operation: Operation) -> Band:
    if operation.function != MAC:
        return ZERO
    rate = profile.rate(mac_width(profile, operation.bits, operation.a_bits))
    return Band(1 / rate.value, 1 / rate.high, 1 / rate.low)


@lru_cache(maxsize=64)
def prices_of(profile: HardwareProfile) -> Prices:
    """The prices of a profile; profiles are told apart by identity."""
    return Prices(profile)
