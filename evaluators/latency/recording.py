"""Recording a layer table in a file: for other machines, or to ship with bitfront."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from bitfront.evaluators.latency.layers import layers_of
from bitfront.evaluators.latency.measure import REPEATS, time_layers
from bitfront.evaluators.latency.table import (
    LatencySetting,
    LayerTable,
    read_table,
    write_table,
)
from bitfront.spaces.architecture import Architecture
from bitfront.spaces.errors import InvalidValue

_SAVE_S: Final = 10.0


def begun_table(path: Path, setting: LatencySetting) -> LayerTable:
    """The table of a file, to go on with; an empty one if there is no file.

    Raises:
        InvalidValue: If the file is no table, or one of another setting.
    """
    table = read_table(path) if path.exists() else LayerTable(setting)
    if table.setting != setting:
        raise InvalidValue(
            f"{path} holds layers of {table.setting.place} ({table.setting.versions}), but these "
            f"are of {setting.place} ({setting.versions}): give another file."
        )
    return table


def record(
    networks: Iterable[Architecture],
    path: Path,
    setting: LatencySetting,
    *,
    repeats: int = REPEATS,
    tell: Callable[[int, int], None] = lambda network, timed: None,
) -> LayerTable:
    """Time the layers of networks that a table's file lacks, and add them to it.

    The file is always whole: it is replaced every few seconds and at the end, also at an
    interruption, after which the same call goes on.

    Args:
        networks: Whose layers are wanted.
        path: Of the table.
        setting: Of this machine, from `setting_here`.
        repeats: Runs of each network.
        tell: Told after each network its number, from 1, and how many layers were timed.

    Raises:
        InvalidValue: If the file is no table, one of another setting, or cannot be written.
        InfeasibleArchitecture: If a network cannot be lowered.
    """
    table = begun_table(path, setting)
    unsaved = 0
    saved_at = time.monotonic()
    try:
        for number, architecture in enumerate(networks, 1):
            missing = table.missing(layers_of(architecture.lower()))
            if missing:
                table.add(time_layers(architecture, setting, set(missing), repeats=repeats))
                unsaved += len(missing)
            tell(number, len(missing))
            if unsaved and time.monotonic() - saved_at > _SAVE_S:
                write_table(table, path)
                unsaved, saved_at = 0, time.monotonic()
    finally:
        if unsaved:
            write_table(table, path)
    return table
