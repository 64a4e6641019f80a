"""One run in MLflow: a parent run and a child per step that are made equal to the run folder, as often as one likes.

`update` reads the run's records and sends what MLflow does not have yet. Nothing is ever counted on this side alone:
runs and models are found again by tags, parameters, inputs and metrics are the kind that MLflow takes twice and keeps
once, and the one number that is kept (how far each journal was sent) only saves work and belongs to one parent run. So
an uploader may die between any two requests, and a second one, or a replay a week later, completes the same picture.
"""

from __future__ import annotations

import getpass
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from components.publish import publish_json, read_json
from pipelines.engine.events import DRIVER_LOCK, RunStatus, StepStatus, fold_events, read_events, step_folder
from pipelines.engine.identity import KEY_CHARS
from pipelines.engine.lock import is_held
from pipelines.engine.store import Found
from pipelines.tracking.convert import (
    METRICS_PER_BATCH,
    PARAMS_PER_BATCH,
    batches,
    flat_params,
    key_of,
    tag_text,
)
from pipelines.tracking.files import note_of, write_final, write_first
from pipelines.tracking.journal import read_chunk, read_curves
from pipelines.tracking.models import ModelLog, holds_model
from pipelines.tracking.records import PlannedStep, RunRecord, artifact_of, read_run

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Metric, Param, RunTag

Say = Callable[[str], None]

PROGRESS_FILE = "tracking.json"
MAX_PARENT_KEYS = 40
"""Metrics of the parent: MLflow draws one chart a key, and slows down beyond this."""

_RUN_STATES = {"done": "FINISHED", "failed": "FAILED", "stopped": "KILLED", "interrupted": "KILLED"}
_STEP_STATES = {"done": "FINISHED", "cached": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
_NO_CHILD = ("waiting", "skipped")


@dataclass
class Child:
    """A run in MLflow.

    Attributes:
        run_id: MLflow's id.
        status: Its status there, as far as it is known here.
        introduced: Parameters and inputs were sent by this process.
    """

    run_id: str
    status: str
    introduced: bool = False


@dataclass
class Mirror:
    """Keeps MLflow equal to one run folder.

    Attributes:
        client: Connected MLflow client.
        experiment_id: Where the run goes.
        folder: The run folder.
        store: Root folder of the store.
        say: Takes a line for the tracking log.
    """

    client: MlflowClient
    experiment_id: str
    folder: Path
    store: Path
    say: Say
    record: RunRecord = field(init=False)
    models: ModelLog = field(init=False)
    offsets: dict[str, int] = field(init=False, default_factory=dict)
    runs: dict[str, Child] = field(init=False, default_factory=dict)
    producers: dict[str, dict[str, str]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.record = read_run(self.folder)
        self.models = ModelLog(self.client, self.experiment_id)
        self.runs = self._find_runs()
        if "" in self.runs and (self.folder / PROGRESS_FILE).exists():
            progress = read_json(self.folder / PROGRESS_FILE)
            if progress.get("parent") == self.runs[""].run_id:
                self.offsets = dict(progress["offsets"])  # type: ignore[call-overload]

    def update(self, over: bool) -> bool:
        """Sends everything that is new.

        Args:
            over: The driver is gone, so the run's end is believed; until then nothing of the run itself is closed.

        Returns:
            True once the run has ended and MLflow has all of it.
        """
        status = self._status(over)
        parent = self._parent()
        for step in status.steps.values():
            if step.state not in _NO_CHILD:
                self._update_child(step, status)
        if status.state == "running":
            self._set_status(parent, "RUNNING", None)
            return False
        self._close_parent(parent, status)
        self._save(complete=True)
        return True

    def _status(self, over: bool) -> RunStatus:
        """The run as it stands; one whose driver died ended when it last gave a sign of life."""
        events = read_events(self.folder)
        planned = {step.name: step.producers for step in self.record.steps.values()}
        status = fold_events(events, planned, self.record.run_id, time.time())
        if not over:
            return replace(status, state="running")
        if status.state != "running" or is_held(self.folder / DRIVER_LOCK):
            return status
        status = fold_events(events, planned, self.record.run_id, last_sign(self.folder))
        return replace(status, state="interrupted")

    def _find_runs(self) -> dict[str, Child]:
        """The run's runs in MLflow by step, the parent under ""; a double of a lost answer is deleted."""
        query = f"tags.`headwater.uid` = '{self.record.uid}'"
        order = ["attributes.start_time ASC"]
        runs: dict[str, Child] = {}
        for run in self.client.search_runs([self.experiment_id], query, max_results=1000, order_by=order):
            step = run.data.tags["headwater.step"]
            if step in runs:
                self.client.delete_run(run.info.run_id)
            else:
                runs[step] = Child(run.info.run_id, run.info.status)
        return runs

    def _create(self, step: str, name: str, started: float, tags: Mapping[str, object]) -> Child:
        common = {
            "headwater.uid": self.record.uid,
            "headwater.run": self.record.run_id,
            "headwater.step": step,
            "mlflow.user": _user(),
            "mlflow.source.name": "headwater",
            "mlflow.source.type": "LOCAL",
        }
        values = {key: tag_text(value) for key, value in {**common, **tags}.items()}
        run = self.client.create_run(self.experiment_id, int(started * 1000), values, name)
        self.runs[step] = Child(run.info.run_id, "RUNNING")
        return self.runs[step]

    def _parent(self) -> Child:
        parent = self.runs.get("") or self._create("", self.record.run_id, self.record.created, _tags(self.record))
        if not parent.introduced:
            overrides = dict(text.lstrip("+~").partition("=")[::2] for text in self.record.overrides)
            params = {"recipe": self.record.recipe, "preset": self.record.preset, **overrides}
            self._log_params(parent, flat_params(params))
            with TemporaryDirectory() as folder:
                write_first(Path(folder), self.record)
                self.client.log_artifacts(parent.run_id, folder)
            parent.introduced = True
        return parent

    def _update_child(self, step: StepStatus, run: RunStatus) -> None:
        planned = self.record.steps[step.name]
        child = self.runs.get(step.name)
        if child is None:
            started = step.started or run.started
            tags = {"mlflow.parentRunId": self._parent().run_id, "headwater.key": planned.key}
            child = self._create(step.name, step.name, started, tags)
        wanted = _STEP_STATES.get(step.state, "RUNNING" if run.state == "running" else "KILLED")
        if child.status == wanted != "RUNNING":
            return
        if not child.introduced:
            self._log_params(child, flat_params(self.record.config.get(step.name) or {}))
            self._log_inputs(child, planned)
            child.introduced = True
        self._send_journal(child, step.name)
        if wanted != "RUNNING":
            self._close_child(child, step, planned, run)
        self._set_status(child, wanted, (step.started or run.started) + (step.seconds or 0.0))

    def _send_journal(self, child: Child, step: str) -> None:
        journal = step_folder(self.folder, step) / "journal.jsonl"
        while (chunk := read_chunk(journal, self.offsets.get(step, 0))).offset > self.offsets.get(step, 0):
            metrics = [
                _metric(key_of(step, point.name), point.value, point.time_ms, point.step) for point in chunk.points
            ]
            for batch in batches(metrics, METRICS_PER_BATCH):
                self._log_batch(child, metrics=batch)
            if chunk.damaged:
                self.say(f"{journal}: {chunk.damaged} lines could not be read and were left out")
            self.offsets[step] = chunk.offset
            self._save(complete=False)

    def _close_child(self, child: Child, step: StepStatus, planned: PlannedStep, run: RunStatus) -> None:
        """Final metrics, the model it made, and how it ended."""
        cached = step.state == "cached" and step.producer_run != self.record.run_id
        tags: dict[str, object] = {"headwater.cached": str(cached).lower(), "headwater.attempts": step.attempt}
        if cached:
            tags |= self._producer_tags(step, planned)
        if step.error is not None:
            tags["headwater.error"] = tags["mlflow.note.content"] = str(step.error.to_error())
        made = artifact_of(self.store, planned) if step.state in ("done", "cached") else None
        values = dict(step.metrics) if made is None or made.manifest is None else dict(made.manifest.metrics)
        if step.seconds is not None:
            values["seconds"] = step.seconds
        model_id = None
        if made is not None and made.path is not None:
            tags["headwater.artifact"] = made.path
            model_id = self.models.log_output(child.run_id, planned, made.path, self.record.run_id)
        end_ms = int(((step.started or run.started) + (step.seconds or 0.0)) * 1000)
        last = {name: curve[-1][0] for name, curve in self._curves(step.name).items()}
        metrics = [
            _metric(key_of(step.name, name), value, end_ms, last.get(name, 0), model_id)
            for name, value in values.items()
        ]
        self._log_batch(child, metrics=metrics, tags=_run_tags(tags))

    def _curves(self, step: str) -> dict[str, list[tuple[int, float]]]:
        return read_curves(step_folder(self.folder, step) / "journal.jsonl")

    def _producer_tags(self, step: StepStatus, planned: PlannedStep) -> dict[str, object]:
        """What a cached child says of the run that made its artifact, with a link where MLflow has that run."""
        tags: dict[str, object] = {"headwater.producer_run": step.producer_run}
        producer = self._made_by(step.producer_run).get(planned.key)
        if producer is not None:
            link = f"#/experiments/{self.experiment_id}/runs/{producer}"
            tags["headwater.producer_run_id"] = producer
            tags["mlflow.note.content"] = f"Cached: made by step {step.name} of [{step.producer_run}]({link})."
        return tags

    def _made_by(self, run_id: str) -> dict[str, str]:
        """MLflow ids of the children of a pipeline run that made something, by recipe key; asked for once."""
        if run_id not in self.producers:
            query = f"tags.`headwater.run` = '{run_id}' AND tags.`headwater.cached` = 'false'"
            found = self.client.search_runs([self.experiment_id], query, max_results=1000)
            self.producers[run_id] = {run.data.tags["headwater.key"]: run.info.run_id for run in found}
        return self.producers[run_id]

    def _log_inputs(self, child: Child, planned: PlannedStep) -> None:
        if not planned.inputs:
            return
        found = {key: self._input(key) for key in planned.inputs.values()}
        datasets = [self._dataset(name, key, found[key]) for name, key in planned.inputs.items()]
        models = [key for key, artifact in found.items() if artifact.path is not None and holds_model(artifact.path)]
        self.client.log_inputs(child.run_id, datasets, self.models.inputs(models))

    def _input(self, key: str) -> Found:
        maker = self.record.maker_of(key)
        return artifact_of(self.store, self.record.steps[maker]) if maker else Found()

    def _dataset(self, name: str, key: str, found: Found) -> DatasetInput:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        maker, manifest = self.record.maker_of(key), found.manifest
        source = {"uri": str(found.path or ""), "recipe_key": key}
        profile = {"bytes": manifest.num_bytes, **manifest.metrics} if manifest else {}
        digest = (manifest.content if manifest else key)[:KEY_CHARS]
        dataset = Dataset(maker or name, digest, "local", json.dumps(source), None, json.dumps(profile))
        return DatasetInput(dataset, [InputTag("mlflow.data.context", name)])

    def _log_batch(
        self,
        child: Child,
        metrics: Sequence[Metric] = (),
        params: Sequence[Param] = (),
        tags: Sequence[RunTag] = (),
    ) -> None:
        """Sends a batch. What MLflow refuses for good is said and left out: it would be refused for ever."""
        from mlflow.exceptions import MlflowException

        try:
            self.client.log_batch(child.run_id, metrics, params, tags)
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            self.say(f"MLflow refuses a batch of run {child.run_id}: {error.message}")

    def _log_params(self, child: Child, params: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        for batch in batches([Param(name, value) for name, value in params.items()], PARAMS_PER_BATCH):
            self._log_batch(child, params=batch)

    def _close_parent(self, parent: Child, status: RunStatus) -> None:
        if parent.status == _RUN_STATES[status.state]:
            return
        end = status.started + status.seconds
        metrics = [_metric(name, value, int(end * 1000), 0) for name, value in _headline(status).items()]
        with TemporaryDirectory() as folder:
            write_final(Path(folder), self.record, status, self.store)
            self.client.log_artifacts(parent.run_id, folder)
        tags = {"mlflow.note.content": note_of(self.record), "headwater.state": status.state}
        self._log_batch(parent, metrics=metrics, tags=_run_tags(tags))
        self._set_status(parent, _RUN_STATES[status.state], end)

    def _set_status(self, child: Child, status: str, end: float | None) -> None:
        if child.status == status:
            return
        if status == "RUNNING":
            self.client.update_run(child.run_id, status)
        else:
            self.client.set_terminated(child.run_id, status, int((end or time.time()) * 1000))
        child.status = status

    def _save(self, complete: bool) -> None:
        parent = self.runs[""].run_id
        publish_json(self.folder / PROGRESS_FILE, {"parent": parent, "offsets": self.offsets, "complete": complete})


def last_sign(run_folder: Path) -> float:
    """Unix time at which a run last wrote an event or a journal line."""
    paths = [*run_folder.glob("events/*.json"), *run_folder.glob("steps/*/journal.jsonl"), run_folder / "run.json"]
    return max(path.stat().st_mtime for path in paths)


def _tags(record: RunRecord) -> dict[str, object]:
    """Tags of the parent run."""
    tags: dict[str, object] = {
        "headwater.recipe": record.recipe,
        "headwater.preset": record.preset,
        "headwater.command": record.command,
        "headwater.folder": record.folder,
    }
    if record.git:
        tags["mlflow.source.git.commit"] = record.git["commit"]
        tags["mlflow.source.git.dirty"] = str(bool(record.git.get("dirty"))).lower()
    return tags


def _headline(status: RunStatus) -> dict[str, float]:
    """Metrics of the parent: how long, how much was cached, and final metrics from the last step backwards."""
    states = [step.state for step in status.steps.values()]
    metrics = {
        "run/seconds": status.seconds,
        "run/steps_run": float(states.count("done")),
        "run/steps_cached": float(states.count("cached")),
    }
    for step in reversed(list(status.steps.values())):
        if step.state in ("done", "cached") and len(metrics) + len(step.metrics) <= MAX_PARENT_KEYS:
            metrics |= {key_of(step.name, name): value for name, value in step.metrics.items()}
    return metrics


def _metric(name: str, value: float, time_ms: int, step: int, model_id: str | None = None) -> Metric:
    from mlflow.entities import Metric

    return Metric(name, value, time_ms, step, model_id)


def _run_tags(tags: Mapping[str, object]) -> list[RunTag]:
    from mlflow.entities import RunTag

    return [RunTag(name, tag_text(value)) for name, value in tags.items()]


def _user() -> str:
    """The login name; "unknown" where the user id has none, as in many containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
