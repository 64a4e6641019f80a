"""The model registry says which artifacts its aliases stand for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.tracking.client import connect
from pipelines.tracking.config import TrackingConfig, tracking_uri
from pipelines.tracking.registered import registered


def test_nothing_is_registered_where_nothing_was_tracked(tmp_path: Path):
    assert registered(TrackingConfig(), tmp_path) == frozenset()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """MLflow looks for the source of a version where its own setting says, which other tests may have set."""
    import mlflow

    before = mlflow.get_tracking_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # `set_tracking_uri` changes it too
    mlflow.set_tracking_uri(tracking_uri(TrackingConfig(), tmp_path))
    yield
    mlflow.set_tracking_uri(before)


@pytest.mark.usefixtures("looked_at")
def test_versions_with_an_alias_are_told_by_key_and_path(tmp_path: Path):
    client, experiment = connect(TrackingConfig(), tmp_path)
    tags = {"headwater.key": "a" * 64, "headwater.path": "/store/artifacts/ppo/a/000001/model"}
    model = client.create_logged_model(experiment, "ppo-amber-1", tags=tags)
    client.create_registered_model("chat")
    logged = client.create_model_version("chat", f"models:/{model.model_id}")
    tagged = client.create_model_version("chat", "/store/b", tags={"headwater.key": "b" * 64})
    client.create_model_version("chat", "/store/c", tags={"headwater.key": "c" * 64})
    client.set_registered_model_alias("chat", "champion", logged.version)
    client.set_registered_model_alias("chat", "candidate", tagged.version)
    found = registered(TrackingConfig(), tmp_path)
    assert found is not None
    assert {"a" * 64, "b" * 64, "/store/artifacts/ppo/a/000001/model"} <= found
    assert "c" * 64 not in found
    client.delete_logged_model(model.model_id)
    found = registered(TrackingConfig(), tmp_path)
    assert found is not None
    assert "b" * 64 in found


def test_a_server_that_does_not_answer_tells_nothing(tmp_path: Path):
    assert registered(TrackingConfig(uri="http://127.0.0.1:9"), tmp_path) is None
