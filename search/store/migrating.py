"""Runs the migrations of the schema."""

from __future__ import annotations

from importlib.resources import files
from threading import Lock
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

# Alembic keeps the environment of a run in a module
_RUNNING: Final = Lock()


def migrations_config() -> Config:
    """Return the Alembic configuration that finds the packaged migrations."""
    config = Config()
    folder = str(files("bitfront.search.store.migrations"))
    config.set_main_option("script_location", folder.replace("%", "%%"))
    return config


def migrate(connection: Connection) -> None:
    """Bring the tables to the present version, inside the connection's transaction."""
    config = migrations_config()
    config.attributes["connection"] = connection
    with _RUNNING:
        command.upgrade(config, "head")


def head_version() -> str:
    """Version of the newest migration."""
    head = ScriptDirectory.from_config(migrations_config()).get_current_head()
    return "" if head is None else head
