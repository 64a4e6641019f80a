"""Trained models in MLflow: one logged model per artifact that holds one, linked to the runs that made and used it.

Weights are not copied: the logged model names the artifact folder, which any Hugging Face loader opens. A model is
found again by its recipe key, so a cached step points at the model of the run that trained it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.tracking.convert import tag_text
from pipelines.tracking.records import PlannedStep

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModelInput


def holds_model(artifact: Path) -> bool:
    """Tells whether an artifact is a trained model: a Hugging Face folder named `model`."""
    return (artifact / "model" / "config.json").is_file()


@dataclass
class ModelLog:
    """The logged models of an experiment.

    Attributes:
        client: Connected MLflow client.
        experiment_id: The experiment.
    """

    client: MlflowClient
    experiment_id: str
    _known: dict[str, str] = field(default_factory=dict)

    def log_output(self, run_id: str, step: PlannedStep, artifact: Path, run_name: str) -> str | None:
        """Links a run to the model in its artifact, registering the model the first time.

        Args:
            run_id: MLflow id of the child run.
            step: The step that made the artifact.
            artifact: The artifact folder.
            run_name: Our name of the pipeline run.

        Returns:
            Id of the logged model; None if the artifact holds none.
        """
        from mlflow.entities import LoggedModelOutput

        if not holds_model(artifact):
            return None
        model_id = self._find(step.key) or self._create(run_id, step, artifact / "model", run_name)
        outputs = self.client.get_run(run_id).outputs
        linked = [output.model_id for output in outputs.model_outputs] if outputs else []
        if model_id not in linked:
            self.client.log_outputs(run_id, [LoggedModelOutput(model_id, 0)])
        return model_id

    def inputs(self, keys: Iterable[str]) -> list[LoggedModelInput]:
        """The models among the artifacts of these recipe keys, as inputs of a run."""
        from mlflow.entities import LoggedModelInput

        found = [self._find(key) for key in dict.fromkeys(keys)]
        return [LoggedModelInput(model_id) for model_id in found if model_id is not None]

    def _find(self, key: str) -> str | None:
        if key not in self._known:
            query = f"tags.`headwater.key` = '{key}'"
            found = self.client.search_logged_models([self.experiment_id], query, max_results=1)
            if found:
                self._known[key] = found[0].model_id
        return self._known.get(key)

    def _create(self, run_id: str, step: PlannedStep, folder: Path, run_name: str) -> str:
        tags = {"headwater.key": step.key, "headwater.path": tag_text(folder), "headwater.run": run_name}
        kind = f"headwater-{step.name}"
        model = self.client.create_logged_model(
            self.experiment_id, f"{step.name}-{run_name}", run_id, tags, {"path": tag_text(folder)}, kind
        )
        self.client.finalize_logged_model(model.model_id, "READY")
        self._known[step.key] = str(model.model_id)
        return self._known[step.key]
