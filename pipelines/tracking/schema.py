"""The embedded MLflow database, made once, whole or not at all.

Several processes that touch an empty SQLite store at once break each other's migrations, and a process killed half way
leaves a store nobody can open. So the schema is built in a file of its own, under a lock, and linked into place when it
is complete: a second process waits for the lock or finds the database ready. Built without syncing every statement to
disk (the file is synced once, as a whole) it takes under a second instead of five.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from components.publish import flush

if TYPE_CHECKING:
    from sqlite3 import Connection

DATABASE = "mlflow.db"
ARTIFACTS = "artifacts"


def ensure_database(folder: Path) -> Path:
    """Makes the embedded MLflow database unless it is there.

    Args:
        folder: The `mlflow` folder of a store; made if missing, readable by its owner alone.

    Returns:
        Path of the database.
    """
    database = folder / DATABASE
    if database.exists():
        return database
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(folder / "schema.lock"):
        if not database.exists():
            _build(folder, database)
    return database


def _build(folder: Path, database: Path) -> None:
    for leftover in folder.glob(f".{DATABASE}.*"):
        leftover.unlink()  # of a process that was killed: the lock is held here
    unfinished = folder / f".{DATABASE}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        _create_tables(unfinished, folder / ARTIFACTS)
        flush(unfinished)
        os.replace(unfinished, database)
        flush(folder)
    finally:
        unfinished.unlink(missing_ok=True)


def _create_tables(database: Path, artifacts: Path) -> None:
    """Lets MLflow's own store create its tables; it runs its migrations on a database that has none."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def without_sync(connection: Connection, record: object) -> None:
        connection.execute("PRAGMA synchronous = OFF")

    event.listen(Engine, "connect", without_sync)
    try:
        store = SqlAlchemyStore(f"sqlite:///{database}", artifacts.resolve().as_uri())
        store.engine.dispose()
    finally:
        event.remove(Engine, "connect", without_sync)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds a kernel lock on a file; the kernel frees it if the holder dies."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
