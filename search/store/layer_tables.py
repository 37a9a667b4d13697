"""Layer times in SQL: one row per setting, one per layer."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from sqlalchemy import Connection, delete, insert, select
from sqlalchemy.exc import IntegrityError

from bitfront.evaluators.latency import Latency, LatencySetting, LayerTable, LayerTime
from bitfront.search.store.schema import layer_tables, layer_times
from bitfront.spaces.value import canonical, decode, digest_of, encode

# SQLite takes a limited number of values in one statement
_CHUNK: Final = 400


def read_table(connection: Connection, setting: LatencySetting) -> LayerTable:
    """The table of a setting; an empty one if there is none."""
    table_id = _id(connection, setting)
    return LayerTable(setting, () if table_id is None else _times(connection, table_id))


def read_tables(connection: Connection) -> tuple[LayerTable, ...]:
    """All tables, in the order of their creation."""
    rows = connection.execute(select(layer_tables).order_by(layer_tables.c.id)).mappings().all()
    return tuple(
        LayerTable(
            decode(LatencySetting, json.loads(row["setting"]), "setting"),
            _times(connection, row["id"]),
        )
        for row in rows
    )


def write_times(
    connection: Connection, setting: LatencySetting, times: Iterable[LayerTime]
) -> None:
    """Add layers to the table of a setting, or replace their times."""
    new = {digest_of(row.layer): row for row in times}
    table_id = _locked(connection, setting)
    digests = list(new)
    for start in range(0, len(digests), _CHUNK):
        part = digests[start : start + _CHUNK]
        connection.execute(
            delete(layer_times).where(
                layer_times.c.layer_table_id == table_id, layer_times.c.digest.in_(part)
            )
        )
        connection.execute(
            insert(layer_times),
            [
                {
                    "layer_table_id": table_id,
                    "digest": digest,
                    "layer": new[digest].layer,
                    **new[digest].times._asdict(),
                    "measured_at": new[digest].measured_at,
                }
                for digest in part
            ],
        )


def _id(connection: Connection, setting: LatencySetting) -> int | None:
    found = select(layer_tables.c.id).where(layer_tables.c.digest == setting.digest)
    return connection.execute(found).scalar()


def _locked(connection: Connection, setting: LatencySetting) -> int:
    """The row of a setting, made if need be; other writers wait for this one."""
    row = {
        "digest": setting.digest,
        "setting": canonical(encode(setting)),
        "created_at": time.time(),
    }
    if _id(connection, setting) is None:
        # another driver may be faster
        with suppress(IntegrityError), connection.begin_nested():
            connection.execute(insert(layer_tables).values(row))
    found = select(layer_tables.c.id).where(layer_tables.c.digest == setting.digest)
    return int(connection.execute(found.with_for_update()).scalar_one())


def _times(connection: Connection, table_id: int) -> Iterable[LayerTime]:
    names = Latency._fields
    columns = [layer_times.c[name] for name in ("layer", *names, "measured_at")]
    found = (
        select(*columns)
        .where(layer_times.c.layer_table_id == table_id)
        .order_by(layer_times.c.measured_at, layer_times.c.digest)
    )
    for layer, *times, at in connection.execute(found):
        yield LayerTime(layer, Latency(*times), at)
