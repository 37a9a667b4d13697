"""Numbers, times and names as people read them; units are converted here and nowhere else."""

from __future__ import annotations

from datetime import datetime
from html import escape
from math import floor, log10
from typing import Final

from bitfront.evaluators.measurement import Measurement

NONE: Final = "–"
_PREFIXES: Final = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
# units whose large values take a prefix, and what follows it
_COUNTED: Final = {"OPs": " OPs", "parameters": ""}


def number(value: float) -> str:
    """Three significant digits, no exponent where it can be avoided.

    >>> number(0.083421), number(12.0), number(759952.0)
    ('0.0834', '12', '759,952')
    """
    if value == 0:
        return "0"
    if 1e-5 <= abs(value) < 1000:
        # as many decimals as three digits take
        decimals = max(0, 2 - floor(log10(abs(value))))
        text = f"{value:.{decimals}f}"
        return text.rstrip("0").rstrip(".") if decimals else text
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.2e}"


def prefixed(value: float) -> str:
    """Three significant digits with a decimal prefix.

    >>> prefixed(759952.0), prefixed(42.0)
    ('760 k', '42')
    """
    for size, prefix in _PREFIXES:
        # 999.5 k would round to 1000 k
        if abs(value) >= 0.9995 * size:
            return f"{number(float(f'{value / size:.3g}'))} {prefix}"
    return number(value)


def percent(fraction: float, digits: int = 1) -> str:
    """A fraction as percent.

    >>> percent(0.9642)
    '96.4 %'
    """
    return f"{100 * fraction:.{digits}f} %"


def quantity(value: float | None, unit: str) -> str:
    """A value with its unit.

    >>> quantity(0.9642, "fraction"), quantity(0.0834, "mJ"), quantity(4992.0, "bytes")
    ('96.4 %', '83.4 µJ', '4.88 KiB')
    """
    if value is None:
        return NONE
    if unit == "fraction":
        return percent(value)
    if unit == "bytes":
        return size(value)
    if unit == "MiB":
        return size(value * 2**20)
    if unit == "mJ":
        return energy(value)
    if unit in _COUNTED:
        return prefixed(value) + _COUNTED[unit]
    return f"{number(value)} {unit}".rstrip()


def span(low: float, high: float, unit: str) -> str:
    """A range of values with their unit.

    >>> span(0.00562, 0.0351, "mJ"), span(0.5, 0.5, "mJ")
    ('5.62 to 35.1 µJ', '0.5 mJ')
    """
    first, last = quantity(low, unit), quantity(high, unit)
    if first == last:
        return last
    value, _, suffix = first.rpartition(" ")
    return f"{value if last.endswith(f' {suffix}') else first} to {last}"


def energy(value_mj: float) -> str:
    """Millijoules, or the unit below in which a small energy has digits before its point.

    >>> energy(3.9), energy(0.0834), energy(0.000858)
    ('3.9 mJ', '83.4 µJ', '858 nJ')
    """
    for factor, unit in ((1.0, "mJ"), (1e3, "µJ"), (1e6, "nJ")):
        # a tenth of a unit still reads well
        if abs(value_mj) * factor >= (0.1 if unit == "mJ" else 1.0):
            return f"{number(value_mj * factor)} {unit}"
    return f"{number(value_mj * 1e6)} nJ"


def size(value_bytes: float) -> str:
    """Bytes, KiB or MiB.

    >>> size(512.0), size(3 * 2**20)
    ('512 bytes', '3 MiB')
    """
    if value_bytes < 1024:
        return f"{value_bytes:.0f} bytes"
    if value_bytes < 2**20:
        return f"{number(value_bytes / 1024)} KiB"
    return f"{number(value_bytes / 2**20)} MiB"


def band(measurement: Measurement) -> str:
    """The band or spread of a measurement, "–" where it has none."""
    low, high = measurement.low, measurement.high
    if low is None and high is None:
        return NONE
    return span(
        measurement.value if low is None else low,
        measurement.value if high is None else high,
        measurement.unit,
    )


def electricity(kwh: float) -> str:
    """Electrical energy.

    >>> electricity(0.0016), electricity(2.5)
    ('1.6 Wh', '2.5 kWh')
    """
    return f"{number(1000 * kwh)} Wh" if kwh < 1 else f"{number(kwh)} kWh"


def moment(seconds: float) -> str:
    """A point in time, by the clock on the wall of this machine."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")


def duration(seconds: float) -> str:
    """A length of time.

    >>> duration(8.26), duration(75.0), duration(7260.0)
    ('8.3 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def counted(count: int, singular: str, plural: str = "") -> str:
    """A count and its noun.

    >>> counted(1, "trial"), counted(2, "trial")
    ('1 trial', '2 trials')
    """
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def plot_text(text: str) -> str:
    """Text for a figure, where Plotly would read markup."""
    return escape(text, quote=False)
