"""The tables of a store.

Documents (decisions, configurations, candidates) are canonical JSON text; times are seconds since
1970-01-01 UTC. ``VERSION`` is the head of the migrations, which build exactly these tables.

Every change of a study raises ``studies.revision``, in the transaction of the change, and stamps
it on the trial that changed. The row lock that this takes puts the writers of a study in line, so
"revision > cursor" never misses a change, on PostgreSQL as on SQLite.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

VERSION: Final = "0002"
VERSION_TABLE: Final = "bitfront_schema"
# "bitf" in the header of a SQLite file
APPLICATION_ID: Final = 0x62697466

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite counts up by itself only in a column of type INTEGER
_ID = BigInteger().with_variant(Integer, "sqlite")


def _key(table: str) -> Column[int]:
    return Column(
        f"{table[:-1] if table != 'studies' else 'study'}_id",
        _ID,
        ForeignKey(f"{table}.id", ondelete="CASCADE"),
        primary_key=True,
    )


studies = Table(
    "studies",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("config", Text, nullable=False),
    Column("objectives", Text, nullable=False),
    Column("reference_point", Text, nullable=False),
    Column("dataset", Text, nullable=False),
    Column("dataset_digest", Text, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("message", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("revision", BigInteger, nullable=False),
)

trials = Table(
    "trials",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("study_id", _ID, ForeignKey("studies.id", ondelete="CASCADE"), nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("fidelity", BigInteger, nullable=False),
    Column("full_fidelity", BigInteger, nullable=False),
    Column("attempt", BigInteger, nullable=False),
    Column("decisions", Text, nullable=False),
    Column("constraints", Text, nullable=False),
    Column("attributes", Text, nullable=False),
    Column("candidate", Text),
    Column("candidate_digest", String(64)),
    Column("architecture_digest", String(64)),
    Column("error", Text, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("finished_at", Double),
    Column("energy_kwh", Double, nullable=False),
    Column("checkpoint", Text),
    Column("duplicate_of", BigInteger),
    Column("revision", BigInteger, nullable=False),
    UniqueConstraint("study_id", "number"),
    Index(None, "study_id", "revision"),
    Index(None, "study_id", "state"),
)

curve_points = Table(
    "curve_points",
    metadata,
    _key("trials"),
    Column("epoch", BigInteger, primary_key=True, autoincrement=False),
    Column("train_loss", Double, nullable=False),
    Column("validation_loss", Double, nullable=False),
    Column("validation_accuracy", Double, nullable=False),
    Column("seconds", Double, nullable=False),
)

measurements = Table(
    "measurements",
    metadata,
    _key("trials"),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("objective", Text, nullable=False),
    Column("value", Double, nullable=False),
    Column("unit", Text, nullable=False),
    Column("method", String(16), nullable=False),
    Column("low", Double),
    Column("high", Double),
    Column("repeats", BigInteger, nullable=False),
    Column("hardware", Text, nullable=False),
    Column("versions", Text, nullable=False),
    UniqueConstraint("trial_id", "objective", "hardware", "method"),
)

retrainings = Table(
    "retrainings",
    metadata,
    _key("trials"),
    Column("seed", BigInteger, primary_key=True, autoincrement=False),
    Column("epochs", BigInteger, nullable=False),
    Column("validation_accuracy", Double, nullable=False),
    Column("test_accuracy", Double, nullable=False),
    Column("checkpoint", Text),
    Column("created_at", Double, nullable=False),
)

exports = Table(
    "exports",
    metadata,
    _key("trials"),
    Column("format", String(64), primary_key=True),
    Column("path", Text, primary_key=True),
    Column("verified", Boolean, nullable=False),
    Column("flips", BigInteger, nullable=False),
    Column("images", BigInteger, nullable=False),
    Column("created_at", Double, nullable=False),
)

leases = Table(
    "leases",
    metadata,
    _key("studies"),
    Column("token", String(32), nullable=False),
    Column("host", Text, nullable=False),
    Column("host_id", Text, nullable=False),
    Column("pid", BigInteger, nullable=False),
    Column("process_started_at", Double, nullable=False),
    Column("renewed_at", Double, nullable=False),
)

energy = Table(
    "energy",
    metadata,
    _key("studies"),
    Column("account", Text, primary_key=True),
    Column("method", String(16), primary_key=True),
    Column("kwh", Double, nullable=False),
)

layer_tables = Table(
    "layer_tables",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("digest", String(64), nullable=False, unique=True),
    Column("setting", Text, nullable=False),
    Column("created_at", Double, nullable=False),
)

layer_times = Table(
    "layer_times",
    metadata,
    _key("layer_tables"),
    Column("digest", String(64), primary_key=True),
    Column("layer", Text, nullable=False),
    Column("median_ms", Double, nullable=False),
    Column("p10_ms", Double, nullable=False),
    Column("p90_ms", Double, nullable=False),
    Column("min_ms", Double, nullable=False),
    Column("repeats", BigInteger, nullable=False),
    Column("redone", BigInteger, nullable=False),
    Column("measured_at", Double, nullable=False),
)
