"""Settings of tracking. None of them is part of a step's identity: where a run is shown never changes what it makes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from components.configuring import require, runtime

_SCHEMES = ("sqlite:///", "http://", "https://", "postgresql", "mysql")


@dataclass(frozen=True)
class TrackingConfig:
    """Where a run is tracked.

    Attributes:
        enabled: False tracks nothing; the run folder keeps everything and `replay` can send it later.
        uri: MLflow tracking URI; unset means the embedded SQLite database inside the store.
        experiment: Name of the MLflow experiment; one per project.
        flush_s: Longest wait for the last upload at the end of a run, in seconds; the rest goes on in the background.
        linger_s: Seconds for which the uploader keeps trying a server that does not answer after the run has ended.
    """

    enabled: bool = runtime(True)
    uri: str | None = runtime(None)
    experiment: str = runtime("headwater")
    flush_s: float = runtime(5.0)
    linger_s: float = runtime(60.0)

    def __post_init__(self) -> None:
        known = self.uri is None or self.uri.startswith(_SCHEMES)
        require(known, "tracking.uri", self.uri, "is no MLflow server or database", "tracking.uri=http://HOST:5000")
        require(self.experiment.strip() != "", "tracking.experiment", "''", "is empty", "tracking.experiment=headwater")
        require(len(self.experiment) <= 500, "tracking.experiment", self.experiment, "is over 500 characters", "a name")
        for key in ("flush_s", "linger_s"):
            seconds = getattr(self, key)
            require(seconds >= 0, f"tracking.{key}", seconds, "must not be negative", f"tracking.{key}=5")


def mlflow_folder(store: Path) -> Path:
    """Folder of the embedded MLflow: `mlflow.db` and `artifacts/`."""
    return store / "mlflow"


def tracking_uri(config: TrackingConfig, store: Path) -> str:
    """The URI that MLflow clients get: the configured one, or the embedded database of the store."""
    return config.uri or f"sqlite:///{mlflow_folder(store).resolve() / 'mlflow.db'}"
