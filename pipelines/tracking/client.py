"""Connecting to MLflow: the client, its settings, and the experiment with the tags that open the training view.

MLflow is told by environment variables to send no usage reports, to load no pickle, to print nothing, and to give up a
request early: waiting and trying again is the uploader's own affair, where it is logged and bounded.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.tracking.config import TrackingConfig, mlflow_folder, tracking_uri
from pipelines.tracking.schema import ARTIFACTS, ensure_database

if TYPE_CHECKING:
    from mlflow import MlflowClient

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
}

PRIMARY_METRIC = "evaluate/ppo_score"

EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",
    "mlflow.experiment.primaryMetric.name": PRIMARY_METRIC,
    "mlflow.experiment.primaryMetric.greaterIsBetter": "True",
    "mlflow.note.content": "Pipeline runs of Headwater: one parent run each, one child per step. "
    "Cached steps are children too and link to the run that made their artifact.",
}


def connect(config: TrackingConfig, store: Path) -> tuple[MlflowClient, str]:
    """Opens MLflow, making the embedded database and the experiment where they are missing.

    Args:
        config: Where to track.
        store: Root folder of the store.

    Returns:
        A client and the id of the experiment.
    """
    os.environ.update(ENVIRONMENT)
    from mlflow import MlflowClient

    if config.uri is None:
        ensure_database(mlflow_folder(store))
    client = MlflowClient(tracking_uri=tracking_uri(config, store))
    artifacts = (mlflow_folder(store) / ARTIFACTS).resolve().as_uri() if config.uri is None else None
    return client, _experiment(client, config.experiment, artifacts)


def _experiment(client: MlflowClient, name: str, artifacts: str | None) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifacts, EXPERIMENT_TAGS))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(name)  # another uploader was first
    return str(found.experiment_id)
