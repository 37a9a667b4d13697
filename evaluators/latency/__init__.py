"""Measured latency: of whole networks, and of their layers, whose times make a table.

A search cannot run every candidate end to end while others train. The steps of packed inference
are timed once each; the latency of a candidate is the sum of its steps'. A step is known by all
that decides its time (`layers`), a table by where and how it was measured (`table`).

Importing this package loads no torch; `measure`, `inference` and what else runs networks does.
"""

from bitfront.evaluators.latency.agreement import Agreement, agreement
from bitfront.evaluators.latency.layers import layers_of
from bitfront.evaluators.latency.table import (
    DEVICES,
    LatencySetting,
    LayerTable,
    LayerTime,
    MissingLayers,
    find_table,
    read_table,
    shown,
    table_names,
    write_table,
)
from bitfront.evaluators.latency.timing import Clock, CpuClock, Latency, take_turns

__all__ = [
    "DEVICES",
    "Agreement",
    "Clock",
    "CpuClock",
    "Latency",
    "LatencySetting",
    "LayerTable",
    "LayerTime",
    "MissingLayers",
    "agreement",
    "find_table",
    "layers_of",
    "read_table",
    "shown",
    "table_names",
    "take_turns",
    "write_table",
]
