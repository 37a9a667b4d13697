"""The drawing of a network: a row per resolution, a tile per block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dash import html

from bitfront.dashboard.network import Row, Tile
from bitfront.dashboard.pages.parts import Child

# the style sheet knows so many colours for the kinds of a body
_COLOURS: Final = 4


def drawing(rows: Sequence[Row]) -> Child:
    """All blocks with their bits and sizes, in the order of execution."""
    colours = _colours(rows)
    lines = [
        html.Div(
            [
                html.Div([html.Strong(row.title), html.Span(row.size)], className="where"),
                html.Ol([_tile(tile, colours[tile.kind]) for tile in row.tiles]),
            ],
            className="stage",
        )
        for row in rows
    ]
    return html.Div([html.Div(lines, className="drawing"), _legend(rows)])


def sketch(rows: Sequence[Row]) -> Child:
    """The same small: only the kinds."""
    colours = _colours(rows)
    lines = [
        html.Div(
            [
                html.Span(row.title, className="where"),
                html.Ol([_dot(tile, colours[tile.kind]) for tile in row.tiles]),
            ],
            className="stage",
        )
        for row in rows
    ]
    return html.Div(lines, className="sketch")


def _tile(tile: Tile, colour: str) -> Child:
    first = [html.Strong(tile.symbol), html.Span(tile.bits, className=_bits_class(tile))]
    second = " ".join(text for text in (tile.kernel, tile.channels) if text)
    third = f"→ {tile.shape[0]} · {tile.storage_bits} bit"
    return html.Li(
        [html.Div(first, className="head"), html.Span(second), html.Small(third)],
        className=f"tile {colour}",
        title=tile.details,
    )


def _dot(tile: Tile, colour: str) -> Child:
    return html.Li(tile.symbol, className=f"dot {colour}", title=tile.details)


def _colours(rows: Sequence[Row]) -> dict[str, str]:
    """Class names by kind: stems and heads alike, transitions alike, the rest in turn."""
    found: dict[str, str] = {}
    body = 0
    for tile in (tile for row in rows for tile in row.tiles):
        if tile.kind in found:
            continue
        if tile.region.endswith(("stem", "head")):
            found[tile.kind] = "end"
        elif tile.region.endswith(".transition"):
            found[tile.kind] = "change"
        else:
            found[tile.kind] = f"kind{body % _COLOURS}"
            body += 1
    return found


def _bits_class(tile: Tile) -> str:
    return "bits" if tile.bits in ("", "1/1") else "bits more"


def _legend(rows: Sequence[Row]) -> Child:
    symbols = {tile.kind: tile.symbol for row in rows for tile in row.tiles}
    kinds = [
        html.Span([html.B(symbols[kind], className=f"dot {colour}"), kind.replace("_", " ")])
        for kind, colour in _colours(rows).items()
    ]
    how = "1/1: bits of weights and activations. → channels of the result · bits of a stored value."
    return html.P([*kinds, html.Span(how)], className="legend")
