"""Layer times: what a step of packed inference takes, by setting."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0002"
down_revision: Final = "0001"
branch_labels = None
depends_on = None

_ID: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "layer_tables",
        sa.Column("id", _ID, nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("setting", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_layer_tables"),
        sa.UniqueConstraint("digest", name="uq_layer_tables_digest"),
    )
    op.create_table(
        "layer_times",
        sa.Column("layer_table_id", _ID, nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("layer", sa.Text(), nullable=False),
        sa.Column("median_ms", sa.Double(), nullable=False),
        sa.Column("p10_ms", sa.Double(), nullable=False),
        sa.Column("p90_ms", sa.Double(), nullable=False),
        sa.Column("min_ms", sa.Double(), nullable=False),
        sa.Column("repeats", sa.BigInteger(), nullable=False),
        sa.Column("redone", sa.BigInteger(), nullable=False),
        sa.Column("measured_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["layer_table_id"],
            ["layer_tables.id"],
            name="fk_layer_times_layer_table_id_layer_tables",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("layer_table_id", "digest", name="pk_layer_times"),
    )
