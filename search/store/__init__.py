"""The store: studies and trials in SQL, on SQLite or PostgreSQL."""

from bitfront.search.store.errors import (
    LeaseLost,
    StoreConflict,
    StoreError,
    StudyBusy,
    UnknownRecord,
)
from bitfront.search.store.leases import Lease
from bitfront.search.store.location import masked
from bitfront.search.store.maintenance import StoreCheck, backup, check, upgrade
from bitfront.search.store.reading import Changes, StoreReader
from bitfront.search.store.store import Store, open_store

__all__ = [
    "Changes",
    "Lease",
    "LeaseLost",
    "Store",
    "StoreCheck",
    "StoreConflict",
    "StoreError",
    "StoreReader",
    "StudyBusy",
    "UnknownRecord",
    "backup",
    "check",
    "masked",
    "open_store",
    "upgrade",
]
