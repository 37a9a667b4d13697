"""What Alembic runs: the migrations, on the connection that it is given.

A new one: change ``schema.py``, then `alembic revision --autogenerate` with the configuration of
``migrating.migrations_config()``, number it, raise ``schema.VERSION``, and keep a dump of the old
store in ``tests/search/assets``.
"""

from __future__ import annotations

from alembic import context

from bitfront.search.store.schema import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
