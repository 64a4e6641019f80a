"""One run in MLflow: a parent run and a child per step that are made equal to the run folder, as often as one likes.

`update` reads the run's records and sends what MLflow does not have yet. Nothing is ever counted on this side alone:
runs and models are found again by tags, parameters, inputs and metrics are the kind that MLflow takes twice and keeps
once, and the one number that is kept (how far each journal was sent) only saves work and belongs to one parent run. So
an uploader may die between any two requests, and a second one, or a replay a week later, completes the same picture.

A run that is driven again in the same folder keeps its parent and its children: they are opened again and go on. A
child is RUNNING only while its step is: what an earlier session left open is closed, whether or not its turn comes.
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
from pipelines.engine.events import (
    DRIVER_LOCK,
    RunStatus,
    StepStatus,
    fold_events,
    latest_session,
    read_events,
    step_folder,
)
from pipelines.engine.identity import KEY_CHARS
from pipelines.engine.lock import is_held
from pipelines.engine.store import Found
from pipelines.tracking.children import NO_CHILD, Child, begun_at, end_of_session, final_points, wanted_status
from pipelines.tracking.convert import (
    METRICS_PER_BATCH,
    PARAMS_PER_BATCH,
    batches,
    flat_params,
    key_of,
    tag_text,
)
from pipelines.tracking.files import note_of, write_final, write_first, write_picture
from pipelines.tracking.journal import Repeats, read_chunk, read_last
from pipelines.tracking.models import ModelLog, holds_model
from pipelines.tracking.records import PlannedStep, RunRecord, artifact_of, read_run
from pipelines.tracking.sending import search, send

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Metric, RunTag

Say = Callable[[str], None]

PROGRESS_FILE = "tracking.json"
PICTURE_S = 10.0
"""Shortest time between two pictures of a run that goes; its first and its last one are never late."""

PICTURE_SHARE = 0.1
"""Most of the uploader's time that pictures take; lineage asks the store for every artifact."""

MAX_PARENT_KEYS = 40
"""Metrics of the parent: MLflow draws one chart a key, and slows down beyond this."""

_RUN_STATES = {"done": "FINISHED", "failed": "FAILED", "stopped": "KILLED", "interrupted": "KILLED"}


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
    repeats: dict[str, Repeats] = field(init=False, default_factory=dict)
    begun: dict[str, float] = field(init=False, default_factory=dict)
    session: int = field(init=False, default=0)
    ended: float = field(init=False, default=0.0)
    pictured: tuple[float, Mapping[str, str]] = field(init=False, default=(0.0, {}))

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
        if status.state == "running":
            self._open_parent(parent)
        for step in status.steps.values():
            if step.state not in NO_CHILD or step.name in self.runs or step.name in self.begun:
                self._update_child(step, status)
        if status.state == "running":
            self._picture(parent, status)
            return False
        self._close_parent(parent, status)
        self._save(complete=True)
        return True

    def _status(self, over: bool) -> RunStatus:
        """The run as it stands; one whose driver died ended when it last gave a sign of life."""
        events = read_events(self.folder)
        self.session, self.begun = latest_session(events), begun_at(events)
        planned = {step.name: step.producers for step in self.record.steps.values()}
        status = fold_events(events, planned, self.record.run_id, time.time())
        if not over:
            return replace(status, state="running")
        if status.state != "running" or is_held(self.folder / DRIVER_LOCK):
            self.ended = end_of_session(events, self.session)
            return status
        self.ended = last_sign(self.folder)
        status = fold_events(events, planned, self.record.run_id, self.ended)
        return replace(status, state="interrupted")

    def _find_runs(self) -> dict[str, Child]:
        """The run's runs in MLflow by step, the parent under ""; a double of a lost answer is deleted."""
        runs: dict[str, Child] = {}
        for run in search(self.client, self.experiment_id, f"tags.`headwater.uid` = '{self.record.uid}'"):
            step = run.data.tags["headwater.step"]
            if step in runs:
                self.client.delete_run(run.info.run_id)
            else:
                runs[step] = Child.of(run)
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
        self.runs[step] = Child(run.info.run_id, "RUNNING", started)
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

    def _open_parent(self, parent: Child) -> None:
        """Opens the parent again if an earlier session closed it."""
        if parent.status != "RUNNING":
            note = f"{self.record.run_id} runs again, session {self.session}."
            tags = {"headwater.state": "running", "mlflow.note.content": note}
            self._log_batch(parent, tags=_run_tags(tags))
            self._set_status(parent, "RUNNING", None)

    def _picture(self, parent: Child, status: RunStatus) -> None:
        """Sends picture and lineage of a run that goes, when a step has come to another state."""
        began, states = time.monotonic(), {name: step.state for name, step in status.steps.items()}
        if states == self.pictured[1] or began < self.pictured[0]:
            return
        with TemporaryDirectory() as folder:
            write_picture(Path(folder), self.record, status)
            self.client.log_artifacts(parent.run_id, folder)
        ended = time.monotonic()
        self.pictured = (ended + max(PICTURE_S, (ended - began) / PICTURE_SHARE), states)

    def _update_child(self, step: StepStatus, run: RunStatus) -> None:
        planned = self.record.steps[step.name]
        child = self.runs.get(step.name)
        if child is None:
            tags = {"mlflow.parentRunId": self._parent().run_id, "headwater.key": planned.key}
            child = self._create(step.name, step.name, self.begun.get(step.name, run.started), tags)
        wanted = wanted_status(child, step, run)
        if child.status == wanted != "RUNNING":
            self._send_journal(child, step.name)  # what its processes still wrote when its end was believed
            return
        if not child.introduced:
            self._log_params(child, flat_params(self.record.config.get(step.name) or {}))
            self._log_inputs(child, planned)
            child.introduced = True
        self._send_journal(child, step.name)
        end = self._close_child(child, step, planned) if wanted != "RUNNING" else None
        self._set_status(child, wanted, end)

    def _journal(self, step: str) -> Path:
        return step_folder(self.folder, step) / "journal.jsonl"

    def _send_journal(self, child: Child, step: str) -> None:
        journal = self._journal(step)
        while (chunk := read_chunk(journal, begin := self.offsets.get(step, 0))).offset > begin:
            if step not in self.repeats:
                self.repeats[step] = Repeats(journal).skip(begin)
            points = self.repeats[step].fresh(chunk.points, begin)
            metrics = [_metric(key_of(step, point.name), point.value, point.time_ms, point.step) for point in points]
            for batch in batches(metrics, METRICS_PER_BATCH):
                self._log_batch(child, metrics=batch)
            if chunk.damaged:
                self.say(f"{journal}: {chunk.damaged} lines could not be read and were left out")
            self.offsets[step] = chunk.offset
            self._save(complete=False)

    def _close_child(self, child: Child, step: StepStatus, planned: PlannedStep) -> float:
        """Sends final metrics, the model it made and how it ended; returns the Unix time of its end."""
        planned = replace(planned, key=step.key or planned.key)  # inputs with equal bytes may have made it
        made = artifact_of(self.record, planned) if step.state in ("done", "cached") else Found()
        cached = self._is_cached(step)
        end = self._end_of(child, step, made)
        tags: dict[str, object] = {"headwater.cached": str(cached).lower(), "headwater.attempts": step.attempt}
        if child.noted:
            tags["mlflow.note.content"] = ""
        if cached:
            tags |= self._producer_tags(step, planned.key, made)
        if step.error is not None:
            tags["headwater.error"] = tags["mlflow.note.content"] = str(step.error.to_error())
        elif step.state in ("stopped", "detached") and step.note:
            tags["mlflow.note.content"] = step.note
        model_id = None
        if made.path is not None:
            tags["headwater.artifact"] = made.path
            model_id = self.models.log_output(child.run_id, planned, made.path, self.record.run_id)
        metrics = self._final_metrics(step, made, int(end * 1000), model_id)
        self._log_batch(child, metrics=metrics, tags=_run_tags(tags))
        if child.failed and step.error is None:
            self.client.delete_tag(child.run_id, "headwater.error")  # of an earlier session; last, as it is the sign
        child.failed, child.noted = step.error is not None, bool(tags.get("mlflow.note.content"))
        self.repeats.pop(step.name, None)
        return end

    def _final_metrics(self, step: StepStatus, made: Found, end_ms: int, model_id: str | None) -> list[Metric]:
        """Final metrics; a cached step has those of the step that made its artifact, and the ends of its curves."""
        values = dict(made.manifest.metrics) if made.manifest else dict(step.metrics)
        if step.seconds is not None:
            values["seconds"] = step.seconds
        cached = self._is_cached(step)
        producer = self.folder.parent / step.producer_run if cached else self.folder
        last = read_last(step_folder(producer, step.name) / "journal.jsonl")
        rows = final_points(values, last, end_ms, cached)
        return [_metric(key_of(step.name, row.name), row.value, row.time_ms, row.step, model_id) for row in rows]

    def _is_cached(self, step: StepStatus) -> bool:
        """Whether another run made its artifact; what an earlier session of this one made is its own."""
        return step.state == "cached" and step.producer_run != self.record.run_id

    def _end_of(self, child: Child, step: StepStatus, made: Found) -> float:
        """When a step ended. A cached one took no time here; one that was left open ended with its last line."""
        if step.started is not None:
            return step.started + (step.seconds or 0.0)
        if made.manifest is not None and made.manifest.run == self.record.run_id:
            return float(made.manifest.started + made.manifest.seconds)
        journal = self._journal(step.name)
        return max(child.started, journal.stat().st_mtime if journal.exists() else 0.0)

    def _producer_tags(self, step: StepStatus, key: str, made: Found) -> dict[str, object]:
        """What a cached child says of the run that made its artifact, with a link where MLflow has that run."""
        tags: dict[str, object] = {"headwater.producer_run": step.producer_run}
        origin = made.manifest.origin if made.manifest else None  # of inputs with equal bytes, under another key
        producer = self._made_by(step.producer_run).get(origin.key if origin and origin.key else key)
        if producer is not None:
            link = f"#/experiments/{self.experiment_id}/runs/{producer}"
            tags["headwater.producer_run_id"] = producer
            tags["mlflow.note.content"] = f"Cached: made by step {step.name} of [{step.producer_run}]({link})."
        return tags

    def _made_by(self, run_id: str) -> dict[str, str]:
        """MLflow ids of the children of a pipeline run that made something, by recipe key; asked for once."""
        if run_id not in self.producers:
            query = f"tags.`headwater.run` = '{run_id}' AND tags.`headwater.cached` = 'false'"
            found = search(self.client, self.experiment_id, query)
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
        return artifact_of(self.record, self.record.steps[maker]) if maker else Found()

    def _dataset(self, name: str, key: str, found: Found) -> DatasetInput:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        maker, manifest = self.record.maker_of(key), found.manifest
        source = {"uri": str(found.path or ""), "recipe_key": key}
        profile = {"bytes": manifest.num_bytes, **manifest.metrics} if manifest else {}
        digest = (manifest.content if manifest else key)[:KEY_CHARS]
        dataset = Dataset(maker or name, digest, "local", json.dumps(source), None, json.dumps(profile))
        return DatasetInput(dataset, [InputTag("mlflow.data.context", name)])

    def _log_batch(self, child: Child, metrics: Sequence[Metric] = (), tags: Sequence[RunTag] = ()) -> None:
        send(metrics, lambda some: self.client.log_batch(child.run_id, metrics=some), self.say)
        send(tags, lambda some: self.client.log_batch(child.run_id, tags=some), self.say)

    def _log_params(self, child: Child, params: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        for batch in batches([Param(name, value) for name, value in params.items()], PARAMS_PER_BATCH):
            send(batch, lambda some: self.client.log_batch(child.run_id, params=some), self.say)

    def _close_parent(self, parent: Child, status: RunStatus) -> None:
        if parent.status == _RUN_STATES[status.state] and parent.session == str(self.session):
            return
        end_ms, step = int(self.ended * 1000), max(0, self.session - 1)
        metrics = [_metric(name, value, end_ms, step) for name, value in self._headline(status).items()]
        with TemporaryDirectory() as folder:
            write_final(Path(folder), self.record, status, self.store)
            self.client.log_artifacts(parent.run_id, folder)
        tags = {"mlflow.note.content": note_of(self.record), "headwater.state": status.state}
        self._log_batch(parent, metrics=metrics, tags=_run_tags(tags | {"headwater.session": self.session}))
        self._set_status(parent, _RUN_STATES[status.state], self.ended)
        parent.session = str(self.session)

    def _headline(self, status: RunStatus) -> dict[str, float]:
        """Metrics of the parent: how long, how much was cached, and final metrics from the last step backwards."""
        there = [step for step in status.steps.values() if step.state in ("done", "cached")]
        cached = sum(self._is_cached(step) for step in there)
        metrics = {
            "run/seconds": status.seconds,
            "run/steps_run": float(len(there) - cached),
            "run/steps_cached": float(cached),
        }
        for step in reversed(there):
            if len(metrics) + len(step.metrics) <= MAX_PARENT_KEYS:
                metrics |= {key_of(step.name, name): value for name, value in step.metrics.items()}
        return metrics

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
