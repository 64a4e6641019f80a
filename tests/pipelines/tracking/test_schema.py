"""The embedded database is made once, whole, whoever comes first."""

from __future__ import annotations

import sqlite3
from multiprocessing import get_context
from pathlib import Path

from pipelines.tracking.client import connect
from pipelines.tracking.config import TrackingConfig, mlflow_folder
from pipelines.tracking.schema import ensure_database


def create_run(store: Path) -> str:
    client, experiment = connect(TrackingConfig(), store)
    run: str = client.create_run(experiment).info.run_id
    return run


def test_four_processes_that_come_first_at_once_all_get_through(tmp_path: Path) -> None:
    context = get_context("forkserver")
    context.set_forkserver_preload(["mlflow.store.tracking.sqlalchemy_store"])  # so that they meet at the database
    with context.Pool(4) as pool:
        runs = pool.map(create_run, [tmp_path] * 4, chunksize=1)
    client, experiment = connect(TrackingConfig(), tmp_path)
    assert {run.info.run_id for run in client.search_runs([experiment])} == set(runs)
    assert [found.name for found in client.search_experiments()] == ["headwater", "Default"]


def test_what_a_killed_process_left_is_no_database_and_is_cleared(tmp_path: Path) -> None:
    folder = mlflow_folder(tmp_path)
    folder.mkdir()
    leftover = folder / ".mlflow.db.0badcafe.tmp"
    leftover.write_bytes(b"half a schema")
    database = ensure_database(folder)
    assert not leftover.exists()
    with sqlite3.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM experiments").fetchone() == (1,)


def test_a_database_that_is_there_is_left_alone(store: Path) -> None:
    database = mlflow_folder(store) / "mlflow.db"
    before = database.read_bytes()
    ensure_database(mlflow_folder(store))
    assert database.read_bytes() == before
