"""From the energy of a search to the carbon dioxide that it caused.

    gCO2e = kWh x PUE x g/kWh

kWh is what the machine drew, PUE what its building adds (cooling, conversion; 1 means nothing),
g/kWh the mix of the grid. The yearly means of a country hide the hour and the supplier.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from bitfront.search.record import EnergyEntry
from bitfront.spaces.errors import InvalidValue

_BUNDLED: Final = "CodeCarbon, data/private_infra, mean of the country's mix"
_POUND_KG: Final = 0.45359237
DEFAULT_GRID: Final = "WORLD"
# what CodeCarbon assumes too; a data centre's own figure is between 1.1 and 2, 1.58 on average
# (Carbontracker, 2023)
DEFAULT_PUE: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The electricity of a place.

    Attributes:
        name: ISO 3166 code of three letters, WORLD, or "given".
        g_per_kwh: Grams of CO2 equivalent per kWh.
        year: That the figure is for, None if the user gave it.
        source: Where it was read.
    """

    name: str
    g_per_kwh: float
    year: int | None
    source: str


GRIDS: Final = {
    grid.name: grid
    for grid in (
        Grid(name="SWE", g_per_kwh=40.7, year=2023, source=_BUNDLED),
        Grid(name="FRA", g_per_kwh=56.0, year=2023, source=_BUNDLED),
        Grid(name="GBR", g_per_kwh=237.6, year=2023, source=_BUNDLED),
        Grid(name="USA", g_per_kwh=369.5, year=2023, source=_BUNDLED),
        Grid(name="DEU", g_per_kwh=381.0, year=2023, source=_BUNDLED),
        Grid(name="CHN", g_per_kwh=582.3, year=2023, source=_BUNDLED),
        Grid(name="POL", g_per_kwh=661.9, year=2023, source=_BUNDLED),
        Grid(name="IND", g_per_kwh=713.4, year=2023, source=_BUNDLED),
        Grid(
            name="WORLD", g_per_kwh=475.0, year=2018, source="IEA, as CodeCarbon falls back to it"
        ),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Emission:
    """Something whose emissions are known.

    Attributes:
        name: What it is.
        kg: CO2 equivalent.
    """

    name: str
    kg: float


# published in pounds: Strubell, Ganesh, McCallum 2019, as charted by MIT Technology Review
EMISSIONS: Final = tuple(
    Emission(name=name, kg=pounds * _POUND_KG)
    for name, pounds in (
        ("a flight New York - San Francisco and back, one passenger", 1_984),
        ("an average human's year", 11_023),
        ("an average American's year", 36_156),
        ("a US car's lifetime, fuel included", 126_000),
        ("a Transformer of 213 M parameters found by architecture search", 626_155),
    )
)


def find_grid(grid: str | float) -> Grid:
    """Return the grid of a code ("FRA", "WORLD"), or of a number of g/kWh.

    Raises:
        InvalidValue: If the code is unknown or the number is negative or not finite.
    """
    if isinstance(grid, str):
        known = GRIDS.get(grid.upper())
        if known is not None:
            return known
        try:
            grid = float(grid)
        except ValueError:
            raise InvalidValue(
                f"A grid must be one of {', '.join(GRIDS)}, or a number of gCO2e/kWh, but is "
                f"{grid!r}."
            ) from None
    if not math.isfinite(grid) or grid < 0:
        raise InvalidValue(f"gCO2e/kWh must be a number from 0, but is {grid!r}.")
    return Grid(name="given", g_per_kwh=grid, year=None, source="the user")


def carbon_g(kwh: float, grid: str | float = DEFAULT_GRID, pue: float = DEFAULT_PUE) -> float:
    """Grams of CO2 equivalent: ``kwh * pue * g_per_kwh``.

    Args:
        kwh: Energy that the machine drew.
        grid: A code of ``GRIDS`` or a number of g/kWh.
        pue: Power usage effectiveness of the building, at least 1.

    Raises:
        InvalidValue: If an argument is out of its range.
    """
    if not math.isfinite(kwh) or kwh < 0:
        raise InvalidValue(f"kwh must be a number from 0, but is {kwh!r}.")
    if not math.isfinite(pue) or pue < 1:
        raise InvalidValue(f"pue must be at least 1, but is {pue!r}.")
    return kwh * pue * find_grid(grid).g_per_kwh


def compared(grams: float) -> str:
    """Say how much that is: the share of the smallest known emission that it stays below.

    >>> compared(9.0)
    '0.0010 % of a flight New York - San Francisco and back, one passenger (900 kg CO2e)'
    """
    kg = grams / 1000
    scale = next((e for e in EMISSIONS if kg <= e.kg), EMISSIONS[-1])
    percent = 100 * kg / scale.kg
    # two digits that count, never an exponent
    places = max(0, 1 - math.floor(math.log10(percent))) if percent > 0 else 0
    return f"{percent:,.{places}f} % of {scale.name} ({scale.kg:,.0f} kg CO2e)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What a search drew and caused.

    Attributes:
        kwh: All accounts together.
        overhead_kwh: What belongs to no trial.
        measured: Fraction of ``kwh`` that a hardware counter gave; the rest is estimated.
        grams: CO2 equivalent.
        grid: Its electricity.
        pue: Of the building.
    """

    kwh: float
    overhead_kwh: float
    measured: float
    grams: float
    grid: Grid
    pue: float


def footprint(
    entries: Iterable[EnergyEntry], grid: str | float = DEFAULT_GRID, pue: float = DEFAULT_PUE
) -> Footprint:
    """Sum up a ledger, as ``Store.energy`` gives it.

    Raises:
        InvalidValue: If the grid or the PUE is not usable.
    """
    entries = list(entries)
    kwh = math.fsum(e.kwh for e in entries)
    measured = math.fsum(e.kwh for e in entries if e.method == "measured")
    return Footprint(
        kwh=kwh,
        overhead_kwh=math.fsum(e.kwh for e in entries if e.trial is None),
        measured=measured / kwh if kwh > 0 else 0.0,
        grams=carbon_g(kwh, grid, pue),
        grid=find_grid(grid),
        pue=pue,
    )
