"""What the model registry of MLflow stands for: the artifacts behind its aliases, which garbage collection leaves."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.tracking.client import ENVIRONMENT
from pipelines.tracking.config import TrackingConfig, mlflow_folder, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

_LOGGED = "models:/"
"""A version that was made of a logged model names it as its source; the SQL store keeps its id nowhere else."""


def registered(config: TrackingConfig, workspace: Path) -> frozenset[str] | None:
    """Recipe keys and paths of the model versions that have an alias.

    Args:
        config: Where runs are tracked.
        workspace: Workspace of the store.

    Returns:
        Keys and paths; empty where nothing was ever tracked; None if MLflow is out of reach and nothing can be said.
    """
    if config.uri is None and not (mlflow_folder(workspace) / "mlflow.db").is_file():
        return frozenset()
    os.environ.update(ENVIRONMENT)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient(tracking_uri=tracking_uri(config, workspace))
    try:
        return frozenset(name for version in _aliased(client) for name in _names(client, version))
    except MlflowException:
        return None


def _aliased(client: MlflowClient) -> Iterator[Any]:
    token = None
    while True:
        page = client.search_registered_models(page_token=token)
        for model in page:
            for version in sorted({str(number) for number in model.aliases.values()}):
                yield client.get_model_version(model.name, version)
        token = page.token
        if not token:
            return


def _names(client: MlflowClient, version: Any) -> Iterator[str]:  # noqa: ANN401  (an MLflow entity)
    """What may tell the artifact of a version: its tags, where it lies, and the tags of its logged model."""
    from mlflow.exceptions import MlflowException

    tags = dict(version.tags)
    source = str(version.source or "")
    model_id = source.removeprefix(_LOGGED) if source.startswith(f"{_LOGGED}m-") else version.model_id
    if model_id:
        try:
            tags |= client.get_logged_model(model_id).tags
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # somebody deleted the logged model; the version is there
                raise
    yield from (tags[name] for name in ("headwater.key", "headwater.path") if name in tags)
    if source:
        yield source
